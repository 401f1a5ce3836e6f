"""Readers: every format, every compression, real quirks, and one clear line for whatever is wrong."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qingformer.data import Row, read_rows
from qingformer.data.csv_fields import quoted_records
from qingformer.data.documents import read_documents
from qingformer.data.readers import BlankLines
from qingformer.errors import DataError

ROWS = [{"text": "今天天气不错", "label": "天气"}, {"text": '他说"你好",走了', "label": "闲聊"}]
TEXTS = {
    "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
    "json": json.dumps(ROWS, ensure_ascii=False, indent=1),
    "csv": 'text,label\n今天天气不错,天气\n"他说""你好"",走了",闲聊\n',
    "tsv": 'text\tlabel\n今天天气不错\t天气\n他说"你好",走了\t闲聊\n',
}
COMPRESSORS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def values(rows):
    return [row.values for row in rows]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("format", TEXTS)
def test_every_format_in_every_compression(tmp_path, format, suffix):
    path = write(tmp_path / f"data.{format}{suffix}", COMPRESSORS[suffix](TEXTS[format].encode()))
    assert values(read_rows(path)) == ROWS
    assert values(read_rows(str(path), format)) == ROWS


@pytest.mark.parametrize("format", TEXTS)
def test_byte_order_mark_and_windows_line_ends(tmp_path, format):
    text = "\ufeff" + TEXTS[format].replace("\n", "\r\n")
    assert values(read_rows(write(tmp_path / f"data.{format}", text))) == ROWS


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "utf-32", "big5"])
def test_other_encodings_when_told(tmp_path, encoding):
    text = TEXTS["csv"] if encoding != "big5" else "text,label\n今天,天\n"
    path = write(tmp_path / "data.csv", text, encoding)
    assert values(read_rows(path, encoding=encoding))[0]["text"].startswith("今天")


def test_line_numbers_count_blank_lines_and_lines_inside_quotes(tmp_path):
    path = write(tmp_path / "a.csv", '\ntext,label\n"一\n二",甲\n\n三,乙\n')
    assert [(row.line, row.values["text"]) for row in read_rows(path)] == [(3, "一\n二"), (6, "三")]
    path = write(tmp_path / "a.jsonl", '\n{"text": "一"}\n\n{"text": "二"}\n')
    assert [row.line for row in read_rows(path)] == [2, 4]
    path = write(tmp_path / "a.json", '\n[\n {"text": "一"},\n\n {"text":\n "二"},{"text": "三"}]')
    assert [row.line for row in read_rows(path)] == [3, 5, 6]
    path = write(tmp_path / "a.tsv", "text\n\n一\n")
    assert list(read_rows(path)) == [Row({"text": "一"}, 3)]


def test_quotes_are_characters_in_tsv_unless_asked(tmp_path):
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"引号只开不关\t甲\n"成对"\t乙\n')
    assert [row.values["text"] for row in read_rows(path)] == ['"引号只开不关', '"成对"']
    path = write(tmp_path / "b.tsv", 'text\tlabel\n"一\t二"\t甲\n')
    assert [row.values["text"] for row in read_rows(path, quoting=True)] == ["一\t二"]
    path = write(tmp_path / "c.csv", 'text,label\n"只开不关,甲\n')
    assert values(read_rows(path, quoting=False)) == [{"text": '"只开不关', "label": "甲"}]


def test_columns_without_a_header(tmp_path):
    path = write(tmp_path / "a.tsv", "一\t二\t0\n")
    assert values(read_rows(path, columns=["text", "pair", "label"])) == [{"text": "一", "pair": "二", "label": "0"}]
    assert values(read_rows(path, header=False)) == [{0: "一", 1: "二", 2: "0"}]
    path = write(tmp_path / "b.tsv", "x\ty\n一\t甲\n")
    assert values(read_rows(path, columns=["text", "label"], header=True)) == [{"text": "一", "label": "甲"}]


@pytest.mark.parametrize(
    ("given_bytes", "expected"),
    [
        (b'{"text": "a"}\n', [{"text": "a"}]),
        ("明天下雨吗\n\n放歌\n".encode(), [{"text": "明天下雨吗"}, {"text": "放歌"}]),
    ],
)
def test_standard_input(monkeypatch, given_bytes, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given_bytes)))
    assert values(read_rows("-")) == expected


fields = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\t\0"), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(fields, fields).filter(lambda row: row[0].strip()), min_size=1, max_size=6))
def test_whatever_is_written_is_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    expected = [{"text": text, "label": label} for text, label in rows]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("text", "label"), *rows])
    texts = {
        "csv": stream.getvalue(),
        "tsv": "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows),
        "jsonl": "".join(json.dumps(row) + "\n" for row in expected),
        "json": json.dumps(expected, ensure_ascii=False),
    }
    for format, text in texts.items():
        assert values(read_rows(write(folder / f"a.{format}", text))) == expected, format


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=80),
    encoding=st.sampled_from(["utf-8", "utf-16", "gb18030"]),
    format=st.sampled_from(["jsonl", "json", "csv", "tsv", "text"]),
    suffix=st.sampled_from(list(COMPRESSORS)),
)
def test_rubbish_gives_rows_or_one_clear_line(tmp_path_factory, content, encoding, format, suffix):
    path = write(tmp_path_factory.mktemp("rubbish") / f"a.{format}{suffix}", content)
    message = None
    try:
        rows = list(read_rows(path, format, encoding=encoding))
    except DataError as problem:
        message = str(problem)
    if message is None:
        assert all(isinstance(row.values, dict) for row in rows)
    else:
        assert str(path) in message
        assert "\n" not in message


@settings(max_examples=200, deadline=None)
@given(content=st.text(alphabet='a甲,"" \n', max_size=30))
def test_csv_is_what_the_csv_module_reads(tmp_path_factory, content):
    path = write(tmp_path_factory.mktemp("csv") / "a.csv", content)
    try:
        expected = [fields for fields in csv.reader(io.StringIO(content, newline=""), strict=True) if fields]
    except csv.Error:
        expected = None
    try:
        found = [fields for _, fields in quoted_records(path, iter(enumerate(content.splitlines(True), 1)), ",")]
    except DataError:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "天\n\n气\n \n", (4, 2, 2)),
        ("a.jsonl", '\n{"text": "天"}\n', (2, 1, 1)),
        ("a.tsv", "text\n\n天\n", (0, 0, 2)),
        ("a.json", '[\n\n{"text": "天"}]', (0, 0, 2)),
    ],
)
def test_blank_lines_are_counted_where_lines_are_rows(tmp_path, name, content, expected):
    blanks = BlankLines()
    list(read_rows(write(tmp_path / name, content), blanks=blanks))
    assert (blanks.lines, blanks.count, blanks.first) == expected
    assert bool(blanks.notes()) == bool(blanks.count)


def test_fields_of_any_length(tmp_path):
    long = "很长, " * 40000
    path = write(tmp_path / "a.csv", f'text,label\n"{long}",a\n短,b\n')
    assert values(read_rows(path)) == [{"text": long, "label": "a"}, {"text": "短", "label": "b"}]
    assert csv.field_size_limit() == 131072


@pytest.mark.parametrize("name", ["a.txt", "-"])
@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ('{"text": "天", "id": 5}\n', {}, [{"text": "天", "id": 5}]),
        ('[{"text": "天"},\n\n{"text": "气"}]', {}, [{"text": "天"}, {"text": "气"}]),
        (
            "天\t1\n\n气\t0\n",
            {"columns": ["text", "label"]},
            [{"text": "天", "label": "1"}, {"text": "气", "label": "0"}],
        ),
        ("text\tlabel\n天\t1\n", {}, [{"text": "天", "label": "1"}]),
        ("天\n气\t0\n", {}, [{"text": "天"}, {"text": "气\t0"}]),
        ("{天}\n[气]\n", {}, [{"text": "{天}"}, {"text": "[气]"}]),
        ("天\n", {"columns": ["text"]}, [{"text": "天"}]),
    ],
)
def test_text_files_are_looked_into(tmp_path, monkeypatch, name, content, options, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    path = "-" if name == "-" else write(tmp_path / name, content)
    assert values(read_rows(path, **options)) == expected


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", "天\t1\n气\t0\n", {}, 'line 1: has 2 columns .* format="tsv" and columns= text,label'),
        ("a.txt", "天\t气\t0\n", {}, "has 3 columns .* columns= text,pair,label"),
        ("a.txt", "天,1\n", {"columns": ["text", "label"]}, "line 1: has no tabs between 2 columns; pass format= csv"),
        ("a.txt", '{"text": "天"}\n', {"columns": ["a", "b"]}, "read as jsonl, but columns= is for tables"),
        ("a.jsonl", '{"text": "天"}\n', {"columns": ["a", "b"]}, "read as jsonl, but columns= is for tables"),
        ("a.jsonl", '{"text": "天"}\n', {"quoting": False}, "read as jsonl, but quoting= is for tables"),
        ("a.csv", "天,1\n", {"columns": ["a", "a"]}, "two columns have the same name"),
    ],
)
def test_options_of_tables_are_honoured_or_refused(tmp_path, name, content, options, message):
    with pytest.raises(DataError, match=message):
        list(read_rows(write(tmp_path / name, content), **options))


@pytest.mark.parametrize("read", [lambda path: list(read_rows(path)), read_documents])
@pytest.mark.parametrize(
    ("after", "message"),
    [
        ('\n[{"text": "c"}]\n', "line 4: not JSON: something follows the list"),
        ('{"text": "half', "line 3: not JSON: something follows the list"),
        (",", "line 3: not JSON: something follows the list"),
        (" \n\t\n", None),
    ],
)
def test_what_follows_a_json_list(tmp_path, read, after, message):
    path = write(tmp_path / "a.json", '\n[{"text": "a"},\n{"text": "b"}]' + after)
    if message is None:
        assert len(read(path)) == 2
    else:
        with pytest.raises(DataError, match=message):
            read(path)


@pytest.mark.parametrize("name", ["a.json.gz", "a.jsonl.gz", "a.tsv.gz", "a.csv.gz", "a.txt.gz"])
def test_blank_lines_cost_no_memory(tmp_path, name):
    head, row = ("text\n", "天\n") if name[2:5] in ("tsv", "csv") else ("", '{"text": "天"}\n')
    path = write(tmp_path / name, gzip.compress((head + "\n" * 200_000 + row).encode(), 1))
    tracemalloc.start()
    (found,) = read_rows(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == Row({"text": "天"}, 200_001 + len(head.splitlines()))
    assert peak < 500_000


BAD_FILES = [
    ("a.jsonl", b"", "a.jsonl: is empty; give a file"),
    ("a.csv", b"\n \n", "a.csv: is empty"),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n', "a.jsonl, line 2: not JSON: Expecting value at character"),
    ("a.jsonl", b'{"text": "a"}\n[1]\n', "a.jsonl, line 2: expected an object with named fields, found list"),
    ("a.json", b'[\n{"text": "a"},\n{"text": }]', "a.json, line 3: not JSON: Expecting value"),
    (
        "a.json",
        b'[\n{"text": "a"}\n',
        "a.json, line 2: not JSON: expected ',' or ']' after an element; is the file cut",
    ),
    ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}", "a.jsonl, line 1: not JSON: a number of too many digits"),
    ("a.jsonl", b'{"text": ' + b"[" * 100000, "a.jsonl, line 1: not JSON: nested too deep"),
    ("a.json", b"[" * 100000, "a.json, line 1: not JSON: nested too deep"),
    ("a.json", b'[{"text": "a"}, 3]', "a.json, line 1: expected an object with named fields, found int"),
    ("a.tsv", "text\tlabel\n一\n".encode(), r"a.tsv, line 2: 1 fields where there are 2 columns \(text, label\)"),
    ("a.tsv", "text\tlabel\n一\t二\t三\n".encode(), "a.tsv, line 2: 3 fields where there are 2 columns"),
    ("a.csv", 'text,label\n一,甲\n"二,乙\n三,丙\n'.encode(), "a.csv, line 3: wrong quotes"),
    ("a.csv", "甲,甲\n一,二\n".encode(), "a.csv, line 1: the column names 甲, 甲 are not all different"),
    (
        "a.tsv",
        "text\n一\n".encode() + "二三".encode("gb18030"),
        'a.tsv, line 3, byte 1: 0xb6 is not utf-8; .* pass it .encoding="gb18030".*, if only this line is, correct it',
    ),
    ("a.csv", "text\n一\n".encode("utf-16"), 'a.csv, line 1: begins with a UTF-16 mark; pass encoding="utf-16"'),
    ("a.jsonl.gz", gzip.compress(TEXTS["jsonl"].encode() * 50)[:-20], "a.jsonl.gz, after line .* ends too early; copy"),
    ("a.jsonl.xz", lzma.compress(TEXTS["jsonl"].encode() * 50)[:-20], "a.jsonl.xz, after line .* ends too early; copy"),
    ("a.jsonl.bz2", bz2.compress(TEXTS["jsonl"].encode() * 50)[:-20], "a.jsonl.bz2, after line .* ends too early"),
    ("a.jsonl.gz", TEXTS["jsonl"].encode(), "a.jsonl.gz, after line 0: damaged, or not compressed as its suffix says"),
    ("a.jsonl.xz", TEXTS["jsonl"].encode(), "a.jsonl.xz, after line 0: damaged, or not compressed as its suffix says"),
    ("a.xlsx", b"PK", "is a workbook of a spreadsheet; save the sheet as CSV"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[f"{n}-{m[:40]}" for n, _, m in BAD_FILES])
def test_bad_files(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_damage_in_a_wide_encoding(tmp_path, suffix):
    content = COMPRESSORS[suffix]((TEXTS["jsonl"] * 50).encode("utf-16"))
    with pytest.raises(DataError, match="ends too early"):
        list(read_rows(write(tmp_path / f"a.jsonl{suffix}", content[:-20]), encoding="utf-16"))
    with pytest.raises(DataError, match="damaged, or not compressed"):
        list(read_rows(write(tmp_path / f"a.jsonl{suffix}", b"{}" * 50), encoding="utf-16"))
    with pytest.raises(DataError, match="not utf-16; pass the encoding the file is in"):
        list(read_rows(write(tmp_path / "b.jsonl", b"\x00\xd8\x00\xd8abc"), encoding="utf-16"))


def test_bad_arguments(tmp_path):
    with pytest.raises(DataError, match=r"gone.jsonl: no such file; check the path"):
        read_rows(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match="is a folder; name the data file"):
        read_rows(tmp_path)
    path = write(tmp_path / "a.tsv", "text\n一\n")
    with pytest.raises(DataError, match="format 'xml' is not known; choose one of jsonl"):
        read_rows(path, "xml")
    with pytest.raises(DataError, match="encoding='utf-9': no such encoding"):
        list(read_rows(path, encoding="utf-9"))
    with pytest.raises(DataError, match=r"columns='text,label': pass a list of names, such as \['text', 'label'\]"):
        read_rows(path, columns="text,label")


def test_a_wrong_byte_is_found_only_when_its_line_is_reached(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "\xb6"}\n')
    rows = read_rows(path)
    assert next(rows).values == {"text": "a"}
    with pytest.raises(DataError, match="line 2, byte 11"):
        next(rows)


@pytest.mark.parametrize("format", ["jsonl", "csv", "tsv"])
def test_a_large_file_never_is_in_memory(tmp_path, format):
    path = tmp_path / f"big.{format}.gz"
    head, body = TEXTS[format].split("\n", 1) if format != "jsonl" else ("", TEXTS[format])
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write((head + "\n").encode())
        for _ in range(20):
            stream.write(body.encode() * 1000)
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40000
    assert peak < 500_000


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("rows.jsonl", '{"text": "甲", "label": "a"}\n{"text": "乙", "label": "a", "label": "b"}\n', 2),
        ("rows.json", '[{"text": "甲", "label": "a"},\n{"text": "乙", "label": "a", "label": "b"}]', 2),
        ("rows.jsonl", '{"text": "甲", "label": "a", "meta": {"label": 1, "label": 2}}\n', 1),
    ],
)
def test_a_key_with_two_values_is_refused(tmp_path, name, content, line):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=rf"{name}, line {line}: the key 'label' is there twice, with different values"):
        list(read_rows(path))


def test_a_key_with_one_value_twice_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "甲", "label": "a", "label": "a"}\n')
    assert [row.values for row in read_rows(path)] == [{"text": "甲", "label": "a"}]
