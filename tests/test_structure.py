"""The structure measurement on a small tree of known figures, read from a folder and from a commit."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "measure_structure.py"
ATTENTION = '''"""Attention."""

from typing import Any

SIZE: int = 3  # a comment after code


# a comment of its own
def scores(query: Any, key: list[Any], *, scale: float = 1.0) -> float:
    """A docstring
    of two lines."""
    # fmt: skip
    return (
        scale
    )


def _hidden(x):
    return x  # noqa: ARG001
'''
FILES = {
    "__init__.py": '"""The package."""\n',
    "layers/attention.py": ATTENTION,
    "tasks/steps.py": "def run(x):\n    assert x is not None\n    assert x\n",
    "data/steps.py": 'import keras.src\n\n\ndef read():\n    """Read."""\n',
    "cli/main.py": "",
    "backend/jax.py": "import keras.src\n",
}
FIGURES = {
    "files": 6,
    "lines": 29,
    "median lines of a file": 2.0,
    "longest file": 19,
    "functions": 4,
    "median lines of a function": 2.5,
    "90th percentile of them": 5.8,
    "public functions with a docstring, %": 66.7,
    "comment lines": 2,
    "comment lines per 1000 lines": 69.0,
    "annotations": 5,
    "annotations with Any, %": 40.0,
    "file names that occur more than once": 1,
    "asserts for optional parts in tasks/": 1,
    "files in cli/": 1,
    "lines of code of attention, block and backbone": 8,
    "uses of keras.src outside backend": 1,
}


@pytest.fixture(scope="module")
def structure():
    spec = importlib.util.spec_from_file_location("measure_structure", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "qingformer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_figures_of_a_small_tree(structure, tree):
    figures = structure.measure(structure.read_tree(tree))
    assert figures == pytest.approx(FIGURES)


def test_a_commit_is_read_as_the_folder_is(structure, tree):
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "tree"]):
        subprocess.run([*git, *command], check=True)
    (tree / "qingformer" / "cli" / "main.py").write_text("x = 1\n")  # not committed, so not counted
    assert structure.measure(structure.read_commit("HEAD", tree)) == pytest.approx(FIGURES)


def test_table_and_json_print_the_same_figures(tree):
    def printed(*options):
        return subprocess.run(
            [sys.executable, SCRIPT, tree, *options], check=True, capture_output=True, text=True
        ).stdout

    figures = json.loads(printed("--json"))["working tree"]
    assert figures == pytest.approx(FIGURES)
    rows = {line[:-6].strip(): line.split()[-1] for line in printed().splitlines()[1:]}
    assert list(rows) == list(FIGURES)
    assert rows["annotations with Any, %"] == "40"
