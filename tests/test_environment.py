"""Which library Keras runs on is said where nobody chose it."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import qingformer as qf
from qingformer.environment import note_backend

PROGRAM = (
    "import sys, types; k = types.ModuleType('keras'); k.config = types.SimpleNamespace(backend=lambda: 'torch'); "
)


@pytest.mark.parametrize(("runs_on", "lines"), [("tensorflow", 1), ("torch", 1), ("jax", 0)])
def test_a_library_that_nobody_named_is_noted_in_one_line(runs_on, lines, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(config=SimpleNamespace(backend=lambda: runs_on)))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    note_backend()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == lines
    assert all(runs_on in line and "KERAS_BACKEND" in line for line in said)
    monkeypatch.setenv("KERAS_BACKEND", runs_on)
    note_backend()
    assert not capsys.readouterr().err


def test_the_note_comes_once_with_the_import():
    program = PROGRAM + "sys.modules['keras'] = k; import qingformer; import qingformer"
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count("note: Keras was imported before qingformer and runs on torch") == 1


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="JAX_PLATFORMS is JAX's")
def test_a_missing_device_is_one_line_in_python_too(monkeypatch):
    def no_device():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr("jax.devices", no_device)
    with pytest.raises(qf.QingFormerError, match="JAX_PLATFORMS=cuda asks for a device that JAX cannot use here"):
        qf.TextClassifier.from_scratch("tiny", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
