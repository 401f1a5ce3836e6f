"""Weights that are not finite: refused by every save in one line, saved when that is asked for."""

import keras
import numpy as np
import pytest

from qingformer.checkpoints.finite_weights import check_finite
from qingformer.cli import run
from qingformer.errors import CheckpointError
from qingformer.models import Backbone
from qingformer.tasks import load
from tests.tasks.helpers import backbone, classifier, tokenizer

LINE = r"^weight .*: 1 of \d+ values are not finite \(nan or inf\); nothing was saved; pass check_finite=False"


def spoil(variable, value=np.nan):
    """Put one value that is not finite into a variable."""
    values = keras.ops.convert_to_numpy(variable).copy()
    values.flat[-1] = value
    variable.assign(values)


def bad(variables):
    """How many values of all variables are not finite."""
    return sum(np.count_nonzero(~np.isfinite(keras.ops.convert_to_numpy(each))) for each in variables)


def test_the_error_names_the_first_and_counts_the_others():
    check_finite({"a": np.array([1, 2]), "b": np.zeros((0, 3), "float32"), "c": np.array([3e38, -3e38], "float32")})
    with pytest.raises(CheckpointError, match=r"weight b: 1 of 1 values.*, and 1 more weights are not;") as problem:
        check_finite({"a": np.ones(2), "b": np.array([np.nan]), "c" * 500: np.array([np.inf])})
    assert len(str(problem.value)) < 400


@pytest.mark.parametrize("form", ["qingformer", "huggingface", "tensorflow"])
def test_an_encoder(tmp_path, form):
    made = backbone()
    spoil(made.weights[0], np.inf)
    with pytest.raises(CheckpointError, match=LINE):
        made.save_pretrained(tmp_path / "a", format=form)
    assert not list(tmp_path.iterdir())
    made.save_pretrained(tmp_path / "a", format=form, check_finite=False)
    assert bad(Backbone.from_pretrained(tmp_path / "a", verify=False).weights) == 1


@pytest.mark.parametrize("form", ["qingformer", "huggingface"])
@pytest.mark.parametrize("part", ["encoder", "head"])
def test_a_task(tmp_path, form, part):
    made = classifier(labels=["a", "b"])
    spoil(made.model.weights[0] if part == "encoder" else made.model.weights[-1])
    with pytest.raises(CheckpointError, match=LINE):
        made.save(tmp_path / "a", format=form)
    assert not list(tmp_path.iterdir())
    made.save(tmp_path / "a", format=form, check_finite=False)
    assert (tmp_path / "a" / "model.safetensors").is_file()
    if form == "qingformer":
        assert bad(load(tmp_path / "a", verify=False).model.weights) == 1


def test_adapters(tmp_path):
    made = classifier(labels=["a", "b"])
    made.backbone.enable_lora(2)
    spoil(next(weight for weight in made.backbone.weights if "lora_kernel_a" in weight.path))
    for save in (made.save_adapters, made.backbone.save_adapters):
        with pytest.raises(CheckpointError, match=LINE):
            save(tmp_path / "a")
        assert not list(tmp_path.iterdir())
    made.save_adapters(tmp_path / "a", check_finite=False)
    made.backbone.save_adapters(tmp_path / "b", format="peft", check_finite=False)


def test_convert_takes_them_along_only_without_verification(tmp_path, capfd):
    made = backbone()
    spoil(made.weights[0])
    made.save_pretrained(tmp_path / "a", tokenizer=tokenizer(), check_finite=False)
    command = ["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--to", "huggingface"]
    assert run(command) == 2
    assert not (tmp_path / "b").exists()
    assert run([*command, "--no-verify"]) == 0
    assert (tmp_path / "b" / "model.safetensors").is_file()
    capfd.readouterr()
