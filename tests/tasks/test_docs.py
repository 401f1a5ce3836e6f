"""docs/tasks.md: every sample is what its reader takes, every snippet runs, and both languages have the same code."""

import re
from pathlib import Path

import pytest

from qingformer.data.choice import read_choice
from qingformer.data.reading import read_reading
from qingformer.data.relations import read_relations, read_schema
from qingformer.data.tagging import read_tagging

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
READERS = {
    "ner.bio": read_tagging,
    "spans.jsonl": read_tagging,
    "cluener.jsonl": read_tagging,
    "words.txt": read_tagging,
    "duie1.jsonl": read_relations,
    "duie2.jsonl": read_relations,
    "casrel.json": read_relations,
    "schema.jsonl": read_schema,
    "rel2id.json": read_schema,
    "squad.json": read_reading,
    "cmrc.json": read_reading,
    "questions.jsonl": read_reading,
    "c3.json": read_choice,
    "chid.jsonl": read_choice,
    "choices.jsonl": read_choice,
}


def blocks(name, pattern):
    """What stands in the fences of a page whose first line fits the pattern."""
    return re.findall(rf"^```{pattern}\n(.*?)^```$", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)


SAMPLES = dict(blocks("tasks.md", r"(?:text|json) (\S+)"))
SNIPPETS = blocks("tasks.md", "python")


def test_no_sample_is_forgotten():
    assert sorted(SAMPLES) == sorted(READERS)


@pytest.mark.parametrize("name", READERS)
def test_samples_are_read_without_repair(name, tmp_path):
    path = tmp_path / name
    path.write_text(SAMPLES[name], encoding="utf-8")
    found = READERS[name](path)
    assert len(getattr(found, "items", found)) > 0
    assert not getattr(found, "notes", [])


@pytest.mark.parametrize("pattern", ["bash", "python", r"(?:text|json) \S+"])
def test_both_languages_have_the_same_code(pattern):
    english, chinese = (
        [re.sub(r"#.*", "", block) for block in blocks(name, pattern)] for name in ("tasks.md", "tasks.zh.md")
    )
    assert english == chinese


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number, capsys):
    exec(compile(SNIPPETS[number], "docs/tasks.md", "exec"), {})
    assert capsys.readouterr().out.strip()
