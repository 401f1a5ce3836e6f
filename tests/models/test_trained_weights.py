"""Small models that others trained: recorded outputs, and what the models can do."""

import numpy as np
import pytest
from keras import ops

from qingformer.models import Backbone, CausalLM, MaskedLM
from tests.models import llama2c

pytestmark = pytest.mark.shared


def reference(shared, name):
    return np.load(shared / "weights" / "reference" / f"{name}.npz")


def test_albert_equals_its_reference_and_restores_masked_tokens(shared):
    expected = reference(shared, "rxnmapper_albert")
    model = MaskedLM.from_pretrained(shared / "weights" / "rxnmapper_albert")
    inputs = {"token_ids": expected["token_ids"], "segment_ids": expected["segment_ids"]}
    assert model.config.family == "albert"
    assert not model.loading_report.missing
    hidden = ops.convert_to_numpy(model.backbone(inputs)["sequence_output"])
    logits = ops.convert_to_numpy(model(inputs))
    np.testing.assert_allclose(hidden, expected["last_hidden_state"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, expected["mlm_logits"], atol=1e-4, rtol=0)

    mask = 14
    (row,) = expected["token_ids"].copy()
    hole = int(np.flatnonzero(row == mask)[0])
    row[hole] = logits[0, hole].argmax()
    masked = np.repeat(row[None], len(row) - 2, axis=0)
    positions = np.arange(1, len(row) - 1)
    masked[np.arange(len(positions)), positions] = mask
    found = ops.convert_to_numpy(model({"token_ids": masked}))[np.arange(len(positions)), positions].argmax(-1)
    assert (found == row[positions]).sum() >= 53


@pytest.mark.parametrize(("size", "shuffled_loss"), [("0.2m", 7.6), ("0.5m", 8.0)])
def test_gpt2_equals_its_reference_and_knows_molecules(shared, size, shuffled_loss):
    expected = reference(shared, f"chemts_gpt2_{size}")
    model = CausalLM.from_pretrained(shared / "weights" / f"chemts_gpt2_{size}")
    assert model.config.family == "gpt2"
    logits = ops.convert_to_numpy(model({"token_ids": expected["token_ids"]}))
    np.testing.assert_allclose(logits, expected["lm_logits"], atol=1e-4, rtol=0)

    def loss(row):
        scores = ops.convert_to_numpy(ops.log_softmax(model({"token_ids": row[None]})))[0, :-1]
        return -scores[np.arange(len(row) - 1), row[1:]].mean()

    (row,) = expected["token_ids"]
    shuffled = [np.random.default_rng(seed).permutation(row[1:-1]) for seed in range(20)]
    assert loss(row) == pytest.approx(0.90, abs=0.02)
    losses = [loss(np.concatenate([row[:1], middle, row[-1:]])) for middle in shuffled]
    assert np.mean(losses) == pytest.approx(shuffled_loss, abs=0.8)


def test_llama_equals_its_reference_and_tells_the_story(shared, tmp_path):
    expected = reference(shared, "llama2c_stories260k")
    llama2c.convert(shared / "weights" / "llama2c_stories260k" / "stories260K.bin", tmp_path)
    model = CausalLM.from_pretrained(tmp_path, rotary_interleaved=True)
    assert model.config.family == "llama"
    logits = ops.convert_to_numpy(model({"token_ids": expected["token_ids"]}))
    np.testing.assert_allclose(logits, expected["lm_logits"], atol=1e-4, rtol=0)

    story = expected["greedy_ids"]
    row = np.zeros((1, len(story)), "int32")
    row[0, 0] = story[0]
    keep = np.ones_like(row)
    for position in range(1, len(story)):
        scores = model.predict_on_batch({"token_ids": row, "padding_mask": keep})
        row[0, position] = scores[0, position - 1].argmax()
    assert row[0].tolist() == story.tolist()


def test_openai_checkpoint_of_gpt2_loads_with_its_hparams(shared):
    model = Backbone.from_pretrained(shared / "weights" / "toy_keras_gpt2_ckpt")
    assert model.config.family == "gpt2"
    assert model.config.num_hidden_layers == 3
    assert model.config.hidden_size == 15
    assert not model.loading_report.missing
    assert not model.loading_report.unknown
    assert np.isfinite(ops.convert_to_numpy(model({"token_ids": np.arange(1, 9)[None]})["sequence_output"])).all()
