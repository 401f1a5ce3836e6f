"""Layouts of annotation tools and well-known sets: read right, or refused in a line that says what was seen."""

import json

import pytest

from qingformer.data.spans import Span
from qingformer.data.tagging import from_rows, read_tagging
from qingformer.errors import DataError

TEXT = "孙悟空在花果山"
SPANS = (Span(0, 3, "PER"), Span(4, 7, "LOC"))
TAGS = ["B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC"]


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def columns(tags, form="{0} {1}", separator="\n"):
    return separator.join(form.format(token, tag, number) for number, (token, tag) in enumerate(zip(TEXT, tags), 1))


def twice(block):
    return f"{block}\n\n{block}\n"


def check(path, count=2, notes=0, **options):
    texts = read_tagging(path, segmented=False, **options)
    assert [(item.text, item.spans) for item in texts.items] == [(TEXT, SPANS)] * count
    assert len(texts.notes) == notes
    return texts


def renamed(change):
    return [tag if tag == "O" else change(*tag.split("-")) for tag in TAGS]


NOTATIONS = {
    "underscore": renamed("{}_{}".format),
    "suffix": renamed("{1}-{0}".format),
    "suffix, underscore": renamed("{1}_{0}".format),
    "lower case": [tag.lower() for tag in renamed("{}-{}".format)],
    "dot": renamed("{}.{}".format),
    "BILOU": ["B-PER", "I-PER", "L-PER", "O", "B-LOC", "I-LOC", "L-LOC"],
    "BIOES, underscore": ["B_PER", "I_PER", "E_PER", "O", "B_LOC", "I_LOC", "E_LOC"],
    "IOB1": ["I-PER", "I-PER", "I-PER", "O", "I-LOC", "I-LOC", "I-LOC"],
}


@pytest.mark.parametrize("ending", [".txt", ".conll", ".utf8", ".data"])
@pytest.mark.parametrize("name", NOTATIONS)
def test_notations_of_tags(tmp_path, name, ending):
    path = write(tmp_path, "train" + ending, twice(columns(NOTATIONS[name])))
    texts = read_tagging(path, segmented=False)
    fold = str.lower if name == "lower case" else str
    assert [item.spans for item in texts.items] == [tuple(Span(s, e, fold(label)) for s, e, label in SPANS)] * 2
    assert len(texts.notes) == 1, "another notation is told"


@pytest.mark.parametrize("tags", [["S-B", "S-I", "O"], ["B-S", "I-S", "O"], ["S_B", "S_I", "O"], ["B-S", "I-S", "B-E"]])
def test_labels_that_are_letters_of_a_scheme(tmp_path, tags):
    path = write(tmp_path, "a.txt", "".join(f"{token} {tag}\n" for token, tag in zip("王五说", tags)))
    assert read_tagging(path).items[0].spans[0] == Span(0, 2, "S")


def test_single_tokens_of_bilou_and_neighbours_of_iob1(tmp_path):
    path = write(tmp_path, "a.txt", "王 U-PER\n李 U-PER\n北 B-LOC\n京 L-LOC\n")
    assert read_tagging(path).items[0].spans == (Span(0, 1, "PER"), Span(1, 2, "PER"), Span(2, 4, "LOC"))
    path = write(tmp_path, "b.txt", "王 I-PER\n李 B-PER\n四 I-PER\n京 I-LOC\n")
    texts = read_tagging(path)
    assert texts.items[0].spans == (Span(0, 1, "PER"), Span(1, 3, "PER"), Span(3, 4, "LOC"))
    assert "IOB1" in texts.notes[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("王 B-PER\n五 I_PER\n在 O\n", r"line 2: 'I_PER' is not a tag"),
        ("王 PER\n五 PER\n在 O\n", r"a\.txt.*'王 PER'.*no column holds tags"),
        ("王 B-PER\n五 I-PER\n在 0\n", "line 3: '0' is not a tag; outside of spans the tag is the letter O"),
        ("我们/o 住在/o 上海/ns\n李雷/nr 住在/o\n", r"carry parts of speech \('我们/o'\)"),
        ("中国_NR 开放_VV\n", "carry parts of speech"),
        ("共同  创造  美好\n新 世纪\n", "no column holds tags .*; write a token and its tag a line"),
        ("T1\tPER 0 2\t李雷\n", "annotation file of brat"),
        ("1 B-PER\n2 I-PER\n\n1 O\n2 O\n", "column 1 numbers the lines"),
        ("7 王 B-PER\n7 李 I-PER\n8 天 O\n", "column 1 holds nothing but numbers; .* text_column="),
    ],
)
def test_what_is_no_entity_file_is_refused(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        read_tagging(write(tmp_path, "a.txt", lines), segmented=False)


def test_columns_of_words_are_no_segmented_text(tmp_path):
    path = write(tmp_path, "a.txt", "共 B\n同 E\n新 S\n")
    assert read_tagging(path, segmented=True).items[0].spans == (Span(0, 2, "word"), Span(2, 3, "word"))
    path = write(tmp_path, "b.txt", "迈向/v 充满/v 希望/n 的/u\n")
    with pytest.raises(DataError, match="for words remove what follows"):
        read_tagging(path, segmented=True)
    assert len(read_tagging(write(tmp_path, "c.txt", "共同 创造\n"), segmented=True).items[0].spans) == 2


INLINE = {
    "slash": columns(TAGS, "{0}/{1}", " "),
    "bar": columns(TAGS, "{0}|{1}", "  "),
    "slash, underscore": columns(NOTATIONS["underscore"], "{0}/{1}", " "),
    "rows": " ".join(TEXT) + "\t" + " ".join(TAGS),
    "rows, \\x02": "\x02".join(TEXT) + "\t" + "\x02".join(TAGS),
}


@pytest.mark.parametrize("form", INLINE)
@pytest.mark.parametrize("ending", [".txt", ".conll"])
def test_tags_within_the_line(tmp_path, form, ending):
    path = write(tmp_path, "train" + ending, f"{INLINE[form]}\n{INLINE[form]}\n")
    check(path, notes=int("underscore" in form))
    with pytest.raises(DataError, match=r"line 3: "):
        read_tagging(write(tmp_path, "bad" + ending, f"{INLINE[form]}\n{INLINE[form]}\n王 五/B-PER\tX\n"))


@pytest.mark.parametrize("separator", "/|_")
def test_a_token_and_its_tag_a_line_without_space(tmp_path, separator):
    check(write(tmp_path, "a.txt", twice(columns(TAGS, "{0}" + separator + "{1}"))))


COLUMNS = {
    "index": ("{2} {0} NN _ {1}", 1),
    "index from the start of CoNLL-U": ("{2}\t{0}\t{0}\tNOUN\tNN\t_\t0\troot\t_\tNER={1}|SpaceAfter=No", 1),
    "score after the tag": ("{0}\t{1}\t0.9{2}", 1),
    "tag before the token": ("{1} {0}", 2),
    "name of the text": ("doc-TEXT {0} {1}", 1),
    "POS and chunk": ("{0} -X- _ {1}", 0),
    "outer and inner": ("{2}\t{0}\tB-DERIV\t{1}", 2),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_found(tmp_path, name):
    form, notes = COLUMNS[name]
    block = columns(TAGS, form)
    content = f"{block.replace('TEXT', '1')}\n\n{block.replace('TEXT', '2')}\n"
    check(write(tmp_path, "a.conll", content), notes=notes)
    check(write(tmp_path, "a.txt", content), notes=notes)
    texts = read_tagging(tmp_path / "a.conll", labelled=False)
    assert [item.text for item in texts.items] == [TEXT] * 2


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path, "a.conll", twice(columns(TAGS, "{2} {0} {1} O")))
    check(path, text_column=2, label_column="3")
    check(path, text_column=-3, label_column=-2)
    assert read_tagging(path).items[0].spans == ()
    assert "columns 3 and 4 both hold tags" in read_tagging(path).notes[1]
    with pytest.raises(DataError, match="label_column='tag': the columns of this file have no names"):
        read_tagging(path, label_column="tag")
    with pytest.raises(DataError, match="line 1: 4 columns; expected one more, for column 9"):
        read_tagging(path, label_column=9)
    with pytest.raises(DataError, match="for column and CSV files, not for json"):
        read_tagging(write(tmp_path, "a.json", "{}"), label_column=1)


def test_comments_ranges_and_headers(tmp_path):
    block = "# sent_id = 1\n# text = 孙悟空在花果山\n1-2\t孙悟\t_\n" + columns(TAGS, "{2}\t{0}\t{1}") + "\n7.1\t_\t_"
    check(write(tmp_path, "a.conllu", twice(block)), notes=1)
    block = "# id 7f-aa\tdomain=zh\n" + columns(TAGS, "{0} _ _ {1}")
    check(write(tmp_path, "b.conll", f"-DOCSTART- -X- _ O\n\n{twice(block)}"))
    check(write(tmp_path, "c.tsv", "token\ttag\n" + twice(columns(TAGS, "{0}\t{1}"))))
    path = write(tmp_path, "d.txt", "# O\n第 O\n\n#天气 B-TAG\n# I-TAG\n好 O\n")
    assert [(item.text, item.spans) for item in read_tagging(path).items] == [
        ("#第", ()),
        ("#天气#好", (Span(0, 4, "TAG"),)),
    ]


def test_tables(tmp_path):
    rows = columns(TAGS, "{2},{0},NN,{1}").split("\n")
    filled = [f"Sentence: {n}{row[1:]}" if k == 0 else row[1:] for n in (1, 2) for k, row in enumerate(rows)]
    check(write(tmp_path, "kaggle.csv", "Sentence #,Word,POS,Tag\n" + "\n".join(filled) + "\n"))
    named = [f"{n},{token},{tag}" for n in (1, 2) for token, tag in zip(TEXT, TAGS)]
    check(write(tmp_path, "named.csv", "sentence_id,words,labels\n" + "\n".join(named) + "\n"))
    check(write(tmp_path, "blank.csv", "token,tag\n" + twice(columns(TAGS, "{0},{1}"))))
    line = f'"{" ".join(TEXT)}","{" ".join(TAGS)}"\n'
    check(write(tmp_path, "whole.csv", "text,labels\n" + line * 2))
    path = write(tmp_path, "odd.csv", "text,labels\n" + line + "孙 悟,O\n")
    with pytest.raises(DataError, match="line 3: 2 tokens and 1 tags"):
        read_tagging(path)
    with pytest.raises(DataError, match="no column of tags among id, text; name it with label_column="):
        read_tagging(write(tmp_path, "none.csv", "id,text\n1,孙 悟\n"))
    texts = read_tagging(write(tmp_path, "raw.csv", "id,text\n1,孙 悟空\n2,花果山\n"), labelled=False)
    assert [item.text for item in texts.items] == ["孙 悟空", "花果山"]


def offsets(first="start_offset", last="end_offset", label="label", extra=0):
    return [{"id": k, label: span.label, first: span.start, last: span.end - extra} for k, span in enumerate(SPANS)]


def values():
    return [{"start": s, "end": e, "text": TEXT[s:e], "labels": [label]} for s, e, label in SPANS]


def result(value):
    return {"value": value, "id": "r", "from_name": "l", "to_name": "t", "type": "labels"}


TRIPLES = [[s, e, label] for s, e, label in SPANS]
RELATION = {"id": 0, "from_id": 0, "to_id": 1, "type": "在"}
OBJECTS = {
    "doccano, spans": {"id": 3, "text": TEXT, "labels": TRIPLES, "Comments": []},
    "doccano 1.4": {"id": 3, "data": TEXT, "label": TRIPLES},
    "doccano, relations": {"id": 3, "text": TEXT, "entities": offsets(), "relations": [RELATION]},
    "doccano, annotations": {"text": TEXT, "annotations": offsets(), "meta": {}},
    "Label Studio, short": {"id": 3, "text": TEXT, "ner": values(), "annotator": 1},
    "Label Studio, whole": {
        "id": 3,
        "data": {"text": TEXT},
        "annotations": [
            {"was_cancelled": True, "result": [result({"start": 0, "end": 1, "labels": ["X"]})]},
            {"result": [*map(result, values()), {"type": "relation", "from_id": "r", "to_id": "r"}]},
        ],
    },
    "spaCy": {"text": TEXT, "spans": {"entities": TRIPLES}},
    "CMeEE": {"text": TEXT, "entities": [
        {"start_idx": s, "end_idx": e - 1, "type": label, "entity": TEXT[s:e]} for s, e, label in SPANS
    ]},
    "CCKS": {"originalText": TEXT, "entities": offsets("start_pos", "end_pos", "label_type")},
    "DataTurks": {"content": TEXT, "annotation": [
        {"label": [label], "points": [{"start": s, "end": e - 1, "text": TEXT[s:e]}]} for s, e, label in SPANS
    ]},
    "label first": {"text": TEXT, "label": [[label, s, e] for s, e, label in SPANS]},
    "W2NER": {"sentence": list(TEXT), "word": [], "ner": [
        {"index": list(range(s, e)), "type": label} for s, e, label in SPANS
    ]},
    "SpERT": {"tokens": list(TEXT), "entities": [{"type": x, "start": s, "end": e} for s, e, x in SPANS]},
    "tokens and tags": {"tokens": list(TEXT), "tags": TAGS},
    "tokens and ner_tags": {"id": "0", "tokens": list(TEXT), "pos_tags": [0] * 7, "ner_tags": TAGS},
    "text and labels in lists": {"text": list(TEXT), "labels": TAGS},
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(tmp_path, name):
    row = OBJECTS[name]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for _ in range(2))
    check(write(tmp_path, "a.jsonl", lines))
    check(write(tmp_path, "a.json", json.dumps([row, row], ensure_ascii=False)))
    assert [(item.text, item.spans) for item in from_rows([row]).items] == [(TEXT, SPANS)]
    assert [item.text for item in read_tagging(tmp_path / "a.jsonl", labelled=False).items] == [TEXT] * 2


def test_pairs_of_spacy():
    assert from_rows([(TEXT, {"entities": TRIPLES})]).items[0].spans == SPANS


def test_english_tokens_are_joined_by_spaces():
    row = {"tokens": ["New", "York", "is", "big"], "ner": [{"index": [0, 1], "type": "LOC"}]}
    item = from_rows([row]).items[0]
    assert (item.text, item.spans) == ("New York is big", (Span(0, 8, "LOC"),))


def test_what_was_left_out_is_told(tmp_path):
    task = OBJECTS["Label Studio, whole"]
    rows = [{"id": 1, "data": {"text": TEXT}, "annotations": []}, task]
    texts = read_tagging(write(tmp_path, "a.json", json.dumps(rows)))
    assert [(item.text, item.spans) for item in texts.items] == [(TEXT, SPANS)]
    assert texts.notes == [f"1 texts without annotations were left out (first: {tmp_path / 'a.json'}, line 1)"]
    gap = {"sentence": list(TEXT), "ner": [{"index": [0, 2], "type": "PER"}, {"index": [4, 5, 6], "type": "LOC"}]}
    texts = from_rows([gap])
    assert texts.items[0].spans == SPANS[1:]
    assert texts.notes == ["1 spans with gaps were left out (first: rows, item 1)"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": TEXT, "annotations": [{"label": 1, "start_offset": 0, "end_offset": 2}]}, "doccano: JSONL with text"),
        ({"tokens": list(TEXT), "ner_tags": [0] * 7}, r'tags in "ner_tags" are numbers, .*features\[\'ner_tags\'\]'),
        ({"tokens": list(TEXT), "tags": TAGS[:5]}, '7 tokens and 5 tags in "tags"'),
        ({"tokens": list(TEXT)}, "tokens without tags or spans"),
        ({"tokens": [], "tags": []}, "at least one"),
        ({"tokens": ["王", 3], "tags": ["O", "O"]}, "must hold the tokens"),
        ({"tokens": list(TEXT), "tags": ["X"] * 7}, "item 1: 'X' is not a tag"),
        ({"sentence": list(TEXT), "ner": [{"index": [6, 7], "type": "X"}]}, "is not a span of the 7 tokens"),
        (
            {"data": {"text": TEXT}, "annotations": [{"result": [result({"choices": ["好"]})]}]},
            "hold 'choices', not spans",
        ),
        ({"text": TEXT, "spo_list": []}, "there are 'text, spo_list'"),
        ({"text": "王\ud800", "label": []}, "half of a character"),
        ({"text": "王", "label": [[0, 1, "P\nER"]]}, "a line break in it"),
    ],
)
def test_objects_that_cannot_be_read(row, message):
    with pytest.raises(DataError, match=message):
        from_rows([row], "dev")


def test_folders_of_brat(tmp_path):
    marks = "T1\tPER 0 3\t孙悟空\nT2\tLOC 4 7\t花果山\nR1\tLive Arg1:T1 Arg2:T2\nA1\tSure T1\n#1\tNote T1\tso\n"
    write(tmp_path, "set/a.txt", TEXT)
    write(tmp_path, "set/a.ann", marks)
    write(tmp_path, "set/more/b.txt", TEXT)
    write(tmp_path, "set/more/b.ann", marks + "T3\tX 0 1;2 3\t孙 空\n")
    texts = check(tmp_path / "set", notes=1)
    assert texts.notes == [f"1 spans with gaps were left out (first: {tmp_path / 'set/more/b.ann'}, line 6)"]
    assert texts.items[0].source == str(tmp_path / "set/a.ann")
    check(tmp_path / "set/a.ann", count=1)
    assert [item.text for item in read_tagging(tmp_path / "set", labelled=False).items] == [TEXT] * 2


def test_the_text_alone_of_brat_names_its_marks(tmp_path):
    write(tmp_path, "a.ann", "T1\tPER 0 3\t孙悟空\n")
    with pytest.raises(DataError, match=r"is the text of a\.ann, an annotation file of brat; name that file, or the"):
        read_tagging(write(tmp_path, "a.txt", TEXT), segmented=False)


def test_line_ends_in_brat(tmp_path):
    write(tmp_path, "a.txt", "New\r\nYork\r\n孙")
    for places in ("0 3;5 9", "0 9"):  # brat cuts spans at line ends
        path = write(tmp_path, "a.ann", f"T1\tLOC {places}\tNew York\nT2\tPER 11 12\t孙\n")
        assert read_tagging(path).items[0].spans == (Span(0, 9, "LOC"), Span(11, 12, "PER"))
    path = write(tmp_path, "a.ann", "T1\tLOC 0 8\tNew York\nT2\tPER 9 10\t孙\n")
    assert read_tagging(path).items[0].spans == (Span(0, 8, "LOC"), Span(9, 10, "PER"))


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ("T1\tPER 0 3\t孙悟\n", r"a\.ann, line 1: PER 0 3 should be '孙悟', but the text there is '孙悟空'"),
        ("T1\tPER 0 9\t孙\n", "not inside the text, which has 7"),
        ("\nPER 0 3\n", "line 2: 'PER 0 3' is not a line of brat"),
    ],
)
def test_damaged_brat(tmp_path, marks, message):
    write(tmp_path, "a.txt", TEXT)
    with pytest.raises(DataError, match=message):
        read_tagging(write(tmp_path, "a.ann", marks))


def test_brat_without_its_parts(tmp_path):
    with pytest.raises(DataError, match=r"is a folder without \*\.ann files of brat; name the data file in it"):
        read_tagging(tmp_path)
    with pytest.raises(DataError, match=r"put a\.txt into the same folder"):
        read_tagging(write(tmp_path, "a.ann", ""))
