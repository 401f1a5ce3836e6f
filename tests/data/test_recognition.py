"""A file for another task is refused by the name of that task."""

import json

import pytest

from qingformer.data.choice import read_choice
from qingformer.data.reading import read_reading
from qingformer.data.recognition import tasks_of
from qingformer.errors import DataError
from qingformer.tasks.classification.text_examples import Columns, read_examples
from qingformer.tasks.relations.relation_examples import read_texts
from qingformer.tasks.tagging.tagged_texts import read_tagged

SQUAD = {"data": [{"paragraphs": [{"context": "昨天下雨了", "qas": [{"id": "1", "question": "何时", "answers": []}]}]}]}
C3 = [["下雨了"], [{"question": "天气?", "choice": ["晴", "雨"], "answer": 1}], "1"]
FILES = {
    "classification": {
        "a.jsonl": json.dumps({"text": "好看", "label": "好"}) + "\n",
        "pairs.jsonl": json.dumps({"sentence1": "好看", "sentence2": "好", "label": 1}) + "\n",
        "a.csv": "text,label\n好看,好\n",
    },
    "ner": {
        "a.jsonl": json.dumps({"text": "在北京", "entities": [{"start": 1, "end": 3, "label": "LOC"}]}) + "\n",
        "cluener.json": json.dumps({"text": "在北京", "label": {"LOC": {"北京": [[1, 2]]}}}) + "\n",
        "a.conll": "在 O\n北 B-LOC\n京 I-LOC\n",
        "a.txt": "在\tO\n北\tB-LOC\n京\tI-LOC\n",
        "tokens.jsonl": json.dumps({"tokens": ["在", "北"], "ner_tags": ["O", "B-LOC"]}) + "\n",
    },
    "relations": {
        "spo.jsonl": json.dumps({"text": "甲写乙", "spo_list": [{"subject": "甲", "predicate": "写", "object": "乙"}]}),
        "a.json": json.dumps([{"text": "甲写乙", "triple_list": [["甲", "写", "乙"]]}], indent=1),
    },
    "reading": {
        "squad.json": json.dumps(SQUAD, indent=1),
        "squad_line.json": json.dumps(SQUAD),
        "a.jsonl": json.dumps({"context": "昨天下雨了", "question": "何时", "answer": "昨天"}),
    },
    "choice": {
        "c3.json": json.dumps([C3], indent=1),
        "a.jsonl": json.dumps({"context": "下雨了", "question": "天气?", "choices": ["晴", "雨"], "answer": 1}),
        "letters.csv": "context,question,A,B,answer\n下雨了,天气?,晴,雨,B\n",
        "chid.jsonl": json.dumps({"content": "他#idiom#走了", "candidates": ["一", "二"], "answer": "一"}),
    },
}  # fmt: skip
READERS = {
    "classification": read_examples,
    "ner": lambda path: read_tagged(path, "data", True),
    "cws": lambda path: read_tagged(path, "data", True, segmented=True),
    "relations": lambda path: read_texts(path, "data", True, None),
    "reading": read_reading,
    "choice": read_choice,
}
CASES = [(task, name, reader) for task, files in FILES.items() for name in files for reader in READERS]


@pytest.mark.parametrize(("task", "name", "reader"), CASES)
def test_each_file_is_read_by_its_task_or_named(tmp_path, task, name, reader):
    path = tmp_path / name
    path.write_text(FILES[task][name], encoding="utf-8")
    if reader in (task, "cws" if task == "ner" else task):  # tags of words may stand in such files
        assert len(READERS[reader](path)) == 1
        return
    with pytest.raises(DataError, match=f"{name}.*data for {task}, not for {reader}") as refused:
        READERS[reader](path)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


def test_a_fault_in_a_file_of_the_task_is_said_itself(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "在北京", "entities": [[0, 9, "LOC"]]}\n', encoding="utf-8")
    with pytest.raises(DataError, match="not inside the text"):
        read_tagged(tmp_path / "a.jsonl", "data", True)
    (tmp_path / "b.jsonl").write_text('{"text": "好", "label": "x", "spans": [[0, 1, "A"]]}\n{"text": ""}\n', "utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_examples(tmp_path / "b.jsonl")


def test_questions_are_no_texts_unless_their_column_is_named(tmp_path):
    rows = [{"context": "昨天下雨了", "question": "何时"}]
    with pytest.raises(DataError, match="item 1: holds questions about texts"):
        read_examples(rows, labelled=False)
    assert read_examples(rows, Columns(text="question"), labelled=False)[0].text == "何时"
    assert tasks_of({"question": "a", "context": "b", "label": "yes"}) == {"classification"}


def test_a_tsv_file_with_names_gives_a_tagger_its_texts(tmp_path):
    (tmp_path / "a.tsv").write_text("id\ttext\n7\t在北京\n", encoding="utf-8")
    (found,) = read_tagged(tmp_path / "a.tsv", "data", False)
    assert (found.text, found.fields) == ("在北京", {"id": "7"})
