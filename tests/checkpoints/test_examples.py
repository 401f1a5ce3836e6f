"""The examples in the docstrings run as written."""

import doctest
import importlib

import pytest

MODULES = "crc32c opening safetensors safetensors_writer sources tensor_bundle tensor_bundle_writer torch_file".split()


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    module = importlib.import_module(f"qingformer.checkpoints.{name}")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
