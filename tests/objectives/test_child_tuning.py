"""ChildTuning: the masks, their statistics, the Fisher information, and what stays where it is."""

import json

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError, DataError
from qingformer.objectives import (
    FGM,
    Batch,
    ChildTuningD,
    ChildTuningF,
    GradientAccumulation,
    State,
    TrainableModel,
    fisher_information,
)
from qingformer.objectives.child_tuning_fisher import largest
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import CLASSES, VOCABULARY, build, comparable_optimizer, cross_entropy
from tests.objectives.test_clipping import Fixed
from tests.objectives.test_fgm import hand_computed
from tests.objectives.test_selection import Again, Batches
from tests.objectives.tools import evaluate, train, values
from tests.references.fisher import fisher, top


def masks(transform, model, gradients, step, part=0):
    objective = transform(Fixed(gradients, model))
    state = State([], [], 1.0, keras.ops.convert_to_tensor(step), keras.ops.convert_to_tensor(part))
    return values(objective.value_and_grad([], state, Batch(None))[1])


def test_f_masks_elements_afresh_in_each_step_and_scales_what_it_keeps():
    model = build()
    shapes = [v.shape for v in model.trainable_variables]
    gradients = [np.arange(1, 1 + np.prod(shape), dtype="float32").reshape(shape) for shape in shapes]
    transform = ChildTuningF(0.25, select="")
    first, again, other, part = (masks(transform, model, gradients, s, p) for s, p in ((3, 0), (3, 0), (4, 0), (3, 1)))
    for g, a, b in zip(gradients, first, again):
        np.testing.assert_array_equal(a, b)  # a function of the step
        np.testing.assert_allclose(a[a != 0], g[a != 0] * 4)
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], part[0])
    unscaled = masks(ChildTuningF(0.25, select="", scale=False), model, gradients, 3)
    np.testing.assert_allclose(unscaled[0], first[0] / 4)
    head = masks(ChildTuningF(0.25), model, gradients, 3)  # by default the head trains fully
    np.testing.assert_array_equal(head[0], first[0])
    np.testing.assert_array_equal(head[1], gradients[1])


def wide_model():
    inputs = keras.Input((1,))
    x = keras.layers.Dense(20000, name="a")(inputs)
    return TrainableModel(inputs, x)


def test_f_has_the_mean_and_variance_of_the_formula():
    """20,000 elements, 30 steps, gradients of mean mu and deviation sigma."""
    model, p, mu, sigma = wide_model(), 0.2, 0.7, 0.4
    generator = np.random.default_rng(0)
    found, kept = [], []
    for step in range(30):
        gradients = [(mu + sigma * generator.normal(size=v.shape)).astype("float32") for v in model.trainable_variables]
        kernel, bias = masks(ChildTuningF(p, select=""), model, gradients, step)
        found.append(kernel)
        kept.append((kernel[0] != 0, bias != 0))
    found = np.concatenate(found)
    assert found.mean() == pytest.approx(mu, rel=0.01)
    assert found.var() == pytest.approx(sigma**2 + (1 - p) / p * (mu**2 + sigma**2), rel=0.02)
    a, b = (np.array([pair[i] for pair in kept]) for i in (0, 1))
    # Independent across weights, steps and neighbours: the share kept in both is p^2.
    for one, two in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
        assert (one & two).mean() == pytest.approx(p * p, rel=0.05)
    assert abs(a.mean(0) - p).max() < 0.5  # no element is always or never kept


@pytest.mark.slow
def test_adam_moves_by_the_square_root_of_p_of_the_way():
    """Constant mean and noise of the gradient, betas near 1: the displacement is sqrt(p) of that without a mask."""
    p, steps = 0.25, 1200
    displacement = []
    for transform in (ChildTuningF(1.0, select=""), ChildTuningF(p, select="")):
        inputs = keras.Input((1,))
        model = TrainableModel(inputs, keras.layers.Dense(400, use_bias=False, kernel_initializer="zeros")(inputs))
        # d/dw of -x w is -x: a gradient of mean -1 and deviation 0.3, the same for all 400 elements.
        model.compile(keras.optimizers.Adam(1e-3, beta_1=0.99, beta_2=0.999), lambda y, z: -keras.ops.sum(z, -1),
                      transforms=[transform])  # fmt: skip
        x = (1 + 0.3 * np.random.default_rng(0).normal(size=(steps, 1))).astype("float32")
        model.fit(x, np.zeros((steps, 1), "float32"), batch_size=1, shuffle=False, verbose=0)
        displacement.append(values(model.trainable_variables)[0].mean())
    assert displacement[1] / displacement[0] == pytest.approx(np.sqrt(p), rel=0.03)


def per_example_gradient(model):
    weights = [v.astype("float64") for v in values(model.trainable_variables)]
    return lambda x, y: hand_computed(*weights, x, y)[1]


def test_fisher_information_is_the_mean_of_squared_gradients_of_single_examples(rows):
    """With dropout, which must be off, a last batch that is smaller, rows without weight, and a regularisation."""
    x, y = rows[0][:7], rows[1][:7]
    model = build(dropout=0.5)
    model.get_layer("token_embedding").embeddings.regularizer = keras.regularizers.L2(1.0)
    model.compile("sgd", cross_entropy())
    expected = fisher(per_example_gradient(model), x[1:], y[1:])
    weights = np.array([0, 2, 1, 1, 3, 1, 1], "float32")
    found = fisher_information(model, (x, y, weights, 4), [0, 1, 2])
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)
    mean_gradient = per_example_gradient(model)(x[1:], y[1:])
    assert not np.allclose(found[1], mean_gradient[1] ** 2, rtol=0.3)  # not the square of the mean
    (limited,) = fisher_information(model, (x, y, weights, 4), [1], samples=4)
    np.testing.assert_allclose(limited, fisher(per_example_gradient(model), x[1:5], y[1:5])[1], rtol=1e-4, atol=1e-8)


@slow_on_jax
def test_groups_count_the_square_of_their_mean_as_often_as_they_have_examples(rows):
    x, y = rows[0][:8], rows[1][:8]
    model = build()
    model.compile("sgd", cross_entropy())
    gradient = per_example_gradient(model)
    means = [gradient(x[i : i + 4], y[i : i + 4])[1] for i in (0, 4)]
    (found,) = fisher_information(model, (x, y, None, 8), [1], group=4)
    np.testing.assert_allclose(found, 4 * (means[0] ** 2 + means[1] ** 2) / 8, rtol=1e-4, atol=1e-8)


@slow_on_jax
def test_fisher_information_with_several_inputs_outputs_and_labels_of_tokens(rows):
    keras.utils.set_random_seed(0)
    inputs = {"ids": keras.Input((None,), dtype="int32", name="ids"), "extra": keras.Input((1,), name="extra")}
    x = keras.layers.Embedding(VOCABULARY, 2, mask_zero=True)(inputs["ids"])
    outputs = {"tags": keras.layers.Dense(CLASSES)(x), "size": keras.layers.Dense(1)(inputs["extra"])}
    model = TrainableModel(inputs, outputs)
    model.compile("sgd", {"tags": cross_entropy(), "size": "mse"})
    data = {"ids": rows[0][:3], "extra": np.array([[1.0], [2.0], [3.0]], "float32")}
    labels = {"tags": rows[0][:3] % CLASSES, "size": np.zeros((3, 1), "float32")}
    weights = {
        "tags": np.random.default_rng(0).uniform(size=(3, 5)).astype("float32"),
        "size": np.ones((3, 1), "float32"),
    }
    found = fisher_information(model, (data, labels, weights, 2), list(range(len(model.trainable_variables))))
    expected = 0
    for i in range(3):
        one = [keras.tree.map_structure(lambda a: a[i : i + 1], nest) for nest in (data, labels, weights)]  # noqa: B023
        expected = expected + np.array([np.square(g).sum() for g in evaluate(model, [], *one)[1]])
    np.testing.assert_allclose([f.sum() for f in found], expected / 3, rtol=1e-4)


def test_the_largest_are_exactly_so_many_and_ties_go_to_the_first():
    generator = np.random.default_rng(0)
    for count, p in ((100, 0.07), (30, 0.1), (7, 0.5), (5, 1.0), (9, 1e-9)):
        values = generator.integers(0, 5, count).astype("float32")
        chosen = largest(values, p)
        wanted = {100: 7, 30: 3, 7: 4, 5: 5, 9: 1}[count]
        assert set(np.flatnonzero(chosen)) == top(values.tolist(), wanted)


def test_d_trains_exactly_the_most_informative_elements_of_all_selected_weights(rows):
    model = build()
    transform = ChildTuningD(0.3, select=["embedding", "kernel"])
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9), cross_entropy(), transforms=[transform])
    before = values(model.trainable_variables)
    information = fisher(per_example_gradient(model), *rows)
    model.fit(*rows, batch_size=8, epochs=1, verbose=0)
    first = values(model.trainable_variables)
    model.fit(*rows, batch_size=8, epochs=1, verbose=0)  # measures nothing again
    flat = np.concatenate([f.reshape(-1) for f in information[:2]])
    mask = values([transform.mask])[0]
    assert mask.sum() == np.ceil(0.3 * mask.size)
    assert set(np.flatnonzero(mask)) == top(flat.tolist(), int(mask.sum()))
    for after in (first, values(model.trainable_variables)):
        moved = np.concatenate([(a != b).reshape(-1) for a, b in zip(after[:2], before[:2])])
        np.testing.assert_array_equal(moved, mask)
        assert (after[2] != before[2]).all()  # not selected: trains fully


@slow_on_jax
def test_d_gradient_is_masked_and_scaled_and_fgm_sees_the_order(rows):
    model = build()
    transform = ChildTuningD(0.5, select="")
    model.compile("sgd", cross_entropy(), transforms=[transform])
    with pytest.raises(ConfigError, match=r"ChildTuningD: the mask has not been measured.*prepare"):
        evaluate(model, [transform], *rows)
    transform.prepare(model, (*rows, None, None))
    (mask,) = values([transform.mask])
    _, plain, _ = evaluate(model, [FGM(0.4)], *rows)
    _, outside, _ = evaluate(model, [FGM(0.4), transform], *rows)
    flat, ours = (np.concatenate([g.reshape(-1) for g in gradients]) for gradients in (plain, outside))
    np.testing.assert_allclose(ours, np.where(mask, flat / 0.5, 0), rtol=1e-4, atol=1e-7)
    _, inside, _ = evaluate(model, [transform, FGM(0.4)], *rows)  # then the perturbation is masked as well
    inside = np.concatenate([g.reshape(-1) for g in inside])
    assert not inside[~mask].any()
    assert np.abs(inside - ours).max() > 1e-5


@pytest.mark.parametrize("transform", [ChildTuningF(1.0), pytest.param(ChildTuningD(1.0), marks=SLOW_ON_JAX)])
def test_p_one_is_plain_training_to_the_bit(rows, transform):
    plain, weights, _ = train([FGM(0.0)], *rows, comparable_optimizer(), dropout=0.3)
    losses, ours, _ = train([FGM(0.0), transform], *rows, comparable_optimizer(), dropout=0.3)
    assert losses == plain
    for a, b in zip(ours, weights):
        np.testing.assert_array_equal(a, b)


@slow_on_jax
def test_with_accumulation_there_is_one_mask_behind_it_and_one_a_part_before_it(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    _, plain, _ = evaluate(model, [], *rows)
    _, behind, _ = evaluate(model, [GradientAccumulation(3), ChildTuningF(0.5, select="")], *rows)
    kept = behind[1] != 0
    np.testing.assert_allclose(behind[1][kept], 2 * plain[1][kept], rtol=1e-4)
    assert 0 < kept.mean() < 1
    _, before, _ = evaluate(model, [ChildTuningF(0.5, select=""), GradientAccumulation(3)], *rows)
    assert np.mean([(g != 0).mean() for g in before]) > np.mean([(g != 0).mean() for g in behind])


@slow_on_jax
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(rows, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(dropout=0.1, dtype=policy)
    finally:
        keras.config.set_dtype_policy(before)
    transforms = [ChildTuningF(0.5), ChildTuningD(0.5, group=4)]
    model.compile(keras.optimizers.Adam(0.05), cross_entropy(), transforms=transforms)
    losses = model.fit(*rows, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all(np.isfinite(v).all() for v in values(model.trainable_variables))


def test_data_that_can_be_read_once_or_hold_nothing_are_refused(rows):
    model = build()
    model.compile("sgd", cross_entropy(), transforms=[ChildTuningD(0.5)])
    batches = ((rows[0][:8], rows[1][:8]) for _ in range(2))
    with pytest.raises(ConfigError, match="ChildTuningD: a generator can be read only once"):
        model.fit(batches, verbose=0)
    with pytest.raises(DataError, match="no example"):
        fisher_information(model, (rows[0][:2], rows[1][:2], np.zeros(2), None), [1])


@slow_on_jax
def test_all_forms_of_data_give_the_same_information(rows):
    class Halves(Batches):
        def __getitem__(self, index):
            return rows[0][index::2], rows[1][index::2]

    model = build()
    model.compile("sgd", cross_entropy())
    (arrays,) = fisher_information(model, (*rows, None, 10), [1])
    for data in (Halves(), Again([Halves()[0], Halves()[1]])):
        (found,) = fisher_information(model, (data, None, None, None), [1])
        np.testing.assert_allclose(found, arrays, rtol=1e-5)


def test_information_that_is_not_finite_is_an_error(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel * np.nan, bias])
    with pytest.raises(ConfigError, match="gradient of token_embedding/embeddings is not finite"):
        fisher_information(model, (*rows, None, None), [0])


@pytest.mark.parametrize("make", [ChildTuningF, ChildTuningD])
@pytest.mark.parametrize("p", [0, -0.1, 1.1, float("nan")])
def test_fractions_that_cannot_be(make, p):
    with pytest.raises(ConfigError, match=f"{make.__name__}: p is"):
        make(p)


@pytest.mark.parametrize("arguments", [{"samples": 0}, {"group": 1.5}])
def test_numbers_that_cannot_be(arguments):
    with pytest.raises(ConfigError, match="ChildTuningD"):
        ChildTuningD(**arguments)


@pytest.mark.parametrize("transform", [ChildTuningF(0.3, "a", False), ChildTuningD(0.3, ["a", "b"], False, 5, 2)])
def test_config_round_trip(transform):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(transform)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(transform)
    assert again.get_config() == transform.get_config()


@slow_on_jax
def test_a_saved_model_measures_anew(rows, tmp_path):
    model = build()
    model.compile("sgd", cross_entropy(), transforms=[ChildTuningD(0.5), ChildTuningF(0.5)])
    model.fit(*rows, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again._transforms[0].measured
    again.fit(*rows, verbose=0)
    assert again._transforms[0].measured
