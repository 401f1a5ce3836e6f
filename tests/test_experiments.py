"""Every comparison of tricks imports and documents its command."""

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "experiments").glob("*.py") if path.stem not in ("__init__", "common"))


@pytest.mark.parametrize("name", NAMES)
def test_experiments_import_and_show_their_command(name):
    module = importlib.import_module(f"experiments.{name}")
    assert f"python -m experiments.{name}" in inspect.getdoc(module)
    assert callable(module.main)
