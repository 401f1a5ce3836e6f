"""FGM against a NumPy computation, and its promises: epsilon 0, lr 0, zero gradient, composition, mixed precision."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Batch, ModelObjective, Transform, TransformedObjective
from qingformer.objectives.perturbation import attack_step, unscaled
from tests.conftest import SLOW_ON_JAX
from tests.objectives.conftest import VOCABULARY, build, comparable_optimizer, cross_entropy
from tests.objectives.evaluation import evaluate, state_of, values
from tests.references import adversarial as reference


def hand_computed(table, kernel, bias, x, y, weights=None):
    """Weighted mean cross entropy of mean-pooled embeddings and its three gradients, one token at a time."""
    count = len(x)
    weights = np.ones(count) if weights is None else weights
    loss, gradients = 0.0, [np.zeros_like(table), np.zeros_like(kernel), np.zeros_like(bias)]
    for ids, label, weight in zip(x, y, weights):
        pooled = sum(table[i] for i in ids) / len(ids)
        logits = pooled @ kernel + bias
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        loss -= weight * np.log(probabilities[label]) / count
        error = probabilities.copy()
        error[label] -= 1
        error *= weight / count
        for i in ids:
            gradients[0][i] += kernel @ error / len(ids)
        gradients[1] += np.outer(pooled, error)
        gradients[2] += error
    return loss, gradients


@pytest.mark.parametrize("through", ["gradient", "value"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("norm", ["matrix", "row"])
def test_value_and_gradient_are_those_of_the_perturbed_point(rows, weighted, norm, through):
    x, y = rows
    weights = np.linspace(0, 1, len(x)).astype("float32") if weighted else None
    model = build()
    model.compile("sgd", cross_entropy())
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    _, (slope, _, _) = hand_computed(table, kernel, bias, x, y, weights)
    length = np.linalg.norm(slope, axis=-1, keepdims=True) if norm == "row" else np.linalg.norm(slope)
    expected_loss, expected = hand_computed(table + 0.3 * slope / (length + 1e-8), kernel, bias, x, y, weights)
    loss, gradients, _ = evaluate(model, [FGM(0.3, norm=norm)], x, y, weights, through)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for got, want in zip(gradients, expected):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    plain_loss, _ = hand_computed(table, kernel, bias, x, y, weights)
    assert loss > plain_loss + 1e-3  # uphill


def test_a_training_step_is_gradient_descent_from_the_old_weights(rows):
    x, y = rows
    model = build()
    model.compile(keras.optimizers.SGD(0.1), cross_entropy(), transforms=[FGM(0.5)])
    before = values(model.trainable_variables)
    _, gradients, _ = evaluate(model, [FGM(0.5)], x, y)
    history = model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0)
    for old, gradient, new in zip(before, gradients, values(model.trainable_variables)):
        np.testing.assert_allclose(new, old - 0.1 * gradient, rtol=1e-5, atol=1e-7)
    table, kernel, bias = (v.astype("float64") for v in before)
    _, (slope, _, _) = hand_computed(table, kernel, bias, x, y)
    perturbed_loss, _ = hand_computed(table + 0.5 * slope / np.linalg.norm(slope), kernel, bias, x, y)
    assert history.history["loss"][0] == pytest.approx(perturbed_loss, rel=1e-5)


def train(transforms, x, y, dropout=0.0, epochs=2, optimizer=None, **options):
    model = build(dropout)
    model.compile(optimizer or comparable_optimizer(), cross_entropy(), transforms=transforms, **options)
    history = model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return history.history["loss"], values(model.variables), model


@pytest.mark.parametrize(
    ("dropout", "norm"), [(0.0, "matrix"), (0.4, "matrix"), pytest.param(0.4, "sample", marks=SLOW_ON_JAX)]
)
def test_epsilon_zero_is_plain_training(rows, dropout, norm):
    plain_losses, plain, _ = train([], *rows, dropout)
    losses, weights, _ = train([FGM(0.0, norm=norm)], *rows, dropout)
    if backend.name() == "jax":
        assert losses == plain_losses
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-6)
    for a, b in zip(weights, plain):
        if backend.name() == "jax":
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_epsilon_changes_the_run_and_fresh_dropout_changes_it_again(rows):
    losses = [train(t, *rows, dropout=0.4)[0] for t in ([], [FGM(0.5)], [FGM(0.5, fresh_dropout=True)])]
    assert len({round(run[-1], 6) for run in losses}) == 3


def test_weights_stay_identical_at_learning_rate_zero(rows):
    model = build()
    model.compile(keras.optimizers.SGD(0.0), cross_entropy(), transforms=[FGM(0.5)])
    before = values(model.trainable_variables)
    model.fit(*rows, batch_size=8, epochs=2, verbose=0)
    for old, new in zip(before, values(model.trainable_variables)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("norm", ["matrix", "row"])
def test_zero_gradient_is_no_nan(rows, norm):
    x, y = rows
    model = build()
    model.get_layer("logits").set_weights([np.zeros((3, 4)), np.zeros(4)])  # then dL/dE = 0
    model.compile("sgd", cross_entropy())
    loss, gradients, _ = evaluate(model, [FGM(0.5, norm=norm)], x, y)
    assert loss == pytest.approx(np.log(4), rel=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


class HalfSquaredNorm(Transform):
    """objective + strength / 2 * ||dL/dtheta||^2 over all weights: the test's own second-order trick."""

    def __init__(self, strength):
        self.strength = strength

    def __call__(self, objective):
        outer = self

        class Penalised(TransformedObjective):
            def __call__(self, trainable, state, batch):
                (loss, aux), gradients = self.objective.value_and_grad(trainable, state, batch)
                return loss + outer.strength / 2 * sum(keras.ops.sum(g**2) for g in gradients), aux

        return Penalised(objective)


def twice_differentiable_cross_entropy(labels, logits):
    """Cross entropy in plain operations; the fused one has no second derivative on every backend."""
    chosen = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32"), 4)
    return keras.ops.logsumexp(logits, -1) - keras.ops.sum(chosen * logits, -1)


def test_two_transforms_compose_in_the_order_given(rows):
    x, y = rows
    model = build()
    model.compile("sgd", twice_differentiable_cross_entropy)
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))

    def penalised(table):
        loss, gradients = hand_computed(table, kernel, bias, x, y)
        return loss + 1.0 * sum((g**2).sum() for g in gradients)

    slope = np.zeros_like(table)
    for position in np.ndindex(table.shape):
        step = np.zeros_like(table)
        step[position] = 1e-5
        slope[position] = (penalised(table + step) - penalised(table - step)) / 2e-5
    loss, _, _ = evaluate(model, [HalfSquaredNorm(2.0), FGM(0.3)], x, y)
    assert loss == pytest.approx(penalised(table + 0.3 * slope / np.linalg.norm(slope)), rel=1e-4)
    other, _, _ = evaluate(model, [FGM(0.3), HalfSquaredNorm(2.0)], x, y)
    assert abs(other - loss) > 1e-5


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_stays_finite(rows, policy):
    x, y = rows
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(dropout=0.1, dtype=policy)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(0.05), cross_entropy(), transforms=[FGM(0.1)])
    assert (type(model.optimizer).__name__ == "LossScaleOptimizer") == (policy == "mixed_float16")
    losses = model.fit(x, y, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(np.isfinite(v).all() for v in values(model.variables))


def test_loss_scale_does_not_change_the_perturbation(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    objective = FGM(0.5)(ModelObjective(model))
    trainable, state = [v.value for v in model.trainable_variables], state_of(model)
    batch = Batch(keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y))
    (_, aux), plain = objective.value_and_grad(trainable, state, batch)
    (loss, scaled_aux), scaled = objective.value_and_grad(
        trainable, state._replace(scale=keras.ops.convert_to_tensor(np.float32(2.0**15))), batch
    )
    assert float(loss) == pytest.approx(2.0**15 * float(aux.loss), rel=1e-6)
    assert float(scaled_aux.loss) == pytest.approx(float(aux.loss), rel=1e-6)
    for a, b in zip(values(plain), values(scaled)):
        np.testing.assert_allclose(b / 2.0**15, a, rtol=1e-5, atol=1e-8)


def test_the_small_constant_of_the_norm_is_in_unscaled_units():
    tiny = np.full((2, 2), 1e-8, "float32")  # of the size of the constant
    (plain,) = values(attack_step([keras.ops.convert_to_tensor(tiny)], 0.5, "l2", "matrix"))
    scaled = unscaled([keras.ops.convert_to_tensor(tiny * 2.0**15)], keras.ops.convert_to_tensor(np.float32(2.0**15)))
    (delta,) = values(attack_step(scaled, 0.5, "l2", "matrix"))
    np.testing.assert_allclose(plain, 0.5 * tiny / (2e-8 + 1e-8), rtol=1e-5)
    np.testing.assert_allclose(delta, plain, rtol=1e-5)


@pytest.mark.parametrize("attack", ["l2", "linf"])
def test_an_overflowed_gradient_perturbs_nothing(attack):
    bad = keras.ops.convert_to_tensor(np.array([[np.inf, 1.0], [0.0, np.nan]], "float32"))
    (delta,) = values(attack_step([bad], 0.5, attack, "matrix"))
    np.testing.assert_array_equal(delta, np.zeros((2, 2)))


@pytest.mark.parametrize("through", ["gradient", pytest.param("value", marks=SLOW_ON_JAX)])
@pytest.mark.parametrize(("norm", "attack"), [("sample", "l2"), ("sample", "linf"), ("matrix", "linf")])
def test_samples_and_the_sign_form_against_numpy(rows, norm, attack, through):
    x, y = rows
    weights = np.linspace(0, 1, len(x))  # the first sample has no gradient, and is not perturbed
    model = build()
    model.compile("sgd", cross_entropy())
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    moved = reference.attacked(x, table, kernel, bias, y, [0.2], np.inf, attack, norm, weights)
    expected_loss, (inner, *rest) = reference.cross_entropy(moved, kernel, bias, y, weights)
    transform = FGM(0.2, norm=norm, attack=attack)
    loss, gradients, aux = evaluate(model, [transform], x, y, weights.astype("float32"), through)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for got, want in zip(gradients, [reference.scatter(x, inner, VOCABULARY), *rest]):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert aux.state.perturbations is None


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_samples_in_fit(rows, policy):
    x, y = rows
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(dropout=0.1, dtype=policy)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(0.05), cross_entropy(), transforms=[FGM(0.1, norm="sample")])
    losses = model.fit(x, y, batch_size=9, epochs=8, verbose=0).history["loss"]  # and a smaller last batch
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert "call" not in vars(model.get_layer("token_embedding"))


def test_a_layer_that_is_not_there_is_named_with_those_that_are():
    model = build()
    with pytest.raises(ConfigError, match=r"no layer 'word_embedding'.*token_embedding \(embeddings\).*logits"):
        model.compile("sgd", cross_entropy(), transforms=[FGM(layer="word_embedding")])


def test_a_frozen_layer_cannot_be_perturbed():
    model = build()
    model.get_layer("token_embedding").trainable = False
    with pytest.raises(ConfigError, match="no trainable variables"):
        model.compile("sgd", cross_entropy(), transforms=[FGM()])


@pytest.mark.parametrize(
    "arguments", [{"epsilon": -1}, {"epsilon": float("nan")}, {"norm": "column"}, {"attack": "l1"}]
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigError, match="FGM"):
        FGM(**arguments)


def test_config_round_trip():
    transform = FGM(0.25, layer="x", norm="row", fresh_dropout=True, attack="linf")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert isinstance(again, FGM)
    assert again.get_config() == transform.get_config()
