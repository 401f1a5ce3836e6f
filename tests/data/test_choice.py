"""Multiple choice: C3, ChID with one and several blanks, flat rows, and what is wrong with a line."""

import gzip
import json

import numpy as np
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


ROW = {"context": "下雨了。", "question": "天气?"}
TWO = ("晴", "雨")


@pytest.mark.parametrize(
    "row",
    [
        {**ROW, "choices": list(TWO), "answer": "B"},
        {**ROW, "choices": list(TWO), "answer": " (b) "},
        {**ROW, "choices": list(TWO), "answer": " 雨\u3000"},
        {**ROW, "choices": list(TWO), "answer": np.int64(1)},
        {**ROW, "choices": np.array(TWO), "answer": np.float32(1)},
        {**ROW, "choices": list(TWO), "answer": "1"},
        {**ROW, "choices": {"A": "晴", "B": "雨"}, "answer": "B"},
        {**ROW, "choices": {"label": ["1", "2"], "text": list(TWO)}, "answerKey": "2"},
        {**ROW, "choices": [{"label": "A", "text": "晴"}, {"label": "B", "text": "雨"}], "answerKey": "B"},
        {**ROW, "A": "晴", "B": "雨", "answer": "B"},
        {"Passage": "下雨了。", "Question ": "天气?", "A": "晴", "B": "雨", "C": "", "D": None, "Answer": "B"},
        {**ROW, "option_1": "晴", "option_2": "雨", "answer": "雨"},
        {**ROW, "choice0": "晴", "choice1": "雨", "label": 1},
        {**ROW, "ending0": "晴", "ending1": "雨", "label": "1"},
        {"context": "下雨了。", "question": {"stem": "天气?", "choices": list(TWO)}, "answer": "B"},
    ],
)
def test_choices_and_answers_of_every_layout(row):
    question = choices_from_rows([row], "mine")[0]
    assert (question.context, question.question) == ("下雨了。", "天气?")
    assert (question.choices, question.answer) == (TWO, 1)
    assert choices_from_rows([row], "mine", labelled=False)[0].choices == TWO


def test_a_choice_that_is_a_letter_or_a_number_is_meant_by_its_text():
    for choices, answer, number in ((["C", "A", "B"], "A", 1), (["2", "1", "0"], "2", 0), (["B"] * 2, "B", 0)):
        assert choices_from_rows([{**ROW, "choices": choices, "answer": answer}], "mine")[0].answer == number


def test_tables_of_choices(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,question,A,B,answer\n7,天气?,晴,雨,B\n", encoding="utf-8")
    assert read_choice(path).items == [ChoiceQuestion("", "天气?", TWO, 1, "7", 2)]
    columns = {"question": ["天气?"], "choices": [list(TWO)], "answer": ["雨"]}
    assert choices_from_rows(columns, "mine")[0].answer == 1


CHID_TEXTS = {"content": ["甲#idiom000012#乙#idiom000013#丙"], "candidates": ["一", "二", "三"]}


@pytest.mark.parametrize("name", ["train_answer.json", "train_answers.json", "train_answer.csv"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_answers_of_chid_stand_beside_the_texts(tmp_path, name, suffix):
    texts = write(tmp_path / "train.json", CHID_TEXTS)
    if suffix:
        texts = tmp_path / "train.json.gz"
        texts.write_bytes(gzip.compress(json.dumps(CHID_TEXTS).encode()))
        (tmp_path / "train.json").unlink()
    with pytest.raises(DataError, match=r"line 1: no answer; add it, put them into a file such as train_answer.json"):
        read_choice(texts)
    answers = '{"#idiom000012#": 1, "#idiom000013#": 2}'
    (tmp_path / name).write_text("#idiom000012#, 1\n#idiom000013#,2\n" if name.endswith("csv") else answers, "utf-8")
    questions = read_choice(texts)
    assert [question.answer for question in questions] == [1, 2]
    assert questions.notes == [f"the answers to 2 of 2 questions were read from {tmp_path / name}"]
    assert [question.answer for question in read_choice(texts, labelled=False)] == [None, None]
    (tmp_path / name).rename(tmp_path / "elsewhere.json")
    if not name.endswith("csv"):
        assert [question.answer for question in read_choice(texts, answers=tmp_path / "elsewhere.json")] == [1, 2]
        with pytest.raises(DataError, match="holds the answers of ChID; pass the file of the texts"):
            read_choice(tmp_path / "elsewhere.json")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ('{"#idiom000012#": 1}', r"train.json, line 1: no answer to #idiom000013#, neither here nor in .*train_answer"),
        ('{"#idiom000012#": 3, "#idiom000013#": 0}', r"train_answer.json, #idiom000012#: the answer 3 is not among"),
        ('{"idiom": 3}', r"train_answer.json: 'idiom' is not a blank"),
        ("[1]", r"train_answer.json, line 1: expected"),
    ],
)
def test_answers_of_chid_that_do_not_fit(tmp_path, answers, message):
    (tmp_path / "train_answer.json").write_text(answers, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_choice(write(tmp_path / "train.json", CHID_TEXTS))


@pytest.mark.parametrize("answer", [{}, {"answer": ""}, {"answer": None}])
def test_test_sets_without_answers_are_read_for_prediction(tmp_path, answer):
    path = write(tmp_path / "test.json", [[["文"], [{"question": "?", "choice": ["一", "二"], **answer}], "1"]])
    assert read_choice(path, labelled=False)[0].answer is None
    with pytest.raises(DataError, match="no answer; add it or pass labelled=False"):
        read_choice(path)
    chid = {**CHID, "answer": answer.get("answer")}
    assert choices_from_rows([chid, {**CHID_TEXTS, **answer}], "mine", labelled=False)[2].answer is None


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


def test_an_id_that_cannot_be_written_is_refused():
    with pytest.raises(DataError, match="mine, item 1: the id holds half of a character"):
        choices_from_rows([{**FLAT, "id": "\ud800"}], "mine")


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
