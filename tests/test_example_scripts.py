"""Every example runs as it stands and learns what it shows."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = {  # a pattern whose groups are scores, and the least that each may be
    "answer_questions": (r"^all +\S+ +([\d.]+)", 0.8),
    "choose_answers": (r"^accuracy ([\d.]+)", 0.8),
    "classify": (r"test: accuracy ([\d.]+), macro F1 ([\d.]+)", 0.75),
    "convert_masked_lm": (r"largest difference (?:0|\de-0[5-9])()$", None),
    "extract_relations": (r"F1 ([\d.]+)", 0.8),
    "lora_adversarial": (r"task, .*: accuracy ([\d.]+)", 0.6),
    "segment_words": (r"F1 ([\d.]+)", 0.9),
    "tag_entities": (r"^micro mean +\S+ +\S+ +([\d.]+)", 0.9),
}


def test_every_example_is_known_and_short():
    lengths = {path.stem: len(path.read_text("utf-8").splitlines()) for path in EXAMPLES.glob("[a-z]*.py")}
    assert sorted(lengths) == sorted([*SCRIPTS, "own_task"])
    assert all(40 <= length <= 80 for length in lengths.values()), lengths


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_examples_run(name, capsys):
    pattern, least = SCRIPTS[name]
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    found = re.findall(pattern, printed, re.MULTILINE)
    assert found, printed
    scores = [float(score) for each in found for score in ((each,) if isinstance(each, str) else each) if score]
    assert all(score >= least for score in scores), printed
