"""Flooding: value and gradient above and below the level, for the batch and for each sample."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Batch, Flooding, ModelObjective
from tests.objectives.conftest import build, cross_entropy
from tests.objectives.test_fgm import evaluate, state_of, values


@pytest.mark.parametrize("level", [0.0, 0.5, 3.0])
def test_below_the_level_the_gradient_turns_round(rows, level):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    loss, gradients, _ = evaluate(model, [], x, y)
    for through in ("gradient", "value"):
        flooded, turned, aux = evaluate(model, [Flooding(level)], x, y, through=through)
        assert flooded == pytest.approx(abs(loss - level) + level, rel=1e-6)
        assert float(aux.loss) == pytest.approx(flooded)
        for a, b in zip(gradients, turned):
            np.testing.assert_allclose(b, a if loss > level else -a, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_sample_has_its_own_flood(rows, weighted):
    x, y = rows
    weights = (np.arange(len(x)) % 3).astype("float32") if weighted else None
    model = build(seed=7)
    model.compile("sgd", cross_entropy())
    _, _, aux = evaluate(model, [], x, y, weights)
    logits = ops.convert_to_numpy(aux.predictions).astype("float64")
    each = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(x)), y]
    level = float(np.median(each))  # half of them on either side
    flooded = np.abs(each - level) + level
    expected = (flooded * (1 if weights is None else weights)).mean()
    loss, gradients, aux = evaluate(model, [Flooding(level, per_sample=True)], x, y, weights)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert float(aux.loss) == pytest.approx(loss)
    signed = np.sign(each - level) * (1 if weights is None else weights)
    _, expected_gradients, _ = evaluate(model, [], x, y, signed.astype("float32"))
    for a, b in zip(expected_gradients, gradients):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_scaling_of_the_loss_does_not_move_the_level(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    batch = Batch(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    here, state = [v.value for v in model.trainable_variables], state_of(model)
    large = state._replace(scale=ops.convert_to_tensor(np.float32(1024)))
    for transform in (Flooding(3.0), Flooding(3.0, per_sample=True)):
        objective = transform(ModelObjective(model))
        (loss, _), gradients = objective.value_and_grad(here, state, batch)
        (scaled, aux), scaled_gradients = objective.value_and_grad(here, large, batch)
        assert float(scaled) == pytest.approx(1024 * float(loss), rel=1e-6)
        assert float(aux.loss) == pytest.approx(float(loss), rel=1e-6)
        for a, b in zip(values(gradients), values(scaled_gradients)):
            np.testing.assert_allclose(b, 1024 * a, rtol=1e-4, atol=1e-3)


def test_with_fgm_in_both_orders(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    adversarial, gradients, _ = evaluate(model, [FGM(0.5)], x, y)
    flooded, turned, _ = evaluate(model, [FGM(0.5), Flooding(3.0)], x, y)
    assert flooded == pytest.approx(6.0 - adversarial, rel=1e-6)
    for a, b in zip(gradients, turned):
        np.testing.assert_allclose(b, -a, rtol=1e-5, atol=1e-8)
    # The other way round FGM climbs the flooded loss: down the loss itself, where that is below the level.
    downhill, _, _ = evaluate(model, [FGM(-0.0), Flooding(3.0), FGM(0.5)], x, y)
    plain, slopes, _ = evaluate(model, [], x, y)
    table = model.get_layer("token_embedding").embeddings
    table.assign(table - 0.5 * slopes[0] / np.linalg.norm(slopes[0]))
    lower, _, _ = evaluate(model, [], x, y)
    assert lower < plain
    assert downhill == pytest.approx(6.0 - lower, rel=1e-5)


def test_training_stays_at_the_level_and_the_file_keeps_it(rows, tmp_path):
    model = build()
    model.compile(keras.optimizers.Adam(0.1), cross_entropy(), transforms=[Flooding(0.8)])
    losses = model.fit(*rows, batch_size=24, epochs=60, verbose=0).history["loss"]
    assert min(losses) >= 0.8 - 1e-6
    assert losses[-1] < losses[0]
    loss, _, _ = evaluate(model, [], *rows)
    assert loss == pytest.approx(0.8, abs=0.1)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras")._transforms[0].get_config() == {
        "level": 0.8,
        "per_sample": False,
    }


def test_arguments_that_cannot_be():
    for level in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="Flooding: level"):
            Flooding(level)
    with pytest.raises(ConfigError, match="no loss"):
        build().compile("sgd", transforms=[Flooding(0.1, per_sample=True)])
