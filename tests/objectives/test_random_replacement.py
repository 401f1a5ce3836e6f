"""Random replacement: what is drawn, from where, how often, and what stays."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Batch, ModelObjective, RandomReplacement, State, TrainableModel
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import cross_entropy

ROWS, SOURCE, TARGET, PADDING = 400, 5, 6, 3
STATE = State([], [], 1.0, 3, 0)


def pooled_tokens(names):
    """A model that reads the named inputs (B, T) and says something at every position of the first."""
    keras.utils.set_random_seed(0)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    x = keras.layers.Embedding(100, 3, name="token_embedding")(inputs[names[0]])
    outputs = keras.layers.Dense(100, name="tokens")(x)
    return TrainableModel(inputs, outputs)


@pytest.fixture(scope="module")
def unilm():
    """[1] source [2] target [2] padding: source tokens 10..., target tokens 50..., no two alike in a row."""
    generator = np.random.default_rng(0)
    source = np.stack([generator.permutation(40)[:SOURCE] + 10 for _ in range(ROWS)])
    target = np.stack([generator.permutation(40)[:TARGET] + 50 for _ in range(ROWS)])
    one = np.ones((ROWS, 1), int)
    ids = np.concatenate([one, source, 2 * one, target, 2 * one, np.zeros((ROWS, PADDING), int)], axis=1)
    segments = np.zeros_like(ids)
    segments[:, SOURCE + 2 : SOURCE + TARGET + 3] = 1
    x = {"token_ids": ids, "segment_ids": segments, "padding_mask": ids > 0}
    return {name: value.astype("int32") for name, value in x.items()}


@pytest.fixture(scope="module")
def model():
    model = pooled_tokens(["token_ids", "segment_ids", "padding_mask"])
    model.compile("sgd", cross_entropy())
    return model


def replaced(model, x, state=STATE, y=0, **settings):
    objective = RandomReplacement(**settings)(ModelObjective(model))
    batch = Batch({name: ops.convert_to_tensor(value) for name, value in x.items()}, y)
    after = objective.replaced(state, batch)
    assert after.y is batch.y
    return {name: ops.convert_to_numpy(value) for name, value in after.x.items()}


@pytest.mark.parametrize("source", ["target", "example", "vocabulary"])
def test_target_inputs_alone_change_and_at_the_expected_rate(model, unilm, source):
    after = replaced(model, unilm, source=source, vocabulary_size=100)
    before, ids = unilm["token_ids"], after["token_ids"]
    for name in ("segment_ids", "padding_mask"):
        np.testing.assert_array_equal(after[name], unilm[name])
    target = unilm["segment_ids"] == 1
    np.testing.assert_array_equal(ids[~target], before[~target])
    changed = (ids != before) & target
    # Of the drawn tokens a share is the same one again: one of the pool of the row.
    pool = {"target": TARGET + 1, "example": SOURCE + TARGET + 3, "vocabulary": 100}[source]
    same = 1 / pool
    share = changed[target.nonzero()].mean()
    assert share == pytest.approx(0.5 * 0.3 * (1 - same), abs=0.02)
    untouched = (~changed.any(axis=1)).mean()
    assert untouched == pytest.approx(0.5 + 0.5 * (1 - 0.3 * (1 - same)) ** (TARGET + 1), abs=0.06)
    for row, was, where in zip(ids, before, changed):
        allowed = {"target": was[7:14], "example": was[was > 0], "vocabulary": np.arange(100)}[source]
        assert set(row[where]) <= set(allowed)
    seen = set(ids[changed])
    assert (2 in seen) or source == "vocabulary"  # the separator is drawn like any other token
    if source == "vocabulary":
        counts = np.bincount(replaced(model, unilm, probability=1, token_probability=1, source=source,
                                      vocabulary_size=100)["token_ids"][target], minlength=100)  # fmt: skip
        assert counts.sum() == target.sum()
        expected = counts.sum() / 100
        assert ((counts - expected) ** 2 / expected).sum() < 99 + 5 * np.sqrt(2 * 99)
    if source == "example":
        assert any(10 <= token < 50 for token in seen)


def test_drawing_is_uniform_over_the_target(model, unilm):
    same = {name: np.repeat(value[:1], ROWS, axis=0) for name, value in unilm.items()}
    ids = replaced(model, same, probability=1.0, token_probability=1.0)["token_ids"][:, 7:14]
    counts = np.array([(ids == token).sum() for token in same["token_ids"][0, 7:14]])
    assert counts.sum() == ids.size
    expected = ids.size / 7
    assert ((counts - expected) ** 2 / expected).sum() < 6 + 5 * np.sqrt(12)


@pytest.mark.parametrize("source", ["target", "example", "vocabulary"])
def test_spared_tokens_stay_and_are_not_drawn(model, unilm, source):
    options = {"probability": 1.0, "token_probability": 1.0, "source": source, "vocabulary_size": 100}
    ids = replaced(model, unilm, spared=[2, 0, 1], **options)["token_ids"]
    before = unilm["token_ids"]
    np.testing.assert_array_equal(ids == 2, before == 2)
    np.testing.assert_array_equal(ids <= 2, before <= 2)
    assert (ids != before).any()
    assert ids.max() < 100


def test_probability_zero_and_the_step_decide(model, unilm):
    for off in ({"probability": 0.0}, {"token_probability": 0.0}):
        np.testing.assert_array_equal(replaced(model, unilm, **off)["token_ids"], unilm["token_ids"])
    first, again = (replaced(model, unilm)["token_ids"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for other in (
        replaced(model, unilm, STATE._replace(step=4)),
        replaced(model, unilm, STATE._replace(part=1)),
        replaced(model, unilm, seed=1),
    ):
        assert (other["token_ids"] != first).any()


def test_an_empty_target_is_left_alone(model, unilm):
    x = {**unilm, "segment_ids": np.zeros_like(unilm["segment_ids"])}
    ids = replaced(model, x, probability=1.0, token_probability=1.0)["token_ids"]
    np.testing.assert_array_equal(ids, unilm["token_ids"])


@pytest.mark.parametrize("masked", [pytest.param(False, marks=SLOW_ON_JAX), True])
def test_a_decoder_of_its_own_keeps_its_start_token(unilm, masked):
    names = ["decoder_token_ids", "token_ids"] + ["decoder_padding_mask"] * masked
    model = pooled_tokens(names)
    model.compile("sgd", cross_entropy())
    start = np.full((ROWS, 1), 7, "int32")
    decoder = np.concatenate([start, unilm["token_ids"][:, SOURCE + 2 :]], axis=1)
    x = {"decoder_token_ids": decoder, "token_ids": unilm["token_ids"][:, : SOURCE + 2]}
    x |= {"decoder_padding_mask": (decoder > 0).astype("int32")} if masked else {}
    after = replaced(model, x, probability=1.0, token_probability=1.0)
    ids = after["decoder_token_ids"]
    np.testing.assert_array_equal(after["token_ids"], x["token_ids"])
    np.testing.assert_array_equal(ids[:, 0], start[:, 0])
    np.testing.assert_array_equal(ids == 0, decoder == 0)
    assert all(set(row[1:]) <= set(was[1:]) for row, was in zip(ids, decoder))
    mixed = replaced(model, x, probability=1.0, token_probability=1.0, source="example")["decoder_token_ids"]
    assert all(set(row[1:]) <= set(was) | set(s) for row, was, s in zip(mixed, decoder, x["token_ids"]))
    assert ((mixed[:, 1:] >= 10) & (mixed[:, 1:] < 50)).any()
    assert not (mixed[decoder > 0] == 0).any()


def test_a_causal_model_of_one_input(unilm):
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(100, 2, name="token_embedding")(ids)
    model = TrainableModel(ids, keras.layers.Dense(100)(x))
    model.compile("sgd", cross_entropy())
    transform = RandomReplacement(1.0, 1.0, token_input="ids", segment_input="")
    tokens = ops.convert_to_tensor(unilm["token_ids"])
    after = ops.convert_to_numpy(transform(ModelObjective(model)).replaced(STATE, Batch(tokens, 0)).x)
    np.testing.assert_array_equal(after[:, 0], unilm["token_ids"][:, 0])
    np.testing.assert_array_equal(after == 0, unilm["token_ids"] == 0)
    assert (after != unilm["token_ids"]).any()


@slow_on_jax
def test_fit_learns_with_fgm_and_the_file_keeps_it(model, unilm, tmp_path):
    x = {name: value[:16] for name, value in unilm.items()}
    y = np.roll(x["token_ids"], -1, axis=1)
    weights = np.roll(x["segment_ids"], -1, axis=1).astype("float32")
    losses = []
    for transforms in ([RandomReplacement(1.0, 0.5), FGM(0.1)], [FGM(0.1), RandomReplacement(1.0, 0.5)]):
        fresh = pooled_tokens(["token_ids", "segment_ids", "padding_mask"])
        fresh.compile(keras.optimizers.SGD(0.0), cross_entropy(), transforms=transforms)
        losses.append(fresh.fit(x, y, sample_weight=weights, batch_size=16, verbose=0).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)  # both see the same draws: perturbing and replacing commute
    fresh.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")._transforms[1]
    assert again.get_config() == RandomReplacement(1.0, 0.5).get_config()


def test_errors(model, unilm):
    for settings, message in (
        ({"probability": 1.5}, "probability is 1.5"),
        ({"token_probability": -1}, "token_probability is -1"),
        ({"source": "labels"}, "source is 'labels'.*target, example, vocabulary"),
        ({"source": "vocabulary"}, "vocabulary_size is None"),
        ({"source": "vocabulary", "vocabulary_size": 2, "spared": [0, 1]}, "vocabulary_size is 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            RandomReplacement(**settings)
    with pytest.raises(ConfigError, match=r"no input 'words'.*token_input=, there are padding_mask, segment_ids"):
        RandomReplacement(token_input="words")(ModelObjective(model))
    plain = pooled_tokens(["token_ids"])
    plain.compile("sgd", cross_entropy())
    with pytest.raises(ConfigError, match=r"no input 'segment_ids'.*segment_input='' for a causal"):
        RandomReplacement()(ModelObjective(plain))
    with pytest.raises(ConfigError, match="data has no y"):
        replaced(model, unilm, y=None)
    with pytest.raises(ConfigError, match="data has no input 'segment_ids'"):
        replaced(model, {"token_ids": unilm["token_ids"]})
