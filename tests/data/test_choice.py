"""Multiple choice: C3, ChID with one and several blanks, flat rows, and what is wrong with a line."""

import json

import pytest

from qingformer.data.choice import BLANK, ChoiceQuestion, choices_from_rows, read_choice
from qingformer.errors import DataError

ASKED = {"question": "天气?", "choice": ["晴", "雨", "雪"], "answer": "雨"}
C3 = [["男：下雨了。", "女：带伞。"], [ASKED, {"question": "谁?", "choice": ["男", "女"], "answer": "女"}], "7"]
CHID = {"id": 0, "content": f"果粉{BLANK},怎么选?", "candidates": ["左右为难", "脱口而出"], "answer": 1}
FLAT = {"context": "下雨了。", "question": "天气?", "choices": ["晴", "雨"], "answer": 0}


def write(path, value, indent=None):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")
    return path


@pytest.mark.parametrize("indent", [None, 0])
def test_c3(tmp_path, indent):
    questions = read_choice(write(tmp_path / "a.json", [C3, [["文"], [ASKED]]], indent))
    assert [(one.context, one.choices, one.answer, one.id) for one in questions] == [
        ("男：下雨了。\n女：带伞。", ("晴", "雨", "雪"), 1, "7-0"),
        ("男：下雨了。\n女：带伞。", ("男", "女"), 1, "7-1"),
        ("文", ("晴", "雨", "雪"), 1, "3"),
    ]
    lines = (tmp_path / "a.json").read_text("utf-8").split("\n")
    assert all(f'"question": "{one.question}"' in lines[one.line - 1] for one in questions)
    assert questions.notes == []


def test_chid_and_flat_rows_as_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in (CHID, FLAT)), encoding="utf-8")
    questions = read_choice(path)
    assert questions.items == [
        ChoiceQuestion(CHID["content"], "", ("左右为难", "脱口而出"), 1, "0", 1),
        ChoiceQuestion("下雨了。", "天气?", ("晴", "雨"), 0, "2", 3),
    ]
    assert questions.where(questions[1]) == f"{path}, line 3"
    assert {question.answer for question in read_choice(path, labelled=False)} == {None}
    assert choices_from_rows([*questions, CHID, C3], "mine")[2] == ChoiceQuestion(*CHID_FIELDS, "0", 3)


CHID_FIELDS = (CHID["content"], "", ("左右为难", "脱口而出"), 1)


def test_several_blanks_become_several_questions():
    shared = {"content": ["甲#idiom000012#乙#idiom000013#丙", "丁#idiom000014#"], "candidates": ["一", "二", "三"]}
    answers = {"#idiom000014#": 0, "#idiom000013#": 2, "#idiom000012#": 1}
    questions = choices_from_rows([{**shared, "answers": answers}], "mine")
    assert [(one.context, one.id, one.answer) for one in questions] == [
        (f"甲{BLANK}乙____丙", "#idiom000012#", 1),
        (f"甲____乙{BLANK}丙", "#idiom000013#", 2),
        (f"丁{BLANK}", "#idiom000014#", 0),
    ]
    apart = {"content": f"{BLANK}和{BLANK}", "candidates": [["一", "二"], ["三", "四"]], "groundTruth": ["二", "三"]}
    questions = choices_from_rows([{**apart, "id": 0}], "mine")
    assert [(one.context, one.choices, one.answer, one.id) for one in questions] == [
        (f"{BLANK}和____", ("一", "二"), 1, "0-0"),
        (f"____和{BLANK}", ("三", "四"), 0, "0-1"),
    ]


def test_a_choice_that_repeats_is_noted():
    rows = [FLAT, {**FLAT, "choices": ["晴", "雨", "雨"], "answer": "雨"}]
    questions = choices_from_rows(rows, "mine")
    assert questions[1].answer == 1
    assert questions.notes == ["1 of 2 questions have the same choice twice (first: mine, item 2)"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**FLAT, "answer": "雪"}, r"the answer '雪' is not among the 2 choices \(晴, 雨\); .* 0 to 1"),
        ({**FLAT, "answer": 2}, "the answer 2 is not among"),
        ({**FLAT, "answer": -1}, "the answer -1 is not among"),
        ({**FLAT, "answer": True}, "the answer True is not among"),
        ({**FLAT, "answer": None}, "no answer; add it or pass labelled=False"),
        ({**FLAT, "choices": ["晴"]}, "at least two choices"),
        ({**FLAT, "choices": "晴雨"}, "at least two choices, found '晴雨'"),
        ({**FLAT, "choices": ["晴", " "]}, "the choice 1 is empty"),
        ({**FLAT, "choices": ["晴", 1]}, "the choice 1 is int"),
        ({**FLAT, "context": "", "question": " "}, "context and question are empty"),
        ({**FLAT, "context": 1}, "the context is int"),
        ({**CHID, "content": "果粉#成语#"}, "the content has no blank; write #idiom#"),
        ({**CHID, "content": [CHID["content"], "果粉"]}, "the content has no blank"),
        ({**CHID, "content": ""}, "the content is empty"),
        ({**CHID, "content": BLANK * 3, "answer": [0, 1]}, "2 answers for 3 blanks"),
        ({**CHID, "content": BLANK * 2}, "1 answers for 2 blanks"),
        ({**CHID, "candidates": [["一", "二"]] * 2}, "2 lists of candidates for 1 blanks"),
        ([["文"], [{**ASKED, "question": ""}]], "the question 0 is empty"),
        ([["文"], ["问"]], "question 0 must be an object"),
        ([["文"], [ASKED], "1", "2"], r"expected \[\[lines of the passage\]"),
        (["文", [ASKED], "1"], r"expected \[\[lines of the passage\]"),
        ([[1], [ASKED], "1"], "the passage is int"),
        ("文", "expected an object with context, question and choices, found str"),
    ],
)
def test_bad_rows_name_their_place(tmp_path, row, message):
    with pytest.raises(DataError, match=f"^mine, item 2: .*{message}"):
        choices_from_rows([FLAT, row], "mine")
    with pytest.raises(DataError, match=f"a.json, line .*: .*{message}"):
        read_choice(write(tmp_path / "a.json", [FLAT, row], 1))


def test_a_bad_answer_in_a_file_names_the_line_of_its_question(tmp_path):
    text = '[\n[["文"],\n[{"question": "一", "choice": ["a", "b"], "answer": "a"},\n{"question": "二",\n'
    (tmp_path / "a.json").write_text(text + '"choice": ["a", "b"], "answer": "c"}], "1"]]', encoding="utf-8")
    with pytest.raises(DataError, match="line 4: the answer 'c'"):
        read_choice(tmp_path / "a.json")
    with pytest.raises(DataError, match="no questions"):
        choices_from_rows([], "mine")


REAL = [
    ("clue-c3/d-train.json.gz", 5856, 3, True),
    ("clue-c3/m-dev.json.gz", 1991, 0, True),
    ("fewclue-chid/train_few_all.json.gz", 202, 0, True),
    ("fewclue-chid/test_public.json.gz", 2002, 0, True),
    ("fewclue-chid/test.json.gz", 2000, 0, False),
]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "count", "repeated", "labelled"), REAL)
def test_real_sets(shared, name, count, repeated, labelled):
    questions = read_choice(shared / "data" / name, labelled=labelled)
    assert len(questions) == count
    assert [note.split()[0] for note in questions.notes] == [str(repeated)] * bool(repeated)
    assert all((one.answer is not None) == labelled and 2 <= len(one.choices) <= 7 for one in questions)
    assert len({one.id for one in questions}) == count
    assert len({one.line for one in questions}) == count
    if "chid" in name:
        assert all(one.context.count(BLANK) == 1 and not one.question for one in questions)
