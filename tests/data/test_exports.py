"""Habits of tools and spreadsheets that once were read as something else, without a word."""

import json

import pytest

from qingformer.data import read_classification
from qingformer.data.reading import read_reading
from qingformer.data.relations import read_relations
from qingformer.data.spans import Span
from qingformer.data.tagging import read_tagging
from qingformer.errors import DataError
from qingformer.tasks.classification.text_examples import Columns, read_examples

TEXT = "李雷在北京"
SPANS = (Span(0, 2, "PER"), Span(3, 5, "LOC"))
PAIRS = [("好看", "正面"), ("难看, 不", "负面")]
TAGS = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


TABLES = {
    "semicolons.csv": "text;label\n好看;正面\n难看, 不;负面\n",
    "tabs.csv": "text\tlabel\n好看\t正面\n难看, 不\t负面\n",
    "commas.tsv": 'text,label\n好看,正面\n"难看, 不",负面\n',
    "told.csv": "sep=;\r\ntext;label\r\n好看;正面\r\n难看, 不;负面\r\n",
    "quotes after spaces.csv": 'text, label\n"好看", "正面"\n"难看, 不", "负面"\n',
    "quoted.tsv": '"text"\t"label"\n"好看"\t"正面"\n"难看, 不"\t"负面"\n',
    "empty columns.csv": 'text,label,,\n好看,正面,,\n"难看, 不",负面,,\n',
    "invisible.csv": 'text,label\n好看,正\u200b面\ufeff\n"难看, 不",\u3000负面\u00a0\n',
    "cats.jsonl": lines(
        *({"text": text, "cats": {"正面": text == "好看", "负面": text != "好看"}} for text, _ in PAIRS)
    ),
    "prodigy.jsonl": lines(
        {"text": "好看", "label": "正面", "answer": "accept"},
        {"text": "好看", "label": "负面", "answer": "reject"},
        {"text": "难看, 不", "label": "负面", "answer": "accept"},
    ),
    "ground truth.json": json.dumps(
        [
            {
                "data": {"text": text},
                "annotations": [
                    {"result": [{"value": {"choices": ["中性"]}}]},
                    {"result": [{"value": {"choices": [label]}}], "ground_truth": True},
                ],
            }
            for text, label in PAIRS
        ]
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_as_they_were_meant(tmp_path, name):
    notes = []
    read = read_classification(write(tmp_path, name, TABLES[name]), require_labels=True, notes=notes)
    assert [(example.text, example.label) for example in read] == PAIRS
    assert len(notes) == (name == "prodigy.jsonl")


def test_a_quoted_field_stands_behind_a_space_only_where_the_header_has_spaces_too(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n好, "a"\n')
    assert [example.label for example in read_classification(path)] == ['"a"']


@pytest.mark.parametrize(
    "cell", ['"[""体育"", ""娱乐""]"', "\"['体育', '娱乐']\"", '"{""choices"": [""体育"", ""娱乐""]}"']
)
def test_lists_in_cells_are_several_labels(tmp_path, cell):
    found = read_examples(write(tmp_path, "a.csv", f"text,label\n天,{cell}\n"), multi_label=True)
    assert found[0].labels == ("体育", "娱乐")


REFUSED = {
    "two.csv": ("text,label,Label\n好,1,2\n", "the columns 'label' and 'Label' have one name"),
    "zeros.jsonl": (lines({"text": "好", "label": [1, 0, 0]}), "a zero or one for each label"),
    "book.csv": (b"PK\x03\x04\x14\0text,label\n", "a workbook of Excel"),
    "zipped.jsonl": (b"\x1f\x8b\x08", "add .gz to its name"),
    "wide.csv": ("text,label\n好,1\n".encode("utf-32"), 'encoding="utf-32"'),
    "unmarked.csv": ("text,label\n".encode("utf-16-le"), "every other byte is zero"),
    "mac.csv": ("text,label\r好,1\r坏,0\r", "carriage returns"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_in_a_line(tmp_path, name):
    content, message = REFUSED[name]
    with pytest.raises(DataError) as error:
        read_examples(write(tmp_path, name, content), multi_label=True)
    assert message in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def columns(form):
    rows = []
    for token, tag in zip(TEXT, TAGS):
        letter, _, label = tag.partition("-")
        rows.append(form.format(token=token, tag=tag, letter=letter, label=label or "O"))
    return "".join(rows)


COLUMNS = {
    "label, letter": ("{token} {label} {letter}\n", 1),
    "letter, label": ("{token} {letter} {label}\n", 1),
    "letter, label with tabs": ("{token}\t{letter}\t{label}\n", 1),
    "no-break space": ("{token}\u00a0{tag}\n", 0),
    "wide space": ("{token}\u3000{tag}\n", 0),
    "space and tab": ("{token} \t {tag} \n", 0),
    "invisible after the tag": ("{token} {tag}\u200b\n", 0),
    "invisible before the tag": ("{token}\t\ufeff{tag}\n", 0),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_read_as_they_were_meant(tmp_path, name):
    form, notes = COLUMNS[name]
    found = read_tagging(write(tmp_path, "a.txt", columns(form)), segmented=False)
    assert [(item.text, item.spans) for item in found.items] == [(TEXT, SPANS)]
    assert len(found.notes) == notes


def test_an_invisible_character_makes_no_label_and_no_token(tmp_path):
    written = columns("{token} {tag}\n").replace("I-PER", "I-P\u200bER") + "\u200b\n天 O\n"
    found = read_tagging(write(tmp_path, "a.txt", written), segmented=False)
    assert [(item.text, item.spans) for item in found.items] == [(TEXT, SPANS), ("天", ())]


@pytest.mark.parametrize("dash", "－–—")
def test_other_dashes_are_read(tmp_path, dash):
    found = read_tagging(write(tmp_path, "a.txt", columns("{token} {tag}\n").replace("-", dash)), segmented=False)
    assert (found.items[0].spans, len(found.notes)) == (SPANS, 1)


def test_letters_alone_beside_parts_of_speech_are_not_joined(tmp_path):
    found = read_tagging(write(tmp_path, "a.txt", "李 NR B\n雷 NR I\n住 VV O\n"), "bio")
    assert found.items[0].spans == (Span(0, 2, "word"),)


OBJECTS = {
    "another field is empty": {"text": TEXT, "entities": [], "label": [[0, 2, "PER"], [3, 5, "LOC"]]},
    "rasa": {
        "text": TEXT,
        "entities": [
            {"start": 0, "end": 2, "value": "李雷", "entity": "PER"},
            {"start": 3, "end": 5, "value": "首都", "entity": "LOC"},
        ],
    },
    "tags of the characters": {"text": TEXT, "tags": TAGS},
    "text and tokens": {"text": TEXT, "tokens": list(TEXT), "ner_tags": TAGS},
    "invisible": {"text": TEXT, "entities": [[0, 2, "P\u200bER"], [3, 5, "LOC\ufeff"]]},
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_read_as_they_were_meant(tmp_path, name):
    found = read_tagging(write(tmp_path, "a.jsonl", lines(OBJECTS[name])))
    assert [(item.text, item.spans) for item in found.items] == [(TEXT, SPANS)]


def test_what_was_rejected_in_prodigy_is_left_out_with_a_note(tmp_path):
    rows = [{"text": TEXT, "spans": [[0, 2, "PER"]], "answer": answer} for answer in ("accept", "reject", "ignore")]
    found = read_tagging(write(tmp_path, "a.jsonl", lines(*rows)))
    assert [item.line for item in found.items] == [1]
    assert "2 texts" in found.notes[0]
    assert len(read_tagging(tmp_path / "a.jsonl", labelled=False).items) == 3


@pytest.mark.parametrize("place", [{"globalOffsets": {"start": 0, "end": 2}}, {"startOffset": 0, "endOffset": 2}])
def test_marked_html_is_refused(tmp_path, place):
    value = {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "hypertextlabels": ["PER"], **place}
    task = {"data": {"text": TEXT}, "annotations": [{"result": [{"type": "hypertextlabels", "value": value}]}]}
    with pytest.raises(DataError, match="line 1: the annotations of Label Studio mark parts of HTML"):
        read_tagging(write(tmp_path, "a.jsonl", lines(task)))


def test_several_annotations_are_told(tmp_path):
    results = [[{"value": {"start": 0, "end": 2, "labels": ["PER"]}}], []]
    task = {"data": {"text": TEXT}, "annotations": [{"result": result} for result in results]}
    found = read_tagging(write(tmp_path, "a.jsonl", lines(task)))
    assert found.items[0].spans == SPANS[:1]
    assert "1 texts have several annotations" in found.notes[0]


def test_a_surface_that_is_not_there_is_refused_under_any_name(tmp_path):
    for name in ("text", "mention", "surface"):
        row = {"text": TEXT, "entities": [{"start": 0, "end": 2, "type": "PER", name: "北京"}]}
        with pytest.raises(DataError, match="should be '北京'"):
            read_tagging(write(tmp_path, "a.jsonl", lines(row)))


def test_brat_names_are_unique_and_texts_without_marks_are_told(tmp_path):
    for name in ("a.txt", "b.txt"):
        write(tmp_path / "brat", name, TEXT)
    path = write(tmp_path / "brat", "a.ann", "T1\tPER 0 2\t李雷\nT2\tLOC 3 5\t北京\n")
    found = read_tagging(tmp_path / "brat")
    assert (found.items[0].spans, len(found.items)) == (SPANS, 1)
    assert "1 texts without an annotation file" in found.notes[0]
    path.write_text("T1\tPER 0 2\t李雷\nT1\tLOC 3 5\t北京\n")
    with pytest.raises(DataError, match=r"a\.ann, line 2: T1 occurs twice"):
        read_tagging(tmp_path / "brat")


@pytest.mark.parametrize("value", ["nan", "None", "-", "NULL"])
def test_a_label_that_may_mean_none_is_told(tmp_path, value):
    path = write(tmp_path, "a.csv", f"text,label\n好,正\n坏,{value}\n")
    found = read_examples(path)
    assert [example.label for example in found] == ["正", value]
    assert f"the label '{value}' is a class like the others" in found.notes[0]
    assert len(read_examples(path, Columns(no_label=value))) == 1


@pytest.mark.parametrize("joiner", ["&", "+", " "])
def test_several_labels_in_a_cell_are_not_one(tmp_path, joiner):
    path = write(tmp_path, "a.csv", f"text,label\n天,体育{joiner}娱乐\n地,体育\n人,娱乐\n")
    with pytest.raises(DataError, match=r"line 2: the label .* looks like several"):
        read_examples(path, multi_label=True)


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_may_be_called_jsonl(tmp_path, indent):
    rows = [{"text": text, "label": label} for text, label in PAIRS]
    found = read_examples(write(tmp_path, "a.jsonl", json.dumps(rows, indent=indent)))
    assert [(example.text, example.label) for example in found] == PAIRS


def test_a_text_of_invisible_characters_is_empty(tmp_path):
    with pytest.raises(DataError, match="line 1, column 'text': the text is empty"):
        read_examples(write(tmp_path, "a.jsonl", lines({"text": "\u200b\ufeff", "label": "a"})))


CONTEXT = "1919年生，1919年卒"
ANSWERS = {
    "place beside a text": ({"answer": "1919年", "answer_start": 7}, 7),
    "place in digits": ({"answers": [{"text": "1919年", "answer_start": "7"}]}, 7),
    "space around it": ({"answers": [{"text": " 1919年\u200b", "answer_start": 6}]}, 7),
    "the other field is empty": ({"answers": [], "answer": "1919年"}, 0),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_stand_where_they_are_said_to(tmp_path, name):
    row, start = ANSWERS[name]
    found = read_reading(write(tmp_path, "a.jsonl", lines({"context": CONTEXT, "question": "何时", **row})))
    assert found[0].answers == ((start, "1919年"),)


def test_places_of_answers_in_a_table(tmp_path):
    written = f"context,question,answer,answer_start\n{CONTEXT},何时,1919年,7\n"
    assert read_reading(write(tmp_path, "a.csv", written))[0].answers == ((7, "1919年"),)


def test_an_invisible_character_makes_no_relation(tmp_path):
    row = {"text": TEXT, "spo_list": [["李雷", "生\u200b地", "北京"], ["李雷", "生地", "北京"]]}
    found = read_relations(write(tmp_path, "a.jsonl", lines(row)))
    assert [triple.relation for triple in found[0].triples] == ["生地"]
