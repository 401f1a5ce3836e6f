"""What must hold of any backbone: masks, roles, precision, saving, adapters."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models import Backbone, BackboneConfig, CausalLM, MaskedLM, NextSentencePrediction, PreTraining

SMALL = BackboneConfig(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=32,
    max_position_embeddings=20,
    initializer_range=0.3,
)


def ids(rows: int = 2, length: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 50, (rows, length)).astype("int32")


def numpy(x) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def test_padding_on_either_side_changes_nothing():
    backbone, tokens = Backbone(SMALL.replace(custom_position_ids=True)), ids()
    positions = np.broadcast_to(np.arange(8, dtype="int32"), (2, 8))
    alone = backbone({"token_ids": tokens, "position_ids": positions, "padding_mask": np.ones_like(tokens)})
    for left in (0, 5):
        width = ((0, 0), (left, 5 - left))
        padded = {
            "token_ids": np.pad(tokens, width, constant_values=7),
            "position_ids": np.pad(positions, width),
            "padding_mask": np.pad(np.ones_like(tokens), width),
        }
        there = backbone(padded)["sequence_output"][:, left : left + 8]
        np.testing.assert_allclose(numpy(there), numpy(alone["sequence_output"]), atol=2e-6)


def test_missing_mask_hides_padding_but_never_position_zero():
    backbone, tokens = Backbone(SMALL), ids()
    tokens[:, 6:] = 0
    tokens[1, 0] = 0
    mask = (tokens != 0).astype("int32")
    mask[:, 0] = 1
    implied = backbone({"token_ids": tokens})["sequence_output"]
    given = backbone({"token_ids": tokens, "padding_mask": mask, "segment_ids": np.zeros_like(tokens)})
    np.testing.assert_array_equal(numpy(implied), numpy(given["sequence_output"]))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "float16"])
def test_a_row_without_any_key_is_finite(dtype):
    backbone, tokens = Backbone(SMALL, dtype=dtype), ids()
    mask = np.ones_like(tokens)
    mask[0] = 0
    assert np.isfinite(numpy(backbone({"token_ids": tokens, "padding_mask": mask})["sequence_output"])).all()


def sees(model, segments) -> np.ndarray:
    """Which output position depends on which input position, by gradients through the embeddings."""
    length = segments.shape[1]
    inputs = {"token_ids": ops.convert_to_tensor(ids(1, length)), "segment_ids": ops.convert_to_tensor(segments)}
    inputs["padding_mask"] = ops.ones_like(inputs["token_ids"])
    # Distinct tokens, so that a row of the table's gradient belongs to one position.
    inputs["token_ids"] = ops.arange(1, length + 1, dtype="int32")[None]
    values = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    table = next(i for i, v in enumerate(model.trainable_variables) if v.path == "token_embedding/embeddings")

    def output(values, position):
        result, _ = model.stateless_call(values, fixed, inputs)
        return ops.sum(ops.square(result["sequence_output"][0, position]))

    rows = [backend.value_and_grad(output)(values, position)[1][table] for position in range(length)]
    return np.array([np.abs(numpy(row)[1 : length + 1]).sum(axis=1) > 0 for row in rows])


def test_no_role_sees_what_it_must_not():
    segments = np.array([[0, 0, 0, 1, 1, 1]], "int32")
    everything = sees(Backbone(SMALL), segments)
    causal = sees(Backbone(SMALL.replace(application="lm")), segments)
    prefix = sees(Backbone(SMALL.replace(application="unilm")), segments)
    expected = np.tri(6, dtype=bool)
    assert everything.all()
    np.testing.assert_array_equal(causal, expected)
    expected[:3, :3] = True
    np.testing.assert_array_equal(prefix, expected)


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_fused_and_explicit_attention_agree(attention):
    backbone = Backbone(SMALL.replace(application="unilm"))
    inputs = {"token_ids": ids(), "segment_ids": np.repeat([[0, 0, 0, 1, 1, 1, 1, 1]], 2, 0).astype("int32")}
    automatic = numpy(backbone(inputs)["sequence_output"])
    for index in range(2):
        backbone.get_layer(f"block_{index}").attention.implementation = attention
    np.testing.assert_allclose(numpy(backbone(inputs)["sequence_output"]), automatic, atol=3e-6)


def gradients_and_loss(model, inputs):
    values = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def loss(values):
        result, _ = model.stateless_call(values, fixed, inputs, training=True)
        return ops.mean(ops.square(result["sequence_output"])) + ops.mean(result["pooled_output"])

    value, gradients = backend.value_and_grad(loss)(values)
    return numpy(value), [numpy(gradient) for gradient in gradients]


def test_gradient_checkpointing_changes_no_number():
    backbone = Backbone(SMALL)
    tensors = {
        key: ops.convert_to_tensor(value) for key, value in backbone.complete_inputs({"token_ids": ids()}).items()
    }
    plain = gradients_and_loss(backbone, tensors)
    backbone.enable_gradient_checkpointing()
    assert backbone.get_layer("block_1").checkpointing
    again = gradients_and_loss(backbone, tensors)
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-6)
    for there, wanted in zip(again[1], plain[1]):
        np.testing.assert_allclose(there, wanted, atol=1e-6)


def test_dropout_is_active_in_training_only():
    backbone, tokens = Backbone(SMALL), ids()
    quiet = [numpy(backbone({"token_ids": tokens})["sequence_output"]) for _ in range(2)]
    np.testing.assert_array_equal(*quiet)
    loud = [numpy(backbone({"token_ids": tokens}, training=True)["sequence_output"]) for _ in range(2)]
    assert np.abs(loud[0] - loud[1]).max() > 0.1


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "mixed_float16"])
def test_half_precision_is_close_to_float32(dtype, tmp_path):
    full = PreTraining(SMALL)
    full.save_pretrained(tmp_path / "model")
    half = PreTraining.from_pretrained(tmp_path / "model", dtype=dtype)
    inputs = {"token_ids": ids()}
    wanted, there = full(inputs), half(inputs)
    assert keras.backend.standardize_dtype(there["mlm_logits"].dtype) == "float32"
    for key in wanted:
        assert np.abs(numpy(there[key]) - numpy(wanted[key])).mean() < 0.05 * np.abs(numpy(wanted[key])).mean() + 0.02


@pytest.mark.parametrize("kind", [Backbone, MaskedLM, CausalLM, NextSentencePrediction, PreTraining])
def test_keras_files_round_trip(kind, tmp_path):
    model, inputs = kind(SMALL), {"token_ids": ids()}
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.config == model.config
    other = kind(SMALL)
    other.load_weights(tmp_path / "model.weights.h5")
    for copy in (again, other):
        keras.tree.map_structure(
            lambda a, b: np.testing.assert_array_equal(numpy(a), numpy(b)), copy(inputs), model(inputs)
        )


def test_blocks_can_be_cut_out_rewired_and_saved(tmp_path):
    backbone = Backbone(SMALL.replace(condition_size=4, condition_hidden_size=3))
    cut = keras.Model(backbone.inputs, backbone.get_layer("block_0").output)
    inputs = backbone.complete_inputs({"token_ids": ids(), "condition": np.ones((2, 4), "float32")})
    inputs = [inputs[tensor.name] for tensor in cut.inputs]
    cut.save(tmp_path / "cut.keras")
    again = keras.saving.load_model(tmp_path / "cut.keras")
    np.testing.assert_array_equal(numpy(again(inputs)), numpy(cut(inputs)))


def test_low_rank_adapters_train_alone_and_merge_on_saving(tmp_path):
    backbone, inputs = Backbone(SMALL), {"token_ids": ids()}
    before = numpy(backbone(inputs)["sequence_output"])
    paths = backbone.enable_lora(2, targets=("query", "value"))
    assert len(paths) == 4
    assert {v.path.rsplit("/", 1)[1] for v in backbone.trainable_variables} == {"lora_kernel_a", "lora_kernel_b"}
    np.testing.assert_array_equal(numpy(backbone(inputs)["sequence_output"]), before)
    for variable in backbone.trainable_variables:
        variable.assign(np.random.default_rng(2).normal(size=variable.shape).astype("float32"))
    after = numpy(backbone(inputs)["sequence_output"])
    assert np.abs(after - before).max() > 1e-2
    backbone.save_pretrained(tmp_path / "merged", format="huggingface")
    merged = Backbone.from_pretrained(tmp_path / "merged")
    # The factors are drawn as large as the kernels: the two orders of summation differ by some 1e-5.
    np.testing.assert_allclose(numpy(merged(inputs)["sequence_output"]), after, rtol=1e-4, atol=1e-4)


def test_int8_predicts_nearly_the_same_and_refuses_to_be_saved_as_a_checkpoint(tmp_path):
    backbone, inputs = Backbone(SMALL), {"token_ids": ids()}
    before = numpy(backbone(inputs)["sequence_output"])
    backbone.quantize("int8")
    assert backbone.get_layer("block_0").attention.query.quantization_mode == "int8"
    difference = np.abs(numpy(backbone(inputs)["sequence_output"]) - before)
    assert 0 < difference.mean() < 0.1
    with pytest.raises(CheckpointError, match=r"quantized \(int8\)"):
        backbone.save_pretrained(tmp_path / "quantized")


def test_freezing_by_pattern():
    backbone = Backbone(SMALL)
    frozen = backbone.freeze(r"embedding|block_0$")
    assert "block_0" in frozen
    assert all(not v.path.startswith(("block_0", "token_embedding")) for v in backbone.trainable_variables)
    assert any(v.path.startswith("block_1") for v in backbone.trainable_variables)
    with pytest.raises(ConfigError, match="no layer matches 'blok'; layers are token_embedding"):
        backbone.freeze("blok")


def test_conditional_norm_starts_as_the_identity_and_receives_gradients():
    config = SMALL.replace(condition_size=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    backbone = Backbone(config)
    condition = np.random.default_rng(1).normal(size=(2, 4)).astype("float32")
    inputs = {"token_ids": ids(), "condition": condition}
    with_condition = numpy(backbone(inputs)["sequence_output"])
    without = numpy(backbone({**inputs, "condition": condition * 0})["sequence_output"])
    np.testing.assert_array_equal(with_condition, without)
    tensors = {key: ops.convert_to_tensor(value) for key, value in backbone.complete_inputs(inputs).items()}
    _, gradients = gradients_and_loss(backbone, tensors)
    for variable, gradient in zip(backbone.trainable_variables, gradients):
        if "condition_" in variable.path:
            assert np.abs(gradient).max() > 0, variable.path


def test_hierarchical_positions_keep_the_trained_ones_and_go_beyond():
    plain, longer = Backbone(SMALL), Backbone(SMALL.replace(hierarchical_position=0.4))
    longer.set_weights(plain.get_weights())
    inputs = {"token_ids": ids()}
    there, wanted = longer(inputs)["sequence_output"], plain(inputs)["sequence_output"]
    np.testing.assert_allclose(numpy(there), numpy(wanted), atol=1e-5)
    assert longer({"token_ids": ids(1, 100)})["sequence_output"].shape == (1, 100, 24)
    with pytest.raises(ConfigError, match="sequence of 100 tokens, but position_embedding serves 20"):
        plain({"token_ids": ids(1, 100)})


def test_unknown_inputs_are_named():
    with pytest.raises(ConfigError, match="input segments is none of this model's"):
        Backbone(SMALL)({"token_ids": ids(), "segments": ids()})


def test_a_head_that_needs_the_pooler_says_so():
    with pytest.raises(ConfigError, match="NextSentencePrediction needs the pooler"):
        NextSentencePrediction(SMALL.replace(pooler=False))
