"""docs/tasks.md and README.md: samples are what their reader takes, snippets run, both languages have the same code."""

import re
from functools import partial
from pathlib import Path

import pytest

from qingformer.data.choice import read_choice
from qingformer.data.reading import read_reading
from qingformer.data.relations import read_relations, read_schema
from qingformer.data.tagging import read_tagging
from qingformer.tasks.classification.text_examples import read_examples

ROOT = Path(__file__).resolve().parent.parent.parent
READERS = {
    "ner.bio": read_tagging,
    "spans.jsonl": read_tagging,
    "cluener.jsonl": read_tagging,
    "words.txt": partial(read_tagging, segmented=True),
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
    "classes.jsonl": read_examples,
}


def section(name):
    """A page of docs/, or of a README the part on these tasks."""
    if name.startswith("docs/"):
        return (ROOT / name).read_text("utf-8")
    return re.search(r"^## (?:Tag|标注).*?(?=^## )", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]


def blocks(name, pattern):
    """What stands in the fences of a page whose first line fits the pattern."""
    return re.findall(rf"^```{pattern}\n(.*?)^```$", section(name), re.MULTILINE | re.DOTALL)


SAMPLES = dict(blocks("docs/tasks.md", r"(?:text|json) (\S+)"))
SNIPPETS = [*blocks("docs/tasks.md", "python"), "".join(blocks("README.md", "python"))]


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
@pytest.mark.parametrize("page", ["docs/tasks", "README"])
def test_both_languages_have_the_same_code(page, pattern):
    english, chinese = (
        [re.sub(r"#.*", "", block) for block in blocks(name, pattern)] for name in (f"{page}.md", f"{page}.zh.md")
    )
    assert english == chinese


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number, capsys):
    exec(compile(SNIPPETS[number], f"snippet {number}", "exec"), {})
    assert capsys.readouterr().out.strip()
