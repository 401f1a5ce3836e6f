"""R-Drop against plain KL formulas, and what it must leave alone: weights of zero, moving statistics, predictions."""

import keras
import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Batch, ModelObjective, RDrop, TrainableModel
from qingformer.objectives.outputs import output_names
from qingformer.ops import divergence
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import CLASSES, VOCABULARY, build, comparable_optimizer, cross_entropy
from tests.objectives.test_fgm import evaluate, state_of, values


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(-1)


def two_sided(p, q):
    return kl(p, q) + kl(q, p)


def yes_or_no(p):
    return np.stack([p, 1 - p], -1)


def test_divergences_are_both_kls_added():
    generator = np.random.default_rng(0)
    a, b = generator.normal(0, 2, (2, 5, 3, 4)).astype("float32")
    s, t = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    pairs = {
        "softmax": (a, b, two_sided(softmax(a), softmax(b))),
        "categorical": (softmax(a), softmax(b), two_sided(softmax(a), softmax(b))),
        "sigmoid": (a, b, two_sided(yes_or_no(s), yes_or_no(t)).mean(-1)),
        "bernoulli": (s, t, two_sided(yes_or_no(s), yes_or_no(t)).mean(-1)),
        "squared": (a, b, ((a - b) ** 2).mean(-1)),
    }
    for name, (p, q, expected) in pairs.items():
        function = getattr(divergence, f"{name}_divergence")
        np.testing.assert_allclose(ops.convert_to_numpy(function(p, q)), expected, rtol=2e-4, atol=1e-5)
        (_, slopes) = backend.value_and_grad(lambda x, f=function: ops.sum(f(x[0], x[0])))([ops.convert_to_tensor(p)])
        np.testing.assert_allclose(values(slopes)[0], 0, atol=1e-6)  # smallest where both agree
    extreme = np.array([[0.0, 1.0], [1.0, 0.0]], "float32")
    for function in (divergence.categorical_divergence, divergence.bernoulli_divergence):
        assert np.isfinite(ops.convert_to_numpy(function(extreme, extreme[::-1]))).all()


@pytest.mark.peers
def test_value_and_gradient_of_the_divergences_are_those_of_torch():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(1)
    a, b = generator.normal(0, 2, (2, 6, 5)).astype("float32")
    kl_div, log = torch.nn.functional.kl_div, torch.nn.functional.log_softmax

    def both(x, y):
        x, y = log(x, -1), log(y, -1)
        options = {"reduction": "none", "log_target": True}
        return (kl_div(x, y, **options) + kl_div(y, x, **options)).sum(-1)

    def both_binary(x, y):
        pairs = [torch.stack([z, torch.zeros_like(z)], -1) for z in (x, y)]
        return both(*pairs).mean(-1)

    for function, reference in (
        (divergence.softmax_divergence, both),
        (divergence.sigmoid_divergence, both_binary),
    ):
        tensors = [torch.tensor(z, requires_grad=True) for z in (a, b)]
        expected = reference(*tensors)
        expected.sum().backward()
        arrays = [ops.convert_to_tensor(z) for z in (a, b)]
        total, slopes = backend.value_and_grad(lambda z, f=function: ops.sum(f(*z)))(arrays)
        assert float(total) == pytest.approx(float(expected.sum()), rel=1e-5)
        for got, tensor in zip(values(slopes), tensors):
            np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


def passes(model, x, y, weights=None):
    """Loss and predictions of two passes, one after the other."""
    objective, state, found = ModelObjective(model), state_of(model), []
    batch = Batch(*(None if a is None else ops.convert_to_tensor(a) for a in (x, y, weights)))
    for _ in range(2):
        loss, aux = objective([v.value for v in model.trainable_variables], state, batch)
        state = aux.state
        found.append((float(loss), ops.convert_to_numpy(aux.predictions)))
    return found


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=SLOW_ON_JAX), True])
def test_value_is_the_mean_of_two_passes_and_a_quarter_of_alpha_times_both_kls(rows, weighted):
    x, y = rows
    weights = (np.arange(len(x)) % 3).astype("float32") if weighted else None  # some rows at 0
    model = build(dropout=0.5)
    model.compile("sgd", cross_entropy())
    (first, ones), (second, others) = passes(model, x, y, weights)
    assert abs(first - second) > 1e-4  # two masks
    each = two_sided(softmax(ones), softmax(others))
    penalty = (each * (1 if weights is None else weights)).sum() / len(x)
    loss, _, aux = evaluate(model, [RDrop(3.0)], x, y, weights)
    assert loss == pytest.approx((first + second) / 2 + 3.0 / 4 * penalty, rel=1e-4)
    assert float(aux.loss) == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(aux.predictions), ones, rtol=1e-6)
    paper, _, _ = evaluate(model, [RDrop(3.0, form="sum")], x, y, weights)
    assert paper == pytest.approx(first + second + 3.0 / 2 * penalty, rel=1e-4)


def test_gradient_goes_through_both_passes(rows):
    x, y = rows
    model = build(dropout=0.5)
    model.compile("sgd", cross_entropy())

    def by_hand(trainable, state, batch):
        objective = ModelObjective(model)
        first, one = objective(trainable, state, batch)
        second, other = objective(trainable, one.state, batch)
        p, q = ops.log_softmax(one.predictions), ops.log_softmax(other.predictions)
        both = ops.sum(ops.exp(p) * (p - q), -1) + ops.sum(ops.exp(q) * (q - p), -1)
        return (first + second) / 2 + 2.0 / 4 * ops.mean(both)

    batch = Batch(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    here = [v.value for v in model.trainable_variables]
    expected_loss, expected = backend.value_and_grad(by_hand)(here, state_of(model), batch)
    loss, gradients, _ = evaluate(model, [RDrop(2.0)], x, y)
    assert loss == pytest.approx(float(expected_loss), rel=1e-5)
    for got, want in zip(gradients, values(expected)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_rows_of_weight_zero_change_nothing(rows):
    x, y = rows
    weights = np.ones(len(x), "float32")
    weights[::2] = 0
    results = []
    for noise in (0, 3):
        changed = x.copy()
        changed[::2] = (changed[::2] + noise) % VOCABULARY
        model = build(dropout=0.5)
        model.compile("sgd", cross_entropy())
        results.append(evaluate(model, [RDrop(4.0)], changed, y, weights)[:2])
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for a, b in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(a, b, atol=1e-7)


def sequence_model(dropout=0.4):
    """Labels at every position, masked where the token is 0, beside a number and three yes-or-no outputs."""
    keras.utils.set_random_seed(3)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    extra = keras.Input((2,), name="extra")
    x = keras.layers.Embedding(VOCABULARY, 3, mask_zero=True, name="token_embedding")(ids)
    x = keras.layers.Dropout(dropout, seed=2)(x)
    tags = keras.layers.Dense(CLASSES, name="tags")(x)
    pooled = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(x), extra])
    pooled = keras.layers.BatchNormalization(name="norm")(pooled)
    outputs = {
        "tags": tags,
        "labels": keras.layers.Dense(3, activation="sigmoid", name="labels")(pooled),
        "size": keras.layers.Dense(1, name="size")(pooled),
    }
    return TrainableModel({"token_ids": ids, "extra": extra}, outputs)


@pytest.fixture
def several(rows):
    x, _ = rows
    generator = np.random.default_rng(2)
    inputs = {"token_ids": x, "extra": generator.normal(size=(len(x), 2)).astype("float32")}
    labels = {
        "tags": (x % CLASSES).astype("int32"),
        "labels": generator.integers(0, 2, (len(x), 3)).astype("float32"),
        "size": generator.normal(size=(len(x), 1)).astype("float32"),
    }
    return inputs, labels


@slow_on_jax
def test_several_outputs_with_masks_weights_and_moving_statistics(several):
    inputs, labels = several
    model = sequence_model()
    tags = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=2)
    losses = {"tags": tags, "labels": "binary_crossentropy", "size": "mse"}
    settings = {"loss_weights": {"tags": 2.0, "labels": 0.5, "size": 1.0}}
    model.compile("sgd", losses, **settings)
    model.test_on_batch(inputs, labels)  # builds the losses
    batch = Batch({k: ops.convert_to_tensor(v) for k, v in inputs.items()},
                  {k: ops.convert_to_tensor(v) for k, v in labels.items()})  # fmt: skip
    here, state, found = [v.value for v in model.trainable_variables], state_of(model), []
    middle = []
    for _ in range(2):
        loss, aux = ModelObjective(model)(here, state, batch)
        state = aux.state
        middle.append(values(state.non_trainable))
        found.append((float(loss), {k: ops.convert_to_numpy(v) for k, v in aux.predictions.items()}))
    (first, ones), (second, others) = found
    counted = (inputs["token_ids"] != 0) & (labels["tags"] != 2)
    tag = two_sided(softmax(ones["tags"]), softmax(others["tags"]))[counted].mean()
    label = two_sided(yes_or_no(ones["labels"]), yes_or_no(others["labels"])).mean()
    objective = RDrop(4.0, {"size": "none"})(ModelObjective(model))
    loss, aux = objective(here, state_of(model), batch)
    assert float(loss) == pytest.approx((first + second) / 2 + 2.0 * tag + 0.5 * label, rel=1e-4)
    size = ((ones["size"] - others["size"]) ** 2).mean()
    squared, _ = RDrop(4.0, {"size": "squared"})(ModelObjective(model))(here, state_of(model), batch)
    assert float(squared) == pytest.approx(float(loss) + size, rel=1e-4)
    # Moving statistics of the first pass, dropout seeds of the second.
    for variable, got, one, two in zip(model.non_trainable_variables, values(aux.state.non_trainable), *middle):
        if "seed" in variable.path:
            np.testing.assert_array_equal(got, two)
            assert not np.array_equal(got, one)
        else:
            np.testing.assert_allclose(got, one)
    assert len(model.non_trainable_variables) == 3


@slow_on_jax
def test_fit_with_several_outputs_and_saving(several, tmp_path):
    inputs, labels = several
    model = sequence_model()
    losses = {"tags": cross_entropy(), "labels": "binary_crossentropy", "size": "mse"}
    metrics = {"tags": ["accuracy"]}
    model.compile(comparable_optimizer(), losses, metrics=metrics, transforms=[RDrop(4.0, {"size": "none"})])
    history = model.fit(inputs, labels, batch_size=8, epochs=2, verbose=0).history
    assert set(history) == {"loss", "tags_loss", "labels_loss", "size_loss", "tags_accuracy"}
    assert np.isfinite(history["loss"]).all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again._transforms[0].get_config() == {"alpha": 4.0, "divergence": {"size": "none"}, "form": "mean"}


def test_with_fgm_in_both_orders(rows):
    """FGM over R-Drop perturbs along the gradient of the whole; R-Drop over FGM perturbs each pass for itself."""
    x, y = rows
    model = build(dropout=0.4)
    model.compile("sgd", cross_entropy())
    batch = Batch(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    here = [v.value for v in model.trainable_variables]

    def moved(slope):
        return [here[0] + 0.5 * slope / (ops.sqrt(ops.sum(slope**2)) + 1e-8), *here[1:]]

    two = RDrop(4.0)(ModelObjective(model))
    _, slopes = two.value_and_grad(here, state_of(model), batch)
    expected, _ = two(moved(slopes[0]), state_of(model), batch)
    loss, _, _ = evaluate(model, [RDrop(4.0), FGM(0.5)], x, y)
    assert loss == pytest.approx(float(expected), rel=1e-5)

    plain, state, seen = ModelObjective(model), state_of(model), []
    for _ in range(2):
        _, slopes = plain.value_and_grad(here, state, batch)
        value, aux = plain(moved(slopes[0]), state, batch)
        state = aux.state
        seen.append((float(value), ops.convert_to_numpy(aux.predictions)))
    both = two_sided(softmax(seen[0][1]), softmax(seen[1][1])).mean()
    other, _, _ = evaluate(model, [FGM(0.5), RDrop(4.0)], x, y)
    assert other == pytest.approx((seen[0][0] + seen[1][0]) / 2 + both, rel=1e-4)
    assert abs(other - loss) > 1e-6


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=SLOW_ON_JAX)])
def test_mixed_precision_learns(rows, policy):
    model = build(dropout=0.1, dtype=policy)
    optimizer = keras.optimizers.Adam(0.05)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, cross_entropy(), transforms=[RDrop(1.0)])
    losses = model.fit(*rows, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_model_without_dropout_is_refused():
    model = build(dropout=0.0)
    with pytest.raises(ConfigError, match="nothing in the model is random"):
        model.compile("sgd", cross_entropy(), transforms=[RDrop()])


@pytest.mark.parametrize("rate", [0.0, pytest.param(0.1, marks=SLOW_ON_JAX)])
def test_a_backbone_whose_rates_are_zero_is_refused(rate):
    from qingformer.models import Backbone

    sizes = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": rate}
    backbone = Backbone({**sizes, "intermediate_size": 4, "max_position_embeddings": 4, "pooler": False, **rates})
    model = TrainableModel(backbone.input, backbone.output["sequence_output"])
    if rate:
        model.compile("sgd", cross_entropy(), transforms=[RDrop()])
    else:
        with pytest.raises(ConfigError, match=r"all at rate 0: .*block_0"):
            model.compile("sgd", cross_entropy(), transforms=[RDrop()])


def test_a_loss_that_does_not_say_how_to_compare_is_named():
    model = build(dropout=0.1)
    with pytest.raises(ConfigError, match=r"output 'logits' is mean_squared_error.*divergence=.*squared"):
        model.compile("sgd", "mse", transforms=[RDrop()])
    with pytest.raises(ConfigError, match="no output 'kind'; there are logits"):
        model.compile("sgd", cross_entropy(), transforms=[RDrop(divergence={"kind": "softmax"})])
    with pytest.raises(ConfigError, match="no output is compared"):
        model.compile("sgd", cross_entropy(), transforms=[RDrop(divergence="none")])
    with pytest.raises(ConfigError, match="no loss on its outputs"):
        build(dropout=0.1).compile("sgd", transforms=[RDrop()])
    with pytest.raises(ConfigError, match="may mean several"):
        model.compile("sgd", "crossentropy", transforms=[RDrop()])
    model.compile("sgd", "mse", transforms=[RDrop(divergence="squared")])
    assert output_names(model) == ["logits"]


def test_a_loss_may_say_it_itself():
    class Scores(keras.losses.Loss):
        divergence = "sigmoid"

        def call(self, y_true, y_pred):
            return ops.mean((y_true - y_pred) ** 2, -1)

    model = build(dropout=0.1)
    model.compile("sgd", Scores(), transforms=[RDrop()])


@pytest.mark.parametrize("arguments", [{"alpha": -1}, {"alpha": float("inf")}, {"divergence": "kl"}, {"form": "max"}])
def test_arguments_that_cannot_be(arguments):
    with pytest.raises(ConfigError, match="RDrop"):
        RDrop(**arguments)
