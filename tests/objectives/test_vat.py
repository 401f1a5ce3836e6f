"""Virtual adversarial training against NumPy, its two theorems, unlabelled and padding rows, several outputs."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import VAT, ModelObjective, TrainableModel
from qingformer.objectives.perturbation import noise
from qingformer.objectives.vat import _SALT
from qingformer.ops.divergence import kullback_leibler
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import CLASSES, VOCABULARY, WIDTH, build, cross_entropy
from tests.objectives.evaluation import batch_of, evaluate, loss_at, point_of, state_of, values
from tests.references import adversarial as reference


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


def unit(g, norm):
    return g / np.maximum(reference.length(g, norm), 1e-300)


def hand_made(x, table, kernel, bias, u, norm, xi, epsilon, iterations, real):
    """The smoothness term, its gradient by the table, and the perturbation, all in float64."""
    clean = reference.softmax(reference.logits(table[x], kernel, bias))
    weights = real / max(real.sum(), 1)

    def at(delta):
        return table[x] + delta if norm == "sample" else (table + delta)[x]

    def slope(delta):
        errors = (reference.softmax(reference.logits(at(delta), kernel, bias)) - clean) * weights[:, None]
        return reference.back(at(delta), kernel, errors)[0]

    for _ in range(iterations):
        inner = slope(xi * unit(u, norm))
        u = inner if norm == "sample" else reference.scatter(x, inner, len(table))
    delta = epsilon * unit(u, norm)
    moved = reference.softmax(reference.logits(at(delta), kernel, bias))
    return (weights * kl(clean, moved)).sum(), reference.scatter(x, slope(delta), len(table))


@pytest.mark.parametrize("norm", ["sample", *(pytest.param(each, marks=SLOW_ON_JAX) for each in ("matrix", "row"))])
def test_value_and_gradient_against_numpy(rows, norm):
    x, y = rows
    x = np.concatenate([x, np.zeros((3, x.shape[1]), "int32")])  # rows of padding
    weights = np.concatenate([np.ones(10), np.zeros(len(x) - 10)])  # labelled, unlabelled and padding
    y = np.concatenate([y, [0, 0, 0]]).astype("int32")
    model = build()
    model.compile("sgd", cross_entropy())
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    shape = (*x.shape, WIDTH) if norm == "sample" else table.shape
    (u,) = values(noise([keras.ops.zeros(shape)], state_of(model), _SALT))
    real = (x != 0).any(1).astype("float64")
    assert real.sum() == len(x) - 3
    loss, (inner, *_) = reference.cross_entropy(table[x], kernel, bias, y, weights)
    term, slope = hand_made(x, table, kernel, bias, u.astype("float64"), norm, 3.0, 0.5, 2, real)
    value, gradients, aux = evaluate(model, [VAT(2.0, 0.5, 3.0, 2, norm=norm)], x, y, weights.astype("float32"))
    assert term > 1e-4
    assert value == pytest.approx(loss + 2 * term, rel=1e-4)
    assert float(aux.loss) == pytest.approx(value, rel=1e-6)
    wanted = reference.scatter(x, inner, VOCABULARY) + 2 * slope
    np.testing.assert_allclose(gradients[0], wanted, rtol=2e-3, atol=1e-5)


@slow_on_jax
def test_no_perturbation_no_gradient(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    loss, gradients, _ = evaluate(model, [], *rows)
    for transform in (VAT(5.0, epsilon=0.0), VAT(0.0)):
        value, same, _ = evaluate(model, [transform], *rows)
        assert value == pytest.approx(loss, abs=1e-6)
        for a, b in zip(same, gradients):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@slow_on_jax
def test_iterations_find_the_most_sensitive_direction():
    """With a small xi they are power iterations on the second derivative of KL, here J diag(p) (1 - p) J'."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((1,), dtype="int32", name="token_ids")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(2, 4, name="token_embedding")(ids))
    model = TrainableModel(ids, keras.layers.Dense(3, kernel_initializer="normal", name="logits")(embedded))
    model.compile("sgd", cross_entropy())
    table, kernel, bias = (v.astype("float64") for v in values(model.trainable_variables))
    kernel *= 20
    p = reference.softmax(table[1] @ kernel + bias)
    hessian = kernel @ (np.diag(p) - np.outer(p, p)) @ kernel.T
    largest, top = np.linalg.eigh(hessian)[0][-1], np.linalg.eigh(hessian)[1][:, -1]
    trainable = [keras.ops.convert_to_tensor(v.astype("float32")) for v in (table, kernel, bias)]
    point = trainable, state_of(model), batch_of(np.array([[1]], "int32"), np.array([0]))
    plain = loss_at(model, [])(*point)
    terms = []
    for iterations in (0, 1, 12):
        terms.append(float(loss_at(model, [VAT(1.0, 0.05, 0.05, iterations)])(*point)) - float(plain))
    assert terms[0] < terms[1] <= terms[2] * 1.001
    best = max(kl(p, reference.softmax((table[1] + s * 0.05 * top) @ kernel + bias)) for s in (1, -1))
    assert terms[2] == pytest.approx(best, rel=0.05)
    assert terms[2] == pytest.approx(0.05**2 * largest / 2, rel=0.2)


@pytest.mark.parametrize("distribution", ["categorical", "bernoulli"])
def test_divergences(distribution):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 5, 3)) * 3
    if distribution == "categorical":
        p, q = reference.softmax(a), reference.softmax(b)
        wanted = kl(p, q)
    else:
        p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        wanted = kl(p, q) + kl(1 - p, 1 - q)
    as_tensor = [keras.ops.convert_to_tensor(v.astype("float32")) for v in (a, b, p, q)]
    np.testing.assert_allclose(values([kullback_leibler(*as_tensor[:2], distribution, True)])[0], wanted, rtol=1e-4)
    np.testing.assert_allclose(values([kullback_leibler(*as_tensor[2:], distribution, False)])[0], wanted, rtol=1e-4)
    sure = [keras.ops.convert_to_tensor(np.array([[0.0, 1.0], [1.0, 0.0]], "float32")), as_tensor[2][:2, :2]]
    assert np.isfinite(values([kullback_leibler(*sure, distribution, False)])[0]).all()


def tagger(body="dictionary"):
    """Two outputs, one per token; two inputs of whole numbers, of which the mask has a one in rows of padding."""
    keras.utils.set_random_seed(3)
    ids, mask = keras.Input((None,), dtype="int32", name="token_ids"), keras.Input((None,), dtype="int32", name="mask")
    x = keras.layers.Embedding(VOCABULARY, WIDTH, name="token_embedding")(ids)
    x = x * keras.ops.cast(mask, x.dtype)[..., None]
    kind = keras.layers.Dense(CLASSES, name="kind")(keras.layers.GlobalAveragePooling1D()(x))
    tags = keras.layers.Dense(2, name="tags")(x)
    return TrainableModel({"token_ids": ids, "mask": mask}, {"kind": kind, "tags": tags})


@slow_on_jax
def test_outputs_by_name_and_tokens_that_are_there(rows):
    x, y = rows
    x = x.copy()
    x[:, 3:] = 0
    x[-2:] = 0
    mask = (x != 0).astype("int32")
    mask[-2:, 0] = 1
    model = tagger()
    model.compile("sgd", {"kind": cross_entropy(), "tags": cross_entropy()})
    point = point_of(model, {"token_ids": x, "mask": mask}, {"kind": y, "tags": x % 2})
    plain = float(loss_at(model, [])(*point))
    terms = {}
    for outputs in (None, "kind", ["tags"]):
        terms[str(outputs)] = float(loss_at(model, [VAT(1.0, 2.0, iterations=0, outputs=outputs)])(*point)) - plain
    assert terms["None"] == pytest.approx(terms["kind"] + terms["['tags']"], rel=1e-3)
    assert min(terms.values()) > 1e-5
    (u,) = values(noise([keras.ops.zeros((VOCABULARY, WIDTH))], state_of(model), _SALT))
    named = {v.path: value for v, value in zip(model.trainable_variables, values(model.trainable_variables))}
    table = named["token_embedding/embeddings"].astype("float64")
    tags = [
        reference.softmax((t[x] * mask[..., None]) @ named["tags/kernel"] + named["tags/bias"])
        for t in (table, table + 2 * u / np.linalg.norm(u))
    ]
    there = x != 0
    each = (kl(*tags) * there).sum(1) / np.maximum(there.sum(1), 1)
    assert terms["['tags']"] == pytest.approx(each[there.any(1)].mean(), rel=1e-3)
    with pytest.raises(ConfigError, match="no output 'other'; there are: kind, tags"):
        model.compile("sgd", cross_entropy(), transforms=[VAT(outputs="other")])


@slow_on_jax
def test_masks_of_dropout_are_the_same_in_all_passes_and_noise_is_a_function_of_the_step(rows):
    x, y = rows
    model = build(dropout=0.5)
    model.compile("sgd", cross_entropy())
    plain = evaluate(model, [], x, y)[0]
    assert evaluate(model, [VAT(9.0, epsilon=0.0)], x, y)[0] == pytest.approx(plain, abs=1e-5)
    trainable, state, batch = point_of(model, x, y)
    loss = loss_at(model, [VAT(1.0, epsilon=1.0, iterations=0)])
    steps = [keras.ops.convert_to_tensor(step) for step in (0, 0, 1)]
    found = [float(loss(trainable, state._replace(step=step), batch)) for step in steps]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_loss_scale_multiplies_the_term_but_not_its_log(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    trainable, state, batch = point_of(model, *rows)
    objective = VAT(5.0, iterations=0)(ModelObjective(model))

    @backend.compile
    def both(scale):
        loss, aux = objective(trainable, state._replace(scale=scale), batch)
        return loss, aux.loss

    (loss, logged), (scaled, again) = (both(keras.ops.convert_to_tensor(np.float32(scale))) for scale in (1, 2**12))
    assert float(loss) == pytest.approx(float(logged), rel=1e-6)
    assert float(scaled) == pytest.approx(2**12 * float(loss), rel=1e-5)
    assert float(again) == pytest.approx(float(logged), rel=1e-6)


@slow_on_jax
def test_a_model_without_whole_number_inputs():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="first")(inputs)
    model = TrainableModel(inputs, keras.layers.Dense(2, activation="softmax")(x))
    transform = VAT(layer="first", norm="sample", from_logits=False)
    model.compile("sgd", "sparse_categorical_crossentropy", transforms=[transform])
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    losses = model.fit(x, np.arange(6) % 2, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def fit(rows, policy, norm):
    x, y = rows
    model = build(dropout=0.2, dtype=policy)
    optimizer = keras.optimizers.Adam(0.05)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, cross_entropy(), transforms=[VAT(norm=norm)])
    weights = (np.arange(len(x)) % 2).astype("float32")
    losses = model.fit(x, y, batch_size=8, epochs=8, verbose=0, sample_weight=weights).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_fit_compiled(rows):
    fit(rows, "float32", "sample")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("norm", ["matrix", "sample"])
def test_fit_in_mixed_precision(rows, policy, norm):
    fit(rows, policy, norm)


@pytest.mark.parametrize(
    "arguments",
    [{"weight": -1}, {"epsilon": -1}, {"xi": 0}, {"iterations": -1}, {"norm": "x"}, {"distribution": "gaussian"}],
)
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigError, match=f"VirtualAdversarialTraining: {next(iter(arguments))}"):
        VAT(**arguments)


def test_config_round_trip():
    transform = VAT(2.0, 3.0, 4.0, 5, "x", "row", ("a", "b"), "bernoulli", False, "ids", 7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert isinstance(again, VAT)
    assert again.get_config() == transform.get_config()
    assert again.outputs == ["a", "b"]
