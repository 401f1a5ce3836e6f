"""The conditional random field and the Markov model as layers: recorded numbers, training, saving, errors."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.layers import ConditionalRandomField, MaximumEntropyMarkovModel
from qingformer.objectives import FGM, TrainableModel
from tests.conftest import slow_on_jax

RECORDED = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "losses"
TAGS = 4


def numpy(x):
    return ops.convert_to_numpy(x)


def recorded(name):
    with np.load(RECORDED / f"{name}.npz") as file:
        return dict(file)


def random_field(transitions, **options):
    layer = ConditionalRandomField(**options)
    layer.build((None, None, transitions.shape[0]))
    layer.transitions.assign(transitions)
    return layer


def value_and_gradients(layer, labels, emissions):
    """Loss, and its gradients by the emissions and by the stored weights."""
    variables = layer.trainable_variables

    def function(given):
        emissions, *weights = given
        with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
            return layer.loss(labels, emissions)

    value, grads = backend.compile(backend.value_and_grad(function))(
        [ops.convert_to_tensor(emissions), *(v.value for v in variables)]
    )
    return float(value), [numpy(g) for g in grads]


@pytest.mark.parametrize("name", ["crf_mask", "crf_no_mask", "crf_lr_multiplier", "crf_long"])
def test_random_field_equals_the_recorded_numbers(name):
    case = recorded(name)
    multiplier = {"crf_lr_multiplier": 1000.0}.get(name, 1.0)
    mask = case.get("mask", np.ones(case["labels"].shape, bool))
    layer = random_field(case["transition_stored"], lr_multiplier=multiplier)
    np.testing.assert_allclose(numpy(layer.transition_scores()), case["transition_effective"], rtol=1e-6)
    labels = np.where(mask, case["labels"], -1)
    emissions = np.where(mask[..., None], case["logits"], 0).astype("float32")
    value, (by_emission, by_transition) = value_and_gradients(layer, labels, emissions)
    assert value == pytest.approx(case["loss_per_sample"].mean(), rel=1e-5)
    each = [float(layer.loss(labels[i : i + 1], emissions[i : i + 1])) for i in range(len(labels))]
    np.testing.assert_allclose(each, case["loss_per_sample"], rtol=1e-5)
    np.testing.assert_allclose(by_emission, case["gradient_logits_of_mean_loss"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        by_transition, case["gradient_stored_transition_of_mean_loss"], rtol=2e-4, atol=2e-5 * multiplier
    )
    paths, scores = layer.decode(emissions, mask)
    np.testing.assert_array_equal(paths, case["viterbi_paths"])
    assert scores.shape == (len(labels),)


@pytest.mark.parametrize("name", ["viterbi", "viterbi_starts_ends", "viterbi_length_one"])
def test_decoding_equals_the_recorded_paths(name):
    case = recorded(name)
    count = case["transition"].shape[0]
    layer = random_field(case["transition"].astype("float32"))
    settings = {
        "viterbi": (None, None),
        "viterbi_starts_ends": ([0, 3], [0, 2]),
        "viterbi_length_one": ([0, 1, 2], [1, 2]),
    }
    first, last = (np.ones(count, bool) if tags is None else np.isin(np.arange(count), tags) for tags in settings[name])
    paths, _ = layer.decode(case["nodes"].astype("float32"), allowed=(np.ones((count, count), bool), first, last))
    np.testing.assert_array_equal(paths, case["paths"])


def halved(emissions, mask, forward):
    """The original halves f and g of every step but the first of its direction."""
    index = np.argmax(mask, 1) if forward else mask.shape[1] - 1 - np.argmax(mask[:, ::-1], 1)
    factor = np.full(mask.shape, 0.5, "float32")
    factor[np.arange(len(mask)), index] = 1
    return emissions * factor[..., None]


@pytest.mark.parametrize(
    "name", ["memm_full", "memm_no_mask", "memm_full_lr_multiplier", "memm_low_rank", "memm_low_rank_lr_multiplier"]
)
def test_markov_model_equals_the_recorded_numbers(name):
    """Its scores are halved in the original: so are emissions and transitions here, each direction alone."""
    case = recorded(name)
    low_rank = "left_effective" in case
    mask = case.get("mask", np.ones(case["labels"].shape, bool))
    labels = np.where(mask, case["labels"], -1)
    emissions = np.where(mask[..., None], case["logits"], 0).astype("float32")
    stored = ("left", "right") if low_rank else ("transition",)
    multiplier = float(np.round(np.median(case[f"{stored[0]}_effective"] / case[f"{stored[0]}_stored"])))
    losses = []
    for forward in (True, False):
        rank = case["left_stored"].shape[1] if low_rank else None
        layer = MaximumEntropyMarkovModel(bidirectional=False, rank=rank, lr_multiplier=multiplier)
        layer.build((None, None, emissions.shape[-1]))
        weights = [case[f"{part}_stored"] for part in stored]
        given, said = halved(emissions, mask, forward), labels
        if not forward:  # right to left is left to right of the reversed text
            given, said = given[:, ::-1].copy(), labels[:, ::-1].copy()
            weights = weights[::-1] if low_rank else [weights[0].T]
        layer.set_weights([weights[0] / 2, *weights[1:]])
        losses.append(float(layer.loss(said, given)))
    assert losses[0] == pytest.approx(float(case["forward_loss"]), rel=1e-5)
    assert losses[1] == pytest.approx(float(case["backward_loss"]), rel=1e-5)
    layer = MaximumEntropyMarkovModel(rank=rank, lr_multiplier=multiplier)
    layer.build((None, None, emissions.shape[-1]))
    layer.set_weights([case[f"{part}_stored"] for part in stored])
    one, other = (MaximumEntropyMarkovModel(bidirectional=False) for _ in range(2))
    g = numpy(layer.transition_scores())
    for single, matrix in ((one, g), (other, g.T)):
        single.build((None, None, emissions.shape[-1]))
        single.transitions.assign(matrix)
    both = (
        float(one.loss(labels, emissions)) + float(other.loss(labels[:, ::-1].copy(), emissions[:, ::-1].copy()))
    ) / 2
    assert float(layer.loss(labels, emissions)) == pytest.approx(both, rel=1e-5)


def random_case(layer, rows=3, length=3, seed=0):
    random = np.random.default_rng(seed)
    layer.build((None, None, TAGS))
    layer.set_weights([random.normal(size=w.shape).astype("float32") for w in layer.weights])
    return random.normal(size=(rows, length, TAGS)).astype("float32"), random.integers(0, TAGS, (rows, length))


@pytest.mark.parametrize("kind", ["field", "left to right", "right to left"])
def test_probabilities_of_all_paths_sum_to_one(kind):
    """What runs from right to left is left when the other half of both directions is taken off."""
    paths = np.array(list(itertools.product(range(TAGS), repeat=3)))
    both = MaximumEntropyMarkovModel()
    layer = {"field": ConditionalRandomField(use_boundary_scores=True), "right to left": both}.get(
        kind, MaximumEntropyMarkovModel(bidirectional=False)
    )
    emissions, _ = random_case(layer, rows=1)
    given = paths, np.ones(paths.shape, bool), np.repeat(emissions, len(paths), 0)
    values = numpy(layer.loss_values(*given))
    if layer is both:
        onward = MaximumEntropyMarkovModel(bidirectional=False)
        random_case(onward, rows=1)
        values = 2 * values - numpy(onward.loss_values(*given))
    values = values if values.ndim == 1 else values.sum(1)
    assert np.exp(-values).sum() == pytest.approx(1, abs=1e-5)


def test_without_transitions_the_markov_model_is_softmax():
    layer = MaximumEntropyMarkovModel(initializer="zeros")
    emissions, labels = random_case(layer)
    layer.transitions.assign(np.zeros((TAGS, TAGS)))
    labels[1, 1:] = -1
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    expected = numpy(plain(np.maximum(labels, 0), emissions))[labels >= 0].mean()
    assert float(layer.loss(labels, emissions)) == pytest.approx(expected, rel=1e-5)
    weights = np.array([2.0, 1.0, 0.0])
    by_row = np.repeat(weights[:, None], 3, 1) * (labels >= 0)
    weighted = (numpy(plain(np.maximum(labels, 0), emissions)) * by_row).sum() / by_row.sum()
    assert float(layer.loss(labels, emissions, weights)) == pytest.approx(weighted, rel=1e-5)


def test_the_multiplier_divides_what_is_stored_at_the_start():
    stored = []
    for multiplier in (1.0, 100.0):
        layer = ConditionalRandomField(lr_multiplier=multiplier, initializer=keras.initializers.GlorotUniform(seed=3))
        layer.build((None, None, TAGS))
        stored.append(numpy(layer.transitions))
    np.testing.assert_allclose(stored[0], 100 * stored[1], rtol=1e-6)


def test_first_and_last_tags_have_scores_of_their_own():
    """One text of two tokens whose only scores are those of its ends."""
    layer = ConditionalRandomField(use_boundary_scores=True, lr_multiplier=2.0, initializer="zeros")
    layer.build((None, None, TAGS))
    layer.start.assign([0, 1, 0, 0])
    layer.end.assign([0, 0, 0, 2])
    emissions = np.zeros((1, 2, TAGS), "float32")
    paths, scores = layer.decode(emissions)
    np.testing.assert_array_equal(paths, [[1, 3]])
    assert scores[0] == pytest.approx(2 + 4)
    expected = np.log(3 + np.exp(2)) + np.log(3 + np.exp(4)) - 6
    assert float(layer.loss(np.array([[1, 3]]), emissions)) == pytest.approx(expected, rel=1e-5)


def test_the_factors_of_the_transitions_start_with_numbers_of_their_own():
    layer = MaximumEntropyMarkovModel(rank=2)
    layer.build((None, None, TAGS))
    assert np.abs(numpy(layer.left) - numpy(layer.right)).min() > 0


def test_weights_of_rows_weigh_texts_in_the_random_field():
    layer = ConditionalRandomField()
    emissions, labels = random_case(layer)
    each = numpy(layer.loss_values(labels, labels >= 0, emissions))
    weights = np.array([2.0, 1.0, 0.0], "float32")
    assert float(layer.loss(labels, emissions, weights)) == pytest.approx((each * weights).mean(), rel=1e-5)


@slow_on_jax
def test_the_multiplier_changes_no_value_and_makes_adam_move_the_transitions_faster():
    moved = []
    for multiplier in (1.0, 100.0):
        layer = ConditionalRandomField(lr_multiplier=multiplier)
        emissions, labels = random_case(layer, rows=8, length=6)
        layer.transitions.assign(np.eye(TAGS, dtype="float32") / multiplier)
        inputs = keras.Input((None, TAGS))
        model = keras.Model(inputs, layer(inputs))
        model.compile(keras.optimizers.Adam(1e-3), loss=layer.loss)
        moved.append([model.test_on_batch(emissions, labels)])
        before = numpy(layer.transition_scores())
        model.train_on_batch(emissions, labels)
        moved[-1].append(np.abs(numpy(layer.transition_scores()) - before).mean())
    assert moved[0][0] == pytest.approx(moved[1][0], rel=1e-5)
    assert moved[0][1] == pytest.approx(1e-3, rel=0.05)
    assert moved[1][1] == pytest.approx(1e-1, rel=0.05)


@pytest.mark.parametrize("kind", [ConditionalRandomField, MaximumEntropyMarkovModel])
def test_training_finds_the_transitions_and_files_keep_them(kind, tmp_path):
    """Tags go round 0 1 2 3 0 ...; the emissions say only where the text begins."""
    random = np.random.default_rng(0)
    starts = random.integers(0, TAGS, 64)
    labels = (starts[:, None] + np.arange(6)) % TAGS
    labels[32:, 4:] = -1
    x = np.zeros((64, 6, TAGS), "float32")
    x[np.arange(64), 0, starts] = 3
    inputs = keras.Input((None, TAGS))
    layer = kind(name="chain")
    model = TrainableModel(inputs, layer(keras.layers.Dense(TAGS, name="dense")(inputs)))
    model.compile(keras.optimizers.Adam(0.1), loss=layer.loss)
    losses = model.fit(x, labels, epochs=12, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 4
    paths, _ = layer.decode(model.predict(x, verbose=0), labels >= 0)
    np.testing.assert_array_equal(paths, labels)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(numpy(again.get_layer("chain").transitions), numpy(layer.transitions))
    compiled = keras.saving.load_model(tmp_path / "model.keras")  # its loss is that of its own layer
    np.testing.assert_allclose(compiled.evaluate(x, labels, verbose=0), model.evaluate(x, labels, verbose=0), rtol=1e-6)
    paths, _ = again.get_layer("chain").decode(again.predict(x, verbose=0), labels >= 0)
    np.testing.assert_array_equal(paths, labels)


@slow_on_jax
def test_mixed_precision_and_adversarial_training():
    ids = keras.Input((None,), dtype="int32")
    layer = ConditionalRandomField(dtype="mixed_bfloat16", name="crf")
    hidden = keras.layers.Embedding(5, 8, dtype="mixed_bfloat16", name="token_embedding")(ids)
    output = layer(keras.layers.Dense(TAGS, dtype="mixed_bfloat16")(hidden))
    assert output.dtype == "float32"
    model = TrainableModel(ids, output)
    model.compile("adam", loss=layer.loss, transforms=[FGM(0.1)])
    x = np.random.default_rng(0).integers(0, 5, (16, 7))
    history = model.fit(x, x % TAGS, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert layer.transitions.dtype == "float32"


def test_marginals_say_how_sure_a_tag_is():
    layer = ConditionalRandomField(initializer="zeros")
    layer.build((None, None, TAGS))
    emissions = np.log(np.array([[[0.7, 0.1, 0.1, 0.1], [0.25] * 4]], "float32"))
    np.testing.assert_allclose(layer.marginals(emissions), np.exp(emissions), rtol=1e-5)
    np.testing.assert_allclose(layer.marginals(emissions, [[True, False]])[0, 1], 0)


def test_what_does_not_fit_is_said():
    layer = ConditionalRandomField(name="crf")
    with pytest.raises(ConfigError, match="crf has no transitions yet"):
        layer.decode(np.zeros((1, 3, TAGS)))
    layer.build((None, None, TAGS))
    with pytest.raises(ConfigError, match=r"crf scores 4 tags, but the emissions have shape \(1, 3, 5\)"):
        layer.decode(np.zeros((1, 3, 5)))
    with pytest.raises(ConfigError, match=r"the mask has shape \(1, 2\); expected \(1, 3\)"):
        layer.decode(np.zeros((1, 3, TAGS)), np.ones((1, 2)))
    with pytest.raises(ConfigError, match="the mask of text 1 has holes"):
        layer.decode(np.zeros((2, 3, TAGS)), [[1, 1, 0], [1, 0, 1]])
    every = np.ones((TAGS, TAGS), bool), np.ones(TAGS, bool), np.ones(TAGS, bool)
    with pytest.raises(
        ConfigError, match=r"allowed first tags are bool of shape \(3,\); expected bool of shape \(4,\)"
    ):
        layer.decode(np.zeros((1, 3, TAGS)), allowed=(every[0], every[1][:3], every[2]))
    with pytest.raises(ConfigError, match="allowed has 1 arrays; expected transitions, first and last tags"):
        layer.decode(np.zeros((1, 3, TAGS)), allowed=every[:1])
    with pytest.raises(ConfigError, match=r"labels of shape .* and emissions of shape"):
        layer.loss(np.zeros((2, 3, 4, 5)), np.zeros((2, 3, TAGS)))
    with pytest.raises(ConfigError, match="lr_multiplier is 0"):
        ConditionalRandomField(lr_multiplier=0)
    with pytest.raises(ConfigError, match="rank is 0"):
        MaximumEntropyMarkovModel(rank=0)
