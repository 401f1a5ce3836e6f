"""Perturbing what a layer puts out: in models of any shape, and leaving them as they were."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, PGD, VAT, ModelObjective, TrainableModel, fgm, vat
from qingformer.objectives.layer_outputs import perturbed_outputs
from qingformer.objectives.perturbation import Inputs, Outputs, Point, directions, embedding_target, lengths, project
from tests.conftest import SLOW_ON_JAX
from tests.objectives.conftest import CLASSES, VOCABULARY, WIDTH, build, cross_entropy
from tests.objectives.evaluation import evaluate, point_of, values
from tests.references import adversarial as reference


def tensors(*arrays):
    return [keras.ops.convert_to_tensor(np.asarray(a, "float32")) for a in arrays]


def at(model, x, y):
    return Point(*point_of(model, x, y))


def halves():
    """The mean-pooling classifier whose text comes in two inputs, which one embedding inside another model reads."""
    keras.utils.set_random_seed(1)
    inside = keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(VOCABULARY, WIDTH, name="token_embedding", mask_zero=False)
    body = keras.Model(inside, embedding(keras.layers.Identity(dtype="int32", name="copy")(inside)), name="body")
    first, second = keras.Input((3,), dtype="int32", name="first"), keras.Input((2,), dtype="int32", name="second")
    x = keras.layers.Concatenate(axis=1)([body(first), body(second)])
    outputs = keras.layers.Dense(CLASSES, name="logits")(keras.layers.GlobalAveragePooling1D()(x))
    return TrainableModel({"first": first, "second": second}, outputs)


def test_a_sample_is_all_calls_of_the_layer_together(rows):
    x, y = rows
    model = halves()
    model.compile("sgd", cross_entropy())
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    moved = reference.attacked(x, table, kernel, bias, y, [0.3], np.inf, "l2", "sample")
    expected, (inner, *_) = reference.cross_entropy(moved, kernel, bias, y)
    point = at(model, {"first": x[:, :3], "second": x[:, 3:]}, y)
    (loss, _), gradients = FGM(0.3, norm="sample")(ModelObjective(model)).value_and_grad(*point)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(values(gradients)[0], reference.scatter(x, inner, VOCABULARY), rtol=1e-4, atol=1e-6)


def tied():
    """A language model: its embedding is its output layer too, and puts out a mask."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    embedding = keras.layers.ReversibleEmbedding(VOCABULARY, WIDTH, name="token_embedding", mask_zero=True)
    return TrainableModel(ids, embedding(keras.layers.Dense(WIDTH)(embedding(ids)), reverse=True))


def test_an_embedding_used_in_reverse_is_perturbed_where_it_is_looked_up(rows):
    x, _ = rows
    model = tied()
    model.compile("sgd", cross_entropy())
    position = Outputs(ModelObjective(model), [model.layers.index(model.get_layer("token_embedding"))])
    point = at(model, x, x)
    (zero,) = position.zeros(point)
    assert tuple(zero.shape) == (*x.shape, WIDTH)
    shift = np.random.default_rng(0).normal(size=zero.shape)
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    _, aux = position.objective(*position.add(point, tensors(shift)))
    np.testing.assert_allclose(
        values([aux.predictions])[0], ((table[x] + shift) @ kernel + bias) @ table.T, rtol=1e-4, atol=1e-5
    )
    with perturbed_outputs(model, {position.layers[0]: tensors(shift)}):
        embedded = model.get_layer("token_embedding")(point.batch.x)
    np.testing.assert_array_equal(values([keras.src.backend.get_keras_mask(embedded)])[0], x != 0)


def test_the_layer_is_as_before_even_after_an_error(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    layer = model.get_layer("token_embedding")
    before = dict(vars(layer))
    _, _, aux = evaluate(model, [FGM(0.3, norm="sample")], x, y)
    assert aux.state.perturbations is None
    number = model.layers.index(layer)
    with pytest.raises(RuntimeError, match="inside"), perturbed_outputs(model, {number: tensors(np.zeros((1, 1, 1)))}):
        raise RuntimeError("inside")
    assert vars(layer) == before
    assert "call" not in vars(model)


def test_perturbations_of_one_place_add_up(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    position = embedding_target(ModelObjective(model), "token_embedding", True, "X")
    point = at(model, x, y)
    (zero,) = position.zeros(point)
    one, two = np.random.default_rng(0).normal(size=(2, *zero.shape))
    twice, _ = position.objective(*position.add(position.add(point, tensors(one)), tensors(two)))
    once, _ = position.objective(*position.add(point, tensors(one + two)))
    assert float(twice) == pytest.approx(float(once), rel=1e-6)


@pytest.mark.parametrize(
    ("transform", "module", "name"),
    [
        (FGM(0.3), fgm, "attack_step"),
        pytest.param(VAT(9.0, 0.5, 3.0, norm="sample"), vat, "directions", marks=SLOW_ON_JAX),
    ],
)
def test_a_direction_is_constant_also_for_what_differentiates_from_outside(rows, monkeypatch, transform, module, name):
    """A penalty of what the embedding puts out does not look through the attack that it stands around."""
    model = build()
    model.compile("sgd", cross_entropy())
    trainable, state, batch = at(model, *rows)

    def slope():
        position = embedding_target(transform(ModelObjective(model)), "token_embedding", True, "X")

        def gradient(trainable, batch):
            point = Point(trainable, state, batch)
            return position.attack_gradient(point, position.zeros(point))[1]

        return values(backend.compile(gradient)(trainable, batch))[0]

    found, free = slope(), getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: [keras.ops.stop_gradient(each) for each in free(*given)])
    np.testing.assert_allclose(found, slope(), rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(backend.name() != "torch", reason="elsewhere every seed is a variable of the model")
@pytest.mark.parametrize("transform", [FGM(0.0), PGD(0.0, steps=2), VAT(9.0, epsilon=0.0, iterations=2)])
def test_dropout_without_a_seed_draws_the_same_in_all_passes(rows, transform):
    x, y = rows
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    embedded = keras.layers.Embedding(VOCABULARY, WIDTH, name="token_embedding")(ids)
    pooled = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling1D()(embedded))
    model = TrainableModel(ids, keras.layers.Dense(CLASSES)(pooled))
    model.compile("sgd", cross_entropy())
    drawn, losses = backend.random_state(), []
    for objective in (ModelObjective(model), transform(ModelObjective(model))):
        backend.set_random_state(drawn)
        losses.append(float(objective(*at(model, x, y))[0]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


class Idle(keras.layers.Layer):
    """Has a layer that it does not call."""

    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Embedding(3, 2, name="unused")

    def call(self, x):
        return x


def test_what_cannot_be_perturbed_is_said(rows):
    x, y = rows
    model = halves()
    model.compile("sgd", cross_entropy())
    point = at(model, {"first": x[:, :3], "second": x[:, 3:]}, y)
    objective = ModelObjective(model)
    with pytest.raises(ConfigError, match="'copy' does not put out one float array"):
        embedding_target(objective, "copy", True, "X").zeros(point)
    position = embedding_target(objective, "token_embedding", True, "X")
    deltas = position.zeros(point)
    with pytest.raises(ConfigError, match=r"puts out \(24, 3, 3\) but was perturbed with \(24, 2, 3\)"):
        objective(*position.add(point, deltas[::-1]))
    with pytest.raises(ConfigError, match="called more often"):
        objective(*point._replace(state=point.state._replace(perturbations={position.layers[0]: deltas[:1]})))
    with pytest.raises(ConfigError, match=r"X: no float input fits 'f'; the float inputs are: none"):
        Inputs(objective, "f", "X").zeros(point)
    idle = TrainableModel(model.input, Idle()(model.output))
    idle.compile("sgd", cross_entropy())
    with pytest.raises(ConfigError, match="'unused' was not called"):
        embedding_target(ModelObjective(idle), "unused", True, "X").zeros(point)


@pytest.mark.parametrize("norm", ["matrix", "row", "sample"])
def test_lengths_projections_and_directions(norm):
    value = np.random.default_rng(0).normal(size=(4, 3, 2))
    value[1] = 0
    (length,) = values(lengths(tensors(value), norm))
    np.testing.assert_allclose(length, reference.length(value, norm).reshape(length.shape), rtol=1e-6)
    for epsilon in (0.5, 100.0):
        for attack in ("l2", "linf"):
            (short,) = values(project(tensors(value), epsilon, attack, norm))
            np.testing.assert_allclose(short, reference.shorten(value, epsilon, attack, norm), rtol=1e-5, atol=1e-7)
    for factor in (1.0, 1e-30):  # whose squares vanish
        (unit,) = values(directions(tensors(value * factor), norm))
        want = value / np.maximum(reference.length(value, norm), 1e-300)
        np.testing.assert_allclose(unit, want, rtol=1e-5, atol=1e-7)
    for nothing in (np.zeros((4, 3, 2)), np.where(value > 0, np.inf, value)):
        np.testing.assert_array_equal(values(directions(tensors(nothing), norm))[0], 0)


def test_several_weights_have_one_length_together_and_rows_their_own():
    weights = tensors([[3.0, 0.0]], [[0.0], [4.0]])
    assert [float(length) for length in lengths(weights, "matrix")] == [5.0, 5.0]
    assert [length.tolist() for length in values(lengths(weights, "row"))] == [[[3.0]], [[0.0], [4.0]]]


def test_shapes_are_found_without_computing_on_jax():
    seen = []
    backend.eval_shape(lambda: seen.append(keras.ops.matmul(keras.ops.ones((2, 3)), keras.ops.ones((3, 4)))))
    assert tuple(seen[0].shape) == (2, 4)
    if backend.name() == "jax":
        with pytest.raises(Exception, match=r"[Tt]race"):
            np.asarray(seen[0])
