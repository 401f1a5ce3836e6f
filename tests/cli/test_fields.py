"""What rows of predictions keep of the rows they answer."""

import json

import pytest

from qingformer.data.json_rows import json_line, with_fields
from qingformer.tasks.choice.multiple_choice import Choice
from qingformer.tasks.predictor import Prediction
from qingformer.tasks.reading.reading_comprehension import Reading
from qingformer.tasks.relations.relation_examples import Extraction
from qingformer.tasks.tagging.tagged_texts import Tagging
from qingformer.tasks.task_options import ENCODING, task_entries

QUESTION = {"context": "昨天下雨了", "question": "何时？"}
READ = {
    "classification": ({"text": "好看"}, Prediction(("正面",), 0.9)),
    "ner": ({"text": "好看"}, Tagging("好看", ())),
    "cws": ({"text": "好看"}, Tagging("好看", ())),
    "relations": ({"text": "好看"}, Extraction("好看", ())),
    "reading": (QUESTION, Reading("a-7", "何时？", ())),
    "choice": ({**QUESTION, "choices": ["昨天", "今天"]}, Choice("a-7", 0, "昨天", (0.9, 0.1))),
}
OTHERS = {"id": "a-7", "source": "微博", "meta": {"page": [1, None]}, "line": 99}


def values_of(entry, verb, **options):
    given = {option.name: option.default for option in (*entry.options(verb), ENCODING)}
    return {**given, **entry.task_class().saved_options({"task": entry.task_name, **entry.fixed}), **options}


def written(name, path, prediction, capsys, count=1, **options):
    entry = task_entries()[name]
    task = entry.task_class().from_scratch("tiny", max_length=16, **entry.fixed)
    examples = task.read_file(str(path), values_of(entry, "predict", **options), labelled=False)
    task.write_predictions("jsonl", examples, [prediction] * count, None, entry.echoed)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", READ)
def test_every_field_of_a_json_row_is_kept(name, tmp_path, capsys):
    asked, prediction = READ[name]
    (tmp_path / "data.jsonl").write_text("\n" + json.dumps({**asked, **OTHERS}) + "\n", encoding="utf-8")
    (row,) = written(name, tmp_path / "data.jsonl", prediction, capsys)
    assert {key: row[key] for key in asked} == asked
    assert (row["id"], row["source"], row["meta"]) == ("a-7", "微博", OTHERS["meta"])
    assert (row["line"], row["input_line"]) == (2, 99)


@pytest.mark.parametrize("name", ["classification", "ner", "reading"])
def test_every_column_of_a_table_is_kept(name, tmp_path, capsys):
    asked, prediction = READ[name]
    names = [*asked, "id", "source"]
    lines = [",".join(names), ",".join([*asked.values(), "a-7", "微博"])]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (row,) = written(name, tmp_path / "data.csv", prediction, capsys)
    assert {**row, **asked, "id": "a-7", "source": "微博"} == row


def test_tables_without_names_say_the_place_of_a_column(tmp_path, capsys):
    (tmp_path / "data.tsv").write_text("好看\t负面\t7\n", encoding="utf-8")
    (row,) = written(
        "classification", tmp_path / "data.tsv", READ["classification"][1], capsys, columns=["text", "label", "id"]
    )
    assert (row["label"], row["input_label"], row["id"]) == ("正面", "负面", "7")
    assert with_fields({"text": "好"}, {1: "x", 2: "y"}, ("text",)) == {"text": "好", "column_2": "x", "column_3": "y"}


def test_names_that_are_taken_get_a_prefix_and_numbers_stay_numbers():
    found = with_fields({"id": "7", "text": "好"}, {"id": 7, "text": "坏", "input_text": "x"}, ("id", "text"))
    assert found == {"id": 7, "text": "好", "input_text": "坏", "input_input_text": "x"}


def test_tokens_keep_their_fields_and_half_characters_are_escaped(tmp_path, capsys):
    row = '{"tokens": ["好", "看"], "id": 3, "note": "\\ud800"}\n'
    (tmp_path / "data.jsonl").write_text(row, encoding="utf-8")
    (found,) = written("ner", tmp_path / "data.jsonl", Tagging("好看", ()), capsys)
    assert (found["id"], found["note"]) == (3, "\ud800")
    assert json_line({"a": "\ud800"}) == '{"a": "\\ud800"}'


def test_labelled_rows_do_not_hold_their_fields_in_memory(tmp_path):
    entry = task_entries()["classification"]
    (tmp_path / "data.jsonl").write_text('{"text": "好看", "label": "正面", "id": 1}\n', encoding="utf-8")
    examples = entry.task_class().read_file(str(tmp_path / "data.jsonl"), values_of(entry, "train"))
    assert examples[0].fields is None
