"""Examples from files as people have them: usual column names, labels of every kind, and what is wrong with them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.data import TextExample, read_classification
from qingformer.errors import DataError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def read(path, **options):
    return [(example.text, example.pair, example.labels) for example in read_classification(path, **options)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": "甲", "label": "一"}', ("甲", None, ("一",))),
        ('{"sentence": "甲", "label": 100, "label_desc": "news"}', ("甲", None, ("100",))),
        ('{"id": 1, "sentence1": "甲", "sentence2": "乙", "label": "0"}', ("甲", "乙", ("0",))),
        ('{"query": "甲", "title": "乙", "label": "2"}', ("甲", "乙", ("2",))),
        ('{"title": "甲", "category": "体育"}', ("甲", None, ("体育",))),
        ('{"title": "乙", "content": "甲", "tag": "体育"}', ("甲", None, ("体育",))),
        ('{"Review": "甲", " Label ": true}', ("甲", None, ("True",))),
        ('{"premise": "甲", "hypothesis": "乙"}', ("甲", "乙", None)),
        ('{"text": "甲", "labels": ["一", "二", "一"]}', ("甲", None, ("一", "二"))),
        ('{"text": "甲", "labels": []}', ("甲", None, ())),
        ('{"text": "甲", "label": null}', ("甲", None, None)),
        ('{"text": "甲", "label": ""}', ("甲", None, None)),
    ],
)
def test_usual_columns_are_found(tmp_path, content, expected):
    assert read(write(tmp_path / "a.jsonl", content)) == [expected]


def test_columns_by_name_by_position_and_switched_off(tmp_path):
    path = write(tmp_path / "a.tsv", "甲\t乙\t一\n")
    expected = [("甲", "乙", ("一",))]
    assert read(path, columns=["text", "pair", "label"]) == expected
    assert read(path, columns=["a", "b", "c"], text_column="a", pair_column="b", label_column="c") == expected
    assert read(path, text_column=0, pair_column=1, label_column=2) == expected
    assert read(path, text_column="0", pair_column="1", label_column="2") == expected
    assert read(path, text_column=1) == [("乙", None, None)]
    named = write(tmp_path / "b.tsv", "label\ttext_a\ttext_b\n一\t甲\t乙\n")
    assert read(named) == expected
    assert read(named, text_column=1, label_column=0) == expected
    assert read(named, pair_column=False, label_column=False) == [("甲", None, None)]
    other = write(tmp_path / "c.tsv", "x\ty\n甲\t一\n")
    assert read(other, text_column="x", label_column="y") == [("甲", None, ("一",))]


def test_several_labels_in_one_column(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n甲,一|二 | 一\n乙,\n")
    assert read(path, label_separator="|") == [("甲", None, ("一", "二")), ("乙", None, ())]
    assert read(path) == [("甲", None, ("一|二 | 一",)), ("乙", None, None)]


def test_rows_of_a_group_are_one_example(tmp_path):
    path = write(tmp_path / "a.csv", "id,text,label\n1,甲,一\n2,乙,二\n1,甲,三\n1,甲,一\n")
    assert read(path, group_column="id") == [("甲", None, ("一", "三")), ("乙", None, ("二",))]
    path = write(tmp_path / "b.csv", "id,text,label\n1,甲,一\n1,乙,三\n")
    with pytest.raises(DataError, match=r"b.csv, line 3: group '1' has another text than on line 2"):
        read(path, group_column="id")


def test_weights(tmp_path):
    path = write(tmp_path / "a.csv", "text,label,w\n甲,一,0.5\n乙,一,2\n")
    assert [example.weight for example in read_classification(path, weight_column="w")] == [0.5, 2]
    for wrong in ("-1", "nan", "inf", "viel", ""):
        path = write(tmp_path / "a.csv", f"text,label,w\n甲,一,{wrong}\n")
        with pytest.raises(DataError, match=rf"a.csv, line 2, column 'w': expected a weight.*found '{wrong}'"):
            read(path, weight_column="w")


def test_empty_texts_can_be_left_out(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n甲,一\n ,二\n")
    assert read(path, skip_empty=True) == [("甲", None, ("一",))]
    path = write(tmp_path / "b.csv", "text,label\n,一\n")
    with pytest.raises(DataError, match=r"b.csv: no rows with a text"):
        read(path, skip_empty=True)


def test_the_only_label():
    assert TextExample("甲", labels=("一",)).label == "一"
    assert TextExample("甲").label is None
    with pytest.raises(DataError, match=r"line 7: 2 labels .一, 二. where one is expected"):
        _ = TextExample("甲", labels=("一", "二"), line=7).label


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ('{"text": "甲"}\n{"label": "一"}', {}, "line 2, column 'text': the text is missing; fill it in, or leave"),
        ('{"text": "甲"}\n{"text": ""}', {}, "line 2, column 'text': the text is empty"),
        ('{"text": "甲"}\n{"text": 3}', {}, "line 2, column 'text': expected a text in quotes, found int"),
        ('{"text": 3}', {"skip_empty": True}, "line 1, column 'text': expected a text in quotes, found int"),
        ('{"text": "甲", "pair": "乙"}\n{"text": "甲"}', {}, "line 2, column 'pair': the text is missing"),
        ('{"text": "\\ud83d好"}', {}, "line 1, column .text.: the text holds half of a character"),
        (
            '{"text": "甲", "label": {"a": 1}}',
            {},
            "line 1, column 'label': the label is {.a.: 1}; expected a word",
        ),
        ('{"text": "甲", "label": [["一"]]}', {}, "line 1, column 'label': the label is \\[.一.\\]; expected a word"),
        ('{"text": "甲", "label": "一"}\n{"text": "乙"}', {"require_labels": True}, "line 2, column 'label': no label"),
        (
            '{"text": "甲", "klasse": "一"}',
            {"require_labels": True},
            "line 1: no column has a usual name for a label .there are text, klasse.; name it with label_column=",
        ),
        ('{"satz": "甲", "label": "一"}', {}, "no column has a usual name for a text .there are satz, label.; name"),
        ('{"text": "甲", "label": "一"}', {"text_column": "txt"}, "line 1: no column 'txt'; there are text, label"),
        ('{"text": "甲", "label": "一"}', {"label_column": "etikett"}, "line 1: no column 'etikett'; there are text"),
        ('{"text": "甲", "label": "一"}', {"label_column": 2}, "line 1: no column 2; there are text, label"),
    ],
)
def test_bad_rows(tmp_path, content, options, message):
    path = write(tmp_path / "a.jsonl", content)
    with pytest.raises(DataError, match=message) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_header_only_and_no_header(tmp_path):
    with pytest.raises(DataError, match=r"a.tsv: no rows with a text; give a file with at least one"):
        read(write(tmp_path / "a.tsv", "text\tlabel\n"))
    with pytest.raises(DataError, match=r"name all with columns= if the file has no header"):
        read(write(tmp_path / "b.tsv", "明天有雨吗\t天气\n放首歌\t音乐\n"))


@pytest.mark.parametrize("label", ["NaN", "null", '""', '" \\u3000"', "[]", "[null]", '["", NaN]'])
def test_what_is_no_label_is_refused_or_left_out_and_counted(tmp_path, label):
    path = write(tmp_path / "a.jsonl", f'{{"text": "甲", "label": 1}}\n{{"text": "乙", "label": {label}}}\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2, column 'label': no label .* skip_unlabelled=True"):
        read(path, require_labels=True)
    notes = []
    assert read(path, require_labels=True, skip_unlabelled=True, notes=notes) == [("甲", None, ("1",))]
    assert notes == ["1 of 2 rows were left out: they have no label (first: line 2)"]


def test_a_value_can_stand_for_no_label(tmp_path):
    path = write(tmp_path / "a.csv", "sentence1,sentence2,label\n甲,乙,neutral\n甲,丙, -\n甲,丁,-\n")
    notes = []
    assert read(path, require_labels=True, no_label=["-"], notes=notes) == [("甲", "乙", ("neutral",))]
    assert notes == ["2 of 3 rows were left out: they have no label (first: line 3)"]
    assert len(read(path)) == 3
    with pytest.raises(DataError, match="no rows with a text and a label"):
        read(path, require_labels=True, no_label=["-", "neutral"])


@pytest.mark.parametrize(
    ("cells", "label"),
    [
        (["1", "1.0", '"1"', '" 1.00"', "1e0", '"\\ufeff1\\u200b"'], "1"),
        (["-3", "-3.0", '"-3.0"'], "-3"),
        (["1.5", '"1.5"'], "1.5"),
        (['"体育"', '" 体育\\u3000"', '"\\u00a0体育\\t"'], "体育"),
        (["true", '"True"'], "True"),
        (['"--1"'], "--1"),
        (['"nan"'], "nan"),
    ],
)
def test_a_label_has_one_spelling(tmp_path, cells, label):
    path = write(tmp_path / "a.jsonl", "".join(f'{{"text": "甲", "label": {cell}}}\n' for cell in cells))
    assert {labels for _, _, labels in read(path)} == {(label,)}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ('"\\ud800"', "the label holds half of a character"),
        ('"a\\nb"', "has a line break in it"),
        ("1e999", "the label is inf"),
        ('{"choices": "a"}', "the label is"),
    ],
)
def test_labels_that_cannot_be(tmp_path, label, message):
    with pytest.raises(DataError, match=rf"a.jsonl, line 1, column 'label': .*{message}"):
        read(write(tmp_path / "a.jsonl", f'{{"text": "甲", "label": {label}}}'))


def test_label_studio_choices_are_labels(tmp_path):
    path = write(tmp_path / "a.json", '[{"id": 1, "text": "甲", "topic": {"choices": ["一", "二"]}}]')
    assert read(path) == [("甲", None, ("一", "二"))]


def test_a_header_that_was_overlooked_and_one_that_repeats_are_left_out(tmp_path):
    notes = []
    path = write(tmp_path / "a.tsv", "text_a\tclass\n甲\t1\n")
    assert read(path, columns=["text", "label"], notes=notes) == [("甲", None, ("1",))]
    assert notes == ["1 of 2 rows were left out: they hold the names of the columns (first: line 1)"]
    path = write(tmp_path / "b.csv", "text,label\n甲,1\ntext,label\n乙,0\n")
    assert [text for text, _, _ in read(path)] == ["甲", "乙"]
    path = write(tmp_path / "c.tsv", "甲\tlabel\n标题\t乙\n")
    assert len(read(path, columns=["text", "label"])) == 2


@pytest.mark.parametrize(
    ("separator", "cell", "labels"),
    [
        ("#", "一#二", ("一", "二")),
        ("#；", "一；二# 三", ("一", "二", "三")),
        (" and ", "一 and 二,三", ("一", "二,三")),
        ("||", "一||二", ("一", "二")),
        (",，", " , ", ()),
    ],
)
def test_separators(tmp_path, separator, cell, labels):
    path = write(tmp_path / "a.tsv", f"text\tlabel\n甲\t{cell}\n")
    assert read(path, label_separator=separator) == [("甲", None, labels)]


def test_left_out_texts_are_counted(tmp_path):
    notes = []
    read(write(tmp_path / "a.csv", "text,label\n甲,一\n ,二\n"), skip_empty=True, notes=notes)
    assert notes == ["1 of 2 rows were left out: they have no text (first: line 3)"]


def test_label_studio_tasks_are_rows(tmp_path):
    def task(number, *annotations):
        return {"id": number, "data": {"text": "甲"}, "annotations": list(annotations)}

    def chosen(*choices, cancelled=False):
        result = [{"type": "choices", "from_name": "topic", "value": {"choices": list(choices)}}]
        return {"was_cancelled": cancelled, "result": result}

    rows = [task(1, chosen("一", "二")), task(2, chosen("三", cancelled=True), chosen("一")), task(3)]
    path = write(tmp_path / "a.json", json.dumps(rows))
    assert read(path) == [("甲", None, ("一", "二")), ("甲", None, ("一",)), ("甲", None, ())]
    assert len(read(path, skip_unlabelled=True)) == 2


cells = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=60)
@given(text=cells, label=cells, separator=st.sampled_from([None, ",", "#;", "and"]), skip=st.booleans())
def test_any_cells_give_examples_or_one_clear_line(tmp_path_factory, text, label, separator, skip):
    path = tmp_path_factory.mktemp("cells") / "a.jsonl"
    path.write_text(json.dumps({"text": text, "label": label}) + "\n", encoding="utf-8")
    try:
        found = list(
            read_classification(
                path, label_separator=separator, require_labels=True, skip_empty=skip, skip_unlabelled=skip
            )
        )
    except DataError as problem:
        message = str(problem)
    else:
        (example,) = found
        assert example.labels is not None
        assert all(name == name.strip() and len(name.splitlines()) == 1 for name in example.labels)
        return
    assert str(path) in message
    assert len(message) < 400
    assert len(message.splitlines()) == 1
