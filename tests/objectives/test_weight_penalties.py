"""L2 and WEISSI: values, gradients, and what they are blind to."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import (
    FGM,
    Batch,
    EmbeddingNoise,
    Flooding,
    L2Regularization,
    ModelObjective,
    RandomReplacement,
    ScaleShiftInvariance,
    Transform,
    TransformedObjective,
)
from tests.conftest import slow_on_jax
from tests.objectives.conftest import build, cross_entropy
from tests.objectives.test_fgm import evaluate, state_of, values


def expected_shift(kernel, first, second):
    norm = np.linalg.norm(kernel)
    return first * np.log(norm) + second * np.abs(kernel / norm).sum()


def expected_slope(kernel, first, second):
    norm = np.linalg.norm(kernel)
    return first * kernel / norm**2 + second * (np.sign(kernel) / norm - np.abs(kernel).sum() * kernel / norm**3)


@pytest.mark.parametrize("through", ["gradient", "value"])
def test_value_and_gradient(rows, through):
    model = build()
    model.compile("sgd", cross_entropy())
    plain, gradients, _ = evaluate(model, [], *rows)
    kernel = values(model.trainable_variables)[1].astype("float64")
    for transform, value, slope in (
        (L2Regularization(0.3), 0.3 * (kernel**2).sum(), 0.6 * kernel),
        (ScaleShiftInvariance(0.3, 0.2), expected_shift(kernel, 0.3, 0.2), expected_slope(kernel, 0.3, 0.2)),
    ):
        loss, found, aux = evaluate(model, [transform], *rows, through=through)
        assert loss == pytest.approx(plain + value, rel=1e-5)
        assert float(aux.loss) == pytest.approx(loss)
        np.testing.assert_allclose(found[1] - gradients[1], slope, rtol=1e-3, atol=1e-5)
        for index in (0, 2):  # neither the embedding nor the bias
            np.testing.assert_array_equal(found[index], gradients[index])


def test_the_l2_factor_is_that_of_keras():
    kernel = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    theirs = keras.regularizers.L2(0.01)(ops.convert_to_tensor(kernel))
    assert float(L2Regularization(0.01).penalty(ops.convert_to_tensor(kernel))) == pytest.approx(float(theirs))


def relu_network(widths=(4, 4, 4, 4)):
    keras.utils.set_random_seed(4)
    x = inputs = keras.Input((widths[0],))
    for index, width in enumerate(widths[1:], start=1):
        activation = "relu" if index < len(widths) - 1 else None
        x = keras.layers.Dense(width, activation=activation, bias_initializer="random_normal")(x)
    return keras.Model(inputs, x)


def penalties(model, transform):
    return float(sum(transform.penalty(w.value) for w in model.trainable_variables if w.name == "kernel"))


def test_moving_scale_between_the_layers_of_a_relu_network_changes_l2_alone():
    """W_l -> c_l W_l, b_l -> c_1 ... c_l b_l with c_1 c_2 c_3 = 1 is the same function."""
    model = relu_network()
    x = np.random.default_rng(1).normal(size=(7, 4)).astype("float32")
    shift, l2 = ScaleShiftInvariance(0.7, 0.3), L2Regularization(1.0)
    outputs = ops.convert_to_numpy(model(x))
    before = penalties(model, shift), penalties(model, l2)
    factors = np.array([4.0, 0.5, 0.5])
    for layer, factor, product in zip(model.layers[1:], factors, np.cumprod(factors)):
        kernel, bias = layer.get_weights()
        layer.set_weights([factor * kernel, product * bias])
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), outputs, rtol=1e-4, atol=1e-5)
    after = penalties(model, shift), penalties(model, l2)
    assert after[0] == pytest.approx(before[0], rel=1e-5)
    assert abs(after[1] - before[1]) > 1.0


def test_l2_is_smallest_at_equal_norms():
    """Among the networks that are the same function, sum ||W||^2 is least where all norms are the geometric mean."""
    model = relu_network()
    norms = [float(np.linalg.norm(layer.get_weights()[0])) for layer in model.layers[1:]]
    mean = float(np.prod(norms)) ** (1 / len(norms))
    l2 = L2Regularization(1.0)
    for layer, norm in zip(model.layers[1:], norms):
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * mean / norm, bias])
    least = penalties(model, l2)
    assert least == pytest.approx(len(norms) * mean**2, rel=1e-5)
    for layer, factor in zip(model.layers[1:], (1.1, 1.0, 1 / 1.1)):
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * factor, bias])
    assert penalties(model, l2) > least


def test_a_zero_kernel_is_no_nan():
    penalty = ScaleShiftInvariance(1.0, 1.0).penalty
    value, (slope,) = backend.value_and_grad(lambda w: penalty(w[0]))([ops.zeros((2, 3))])
    assert float(value) == 0.0
    np.testing.assert_array_equal(ops.convert_to_numpy(slope), np.zeros((2, 3)))


def test_with_fgm_in_both_orders_and_a_pattern(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    penalty = L2Regularization(0.5, pattern="embedding")
    table = values(model.trainable_variables)[0]
    adversarial, gradients, _ = evaluate(model, [FGM(0.5)], *rows)
    loss, found, _ = evaluate(model, [FGM(0.5), penalty], *rows)
    assert loss == pytest.approx(adversarial + 0.5 * (table**2).sum(), rel=1e-5)
    np.testing.assert_allclose(found[0], gradients[0] + table, rtol=1e-4, atol=1e-6)
    _, slopes, _ = evaluate(model, [penalty], *rows)
    moved = table + 0.5 * slopes[0] / np.linalg.norm(slopes[0])
    other, _, _ = evaluate(model, [penalty, FGM(0.5)], *rows)
    model.get_layer("token_embedding").set_weights([moved])
    at_moved, _, _ = evaluate(model, [], *rows)
    assert other == pytest.approx(at_moved + 0.5 * (moved**2).sum(), rel=1e-5)


def test_scaling_of_the_loss_scales_the_penalty(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    objective = L2Regularization(0.5)(ModelObjective(model))
    batch = Batch(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    here, state = [v.value for v in model.trainable_variables], state_of(model)
    (loss, aux), gradients = objective.value_and_grad(here, state, batch)
    large = state._replace(scale=ops.convert_to_tensor(np.float32(512)))
    (scaled, scaled_aux), scaled_gradients = objective.value_and_grad(here, large, batch)
    assert float(scaled) == pytest.approx(512 * float(loss), rel=1e-6)
    assert float(scaled_aux.loss) == pytest.approx(float(aux.loss), rel=1e-6)
    for a, b in zip(values(gradients), values(scaled_gradients)):
        np.testing.assert_allclose(b, 512 * a, rtol=1e-5, atol=1e-4)


class Tripled(Transform):
    """Changes the gradient and not the value, as a mask on gradients does."""

    def __call__(self, objective):
        class Larger(TransformedObjective):
            def value_and_grad(self, *arguments):
                value, gradients = self.objective.value_and_grad(*arguments)
                return value, [3 * g for g in gradients]

        return Larger(objective)


def test_what_a_transform_underneath_makes_of_the_gradient_stays(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    noise = EmbeddingNoise(0.5, "all")
    replacement = RandomReplacement(1.0, 1.0, segment_input="")
    kernel = values(model.trainable_variables)[1]
    for transform in (noise, replacement, Flooding(5.0), L2Regularization(0.5)):
        _, plain, _ = evaluate(model, [transform], *rows)
        _, tripled, _ = evaluate(model, [Tripled(), transform], *rows)
        added = [0, kernel, 0] if isinstance(transform, L2Regularization) else [0, 0, 0]
        for a, b, c in zip(plain, tripled, added):
            np.testing.assert_allclose(b, 3 * (a - c) + c, rtol=1e-4, atol=1e-6)


@slow_on_jax
def test_bfloat16_weights_and_saving(rows, tmp_path):
    model = build(dtype="bfloat16")
    transforms = [ScaleShiftInvariance(0.01, 0.001), L2Regularization(1e-3, pattern="embeddings|kernel")]
    model.compile(keras.optimizers.Adam(0.05), cross_entropy(), transforms=transforms)
    losses = model.fit(*rows, batch_size=24, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")._transforms
    assert [t.get_config() for t in again] == [t.get_config() for t in transforms]


def test_errors():
    with pytest.raises(ConfigError, match="norm_strength is -1"):
        ScaleShiftInvariance(-1)
    with pytest.raises(ConfigError, match="L2Regularization: strength is nan"):
        L2Regularization(float("nan"))
    with pytest.raises(ConfigError, match="not a regular expression"):
        L2Regularization(1.0, pattern="(")
    with pytest.raises(ConfigError, match="'gamma' fits no trainable variable; there are: token_embedding/embeddings"):
        build().compile("sgd", cross_entropy(), transforms=[L2Regularization(1.0, pattern="gamma")])
