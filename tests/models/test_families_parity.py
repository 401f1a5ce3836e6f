"""Every family equals `transformers` on random weights, in outputs and gradients: from fixtures, and live."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import qingformer as qf
from qingformer import backend
from qingformer.checkpoints.loader import Loader
from tests.models.peers import PEERS, make

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "transformers"
CASES = [(family, name) for family, settings in PEERS.items() for name in settings]
# The release that has NEZHA cannot be installed beside the one that the others are compared with.
LIVE = [case for case in CASES if case[0] != "nezha"]
# The class of ours that gives an output; ALBERT's question of order is answered by the layer of next sentence.
CLASSES = {
    "replaced_logits": "ReplacedTokenDetection",
    "lm_logits": "CausalLM",
    "decoder_logits": "Seq2SeqLM",
    "next_sentence_logits": "PreTraining",
    "mlm_logits": "MaskedLM",
}


@pytest.fixture(autouse=True)
def quick_compilation():
    """XLA's optimisations take longer than what they save here: every model is compiled for one call."""
    if backend.name() != "jax":
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def read(family: str, name: str) -> dict[str, np.ndarray]:
    arrays = dict(np.load(FIXTURES / family / name / "expected.npz"))
    return rename(arrays)


def rename(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key.replace("sentence_order_logits", "next_sentence_logits"): value for key, value in arrays.items()}


def part(arrays: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{kind}/"): value for key, value in arrays.items() if key.startswith(f"{kind}/")}


def load(directory: Path, arrays: dict[str, np.ndarray]):
    """The model with the head and the inputs that the peer had."""
    options = {"custom_task_type_ids": True} if "input/task_type_ids" in arrays else {}
    for output, kind in CLASSES.items():
        if f"output/{output}" in arrays:
            return getattr(qf, kind).from_pretrained(directory, **options)
    return qf.Backbone.from_pretrained(directory, **options)


def whole(model, arrays: dict[str, np.ndarray]) -> keras.Model:
    """One model with the outputs of body and head, under the names of the fixture."""
    backbone = getattr(model, "backbone", model)
    expected = part(arrays, "output")
    outputs = dict(backbone.output)
    if model is not backbone:
        head = next(name for name in CLASSES if name in expected)
        outputs |= model.output if isinstance(model.output, dict) else {head: model.output}
    if "decoder_logits" in expected:
        outputs.pop("sequence_output")
    elif "encoder_sequence_output" in expected:
        outputs = {"encoder_sequence_output": outputs["sequence_output"]}
    assert set(outputs) == set(expected)
    return keras.Model(model.input, outputs)


def valid(name: str, array: np.ndarray, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What is not padding of one output."""
    if name in ("pooled_output", "next_sentence_logits"):
        return array
    return array[inputs["decoder_padding_mask" if name.startswith("decoder") else "padding_mask"].astype(bool)]


def check(directory: Path, arrays: dict[str, np.ndarray]) -> None:
    """Outputs within 1e-5 of the largest, gradients of every parameter within 1e-4, both absolute below one."""
    model = load(directory, arrays)
    outputs, gradients = compute_ours(model, arrays)
    inputs = part(arrays, "input")
    for key, wanted in part(arrays, "output").items():
        compare(key, valid(key, outputs[key], inputs), valid(key, wanted, inputs), 1e-5)
    expected = peer_gradients(model, arrays)
    assert set(gradients) == set(expected) == set(model.named_variables())
    for path, wanted in expected.items():
        # The peer cuts the gradient of the padding row at the lookup; ours is the true one. It shows where padding
        # comes first and the pooler looks at it.
        rows = slice(1, None) if path == "token_embedding/embeddings" and "output/pooled_output" in arrays else ...
        compare(path, gradients[path][rows], wanted[rows], 1e-4)


def compare(name: str, there: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(there, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max()), err_msg=name)


def compute_ours(model, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs by name, and the gradients of the fixture's linear loss by variable path."""
    joined = whole(model, arrays)
    inputs = {key: ops.convert_to_tensor(value) for key, value in part(arrays, "input").items()}
    weights = {key: ops.convert_to_tensor(value) for key, value in part(arrays, "weight").items()}
    fixed = [variable.value for variable in joined.non_trainable_variables]

    def loss(values, inputs, weights):
        outputs, _ = joined.stateless_call(values, fixed, inputs)
        return sum(ops.sum(outputs[key] * weight) for key, weight in weights.items()), outputs

    step = backend.compile(backend.value_and_grad(loss, has_aux=True))
    (_, outputs), gradients = step([variable.value for variable in joined.trainable_variables], inputs, weights)
    paths = [variable.path for variable in joined.trainable_variables]
    found = {path: ops.convert_to_numpy(gradient) for path, gradient in zip(paths, gradients)}
    return {key: ops.convert_to_numpy(value) for key, value in outputs.items()}, found


def peer_gradients(model, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients of `transformers` under our variable paths; strict: every one of them has its place."""
    gradients = part(arrays, "gradient")

    class Stored:
        def names(self):
            return list(gradients)

        def read(self, name):
            return gradients[name]

    loader = Loader(model.weight_map(model.config), "huggingface")
    shapes = {path: tuple(variable.shape) for path, variable in model.named_variables().items()}
    return dict(loader.load(Stored(), shapes, "gradients")[0])


@pytest.mark.parametrize(("family", "name"), CASES)
def test_outputs_and_gradients_equal_the_fixture(family, name):
    check(FIXTURES / family / name, read(family, name))


@pytest.mark.peers
@pytest.mark.parametrize(("family", "name"), LIVE)
def test_outputs_and_gradients_equal_the_live_peer(family, name, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    arrays = rename(make(family, name, tmp_path))
    check(tmp_path, arrays)


@pytest.mark.peers
@pytest.mark.parametrize(("family", "name"), LIVE)
def test_the_peer_reads_what_we_wrote(family, name, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tests.models.peers.making import compute

    arrays = read(family, name)
    load(FIXTURES / family / name, arrays).save_pretrained(tmp_path / "ours", format="huggingface")
    kind = getattr(transformers, PEERS[family][name].kind)
    model, report = kind.from_pretrained(tmp_path / "ours", attn_implementation="eager", output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[problem], problem
    inputs = part(arrays, "input")
    outputs = rename(compute(model.eval(), PEERS[family][name].kind, inputs))
    for key, wanted in part(arrays, "output").items():
        compare(key, valid(key, outputs[key].detach().numpy(), inputs), valid(key, wanted, inputs), 1e-5)
