"""Every family, from one table: builds, trains, saves, reloads and predicts, by every head and in both precisions."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.models import FAMILIES, Backbone, CausalLM
from tests.models import random_models, zoo
from tests.models.zoo import LENGTH, PLAIN, TABLE

HEADS = [(name, head) for name, entry in TABLE.items() for head in entry.all_heads]
ENTRIES = pytest.mark.parametrize("name", TABLE)
# What a loss on the language model alone cannot move; and the bias of keys, which softmax does not see.
UNMOVED = ("pooler/kernel", "pooler/bias")


@pytest.fixture(autouse=True)
def quick_start():
    with zoo.quick_start():
        yield


@functools.cache
def made(name: str, **options):
    """One model for all tests that only look at it."""
    return zoo.make(name, **options)


def test_the_table_has_every_family_and_every_head():
    assert set(PLAIN) == set(FAMILIES)
    for family, kind in FAMILIES.items():
        tried = {head for entry in TABLE.values() if entry.family == family for head in entry.all_heads}
        assert tried == {"Backbone", *kind.heads}


def unmoved(before: dict, after: dict) -> set[str]:
    """Paths whose weights are what they were, but for those that need not move."""
    stayed = {path for path in before if np.array_equal(before[path], after[path])}
    return {path for path in stayed if path not in UNMOVED and not path.endswith("attention/key/bias")}


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_trains_saves_reloads_and_predicts(name, head, tmp_path):
    entry = TABLE[name]
    model = zoo.make(name, head)
    before = model.weight_arrays()
    # Compiled for one head of each family, step by step for the others: on JAX that shares what is compiled.
    losses = zoo.train(model, eagerly=head != entry.head)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert unmoved(before, model.weight_arrays()) == set()
    wanted = zoo.run(model)
    assert all(np.isfinite(value).all() for value in wanted.values())
    if head == entry.head:
        zoo.same(zoo.values(model.predict(zoo.inputs_of(model), verbose=0)), wanted, atol=1e-5)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.config == model.config
    zoo.same(zoo.run(again), wanted)
    other = zoo.make(name, head, seed=1)
    other.load_weights(tmp_path / "model.weights.h5")
    zoo.same(zoo.run(other), wanted)
    for format in entry.formats:
        model.save_pretrained(tmp_path / format, format=format)
        again = type(model).from_pretrained(tmp_path / format)
        assert again.config == model.config
        assert not again.loading_report.left_over
        zoo.same_weights(model, again)
        zoo.same(zoo.run(again), wanted)


@ENTRIES
def test_trains_from_scratch_in_mixed_precision_and_comes_back(name, tmp_path):
    kind = zoo.class_of(TABLE[name].head)
    model = kind(TABLE[name].config(num_hidden_layers=1), dtype="mixed_bfloat16")
    random_models.randomise(model)
    before = model.weight_arrays()
    assert np.isfinite(zoo.train(model, steps=1, rate=0.1)).all()
    assert unmoved(before, model.weight_arrays()) == set()
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"float32"}
    model.save(tmp_path / "model.keras")
    model.save_pretrained(tmp_path / "model")
    wanted = zoo.run(model)
    for again in (
        keras.saving.load_model(tmp_path / "model.keras"),
        kind.from_pretrained(tmp_path / "model", dtype="mixed_bfloat16"),
    ):
        assert again.dtype_policy.name == "mixed_bfloat16"
        zoo.same_weights(model, again)
        zoo.same(zoo.run(again), wanted)


@ENTRIES
def test_half_precision_predicts_nearly_the_same_and_comes_back(name, tmp_path):
    full, formats = made(name), TABLE[name].formats
    full.save_pretrained(tmp_path / "full")
    wanted = zoo.run(full)
    for dtype in ("mixed_bfloat16", "bfloat16"):
        half = type(full).from_pretrained(tmp_path / "full", dtype=dtype)
        there = zoo.run(half)
        for key in wanted:
            assert np.isfinite(there[key]).all()
            difference = np.abs(there[key] - wanted[key]).mean()
            assert 0 < difference < 0.05 * np.abs(wanted[key]).mean(), (dtype, key)
    for format in formats:  # weights stored in half precision come back as they are
        half.save_pretrained(tmp_path / format, format=format)
        zoo.same_weights(half, type(full).from_pretrained(tmp_path / format, dtype="bfloat16"))


@ENTRIES
def test_gradient_checkpointing_changes_no_gradient(name):
    model = zoo.make(name, "Backbone", num_hidden_layers=1, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)
    inputs = zoo.tensors(model)
    weights = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def gradients():
        def loss(weights):
            outputs, _ = model.stateless_call(weights, fixed, inputs, training=True)
            return sum(ops.mean(ops.sin(3.0 * output)) for output in outputs.values())

        _, found = random_models.compiled(backend.value_and_grad(loss))(weights)
        return [random_models.numpy(gradient) for gradient in found]

    plain = gradients()
    model.enable_gradient_checkpointing()
    assert [layer for layer in model.layers if getattr(layer, "checkpointing", False)]
    for variable, there, wanted in zip(model.trainable_variables, gradients(), plain):
        np.testing.assert_allclose(there, wanted, rtol=0, atol=1e-5, err_msg=variable.path)


@ENTRIES
def test_formats_chain_bit_for_bit(name, tmp_path):
    original = model = made(name)
    for step, format in enumerate([*TABLE[name].formats, *reversed(TABLE[name].formats)]):
        model.save_pretrained(tmp_path / str(step), format=format)
        model = type(model).from_pretrained(tmp_path / str(step))
        assert model.loading_report.summary() == f"{tmp_path / str(step)}: {len(model.named_variables())} loaded"
    zoo.same_weights(original, model)
    assert model.config == original.config


@pytest.mark.parametrize("name", PLAIN)
def test_formats_that_a_family_does_not_have_are_refused(name, tmp_path):
    for format in set(zoo.ALL) - set(TABLE[name].formats):
        with pytest.raises(Exception, match=rf"{format} format; save with format='qingformer'"):
            made(name).save_pretrained(tmp_path / "model", format=format)
        assert not (tmp_path / "model").exists()


ROLES = [(name, role) for name in PLAIN for role in ("lm", "unilm") if role in FAMILIES[TABLE[name].family].applications]


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_generating_roles_run_and_are_kept(name, role, tmp_path):
    model = zoo.make(name, "CausalLM", application=role, type_vocab_size=2 if role == "unilm" else 0)
    model.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["application"] == role
    again = CausalLM.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    zoo.same(zoo.run(again), zoo.run(model))


SOFTMAX = [name for name in PLAIN if name != "gau_alpha"]
ROTARY = [name for name in PLAIN if made.__wrapped__ and TABLE[name].config().position_embedding_type == "rotary"]
OPTIONS = [
    *((name, {"attention_normalization": "softmax_plus"}) for name in SOFTMAX),
    *((name, {"attention_normalization": "squared_relu"}) for name in SOFTMAX),
    *((name, {"attention_scale": TABLE[name].config().attention_scale is False}) for name in PLAIN),
    *((name, {"residual_attention_scores": True}) for name in SOFTMAX if name != "t5"),
    *((name, {"hide_self": TABLE[name].config().hide_self is False}) for name in PLAIN if name != "t5"),
    *((name, {"rotary_scaling": 2.0}) for name in ROTARY),
    *((name, {"rotary_limit": 3}) for name in ROTARY),
    ("gau_alpha", {"attention_normalization": "softmax"}),
    ("gau_alpha", {"attention_normalization": "squared_relu"}),
    ("t5", {"cross_position_bias": True}),
]


@pytest.mark.parametrize(
    ("name", "options"), OPTIONS, ids=["-".join([name, *map(str, *options.items())]) for name, options in OPTIONS]
)
def test_attention_options_work_in_every_family(name, options, tmp_path):
    plain, model = made(name, head="Backbone"), zoo.make(name, "Backbone", **options)
    assert set(plain.named_variables()) == set(model.named_variables())
    wanted = zoo.run(model)
    assert all(np.isfinite(value).all() for value in wanted.values())
    assert zoo.distance(wanted, zoo.run(plain)) > 1e-3, "the option changes nothing"
    model.save_pretrained(tmp_path / "model")
    again = Backbone.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    zoo.same(zoo.run(again), wanted)


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("positions", ["rotary", "relative", "bucketed", "none"])
def test_bert_takes_any_positions(positions, application, tmp_path):
    options = {"position_embedding_type": positions, "application": application, "max_relative_position": 3}
    model = zoo.make("bert", "CausalLM" if application != "encoder" else "MaskedLM", **options)
    assert not any(path.startswith("position_embedding/") for path in model.named_variables())
    wanted = zoo.run(model)
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    assert again.config == model.config
    zoo.same(zoo.run(again), wanted)
    with pytest.raises(Exception, match=r"has no place in the tensorflow format; save with format='qingformer'"):
        model.save_pretrained(tmp_path / "other", format="tensorflow")


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_models_read_beyond_the_trained_length(name):
    """Clipped, distances beyond the limit look alike; halved, the angles stay within those of the trained length."""
    length = SIXTEEN + 4
    plain = zoo.run(made(name, head="Backbone"), length)["sequence_output"]
    for option in ({"rotary_limit": SIXTEEN}, {"rotary_scaling": 2.0}):
        there = zoo.run(made(name, head="Backbone", **option), length)["sequence_output"]
        assert there.shape == (zoo.ROWS, length, 8)
        assert np.isfinite(there).all()
        assert np.abs(there - plain).max() > 1e-4


SIXTEEN = zoo.SIZES["max_position_embeddings"]
