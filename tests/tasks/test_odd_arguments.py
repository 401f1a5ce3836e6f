"""What a new user gives to tasks by mistake: one line that names it, and what is as good as a list is taken."""

import json

import pytest

import qingformer as qf
from qingformer.data.choice import read_choice
from qingformer.data.guessing import guess_format
from qingformer.data.readers import read_rows
from qingformer.data.relations import relations_from_rows
from qingformer.data.tables import rows_of
from qingformer.data.tagging import from_rows, read_tagging
from qingformer.errors import ConfigError, DataError, QingFormerError
from qingformer.tasks.checks import check_run, whole_number
from qingformer.tasks.fit_arguments import check_transforms
from qingformer.tasks.predictor import rows_for


class Dataset:
    """A data set as PyTorch has them: a length and items, no iterator."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


def test_a_data_set_with_a_length_and_items_is_rows():
    rows = [("今天", "天气"), ("放歌", "音乐")]
    assert list(rows_of(Dataset(rows), "data")) == rows


@pytest.mark.parametrize("read", [from_rows, relations_from_rows])
def test_two_texts_for_a_model_of_single_texts_are_refused(read):
    with pytest.raises(DataError, match="item 1: two texts, but"):
        read([("今天", "明天")], "texts", labelled=False)


def test_a_json_list_of_texts_is_read(tmp_path):
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(["今天", "明天"]), encoding="utf-8")
    assert [row.values for row in read_rows(file)] == [{"text": "今天"}, {"text": "明天"}]
    assert [item.text for item in read_tagging(file, labelled=False).items] == ["今天", "明天"]


@pytest.mark.parametrize(
    ("lines", "format"),
    [
        (["text,label", "今天,天气"], "csv"),
        (["id,text", '1,"今天, 明天"'], "csv"),
        (["text,label"], "text"),
        (["text, please", "today"], "text"),
        (["Hello, text", "today, tomorrow"], "text"),
    ],
)
def test_a_csv_table_on_standard_input_is_known_by_its_header(lines, format):
    assert guess_format("-", list(enumerate(lines, 1)), None) == format


def test_a_table_without_a_column_of_texts_is_not_tagged_line_by_line(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("text_a\ttext_b\tlabel\n今天\t明天\t1\n", encoding="utf-8")
    with pytest.raises(DataError, match="has 3 columns with tabs between them, and none is named text"):
        read_tagging(file, labelled=False)
    assert len(read_tagging(file, labelled=False, format="text").items) == 2


@pytest.mark.parametrize("value", ["8", 2.5, None])
def test_a_count_is_quoted_as_it_was_given(value):
    with pytest.raises(ConfigError, match=f"batch_size is {value!r}; expected a whole number"):
        whole_number(value, "batch_size")
    with pytest.raises(ConfigError, match="batch_size is"):
        rows_for(3, value)


@pytest.mark.parametrize("path", ["", None, 5])
def test_a_path_that_is_none_is_not_the_current_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.json").write_text('{"task": "text-classifier"}')
    for load in (qf.load, qf.TextClassifier.from_pretrained, qf.Tokenizer.from_pretrained, qf.Backbone.from_pretrained):
        with pytest.raises(QingFormerError, match=r"(the folder|the source) is "):
            load(path)
    if path is not None:
        with pytest.raises(ConfigError, match="directory is "):
            check_run(path, None, resume=False, overwrite=False)


@pytest.mark.parametrize("read", [read_choice, read_tagging, read_rows])
def test_an_empty_path_of_data_is_refused(read):
    with pytest.raises(DataError, match="the path of the data is empty"):
        read("")


def test_transforms_by_name_are_refused():
    with pytest.raises(ConfigError, match=r"transforms is .*give a list"):
        check_transforms({"fgm": 1})


def test_columns_as_text_are_refused():
    with pytest.raises(ConfigError, match=r"columns is 'text,label'; give qingformer.tasks.Columns"):
        qf.TextClassifier.from_scratch("tiny").fit([("今天", "天气"), ("歌", "音乐")], columns="text,label")


def test_a_named_column_of_texts_has_a_text_a_row(tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text("id,passage,text\n7,姚明生于上海,甲\n8,今天,乙\n", encoding="utf-8")
    found = read_tagging(file, labelled=False, text_column="passage").items
    assert [(item.text, item.fields["id"]) for item in found] == [("姚明生于上海", "7"), ("今天", "8")]
    assert [item.text for item in read_tagging(file, labelled=False, text_column="text").items] == ["甲", "乙"]
    file.write_text("Sentence #,Word\n1,姚\n,明\n", encoding="utf-8")
    assert [item.text for item in read_tagging(file, labelled=False, text_column="Word").items] == ["姚明"]
