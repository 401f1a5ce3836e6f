"""The gradient penalty against finite differences; two statements about it; composition with other transforms."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, PGD, VAT, GradientPenalty, ModelObjective, TrainableModel
from qingformer.objectives.objective import apply_transforms
from qingformer.objectives.perturbation import noise
from qingformer.objectives.vat import _SALT
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import CLASSES, VOCABULARY, build, cross_entropy
from tests.objectives.evaluation import evaluate, loss_at, point_of, state_of, values
from tests.references import adversarial as reference


def split(flat, x):
    """Table, kernel and bias out of one vector."""
    sizes = np.cumsum([VOCABULARY * 3, 3 * CLASSES])
    table, kernel, bias = np.split(flat, sizes)
    return table.reshape(VOCABULARY, 3), kernel.reshape(3, CLASSES), bias


def penalised(flat, x, y, epsilon, per, weights=None):
    """Loss and penalty of the embedding's gradient, by the hand-made gradient."""
    table, kernel, bias = split(flat, x)
    loss, (inner, *_) = reference.cross_entropy(table[x], kernel, bias, y, weights)
    slope = inner if per == "occurrence" else reference.scatter(x, inner, VOCABULARY)
    return loss + epsilon / 2 * (slope**2).sum()


def flat_of(arrays):
    return np.concatenate([np.asarray(a, "float64").reshape(-1) for a in arrays])


@pytest.mark.parametrize(
    "loss", ["sparse", *(pytest.param(each, marks=SLOW_ON_JAX) for each in ("categorical", "probabilities"))]
)
@pytest.mark.parametrize("per", ["row", "occurrence"])
def test_value_and_gradient_on_the_embedding(rows, per, loss):
    """Through Keras' own losses, whose second derivatives must be right on each backend."""
    x, y = rows
    weights = np.linspace(0, 2, len(x))
    model = build()
    labels = y if loss == "sparse" else np.eye(CLASSES, dtype="float32")[y]
    if loss == "probabilities":
        model = TrainableModel(model.input, keras.layers.Softmax()(model.output))
    of = {"sparse": cross_entropy, "probabilities": keras.losses.CategoricalCrossentropy}.get(loss)
    model.compile("sgd", of() if of else keras.losses.CategoricalCrossentropy(from_logits=True))
    flat = flat_of(values(model.trainable_variables))
    value, gradients, aux = evaluate(model, [GradientPenalty(3.0, per=per)], x, labels, weights.astype("float32"))
    expected = penalised(flat, x, y, 3.0, per, weights)
    assert expected > penalised(flat, x, y, 0.0, per, weights) + 1e-3
    assert value == pytest.approx(expected, rel=1e-5)
    assert float(aux.loss) == pytest.approx(expected, rel=1e-5)
    assert aux.state.perturbations is None
    numeric = reference.numeric_gradient(lambda p: penalised(p, x, y, 3.0, per, weights), flat)
    np.testing.assert_allclose(flat_of(gradients), numeric, rtol=1e-3, atol=2e-6)


@slow_on_jax
def test_units_differ_where_a_token_occurs_twice(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    row, occurrence = (evaluate(model, [GradientPenalty(3.0, per=per)], x, y)[0] for per in ("row", "occurrence"))
    assert abs(row - occurrence) > 1e-4


@slow_on_jax
def test_the_penalty_is_zero_at_epsilon_zero_and_does_not_depend_on_the_loss_scale(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    plain, gradients, _ = evaluate(model, [], x, y)
    value, same, _ = evaluate(model, [GradientPenalty(0.0)], x, y)
    assert value == plain
    for a, b in zip(gradients, same):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    objective = GradientPenalty(2.0)(ModelObjective(model))
    trainable, state, batch = point_of(model, x, y)
    loss, aux = objective(trainable, state, batch)
    scaled, again = objective(trainable, state._replace(scale=keras.ops.convert_to_tensor(np.float32(2.0**12))), batch)
    assert float(scaled) == pytest.approx(2.0**12 * float(loss), rel=1e-5)
    assert float(again.loss) == pytest.approx(float(aux.loss), rel=1e-5)


def test_an_overflowed_gradient_is_not_in_the_log():
    """The step is dropped; the mean over the epoch would be lost with it."""
    model = network(1)
    model.set_weights([np.zeros((4, 1)), np.full(1, 0.5)])  # tanh(x kernel + bias), whose slope by the kernel is x
    objective = GradientPenalty(2.0, on="parameters")(ModelObjective(model))
    trainable, state, batch = point_of(model, {"x": np.full((2, 4), 1e3, "float32")}, np.zeros((2, 1), "float32"))
    loss, aux = objective(trainable, state._replace(scale=keras.ops.convert_to_tensor(np.float32(3e38))), batch)
    assert not np.isfinite(float(loss))
    assert float(aux.loss) == pytest.approx(np.tanh(0.5), rel=1e-6)


def network(depth):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,), name="x")
    for _ in range(depth - 1):
        x = keras.layers.Dense(4, activation="tanh")(x)
    model = TrainableModel({"x": inputs}, keras.layers.Dense(1, activation="tanh")(x))
    model.compile("sgd", lambda y, prediction: keras.ops.mean(prediction, -1))
    return model


def penalties(model):
    """A compiled function of a point that gives the squared norms of the gradients by inputs and by parameters."""
    objectives = [
        apply_transforms(ModelObjective(model), transforms)
        for transforms in ([], [GradientPenalty(2.0, on="inputs")], [GradientPenalty(2.0, on="parameters")])
    ]

    def both(*point):
        loss, *penalised = (objective(*point)[0] for objective in objectives)
        return [value - loss for value in penalised]

    return backend.compile(both)


def test_the_inequality_between_input_and_parameter_gradients():
    """B22: ||df/dx||^2 sum_t (1 + ||h_t||^2) / (||W_t||^2 ||dh_t/dx||^2) <= ||df/dparameters||^2."""
    generator = np.random.default_rng(0)
    for depth, draws in ((3, 20), (1, 2)):
        model = network(depth)
        norms, ratios = penalties(model), []
        for _ in range(draws):
            x = generator.normal(size=(1, 4)).astype("float32")
            weights = [generator.normal(size=v.shape).astype("float32") / 2 for v in model.trainable_variables]
            _, state, batch = point_of(model, {"x": x}, np.zeros((1, 1), "float32"))
            by_inputs, by_parameters = norms([keras.ops.convert_to_tensor(w) for w in weights], state, batch)
            h, jacobian, total = x[0].astype("float64"), np.eye(4), 0.0
            for kernel, bias in zip(weights[::2], weights[1::2]):
                total += (1 + h @ h) / (np.linalg.norm(kernel, 2) * np.linalg.norm(jacobian, 2)) ** 2
                h = np.tanh(h @ kernel + bias)
                jacobian = jacobian @ kernel * (1 - h**2)
            ratios.append(float(by_parameters) / (float(by_inputs) * total))
        if depth == 1:  # equality: one layer with one unit
            np.testing.assert_allclose(ratios, 1, rtol=1e-4)
        else:
            assert 1 <= min(ratios) < 10


@slow_on_jax
def test_inputs_and_parameters_by_pattern():
    """Of a network with several inputs: the parts sum up, and a gradient agrees with differences of the value."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    ids = keras.Input((1,), dtype="int32", name="ids")
    hidden = keras.layers.Dense(3, activation="tanh", name="first")(keras.layers.Concatenate()([a, b]))
    embedded = keras.layers.Flatten()(keras.layers.Embedding(3, 3, name="token_embedding")(ids))
    out = keras.layers.Dense(1, name="second")(hidden * (1 + embedded))
    model = TrainableModel({"a": a, "b": b, "ids": ids}, out)
    model.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    x = {key: generator.normal(size=(4, 2)).astype("float32") for key in "ab"}
    x["ids"] = np.array([[0], [1], [2], [1]], "int32")
    tensors, state, batch = point_of(model, x, generator.normal(size=(4, 1)).astype("float32"))
    settings = [
        *({"on": "inputs", "pattern": pattern} for pattern in (None, "^a$", "b")),
        *({"on": "parameters", "pattern": pattern} for pattern in (None, "first", "second", "token_embedding")),
    ]
    objectives = [GradientPenalty(2.0, **each)(ModelObjective(model)) for each in settings]

    def parts(*point):
        loss = ModelObjective(model)(*point)[0]
        return keras.ops.stack([objective(*point)[0] - loss for objective in objectives])

    parts = backend.compile(parts)
    inputs, one, two, parameters, *pieces = (float(v) for v in parts(tensors, state, batch))
    assert inputs == pytest.approx(one + two, rel=1e-4)
    assert parameters == pytest.approx(sum(pieces), rel=1e-4)
    assert min(one, two, *pieces) > 1e-4

    def both(*point):
        return objectives[1](*point)[0] + objectives[4](*point)[0]

    _, gradients = backend.compile(backend.value_and_grad(both))(tensors, state, batch)
    gradients, value, ends = values(gradients), backend.compile(both), []
    total = np.sqrt(sum((g**2).sum() for g in gradients))
    for sign in (1, -1):
        moved = [w + sign * 5e-3 * g / total for w, g in zip(values(tensors), gradients)]
        ends.append(float(value([keras.ops.convert_to_tensor(w) for w in moved], state, batch)))
    assert (ends[0] - ends[1]) / 1e-2 == pytest.approx(total, rel=1e-2)


def test_a_small_step_along_the_gradient_is_the_penalty(rows):
    """B04: the gradient of L(E + eps dL/dE), the step held constant, is that of L + eps/2 ||dL/dE||^2, up to eps^2."""
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    # A loss so steep that rounding is far below eps^2, and weights that do not depend on the backend's generator.
    table, kernel, bias = split(2 * np.random.default_rng(0).normal(size=VOCABULARY * 3 + 4 * CLASSES), x)
    _, (inner, *_) = reference.cross_entropy(table[x], kernel, bias, y)
    slope = reference.scatter(x, inner, VOCABULARY)
    trainable = [keras.ops.convert_to_tensor(v.astype("float32")) for v in (table, kernel, bias)]
    _, state, batch = point_of(model, x, y)
    gaps = []
    for epsilon in (1.0, 0.5, 0.25):
        _, gradients = GradientPenalty(epsilon)(ModelObjective(model)).value_and_grad(trainable, state, batch)
        _, (moved, *rest) = reference.cross_entropy((table + epsilon * slope)[x], kernel, bias, y)
        wanted = flat_of([reference.scatter(x, moved, VOCABULARY), *rest])
        gaps.append(np.linalg.norm(flat_of(values(gradients)) - wanted))
    assert gaps[0] > 1e-5
    assert gaps[1] / gaps[0] == pytest.approx(1 / 4, rel=0.2)
    assert gaps[2] / gaps[1] == pytest.approx(1 / 4, rel=0.2)


def steep():
    """The small classifier with weights at which the order of transforms makes a difference."""
    model = build()
    model.compile("sgd", cross_entropy())
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=w.shape) for w in model.get_weights()])
    return model


def moved(flat, slope, size):
    return flat + size * np.concatenate([slope / np.linalg.norm(slope), np.zeros(len(flat) - len(slope))])


def test_penalty_inside_and_outside_of_an_attack(rows):
    x, y = rows
    model = steep()
    flat, cells = flat_of(values(model.trainable_variables)), VOCABULARY * 3

    def inner(p):
        return penalised(p, x, y, 2.0, "row")

    def at_attack(p):  # where FGM(0.3) of the plain loss goes from p
        table, kernel, bias = split(p, x)
        _, (g, *_) = reference.cross_entropy(table[x], kernel, bias, y)
        return moved(p, reference.scatter(x, g, VOCABULARY).reshape(-1), 0.3)

    # [penalty, attack]: uphill on the penalised loss, whose gradient is the update.
    point = moved(flat, reference.numeric_gradient(inner, flat)[:cells], 0.3)
    value, gradients, _ = evaluate(model, [GradientPenalty(2.0), FGM(0.3)], x, y)
    assert value == pytest.approx(inner(point), rel=1e-4)
    np.testing.assert_allclose(flat_of(gradients), reference.numeric_gradient(inner, point), rtol=2e-3, atol=1e-5)
    # Two steps instead of one: the second from where the first ended.
    step = moved(flat, reference.numeric_gradient(inner, flat)[:cells], 0.15)
    step = moved(step, reference.numeric_gradient(inner, step)[:cells], 0.15)
    value, _, _ = evaluate(model, [GradientPenalty(2.0), PGD(9.0, 0.15, 2)], x, y)
    assert value == pytest.approx(inner(step), rel=1e-4)
    # [attack, penalty]: the loss at the attacked point, plus the penalty of its gradient there.
    outside, _, _ = evaluate(model, [FGM(0.3), GradientPenalty(2.0)], x, y)
    assert outside == pytest.approx(inner(at_attack(flat)), rel=1e-4)
    assert abs(outside - value) > 5e-4  # of a tolerance of 2e-4


@slow_on_jax
def test_three_transforms_are_the_hand_written_composition(rows):
    x, y = rows
    model = steep()
    flat, cells = flat_of(values(model.trainable_variables)), VOCABULARY * 3

    def inner(p):
        return penalised(p, x, y, 2.0, "row")

    def attacked(p):
        return moved(p, reference.numeric_gradient(inner, p)[:cells], 0.3)

    def logits(p):
        table, kernel, bias = split(p, x)
        return reference.logits(table[x], kernel, bias)

    (u,) = values(noise([keras.ops.zeros((VOCABULARY, 3))], state_of(model), _SALT))
    clean = reference.softmax(logits(attacked(flat)))

    def divergence(p):
        there = reference.softmax(logits(attacked(p)))
        return (clean * (np.log(clean) - np.log(there))).sum(-1)[(x != 0).any(1)].mean()

    expected = inner(attacked(flat)) + 3.0 * divergence(moved(flat, u.reshape(-1).astype("float64"), 2.0))
    transforms = [GradientPenalty(2.0), FGM(0.3), VAT(3.0, epsilon=2.0, iterations=0)]
    value, gradients, _ = evaluate(model, transforms, x, y)
    assert value == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(flat_of(gradients)).all()
    assert expected > inner(attacked(flat)) + 1e-3


def fit(policy, transforms, rows, epochs=8):
    x, y = rows
    model = build(dropout=0.2, dtype=policy)
    optimizer = keras.optimizers.Adam(0.05)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, cross_entropy(), transforms=transforms)
    losses = model.fit(x, y, batch_size=8, epochs=epochs, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(np.isfinite(v).all() for v in values(model.variables))


@slow_on_jax
def test_fit_with_dropout_compiled(rows):
    fit("float32", [GradientPenalty(0.5, per="occurrence"), FGM(0.1, norm="sample")], rows)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("per", ["row", "occurrence"])
def test_fit_in_mixed_precision(rows, policy, per):
    fit(policy, [GradientPenalty(0.5, per=per)], rows)


@pytest.mark.slow
def test_attention_has_the_second_derivative_it_needs():
    """On torch the fused kernel has none; compared with the penalty at moved weights."""
    from qingformer.models import Backbone, BackboneConfig

    config = BackboneConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    backbone = Backbone(config)
    model = TrainableModel(backbone.input, keras.layers.Dense(2)(backbone.output["pooled_output"]))
    model.compile("sgd", cross_entropy())
    ids = np.random.default_rng(0).integers(1, 11, (4, 6)).astype("int32")
    x = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}
    y = ids[:, 0] % 2
    _, gradients, _ = evaluate(model, [GradientPenalty(50.0, per="occurrence")], x, y)
    tensors, state, batch = point_of(model, x, y)
    total = np.sqrt(sum((g**2).sum() for g in gradients))
    objective, ends = loss_at(model, [GradientPenalty(50.0, per="occurrence")]), []
    for sign in (1, -1):
        moved = [w + sign * 2e-3 * g / total for w, g in zip(values(tensors), gradients)]
        ends.append(float(objective([keras.ops.convert_to_tensor(w) for w in moved], state, batch)))
    assert (ends[0] - ends[1]) / 4e-3 == pytest.approx(total, rel=2e-2)


def test_what_does_not_fit_is_said(rows):
    model = build()
    with pytest.raises(ConfigError, match=r"no trainable variable fits 'gamma'; they are: token_embedding/embeddings"):
        model.compile("sgd", cross_entropy(), transforms=[GradientPenalty(on="parameters", pattern="gamma")])
    with pytest.raises(ConfigError, match="GradientPenalty: the model has no layer 'x'"):
        model.compile("sgd", cross_entropy(), transforms=[GradientPenalty(layer="x")])
    with pytest.raises(ConfigError, match="pattern is for inputs and parameters"):
        GradientPenalty(pattern="x")
    for arguments in ({"epsilon": float("inf")}, {"on": "weights"}, {"per": "token"}):
        with pytest.raises(ConfigError, match=f"GradientPenalty: {next(iter(arguments))}"):
            GradientPenalty(**arguments)


def test_config_round_trip():
    transform = GradientPenalty(0.25, on="parameters", layer="x", per="occurrence", pattern="kernel")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert isinstance(again, GradientPenalty)
    assert again.get_config() == transform.get_config()
