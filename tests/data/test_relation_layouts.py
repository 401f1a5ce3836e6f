"""Relations in the layouts of annotation tools and well-known sets."""

import json

import pytest

from qingformer.data.relations import Triple, read_relations, read_schema, relations_from_rows
from qingformer.errors import DataError

TEXT = "鲁迅生于绍兴，周作人是鲁迅的弟弟"
BORN, BROTHER = Triple("鲁迅", "生于", "绍兴"), Triple("周作人", "弟弟", "鲁迅")
PLACES = {7: (0, 2, "人"), 8: (4, 6, "地"), 9: (7, 10, "人"), 5: (11, 13, "人")}
LINKS = [(7, 8, "生于"), (9, 5, "弟弟")]


def entities(**names):
    first, last, label = (names.get(name, name) for name in ("start", "end", "label"))
    return [{"id": key, first: start, last: end, label: kind} for key, (start, end, kind) in PLACES.items()]


def results(direction="right"):
    marks = [
        {"id": key, "type": "labels", "value": {"start": start, "end": end, "text": TEXT[start:end], "labels": [kind]}}
        for key, (start, end, kind) in PLACES.items()
    ]
    turned = direction == "left"
    links = [
        {"type": "relation", "from_id": (b if turned else a), "to_id": (a if turned else b), "direction": direction,
         "labels": [name]}
        for a, b, name in LINKS
    ]  # fmt: skip
    return [*marks, *links]


def task(found):
    return {"id": 1, "data": {"text": TEXT}, "annotations": [{"result": [], "was_cancelled": True}, {"result": found}]}


LINKED = [{"id": n, "from_id": a, "to_id": b, "type": name} for n, (a, b, name) in enumerate(LINKS)]
ROWS = {
    "doccano": {
        "id": 3, "text": TEXT, "relations": LINKED, "entities": entities(start="start_offset", end="end_offset")
    },
    "Label Studio": task(results()),
    "Label Studio, right to left": task(results("left")),
    "CoType": {"sentText": TEXT, "entityMentions": [], "relationMentions": [
        *({"em1Text": s, "em2Text": o, "label": p} for s, p, o in (BORN, BROTHER)),
        {"em1Text": "鲁迅", "em2Text": "周作人", "label": "None"},
    ]},
    "SpERT": {"tokens": list(TEXT), "entities": [
        {"type": kind, "start": start, "end": end} for start, end, kind in PLACES.values()
    ], "relations": [{"type": "生于", "head": 0, "tail": 1}, {"type": "弟弟", "head": 2, "tail": 3}]},
    "CasRel's results": {"text": TEXT, "triple_list_gold": [list(BORN), list(BROTHER)], "triple_list_pred": []},
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_layouts(tmp_path, name):
    path = tmp_path / "a.json"
    for content in (json.dumps([ROWS[name]] * 2), "\n".join([json.dumps(ROWS[name])] * 2)):
        path.write_text(content, encoding="utf-8")
        texts = read_relations(path)
        assert [(text.text, text.triples) for text in texts] == [(TEXT, (BORN, BROTHER))] * 2
        assert texts.notes == []
    assert read_relations(path, labelled=False)[0].text == TEXT


def test_pairs_of_names():
    rows = [
        {"text": TEXT, "h": {"name": "鲁迅"}, "t": {"name": "绍兴"}, "relation": "生于"},
        {"text": TEXT, "h": {"name": "鲁迅"}, "t": {"name": "周作人"}, "relation": "NA"},
    ]
    assert [text.triples for text in relations_from_rows(rows, "mine")] == [(BORN,), ()]


def test_both_ways_and_texts_that_nobody_annotated():
    bare = {"data": {"text": TEXT}, "annotations": []}
    texts = relations_from_rows([task(results("bi")), bare], "mine")
    assert len(texts[0].triples) == 4
    assert texts.notes == ["1 texts without annotations were left out (first: mine, item 2)"]


def test_brat(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    marks = "".join(f"T{key}\t{kind} {start} {end}\t{TEXT[start:end]}\n" for key, (start, end, kind) in PLACES.items())
    links = "".join(f"R{a}\t{name} Arg1:T{a} Arg2:T{b}\n" for a, b, name in LINKS)
    (tmp_path / "a.ann").write_text(marks + links, encoding="utf-8")
    for path in (tmp_path, tmp_path / "a.ann"):
        assert [(text.text, text.triples) for text in read_relations(path)] == [(TEXT, (BORN, BROTHER))]
    (tmp_path / "a.ann").write_text(marks + "R1\t生于 Arg1:T7 Arg2:T99\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.ann, line 5: 生于 is of T99, which is not marked"):
        read_relations(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ROWS["doccano"] | {"relations": [{"from_id": 7, "to_id": 1, "type": "x"}]},
            "is not between two of the entities",
        ),
        (ROWS["doccano"] | {"entities": [{"id": 7, "start_offset": 0, "end_offset": 99}]}, "has no place in the text"),
        (ROWS["SpERT"] | {"relations": [{"type": "x", "head": 0, "tail": 9}]}, "between two of the 4 entities"),
        (task([{"type": "relation", "from_id": 7, "to_id": 8, "labels": []}]), "a relation of Label Studio without"),
        ({"sentences": [["a"]], "relations": [[]]}, "documents of several sentences are not read"),
        ({"text": TEXT, "label": []}, "there are the fields text, label"),
    ],
)
def test_what_cannot_be_read(row, message):
    with pytest.raises(DataError, match=message):
        relations_from_rows([row], "mine")


def test_numbers_of_a_schema_have_a_bound(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"9" * 5000: "生于"}), encoding="utf-8")
    with pytest.raises(DataError, match="expected a name"):
        read_schema(tmp_path / "s.json")
