"""Relations: every file form, what is left out and counted, where a triple stands, the real sets."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qingformer.data.relations import (
    PlacedTriple,
    RelationText,
    Triple,
    find_all,
    place,
    read_relations,
    read_schema,
    relations_from_rows,
)
from qingformer.errors import DataError

TEXT = "桐华写的步步惊心获2011年国剧盛典奖"
AUTHOR = Triple("步步惊心", "作者", "桐华")
FORMS = {
    "DuIE 1": {"spo_list": [{"subject": "步步惊心", "predicate": "作者", "object": "桐华", "object_type": "人物"}]},
    "DuIE 2": {"spo_list": [{"subject": " 步步惊心", "predicate": "作者", "object": {"@value": "桐华 "}}]},
    "CasRel": {"triple_list": [["步步惊心", "作者", "桐华"]]},
    "agri-re": {"triples": [{"relation": "作者", "subject": "步步惊心", "object": "桐华", "subject_type": "x"}]},
    "twice": {"triple_list": [list(AUTHOR), list(AUTHOR)]},
}


def write(path, *rows, whole=False):
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) if whole else "\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_triples(tmp_path, form, whole):
    texts = read_relations(write(tmp_path / "a.json", {"text": TEXT, **FORMS[form]}, whole=whole))
    assert [text.triples for text in texts] == [(AUTHOR,)]
    assert texts.notes == []
    assert relations_from_rows([{"text": TEXT, **FORMS[form]}], "mine").items == [RelationText(TEXT, (AUTHOR,), 1)]


def test_slots_become_relations_of_their_own():
    slots = {"onDate": "2011年", "@value": "国剧盛典奖", "inWork": ""}
    row = {"text": TEXT, "spo_list": [{"subject": "步步惊心", "predicate": "获奖", "object": slots}]}
    assert set(relations_from_rows([row], "mine")[0].triples) == {
        ("步步惊心", "获奖_onDate", "2011年"),
        ("步步惊心", "获奖", "国剧盛典奖"),
    }


def test_names_lose_the_blank_characters_around_them():
    row = ("桐华\u200b写了 步步惊心", [("\ufeff步步惊心 ", "作者", " 桐华\u200b")])
    assert relations_from_rows([row], "mine")[0].triples == (AUTHOR,)


def test_rows_of_other_kinds_and_unlabelled(tmp_path):
    rows = [RelationText(TEXT, (AUTHOR,), 9), (TEXT, [AUTHOR]), (TEXT, [])]
    texts = relations_from_rows(rows, "mine")
    assert [(text.triples, text.line) for text in texts] == [((AUTHOR,), 1), ((AUTHOR,), 2), ((), 3)]
    assert texts.where(texts[2]) == "mine, item 3"
    rows = [TEXT, (TEXT, [AUTHOR]), {"text": TEXT}, RelationText(TEXT, None)]
    assert {text.triples for text in relations_from_rows(rows, "mine", labelled=False)} == {None}
    (tmp_path / "a.txt").write_text(f"\n{TEXT}\n", encoding="utf-8")
    texts = read_relations(tmp_path / "a.txt", labelled=False)
    assert texts.where(texts[0]).endswith("a.txt, line 2")


def test_what_is_not_in_the_text_is_counted_once_or_an_error(tmp_path):
    rows = [{"text": TEXT, "triple_list": [["步步惊心", "作者", name] for name in ("桐华", "海宴", "顾漫")]}]
    path = write(tmp_path / "a.jsonl", {"text": "无", "triples": []}, *rows)
    texts = read_relations(path)
    assert texts[1].triples == (AUTHOR,)
    assert texts.notes == [
        f"2 of 3 triples were left out: subject or object is not in the text (first: {path}, line 2: '海宴')"
    ]
    with pytest.raises(DataError, match=r"line 2: '海宴' of .* is not in the text"):
        read_relations(path, strict=True)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": TEXT}, r"no triples \(there are the fields text\); write them in one of spo_list"),
        ({"text": "  ", "triples": []}, "the text is empty"),
        ({"triples": []}, "the text is missing"),
        ({"text": 3, "triples": []}, "the text is int, not text"),
        ({"text": TEXT, "triples": "作者"}, "expected a list of triples, found str"),
        ({"text": TEXT, "triples": [["步步惊心", "作者"]]}, "is not a triple; write"),
        ({"text": TEXT, "triples": ["abc"]}, "'abc' is not a triple"),
        ({"text": TEXT, "triples": [["", "作者", "桐华"]]}, "the subject of '作者' is empty"),
        ({"text": TEXT, "triples": [["步步惊心", "作者", None]]}, "the object of '作者' is missing"),
        ({"text": TEXT, "triples": [["步步惊心", 1, "桐华"]]}, "the relation of a triple is int"),
        ({"text": TEXT, "spo_list": [{"subject": "步", "predicate": "作者", "object": {}}]}, "has no slots"),
        ({"text": TEXT, "spo_list": [{"subject": "步", "predicate": "p", "object": {"@value": ""}}]}, "'p' is empty"),
        (
            {"text": TEXT, "triples": [["步步惊心", "作", "桐华"]]},
            r"'作' is not among the 2 of the schema; did you .*'作者'",
        ),
        ({"text": TEXT, "triples": [["步步惊心", "xyz", "桐华"]]}, "'xyz' is not among .* there are 作者, 获奖"),
        (TEXT, "no triples"),
        (7, r"expected \(text, triples\) or a dictionary"),
    ],
)
def test_bad_rows_name_their_place(row, message):
    with pytest.raises(DataError, match=f"^mine, item 2: .*{message}"):
        relations_from_rows([(TEXT, [AUTHOR]), row], "mine", schema=["作者", "获奖"])


def test_a_schema_that_is_a_path_and_no_rows():
    with pytest.raises(DataError, match=r"pass the names of the relations, such as read_schema\('a.json'\)"):
        relations_from_rows([(TEXT, [])], "mine", schema="a.json")
    with pytest.raises(DataError, match="mine: no texts"):
        relations_from_rows([], "mine")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('["乙", "甲", "乙"]', ["乙", "甲"]),
        ('{"predicate": "甲", "object_type": "人"}\n{"predicate": "乙", "object_type": {"@value": "x", "at": "y"}}\n',
         ["甲", "乙", "乙_at"]),
        ('[{\n"乙": 1, "甲": 0}]', ["甲", "乙"]),
        ('{"乙": 1, "甲": 0}', ["甲", "乙"]),
        ('[{"0": "甲", "10": "丙", "2": "乙"}, {"甲": 0, "乙": 2, "丙": 10}]', ["甲", "乙", "丙"]),
        ("乙\n\n甲 \n", ["乙", "甲"]),
    ],
)  # fmt: skip
def test_schema_forms(tmp_path, content, names):
    (tmp_path / "schema").write_text(content, encoding="utf-8")
    assert read_schema(tmp_path / "schema") == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n \n", "no relations in it"),
        ('{"甲": 0, "乙": 0}', "line 1: two relations have the same number"),
        ('[\n"甲", {"a": "b"}]', "line 2: expected a name"),
        ('[\n"甲",\n', "line 2: not JSON"),
        ("[[1]]", r"found \[1\]"),
    ],
)
def test_bad_schemas(tmp_path, content, message):
    (tmp_path / "schema").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_schema(tmp_path / "schema")


def test_find_all():
    assert find_all("ababa", "aba") == [0, 2]
    assert find_all("abc", "d") == find_all("abc", "") == []


@pytest.mark.parametrize(
    ("text", "subject", "object", "expected"),
    [
        ("甲说乙,丙和甲", "甲", "丙", ((6, 7), (4, 5))),  # the nearer 甲
        ("甲乙,丙丁甲乙", "甲", "乙", ((0, 1), (1, 2))),  # a tie: the first
        ("乙甲乙", "甲", "乙", ((1, 2), (0, 1))),
        ("北京大学在北京", "北京大学", "北京", ((0, 4), (5, 7))),  # not the one inside
        ("北京大学", "北京大学", "北京", ((0, 4), (0, 2))),  # inside, as there is no other
        ("号:号", "号", "号", ((0, 1), (2, 3))),
        ("party art deco", "art", "deco", ((6, 9), (10, 14))),
        ("甲", "甲", "乙", None),
    ],
)
def test_place(text, subject, object, expected):
    wanted = [] if expected is None else [PlacedTriple(expected[0], "关系", expected[1])]
    assert place(text, Triple(subject, "关系", object)) == wanted


def slow_place(text, subject, target):
    """Of all pairs of occurrences, the one that the rule of `place` prefers."""

    def rank(pair):
        (start, end), (first, last) = pair
        gap = max(start, first) - min(end, last)
        return gap < 0, max(gap, 0), min(start, first), start

    subjects, objects = ([(s, s + len(name)) for s in find_all(text, name)] for name in (subject, target))
    return min(((s, o) for s in subjects for o in objects), key=rank, default=None)


@given(
    st.text("甲乙,", max_size=14), st.text("甲乙,", min_size=1, max_size=3), st.text("甲乙,", min_size=1, max_size=3)
)
def test_place_is_that_of_a_slow_search(text, subject, target):
    found = place(text, Triple(subject, "关系", target))
    assert [(one.subject, one.object) for one in found] == [
        pair for pair in [slow_place(text, subject, target)] if pair
    ]


def test_many_repeats_of_a_name_take_time_in_their_number():
    begin = time.process_time()
    (found,) = place("姚明,姚沁蕾。" * 20_000, Triple("姚沁蕾", "父亲", "姚明"))
    assert (found.subject, found.object) == ((3, 6), (0, 2))
    assert time.process_time() - begin < 3


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("deco party art", 11),  # between spaces, though the other is nearer
        ("deco party ,art,", 12),  # at punctuation
        ("deco art-like art", 14),  # spaces before punctuation
        ("deco party", 6),  # nothing else
        ("art deco", 0),
    ],
)
def test_place_at_words(text, start):
    assert place(text, Triple("art", "is", "deco"), words=True)[0].subject == (start, start + 3)


REAL = [
    ("duie2-subset/train.json.gz", 8398, 0, "duie2-subset/schema.json.gz", 55),
    ("duie2-subset/dev.json.gz", 2000, 0, "duie2-subset/schema.json.gz", 55),
    ("webnlg-casrel/dev_triples.json.gz", 500, 0, "webnlg-casrel/rel2id.json.gz", 216),
    ("nyt-casrel/test_triples.json.gz", 5000, 1, "nyt-casrel/rel2id.json.gz", 24),
    ("agri-re/train.json.gz", 2329, 0, None, 0),
]


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rows", "notes", "schema", "relations"), REAL)
def test_real_sets(shared, name, rows, notes, schema, relations):
    known = None if schema is None else read_schema(shared / "data" / schema)
    assert known is None or len(known) == relations
    texts = read_relations(shared / "data" / name, schema=known)
    assert len(texts) == rows
    assert len(texts.notes) == notes
    for one in texts:
        for triple in one.triples:
            (placed,) = place(one.text, triple, words="casrel" in name)
            assert one.text[slice(*placed.subject)] == triple.subject
            assert one.text[slice(*placed.object)] == triple.object


@pytest.mark.shared
def test_names_with_lost_accents_are_counted(shared):
    (note,) = read_relations(shared / "data" / "nyt-casrel" / "test_triples.json.gz").notes
    assert note.startswith("44 of 8,120 triples were left out")
    assert len(read_relations(shared / "data" / "duie2-subset" / "test1.json.gz", labelled=False)) == 5000
