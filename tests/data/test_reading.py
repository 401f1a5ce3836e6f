"""Reading comprehension: every file form, repaired offsets, lines, and CMRC 2018 itself."""

import json

import numpy as np
import pytest

from qingformer.data.reading import Question, questions_from_rows, read_reading
from qingformer.errors import DataError

CONTEXT = "范廷颂生于1919年,1949年晋铎,2009年离世。"
ASKED = "何时出生?"


def squad(*qas, context=CONTEXT):
    return {"version": "v1.0", "data": [{"title": "t", "paragraphs": [{"context": context, "id": "P", "qas": [*qas]}]}]}


def ask(*answers, **more):
    return {"question": ASKED, "id": "Q0", "answers": list(answers), **more}


def answer(text, start):
    return {"text": text, "answer_start": start}


RIGHT = answer("1919年", 5)
FORMS = {
    "squad": squad(ask(RIGHT)),
    "paragraphs": squad(ask(RIGHT))["data"],
    "list of contexts": squad(ask(RIGHT))["data"][0]["paragraphs"],
    "first release": [
        {"context_text": CONTEXT, "qas": [{"query_text": ASKED, "query_id": "Q0", "answers": ["1919年"]}]}
    ],
    "rows": [{"context": CONTEXT, **ask(RIGHT)}],
    "one text": [{"context": CONTEXT, "question": ASKED, "id": "Q0", "answer": "1919年"}],
    "columns": [{"context": CONTEXT, **ask() | {"answers": {"text": ["1919年"], "answer_start": [5]}}}],
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", FORMS)
def test_every_form(tmp_path, form, indent):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(FORMS[form], ensure_ascii=False, indent=indent), encoding="utf-8")
    (question,) = questions = read_reading(path)
    assert (question.id, question.context, question.question) == ("Q0", CONTEXT, ASKED)
    assert question.answers == ((5, "1919年"),)
    assert question.references == ("1919年",)
    assert question.answerable
    assert questions.notes == []
    key = '"query_text"' if form == "first release" else '"question"'
    assert key in path.read_text("utf-8").split("\n")[question.line - 1]
    (question,) = read_reading(path, labelled=False)
    assert question.answers is None


def test_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"context": CONTEXT, **ask(RIGHT), "id": number} for number in (7, None)]
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    questions = read_reading(path)
    assert [(question.id, question.line) for question in questions] == [("7", 1), ("2", 3)]
    assert questions.where(questions[1]) == f"{path}, line 3"


def test_rows_of_other_kinds():
    rows = [(CONTEXT, ASKED, "1919年"), (CONTEXT, ASKED, ["1919年", answer("1949年", 11)]), (CONTEXT, ASKED, [])]
    questions = questions_from_rows(rows, "mine")
    assert [question.answers for question in questions] == [((5, "1919年"),), ((5, "1919年"), (11, "1949年")), ()]
    again = questions_from_rows(questions, "mine", repair=False)
    assert again.items == questions.items
    assert questions_from_rows([(CONTEXT, ASKED)], "mine", labelled=False)[0] == Question(
        "1", CONTEXT, ASKED, None, line=1
    )


def test_what_is_not_answerable():
    rows = [
        ask(),
        ask(RIGHT, is_impossible=True),
        ask(answer("", 0)),
        {"question": ASKED, "is_impossible": True},
        ask(RIGHT, is_impossible=False),
    ]
    questions = questions_from_rows([squad(*rows)], "mine")
    assert [question.answerable for question in questions] == [False] * 4 + [True]
    assert [question.answers for question in questions] == [()] * 4 + [((5, "1919年"),)]
    assert questions.notes == []


@pytest.mark.parametrize(
    ("value", "answerable"),
    [("false", True), ("False", True), ("否", True), ("0", True), (0, True), (0.0, True), ("", True), (None, True),
     (float("nan"), True), ("no ", True), (np.bool_(False), True), ("true", False), ("TRUE", False), ("是", False),
     ("1", False), (1, False), ("yes", False), (np.int64(1), False)],
)  # fmt: skip
def test_truth_values_as_words(value, answerable):
    questions = questions_from_rows([squad(ask(RIGHT, is_impossible=value))], "mine")
    assert questions[0].answerable == answerable
    assert questions[0].answers == (((5, "1919年"),) if answerable else ())


@pytest.mark.parametrize("value", ["maybe", 2, "null", [], {}, ["false"]])
def test_what_is_no_truth_value_is_named(value):
    with pytest.raises(DataError, match=r"mine, item 1 \(Q0\): is_impossible is .*; expected true or false"):
        questions_from_rows([squad(ask(RIGHT, is_impossible=value))], "mine")


def test_tables_of_questions(tmp_path):
    columns = {
        "context": [CONTEXT],
        "question": [ASKED],
        "answers": [{"text": ["1919年"], "answer_start": [np.int64(5)]}],
    }
    assert questions_from_rows(columns, "mine")[0].answers == ((5, "1919年"),)
    assert questions_from_rows(squad(ask(RIGHT)), "mine")[0].answers == ((5, "1919年"),)
    path = tmp_path / "a.csv"
    path.write_text(f'id,context,question,answer\nQ7,"{CONTEXT}",{ASKED},1919年\n', encoding="utf-8")
    assert read_reading(path).items == [Question("Q7", CONTEXT, ASKED, ((5, "1919年"),), True, 2, ("1919年",))]


def test_wrong_offsets_are_repaired_to_the_nearest_and_counted():
    qas = [ask(answer("年", start)) for start in (0, 12, 16, 999, -1)] + [ask(RIGHT), ask(RIGHT, answer("1920年", 5))]
    questions = questions_from_rows([squad(*qas)], "mine")
    assert [question.answers[0][0] for question in questions[:5]] == [9, 9, 15, 23, 9]
    assert questions[6].answers == ((5, "1919年"),)
    assert questions[6].references == ("1919年", "1920年")
    assert questions.notes == [
        "5 of 8 answers did not stand where answer_start says and were found elsewhere (first: mine, item 1 (Q0))",
        "1 of 8 answers are not in their context; they are kept for comparison only (first: mine, item 1 (Q0))",
    ]
    assert questions_from_rows([squad(ask(answer("。", -1)))], "mine")[0].answers == ((26, "。"),)
    questions = questions_from_rows([squad(ask(RIGHT), ask(answer("1920年", 5)))], "mine")
    assert len(questions) == 1
    assert questions.notes[1].startswith("1 of 2 questions were left out")


@pytest.mark.parametrize(("text", "stands"), [("1949年", "stands at 11"), ("1920年", "is nowhere in the context")])
def test_without_repair_a_wrong_offset_is_an_error(text, stands):
    with pytest.raises(DataError, match=rf"^mine, item 1 \(Q0\): the answer '{text}' is not at 5 but {stands}"):
        questions_from_rows([squad(ask(answer(text, 5)))], "mine", repair=False)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (squad({"id": "Q1", "answers": []}), r"\(Q1\): the question is missing"),
        (squad(ask(RIGHT), context=" "), "the context is empty"),
        (squad({"question": ASKED, "id": "Q1"}), r'\(Q1\): no field "answers"'),
        (squad(ask(answer("1919年", "5f"))), "answer_start is '5f'"),
        (squad(ask(answer(None, 5))), "the text of the answer is missing"),
        (squad(ask(1919)), "the answer is int"),
        (squad("Q"), '"qas" must be a list of objects'),
        ({"data": {}}, '"data" is dict; expected a list'),
        ({"context": CONTEXT, **ask() | {"answers": {"text": ["a"], "answer_start": []}}} | {"id": 1}, None),
        (
            {"context": CONTEXT, **ask() | {"answers": {"text": ["a"], "answer_start": [1, 2]}}},
            "1 texts of answers need",
        ),
        ("text", "expected an object"),
    ],
)
def test_bad_rows_name_their_place(row, message):
    with pytest.raises(DataError, match=f"^mine, item 1.*{message}" if message else "no question is left"):
        questions_from_rows([row], "mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ('{"data": [\n{"paragraphs": \n', "line 2: not JSON"),
        ('{"context": "a"}\n{"context": \n', "line 2: not JSON"),
        ('[{"context": "a"}\n{"context": "b"}]', "line 2: not JSON: expected ',' or ']'"),
        ('[{"context": "a"}]\n\n[2]x', "line 3: not JSON"),
        ('[\n{"context": "a", "question": "b"},\n{"context": "a", "answers": []}]', "line 2: no field"),
        ('[\n{"context": "a", "question": "b", "answers": []},\n{"context": "a",\n"question": "", "answers": []}]',
         "line 4: the question is empty"),
    ],
)  # fmt: skip
def test_bad_files_name_their_line(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_reading(tmp_path / "a.json", repair=False)


CMRC = [("train", 10142, 10142, 21, 0), ("dev", 3219, 9657, 7, 193), ("trial", 1000, 1000, 5, 0)]


@pytest.mark.shared
@pytest.mark.parametrize(("split", "count", "answers", "moved", "nowhere"), CMRC)
def test_cmrc_2018(shared, split, count, answers, moved, nowhere):
    questions = read_reading(shared / "data" / "clue-cmrc2018" / f"{split}.json.gz")
    assert len(questions) == count
    assert sum(len(question.references) for question in questions) == answers
    assert sum(len(question.answers) for question in questions) == answers - nowhere
    for question in questions:
        assert all(question.context.startswith(text, start) for start, text in question.answers)
    assert questions.notes[0].startswith(f"{moved} of {answers:,} answers did not stand")
    others = {"dev": ["193"], "trial": ["2"]}  # references not in the context, empty questions
    assert [note.split()[0] for note in questions.notes[1:]] == others.get(split, [])
    lines = [question.line for question in questions]
    assert len(set(lines)) == count
    assert lines == sorted(lines)


@pytest.mark.shared
def test_cmrc_2018_public_test_has_placeholders(shared):
    path = shared / "data" / "clue-cmrc2018" / "test.json.gz"
    questions = read_reading(path, labelled=False)
    assert len(questions) == 2000
    assert all(question.answers is None for question in questions)
    with pytest.raises(DataError, match=r"no question is left; 2,000 of 2,000 questions .*labelled=False"):
        read_reading(path)
