"""Every family, from one table: builds, trains, saves, reloads and predicts, by every head and in both precisions."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend, layers
from qingformer.errors import QingFormerError
from qingformer.models import FAMILIES, BackboneConfig, CausalLM
from tests.conftest import SLOW_ON_JAX
from tests.models import random_models, zoo
from tests.models.zoo import LENGTH, PLAIN, TABLE

ENTRIES = pytest.mark.parametrize("name", TABLE)
FAMILY = pytest.mark.parametrize("name", PLAIN)
OTHER_HEADS = [(name, head) for name in PLAIN for head in TABLE[name].all_heads if head != TABLE[name].head]
# Families whose graphs are alike but for sizes and names compile alike: on JAX the others wait for the second ring.
OWN_GRAPHS = ("albert", "bert", "gau_alpha", "gpt2_ml", "llama", "t5", "tta")
FIRST = ("bert", "gau_alpha", "t5")


def mostly_second_ring(names, first=FIRST):
    """The cases of a test, of which JAX leaves most to the second ring."""
    return [name if name in first else pytest.param(name, marks=SLOW_ON_JAX) for name in names]


FEW = pytest.mark.parametrize("name", mostly_second_ring(PLAIN))
# What a loss on the language model alone cannot move; and the bias of keys, which softmax does not see.
FIXED = {"roformer.encoder.embed_positions.weight"}  # `transformers` stores this table, which nothing trains
UNMOVED = ("pooler/kernel", "pooler/bias")


@pytest.fixture(autouse=True)
def quick_start(request):
    """Models that are filled after they are made need no drawing, but where a test asks for it."""
    if "scratch" in request.node.name:
        yield
    else:
        with zoo.quick_start():
            yield


@functools.cache
def made(name: str, head: str | None = None, **options):
    """One model for all tests that only look at it."""
    return zoo.make(name, head, **options)


def test_the_table_has_every_family_and_every_head():
    assert set(PLAIN) == set(FAMILIES)
    for family, kind in FAMILIES.items():
        tried = {head for entry in TABLE.values() if entry.family == family for head in entry.all_heads}
        assert tried == {"Backbone", *kind.spec.heads}


def unmoved(before: dict, after: dict) -> set[str]:
    """Paths whose weights are what they were, but for those that need not move."""
    stayed = {path for path in before if np.array_equal(before[path], after[path])}
    return {path for path in stayed if path not in UNMOVED and not path.endswith("attention/key/bias")}


def check_step(model, **how) -> None:
    """One step of training: a loss that is a number, and every weight moves."""
    before = model.weight_arrays()
    assert np.isfinite(zoo.train(model, **how)).all()
    assert unmoved(before, model.weight_arrays()) == set()


@pytest.mark.parametrize("name", mostly_second_ring(TABLE, OWN_GRAPHS))
def test_trains_saves_reloads_and_predicts(name, tmp_path):
    model = zoo.make(name)
    losses = zoo.train(model, steps=3, eagerly=True)
    assert losses[-1] < losses[0]
    check_step(model, eagerly=True)
    wanted = zoo.run(model)
    assert all(np.isfinite(value).all() for value in wanted.values())
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.config == model.config
    zoo.same(zoo.run(again), wanted)
    other = zoo.make(name, seed=1)
    other.load_weights(tmp_path / "model.weights.h5")
    zoo.same(zoo.run(other), wanted)
    for format in TABLE[name].formats:
        model.save_pretrained(tmp_path / format, format=format)
        again = type(model).from_pretrained(tmp_path / format)
        assert again.config == model.config
        assert set(again.loading_report.left_over) <= FIXED
        zoo.same_weights(model, again)
        zoo.same(zoo.run(again), wanted)


@pytest.mark.parametrize(("name", "head"), OTHER_HEADS)
def test_other_heads_train_save_reload_and_predict(name, head, tmp_path):
    model = zoo.make(name, head, num_hidden_layers=1)
    check_step(model, eagerly=True)
    wanted = zoo.run(model)
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    assert again.config == model.config
    zoo.same_weights(model, again)
    zoo.same(zoo.run(again), wanted)


@FAMILY
def test_built_from_scratch_every_part_starts_at_random(name):
    model = zoo.class_of(TABLE[name].head)(TABLE[name].config(num_hidden_layers=1))
    assert all(np.isfinite(value).all() and value.std() > 0 for value in zoo.run(model).values())
    for path, array in model.weight_arrays().items():
        drawn = path.endswith(("kernel", "embeddings"))
        assert (array.std() > 0) == drawn, path


@FEW
def test_compiled_training_and_prediction_equal_the_eager_ones(name):
    eager, compiled = (zoo.make(name, num_hidden_layers=1) for _ in range(2))
    check_step(compiled)
    check_step(eager, eagerly=True)
    there, wanted = compiled.weight_arrays(), eager.weight_arrays()
    for path in wanted:
        np.testing.assert_allclose(there[path], wanted[path], rtol=0, atol=1e-4, err_msg=path)
    zoo.same(zoo.values(compiled.predict(zoo.inputs_of(eager), verbose=0)), zoo.run(compiled), atol=1e-5)


@FEW
def test_half_precision_predicts_trains_and_comes_back(name, tmp_path):
    full = made(name)
    full.save_pretrained(tmp_path / "full")
    wanted = zoo.run(full)
    for dtype in ("mixed_bfloat16", "bfloat16"):
        half = type(full).from_pretrained(tmp_path / "full", dtype=dtype)
        there = zoo.run(half)
        for key in wanted:
            assert np.isfinite(there[key]).all()
            assert 0 < np.abs(there[key] - wanted[key]).mean() < 0.05 * np.abs(wanted[key]).mean(), (dtype, key)
        for format in TABLE[name].formats:
            half.save_pretrained(tmp_path / format, format=format)
            again = type(full).from_pretrained(tmp_path / format, dtype=dtype)
            zoo.same_weights(half, again)
        zoo.same(zoo.run(again), there)


@FEW
def test_trains_in_mixed_precision_saves_and_reloads(name, tmp_path):
    kind = zoo.class_of(TABLE[name].head)
    model = kind(TABLE[name].config(num_hidden_layers=1), dtype="mixed_bfloat16")
    random_models.randomise(model)
    check_step(model, eagerly=True, rate=0.1)
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"float32"}
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.dtype_policy.name == "mixed_bfloat16"
    zoo.same_weights(model, again)
    zoo.same(zoo.run(again), zoo.run(model))


@FEW
def test_gradient_checkpointing_changes_no_gradient(name):
    model = zoo.make(name, "Backbone", num_hidden_layers=1, hidden_dropout_prob=0.2)
    inputs = zoo.tensors(model)
    weights = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]

    def loss(weights):
        outputs, _ = model.stateless_call(weights, fixed, inputs, training=True)
        return sum(ops.mean(ops.sin(3.0 * output)) for output in outputs.values())

    _, plain = backend.value_and_grad(loss)(weights)
    model.enable_gradient_checkpointing()
    assert [layer for layer in model.layers if getattr(layer, "checkpointing", False)]
    _, again = backend.value_and_grad(loss)(weights)
    for variable, there, wanted in zip(model.trainable_variables, again, plain):
        there, wanted = random_models.numpy(there), random_models.numpy(wanted)
        np.testing.assert_allclose(there, wanted, rtol=0, atol=1e-5, err_msg=variable.path)


@ENTRIES
def test_formats_chain_bit_for_bit(name, tmp_path):
    original = model = made(name)
    for step, format in enumerate([*TABLE[name].formats, *reversed(TABLE[name].formats)]):
        model.save_pretrained(tmp_path / str(step), format=format)
        model = type(model).from_pretrained(tmp_path / str(step))
        assert len(model.loading_report.loaded) == len(model.named_variables())
        assert set(model.loading_report.left_over) <= FIXED
    zoo.same_weights(original, model)
    assert model.config == original.config


@FAMILY
def test_formats_that_a_family_does_not_have_are_refused(name, tmp_path):
    for format in set(zoo.ALL) - set(TABLE[name].formats):
        with pytest.raises(QingFormerError, match=rf"{format} format; save with format='qingformer'"):
            made(name).save_pretrained(tmp_path / "model", format=format)
        assert not (tmp_path / "model").exists()


ROLES = [
    (name, role) for name in PLAIN for role in ("lm", "unilm") if role in FAMILIES[TABLE[name].family].spec.applications
]


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_generating_roles_run_and_are_kept(name, role, tmp_path):
    model = zoo.make(name, "CausalLM", application=role, type_vocab_size=2 if role == "unilm" else 0)
    model.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["application"] == role
    again = CausalLM.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    zoo.same(zoo.run(again), zoo.run(model))


SOFTMAX = [name for name in PLAIN if name != "gau_alpha"]
ROTARY = [name for name in PLAIN if TABLE[name].config().position_embedding_type == "rotary"]
# Together where a family has them all; the blocks of T5 hand no scores on and never hide a position from itself.
TOGETHER = {
    name: {"attention_normalization": "softmax_plus"}
    | (
        {}
        if name == "t5"
        else {"residual_attention_scores": True, "mask_diagonal": TABLE[name].config().mask_diagonal is False}
    )
    | ({"rotary_scaling": 2.0, "rotary_limit": 3} if name in ROTARY else {})
    for name in SOFTMAX
}
OPTIONS = [
    *((name, {key: value}) for name, options in TOGETHER.items() for key, value in options.items()),
    *((name, {"attention_scale": not TABLE[name].config().attention_scale}) for name in ("bert", "gau_alpha", "t5")),
    *((name, {"attention_normalization": "squared_relu"}) for name in ("bert", "gau_alpha", "t5")),
    ("gau_alpha", {"attention_normalization": "softmax"}),
    ("gau_alpha", {"mask_diagonal": True}),
    ("gau_alpha", {"residual_attention_scores": True}),
    ("gau_alpha", {"rotary_scaling": 2.0}),
    ("gau_alpha", {"rotary_limit": 3}),
    ("t5", {"cross_position_bias": True}),
]


@pytest.mark.parametrize(
    ("name", "options"), OPTIONS, ids=["-".join([name, *map(str, *options.items())]) for name, options in OPTIONS]
)
def test_every_attention_option_has_an_effect_in_every_family(name, options):
    plain, model = made(name, "Backbone"), zoo.make(name, "Backbone", **options)
    assert set(plain.named_variables()) == set(model.named_variables())
    there = zoo.run(model)
    assert all(np.isfinite(value).all() for value in there.values())
    assert zoo.distance(there, zoo.run(plain)) > 1e-3, "the option changes nothing"


@pytest.mark.parametrize("name", TOGETHER)
def test_attention_options_go_together_and_are_kept(name, tmp_path):
    model = zoo.make(name, **TOGETHER[name])
    check_step(model, eagerly=True)
    wanted = zoo.run(model)
    model.save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
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
    with pytest.raises(QingFormerError, match=r"has no place in the tensorflow format; save with format='qingformer'"):
        model.save_pretrained(tmp_path / "other", format="tensorflow")


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_models_read_beyond_the_trained_length(name):
    trained = {"max_position_embeddings": LENGTH - 2}
    plain = zoo.run(made(name, "Backbone", **trained))["sequence_output"]
    for option in ({"rotary_limit": LENGTH - 2}, {"rotary_scaling": 1.5}):
        there = zoo.run(made(name, "Backbone", **trained, **option))["sequence_output"]
        assert there.shape == (zoo.ROWS, LENGTH, 8)
        assert np.isfinite(there).all()
        assert np.abs(there - plain).max() > 1e-4


def test_a_configuration_of_earlier_versions_is_read_under_the_names_of_today():
    values = BackboneConfig(vocab_size=9, family="tta").to_dict()
    before = {("hide_self" if key == "mask_diagonal" else key): value for key, value in values.items()}
    assert BackboneConfig.from_dict(before) == BackboneConfig.from_dict(values)
    assert BackboneConfig.from_dict(values, hide_self=False).mask_diagonal is False
    layer = layers.AttentionMask(mask_diagonal=True)
    config = {("hide_self" if key == "mask_diagonal" else key): value for key, value in layer.get_config().items()}
    assert layers.AttentionMask.from_config(config).mask_diagonal is True
