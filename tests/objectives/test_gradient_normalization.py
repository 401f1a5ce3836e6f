"""Several tasks at equal length: the formula, its invariances, a task that has nothing to say."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Batch, GradientNormalization, L2Regularization, ModelObjective, TrainableModel
from qingformer.objectives.objective import apply_transforms
from tests.conftest import slow_on_jax
from tests.objectives.conftest import build, cross_entropy
from tests.objectives.test_fgm import state_of, values

WIDTH = 4


def tasks(count=2, regularizer=None, dropout=0.0):
    """Several regressions on one trunk: outputs task_0, task_1, ..."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,), name="x")
    x = keras.layers.Dense(WIDTH, activation="tanh", name="trunk", kernel_regularizer=regularizer)(inputs)
    x = keras.layers.Dropout(dropout)(x)
    return TrainableModel(inputs, {f"task_{i}": keras.layers.Dense(1, name=f"task_{i}")(x) for i in range(count)})


def scaled_error(factor=1.0, shift=0.0):
    def error(y_true, y_pred):
        return factor * ops.mean((y_true - y_pred) ** 2, axis=-1) + shift

    return error


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(12, 3)).astype("float32")
    y = {f"task_{i}": generator.normal(size=(12, 1)).astype("float32") for i in range(3)}
    return x, y


def prepared(data, count=2, losses=None, regularizer=None, dropout=0.0, **settings):
    x, y = data
    model = tasks(count, regularizer, dropout)
    losses = losses or [scaled_error() for _ in range(count)]
    model.compile("sgd", {f"task_{i}": loss for i, loss in enumerate(losses)}, **settings)
    labels = {name: y[name] for name in model.output}
    batch = Batch(ops.convert_to_tensor(x), {k: ops.convert_to_tensor(v) for k, v in labels.items()})
    model._compile_loss.build(batch.y, model.output)  # as `fit` does before its first step
    return model, batch


def run(model, batch, transforms, through="gradient", **changes):
    objective = apply_transforms(ModelObjective(model), transforms)
    call = objective.value_and_grad if through != "value" else backend.value_and_grad(objective, has_aux=True)
    state = state_of(model)._replace(**changes)
    (loss, aux), gradients = call([v.value for v in model.trainable_variables], state, batch)
    return float(loss), values(gradients), aux


def alone(model, batch, count):
    """The gradient of every task, from the objective of a model with that loss alone."""
    found = []
    for task in range(count):
        _, gradients, _ = run(model, batch, [], tasks=tuple(float(i == task) for i in range(count)))
        found.append(gradients)
    return found


def length(gradients):
    return np.sqrt(sum((g**2).sum() for g in gradients))


def flat(gradients):
    return np.concatenate([g.ravel() for g in gradients])


@pytest.mark.parametrize("through", ["gradient", "value"])
def test_the_sum_of_unit_gradients(data, through):
    model, batch = prepared(data)
    first, second = alone(model, batch, 2)
    total, summed, _ = run(model, batch, [])
    np.testing.assert_allclose(flat(first) + flat(second), flat(summed), rtol=1e-4, atol=1e-6)
    loss, gradients, aux = run(model, batch, [GradientNormalization()], through)
    expected = flat(first) / length(first) + flat(second) / length(second)
    np.testing.assert_allclose(flat(gradients), expected, rtol=1e-4, atol=1e-6)
    assert float(aux.loss) == pytest.approx(total, rel=1e-6)
    assert aux.state.tasks is None
    for own in (first, second):
        assert flat(own) @ flat(gradients) >= 0  # against neither of two tasks
    assert np.isfinite(loss)


def test_it_never_points_against_one_of_two_tasks():
    generator = np.random.default_rng(1)
    for _ in range(200):
        one, two = generator.normal(size=(2, 5)) * np.exp(generator.normal(0, 3, (2, 1)))
        u = one / np.linalg.norm(one) + two / np.linalg.norm(two)
        assert min(one @ u, two @ u) >= -1e-9 * max(np.linalg.norm(one), np.linalg.norm(two))


def test_scaling_and_shifting_a_loss_does_not_change_the_gradient(data):
    results = []
    for losses in ([scaled_error(), scaled_error()], [scaled_error(100.0, -7.0), scaled_error(0.01)]):
        model, batch = prepared(data, losses=losses)
        results.append(flat(run(model, batch, [GradientNormalization()])[1]))
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-5)


def test_loss_weights_say_how_much_a_task_counts(data):
    model, batch = prepared(data, 3, loss_weights={"task_0": 2.0, "task_1": 0.5, "task_2": 0.0})
    own = alone(model, batch, 3)
    assert length(own[2]) == 0
    gradients = flat(run(model, batch, [GradientNormalization()])[1])
    expected = 2.0 * flat(own[0]) / length(own[0]) + 0.5 * flat(own[1]) / length(own[1])
    np.testing.assert_allclose(gradients, expected, rtol=1e-4, atol=1e-6)


def test_norms_over_the_shared_trunk_alone(data):
    model, batch = prepared(data)
    own = alone(model, batch, 2)
    gradients = run(model, batch, [GradientNormalization(shared="^trunk/")])[1]
    trunk = [i for i, v in enumerate(model.trainable_variables) if v.path.startswith("trunk")]
    lengths = [length([g[i] for i in trunk]) for g in own]
    expected = flat(own[0]) / lengths[0] + flat(own[1]) / lengths[1]
    np.testing.assert_allclose(flat(gradients), expected, rtol=1e-4, atol=1e-6)


def test_a_task_without_a_gradient_contributes_nothing(data):
    model, batch = prepared(data, losses=[scaled_error(), scaled_error(0.0, 3.0)])
    first, second = alone(model, batch, 2)
    assert length(second) == 0
    for through in ("gradient", "value"):
        gradients = run(model, batch, [GradientNormalization()], through)[1]
        np.testing.assert_allclose(flat(gradients), flat(first) / length(first), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("through", ["gradient", "value"])
def test_regularisation_is_no_task(data, through):
    """What the model adds keeps its own gradient, and is the same as a penalty listed afterwards."""
    model, batch = prepared(data, regularizer=keras.regularizers.L2(0.5))
    total, _, _ = run(model, batch, [])
    _, found, aux = run(model, batch, [GradientNormalization()], through)
    assert float(aux.loss) == pytest.approx(total, rel=1e-5)
    model, batch = prepared(data)
    transforms = [GradientNormalization(), L2Regularization(0.5, pattern="trunk/kernel")]
    np.testing.assert_allclose(flat(found), flat(run(model, batch, transforms)[1]), rtol=1e-4, atol=1e-5)


def test_scaling_of_the_loss_scales_the_sum(data):
    model, batch = prepared(data)
    _, plain, _ = run(model, batch, [GradientNormalization()])
    scale = ops.convert_to_tensor(np.float32(512))
    _, scaled, aux = run(model, batch, [GradientNormalization()], scale=scale)
    np.testing.assert_allclose(flat(scaled), 512 * flat(plain), rtol=1e-4, atol=1e-3)
    assert float(aux.loss) == pytest.approx(run(model, batch, [])[0], rel=1e-5)


@pytest.mark.skipif(backend.name() != "torch", reason="elsewhere every seed is a variable of the model")
def test_dropout_without_a_seed_draws_the_same_for_every_task(data):
    model, batch = prepared(data, dropout=0.5)
    drawn, found = backend.random_state(), []
    for through in ("plain", "gradient", "value"):
        backend.set_random_state(drawn)
        found.append(run(model, batch, [GradientNormalization()] if through != "plain" else [], through))
    (loss, _, _), (_, slope, aux), (_, same, again) = found
    assert float(aux.loss) == pytest.approx(loss, rel=1e-5)
    assert float(again.loss) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(flat(slope), flat(same), rtol=1e-4, atol=1e-6)


def test_with_fgm_in_both_orders(data):
    """Before it, every task is perturbed for itself; after it, along the sum of the unit gradients."""
    model, batch = prepared(data)
    fgm, normal = FGM(0.3, layer="trunk"), GradientNormalization()
    indices = [i for i, v in enumerate(model.trainable_variables) if v.path.startswith("trunk")]
    here = [value.copy() for value in values(model.trainable_variables)]

    def move(gradients):
        norm = length([gradients[i] for i in indices])
        for i in indices:
            model.trainable_variables[i].assign(here[i] + 0.3 * gradients[i] / norm)

    own = []
    for task, gradients in enumerate(alone(model, batch, 2)):
        move(gradients)
        own.append(alone(model, batch, 2)[task])
        for variable, value in zip(model.trainable_variables, here):
            variable.assign(value)
    expected = flat(own[0]) / length(own[0]) + flat(own[1]) / length(own[1])
    np.testing.assert_allclose(flat(run(model, batch, [fgm, normal])[1]), expected, rtol=1e-3, atol=1e-5)
    unit = run(model, batch, [normal])[1]
    found = flat(run(model, batch, [normal, fgm])[1])
    move(unit)
    np.testing.assert_allclose(found, flat(run(model, batch, [normal])[1]), rtol=1e-3, atol=1e-5)


@slow_on_jax
def test_fit_logs_the_plain_losses_and_evens_out_unequal_tasks(data, tmp_path):
    x, y = data
    labels = {name: y[name] for name in ("task_0", "task_1")}
    model = tasks(dropout=0.1)
    model.compile(
        keras.optimizers.Adam(0.05),
        "mse",
        metrics={"task_0": ["mae"], "task_1": ["mae"]},
        transforms=[GradientNormalization("trunk")],
    )
    history = model.fit(x, labels, batch_size=4, epochs=20, verbose=0).history
    assert set(history) == {"loss", "task_0_loss", "task_1_loss", "task_0_mae", "task_1_mae"}
    assert history["loss"][-1] < history["loss"][0]
    np.testing.assert_allclose(history["loss"], np.add(history["task_0_loss"], history["task_1_loss"]), rtol=1e-4)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras")._transforms[0].get_config() == {"shared": "trunk"}


def test_errors():
    with pytest.raises(ConfigError, match=r"at least two outputs with a loss.*outputs logits and losses on 1"):
        build().compile("sgd", cross_entropy(), transforms=[GradientNormalization()])
    with pytest.raises(ConfigError, match="losses on 1"):
        tasks().compile("sgd", {"task_0": "mse", "task_1": None}, transforms=[GradientNormalization()])
    with pytest.raises(ConfigError, match="shared='block' fits no trainable variable; there are: trunk/kernel"):
        tasks().compile("sgd", "mse", transforms=[GradientNormalization(shared="block")])
    with pytest.raises(ConfigError, match="not a regular expression"):
        GradientNormalization(shared="(")
