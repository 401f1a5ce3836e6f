"""PGD against NumPy, and its promises: the ball, FGM as a special case, the random start, training."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, PGD, ModelObjective, pgd
from qingformer.objectives.perturbation import Point, attack_step, lengths
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import VOCABULARY, build, cross_entropy
from tests.objectives.evaluation import evaluate, point_of, state_of, values
from tests.references import adversarial as reference


@pytest.mark.parametrize(
    ("norm", "attack"),
    [
        ("sample", "l2"),
        ("matrix", "linf"),
        *(pytest.param(*each, marks=SLOW_ON_JAX) for each in (("matrix", "l2"), ("row", "l2"), ("sample", "linf"))),
    ],
)
def test_value_and_gradient_against_numpy(rows, norm, attack):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    moved = reference.attacked(x, table, kernel, bias, y, [0.2] * 3, 0.35, attack, norm)
    expected_loss, (inner, *rest) = reference.cross_entropy(moved, kernel, bias, y)
    loss, gradients, _ = evaluate(model, [PGD(0.35, 0.2, 3, norm=norm, attack=attack)], x, y)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for got, want in zip(gradients, [reference.scatter(x, inner, VOCABULARY), *rest]):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=1e-6)


@slow_on_jax
def test_the_value_differentiates_to_the_gradient_and_one_step_is_fgm(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    for a, b in (([PGD(0.3)], [PGD(0.3)]), ([PGD(0.3, 0.3, 1, norm="sample")], [FGM(0.3, norm="sample")])):
        loss, gradients, aux = evaluate(model, a, *rows)
        other, same, _ = evaluate(model, b, *rows, through="value")
        assert loss == pytest.approx(other, rel=1e-6)
        for one, two in zip(gradients, same):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)
        assert aux.state.perturbations is None


@slow_on_jax
@pytest.mark.parametrize(("attack", "norm"), [("l2", "sample"), ("l2", "row"), ("linf", "matrix")])
def test_a_random_start_is_in_the_ball_and_a_function_of_the_step(rows, attack, norm):
    model = build()
    model.compile("sgd", cross_entropy())
    objective = PGD(0.3, 0.1, norm=norm, attack=attack, random_start=True)(ModelObjective(model))
    zeros, state = [keras.ops.zeros((5, 4, 3)), keras.ops.zeros((5, 4, 3))], state_of(model)
    starts = [values(objective._start(zeros, state._replace(step=step), 0.3)) for step in (0, 0, 1)]
    np.testing.assert_array_equal(starts[0][0], starts[1][0])
    assert np.abs(starts[0][0] - starts[2][0]).max() > 1e-4
    assert np.abs(starts[0][0] - starts[0][1]).max() > 1e-4  # another draw for each array
    if attack == "linf":
        assert 0.25 < np.abs(starts[0][0]).max() <= 0.3
    else:
        found = values(lengths([keras.ops.convert_to_tensor(v) for v in starts[0]], norm))
        assert 0 < found[0].max() <= 0.3 + 1e-6
        other = values(lengths([keras.ops.convert_to_tensor(v) for v in starts[2]], norm))
        assert abs(found[0].max() - other[0].max()) > 1e-3  # anywhere in the ball, not on its surface
    assert evaluate(model, [PGD(0.3, 0.1, random_start=True)], *rows)[0] != evaluate(model, [PGD(0.3, 0.1)], *rows)[0]


def test_steps_reach_half_as_far_again_as_the_ball_by_default(rows, monkeypatch):
    model = build()
    model.compile("sgd", cross_entropy())
    sizes = []
    monkeypatch.setattr(pgd, "attack_step", lambda g, size, *more: sizes.append(size) or attack_step(g, size, *more))
    objective, point = PGD(0.3, steps=3)(ModelObjective(model)), Point(*point_of(model, *rows))
    backend.eval_shape(lambda: objective.moved(point).trainable)
    assert sizes == pytest.approx([0.15] * 3)


def test_fit_with_dropout(rows):
    x, y = rows
    model = build(dropout=0.3)
    model.compile(keras.optimizers.Adam(0.05), cross_entropy(), transforms=[PGD(0.1, random_start=True)])
    losses = model.fit(x, y, batch_size=8, epochs=10, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("norm", ["matrix", "sample"])
def test_fit_in_mixed_precision(rows, policy, norm):
    x, y = rows
    model = build(dropout=0.1, dtype=policy)
    optimizer = keras.optimizers.Adam(0.05)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, cross_entropy(), transforms=[PGD(0.1, norm=norm, attack="linf")])
    losses = model.fit(x, y, batch_size=8, epochs=10, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "arguments", [{"epsilon": -1}, {"alpha": -0.1}, {"steps": 0}, {"steps": 1.5}, {"norm": "x"}, {"attack": "x"}]
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigError, match=f"PGD: {next(iter(arguments))}"):
        PGD(**arguments)


def test_config_round_trip_and_a_layer_that_is_not_there():
    transform = PGD(0.25, 0.1, 4, layer="x", norm="row", attack="linf", random_start=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert isinstance(again, PGD)
    assert again.get_config() == transform.get_config()
    with pytest.raises(ConfigError, match="PGD: the model has no layer 'x'"):
        build().compile("sgd", cross_entropy(), transforms=[transform])
