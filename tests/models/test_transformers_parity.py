"""BERT equals `transformers` on random weights, in outputs and gradients: from fixtures, and live."""

from pathlib import Path

import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.checkpoints.loader import Loader
from qingformer.models import MaskedLM, PreTraining
from tests.conftest import SLOW_ON_JAX
from tests.models import peer

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "transformers"


def load(directory: Path, arrays) -> MaskedLM | PreTraining:
    kind = PreTraining if "output/pooled_output" in arrays else MaskedLM
    return kind.from_pretrained(directory)


def named(result, model, inputs) -> dict:
    outputs = dict(model.backbone(inputs))
    heads = result if isinstance(result, dict) else {"mlm_logits": result}
    return outputs | heads


def check_outputs(directory: Path, arrays) -> None:
    model = load(directory, arrays)
    inputs = {key.removeprefix("input/"): arrays[key] for key in arrays if key.startswith("input/")}
    valid = inputs["padding_mask"].astype(bool)
    outputs = named(model(inputs), model, inputs)
    expected = {key.removeprefix("output/"): arrays[key] for key in arrays if key.startswith("output/")}
    assert set(expected) == set(outputs)
    for key, wanted in expected.items():
        there = ops.convert_to_numpy(outputs[key])
        if wanted.ndim == 3:
            there, wanted = there[valid], wanted[valid]
        # Logits of these exaggerated weights reach tens: 1e-5 relative to the largest, and absolute below one.
        np.testing.assert_allclose(there, wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()), err_msg=key)


def check_gradients(directory: Path, arrays) -> None:
    model = load(directory, arrays)
    inputs = {
        key.removeprefix("input/"): ops.convert_to_tensor(arrays[key]) for key in arrays if key.startswith("input/")
    }
    trained = {variable.path: variable.value for variable in model.trainable_variables}
    fixed = [variable.value for variable in model.non_trainable_variables]

    def loss(values):
        result, _ = model.stateless_call(values, fixed, inputs)
        sequence, _ = model.backbone.stateless_call(backbone_values(values), backbone_fixed, inputs)
        outputs = sequence | (result if isinstance(result, dict) else {"mlm_logits": result})
        return sum(ops.sum(outputs[key] * ops.convert_to_tensor(arrays[f"weight/{key}"], "float32")) for key in outputs)

    backbone_paths = [variable.path for variable in model.backbone.trainable_variables]
    backbone_fixed = [variable.value for variable in model.backbone.non_trainable_variables]

    def backbone_values(values):
        by_path = dict(zip(trained, values))
        return [by_path[path] for path in backbone_paths]

    _, gradients = backend.value_and_grad(loss)(list(trained.values()))
    found = {path: ops.convert_to_numpy(gradient) for path, gradient in zip(trained, gradients)}
    expected = peer_gradients(model, arrays)
    assert set(expected) == set(found)
    for path, wanted in expected.items():
        if path == "token_embedding/embeddings":
            # The peer cuts the gradient of the padding row at the lookup; ours is the true one. It shows where
            # padding comes first and the pooler looks at it.
            wanted, found[path] = wanted[1:], found[path][1:]
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(found[path], wanted, rtol=0, atol=1e-4 * scale, err_msg=path)


def peer_gradients(model, arrays) -> dict:
    """The gradients of `transformers` under our variable paths."""
    gradients = {key.removeprefix("gradient/"): arrays[key] for key in arrays if key.startswith("gradient/")}

    class Stored:
        def names(self):
            return list(gradients)

        def read(self, name):
            return gradients[name]

    loader = Loader(model.weight_map(model.config), "huggingface")
    shapes = {path: tuple(variable.shape) for path, variable in model.named_variables().items()}
    return dict(loader.load(Stored(), shapes, "gradients")[0])


@pytest.mark.parametrize("name", peer.SETTINGS)
def test_outputs_equal_the_fixture(name):
    check_outputs(FIXTURES / name, dict(np.load(FIXTURES / name / "expected.npz")))


FIRST = ("plain", "left_padding", "no_pooler")
GRADIENTS = [name if name in FIRST else pytest.param(name, marks=SLOW_ON_JAX) for name in peer.SETTINGS]


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_equal_the_fixture(name):
    check_gradients(FIXTURES / name, dict(np.load(FIXTURES / name / "expected.npz")))


@pytest.mark.peers
@pytest.mark.parametrize("name", peer.SETTINGS)
def test_outputs_and_gradients_equal_the_live_peer(name, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    arrays = peer.make(name, tmp_path)
    check_outputs(tmp_path, arrays)
    check_gradients(tmp_path, arrays)
