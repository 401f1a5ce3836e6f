"""What a task.json must hold: labels are names, nothing else becomes one."""

import json

import pytest

from qingformer.errors import ConfigError
from qingformer.tasks.storage import read_settings

TYPES = {"labels": list, "dropout": float}


@pytest.mark.parametrize("labels", [["a", None], ["a", {}], ["a", 1], ["a", ""], ["a", "a"], "ab", None, {"a": "b"}])
def test_labels_are_different_names(tmp_path, labels):
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"task": "classification", "labels": labels, "dropout": 0.1}))
    with pytest.raises(ConfigError, match=r"task\.json: labels"):
        read_settings(path, TYPES)


def test_numbers_are_finite(tmp_path):
    path = tmp_path / "task.json"
    path.write_text('{"labels": ["a"], "dropout": 1e999}')
    with pytest.raises(ConfigError, match="dropout is inf"):
        read_settings(path, TYPES)
    path.write_text("[]")
    with pytest.raises(ConfigError, match="expected a JSON object"):
        read_settings(path, TYPES)
