"""A batch in parts gives the gradient, the logs and the training of the whole batch."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, GradientAccumulation, RDrop, TrainableModel, Transform, TransformedObjective
from qingformer.objectives.gradient_accumulation import _parts
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import CLASSES, VOCABULARY, build, cross_entropy
from tests.objectives.test_fgm import hand_computed
from tests.objectives.tools import evaluate, train, values

OPTIMIZERS = {"sgd": lambda: keras.optimizers.SGD(0.3, momentum=0.9), "adam": lambda: keras.optimizers.Adam(0.02)}


def same(ours, theirs, rtol=1e-5, atol=1e-6):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def later(*values):
    return pytest.param(*values, marks=SLOW_ON_JAX)


@pytest.mark.parametrize(
    ("weighted", "through"), [(True, "gradient"), later(False, "gradient"), later(True, "value"), later(False, "value")]
)
def test_value_and_gradient_are_those_of_the_whole_batch(rows, weighted, through):
    x, y = rows
    weights = np.linspace(0, 3, len(x)).astype("float32") if weighted else None
    model = build()
    model.compile("sgd", cross_entropy())
    expected_loss, expected = hand_computed(
        *[v.astype("float64") for v in values(model.trainable_variables)], x, y, weights
    )
    loss, gradients, aux = evaluate(model, [GradientAccumulation(4)], x, y, weights, through)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert float(aux.loss) == pytest.approx(expected_loss, rel=1e-5)
    assert tuple(aux.predictions.shape) == (len(x), CLASSES)
    same(gradients, expected)


@pytest.mark.parametrize(("rows_given", "parts", "expected"), [(10, 4, 5), (7, 4, 7), (3, 4, 3), (12, 4, 4), (9, 2, 3)])
def test_a_batch_that_parts_does_not_divide_is_cut_finer(rows_given, parts, expected):
    assert _parts(rows_given, parts) == expected
    if backend.name() == "tensorflow":
        assert int(_parts(keras.ops.convert_to_tensor(rows_given), parts)) == expected


@slow_on_jax
def test_a_prime_number_of_rows(rows):
    x, y = rows[0][:7], rows[1][:7]
    model = build()
    model.compile("sgd", cross_entropy())
    seen = []

    class Spy(Transform):
        def __call__(self, objective):
            class Spied(TransformedObjective):
                def __call__(self, trainable, state, batch):
                    seen.append(batch.x.shape[0])
                    return self.objective(trainable, state, batch)

            return Spied(objective)

    loss, gradients, _ = evaluate(model, [Spy(), GradientAccumulation(4)], x, y)
    plain_loss, plain, _ = evaluate(model, [], x, y)
    assert set(seen) == {1}
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    same(gradients, plain)


@pytest.mark.parametrize("name", ["adam", later("sgd")])
def test_training_in_parts_is_training_on_the_whole_batch(rows, name):
    """24 rows in batches of 10: the last one has 4, which TensorFlow learns only when it comes."""
    weights = np.linspace(0, 2, 24).astype("float32")
    whole, whole_weights, _ = train([], *rows, OPTIMIZERS[name](), batch_size=10, sample_weight=weights)
    parts, parts_weights, _ = train(
        [GradientAccumulation(4)], *rows, OPTIMIZERS[name](), batch_size=10, sample_weight=weights
    )
    if name == "adam" and backend.name() == "tensorflow":  # Keras' own step squares sparse gradients by occurrence
        _, whole_weights, _ = train([FGM(0.0)], *rows, OPTIMIZERS[name](), batch_size=10, sample_weight=weights)
        whole = parts
    same(parts["loss"], whole["loss"])
    assert parts["accuracy"] == whole["accuracy"]
    same(parts_weights, whole_weights, rtol=1e-4, atol=2e-6)


def masked_model(pooled, loss, **options):
    """Labels for every token; the padding of id 0 is masked by Keras."""
    keras.utils.set_random_seed(4)
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, 3, mask_zero=not pooled, embeddings_regularizer="l2")(ids)
    outputs = keras.layers.Dense(CLASSES)(x)
    model = TrainableModel(ids, outputs)
    model.compile("sgd", loss, **options)
    return model


REDUCTIONS = ["sum_over_batch_size", "mean_with_sample_weight", "sum"]


CASES = [(r, m, w) for r in REDUCTIONS for m in (False, True) for w in ("none", "rows", "tokens")]
FIRST = {("sum_over_batch_size", True, "rows"), ("mean_with_sample_weight", False, "tokens")}


@pytest.mark.parametrize(("reduction", "masked", "weights"), [c if c in FIRST else later(*c) for c in CASES])
def test_masks_weights_and_reductions(rows, reduction, masked, weights):
    """The parts hold 1 to 20 valid tokens, and weights of very different sums; a regularisation counts once."""
    if (reduction, masked, weights) == ("sum", True, "none") and backend.name() == "torch":
        pytest.skip("Keras on torch multiplies a weight by a mask of another shape in place")
    x = rows[0][:12].copy()
    x[:5, 1:] = 0
    x[5, :] = 0
    y = (x + 1) % CLASSES
    random = np.random.default_rng(5)
    by_row = np.repeat(random.uniform(0, 4, (12, 1)), x.shape[1], axis=1)
    given = {"none": None, "rows": by_row, "tokens": random.uniform(0, 4, x.shape)}[weights]
    given = None if given is None else given.astype("float32")
    model = masked_model(not masked, keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction))
    loss, gradients, _ = evaluate(model, [], x, y, given)
    ours, our_gradients, aux = evaluate(model, [GradientAccumulation(3)], x, y, given)
    assert ours == pytest.approx(loss, rel=1e-5)
    assert float(aux.loss) == pytest.approx(loss, rel=1e-5)
    same(our_gradients, gradients)


def test_two_passes_in_parts_weigh_by_what_counts(rows):
    """R-Drop over dropout that drops nothing is the plain loss, in parts that hold 1 to 20 valid tokens too."""
    x = rows[0][:12].copy()
    x[:5, 1:] = 0
    y = (x + 1) % CLASSES
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = masked_model(False, loss)
    model = TrainableModel(model.inputs, keras.layers.Dropout(1e-9)(model.outputs[0]))
    model.compile("sgd", loss)
    plain, gradients, _ = evaluate(model, [], x, y)
    ours, our_gradients, _ = evaluate(model, [RDrop(4.0), GradientAccumulation(3)], x, y)
    assert ours == pytest.approx(plain, rel=1e-5)
    same(our_gradients, gradients)


@slow_on_jax
def test_parts_in_which_nothing_counts(rows):
    x = rows[0][:6].copy()
    y = (x + 1) % CLASSES
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for padding in (slice(0, 2), slice(0, 6)):
        x[padding] = 0
        model = masked_model(False, loss)
        plain_loss, plain, _ = evaluate(model, [], x, y)
        ours, gradients, _ = evaluate(model, [GradientAccumulation(3)], x, y)
        assert ours == pytest.approx(plain_loss, rel=1e-5)
        same(gradients, plain)


def two_headed():
    keras.utils.set_random_seed(2)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    extra = keras.Input((2,), name="extra")
    x = keras.layers.Embedding(VOCABULARY, 3, name="token_embedding")(ids)
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(x), extra])
    x = keras.layers.ActivityRegularization(l2=0.1)(x)
    outputs = {"kind": keras.layers.Dense(CLASSES, name="kind")(x), "size": keras.layers.Dense(1, name="size")(x)}
    return TrainableModel({"token_ids": ids, "extra": extra}, outputs)


def test_several_inputs_and_outputs_in_fit(rows):
    x, y = rows
    inputs = {"token_ids": x, "extra": np.random.default_rng(1).normal(size=(len(x), 2)).astype("float32")}
    labels = {"kind": y, "size": y[:, None].astype("float32")}
    histories = []
    for transforms in ([], [GradientAccumulation(2)]):
        model = two_headed()
        losses = {"kind": cross_entropy(), "size": "mse"}
        metrics = {"kind": ["accuracy"], "size": ["mae"]}
        model.compile(keras.optimizers.SGD(0.1), losses, metrics=metrics, loss_weights={"kind": 1, "size": 0.3},
                      transforms=transforms)  # fmt: skip
        histories.append(model.fit(inputs, labels, batch_size=12, epochs=2, shuffle=False, verbose=0).history)
    assert histories[0].keys() == histories[1].keys()
    for name, curve in histories[0].items():
        np.testing.assert_allclose(histories[1][name], curve, rtol=1e-5)


def test_moving_statistics_see_the_parts_in_turn_and_seeds_move_on():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((2,))
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(inputs)
    model = TrainableModel(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5, seed=3, name="drop")(x)))
    model.compile("sgd", "mse")
    data = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    _, _, aux = evaluate(model, [GradientAccumulation(3)], data, np.zeros((6, 1), "float32"))
    after = dict(zip([v.path.split("/")[-1] for v in model.non_trainable_variables], values(aux.state.non_trainable)))
    expected = np.zeros(2)
    for part in np.split(data, 3):
        expected = 0.5 * expected + 0.5 * part.mean(0)
    np.testing.assert_allclose(after["moving_mean"], expected, rtol=1e-5)
    before = dict(zip([v.path for v in model.non_trainable_variables], values(model.non_trainable_variables)))
    (path,) = [p for p in before if "seed" in p]
    assert not np.array_equal(before[path], after[path.split("/")[-1]])
    assert int(aux.state.part) == 0


def test_each_part_has_other_dropout(rows):
    model = build(dropout=0.5)
    model.compile("sgd", cross_entropy())
    _, _, aux = evaluate(model, [GradientAccumulation(6)], np.repeat(rows[0][:1], 6, 0), np.repeat(rows[1][:1], 6, 0))
    assert len({tuple(row) for row in values([aux.predictions])[0].round(6).tolist()}) > 2


@pytest.mark.slow
def test_with_dropout_the_mean_over_many_masks_is_that_of_the_whole_batch(rows):
    x, y = np.tile(rows[0], (40, 1)), np.tile(rows[1], 40)
    model = build(dropout=0.3)
    model.compile("sgd", cross_entropy())
    _, whole, _ = evaluate(model, [], x, y)
    _, parts, _ = evaluate(model, [GradientAccumulation(8)], x, y)
    for a, b in zip(parts, whole):
        assert np.linalg.norm(a - b) < 0.4 * np.linalg.norm(b)
        assert not np.array_equal(a, b)


@slow_on_jax
def test_fgm_inside_perturbs_each_part_and_outside_the_whole_batch(rows):
    x, y = rows
    model = build()
    model.compile("sgd", cross_entropy())
    whole_loss, whole, _ = evaluate(model, [FGM(0.4)], x, y)
    loss, gradients, _ = evaluate(model, [GradientAccumulation(3), FGM(0.4)], x, y)
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    same(gradients, whole)
    by_part = [evaluate(model, [FGM(0.4)], a, b) for a, b in zip(np.split(x, 3), np.split(y, 3))]
    loss, gradients, _ = evaluate(model, [FGM(0.4), GradientAccumulation(3)], x, y)
    assert loss == pytest.approx(np.mean([one for one, _, _ in by_part]), rel=1e-5)
    assert abs(loss - whole_loss) > 1e-4
    same(gradients, [np.mean(g, 0) for g in zip(*[g for _, g, _ in by_part])])


@slow_on_jax
def test_nested_accumulation_is_accumulation(rows):
    x, y = rows
    model = masked_model(False, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = x[:12].copy()
    x[:5, 1:] = 0
    y = (x + 1) % CLASSES
    _, plain, _ = evaluate(model, [], x, y)
    _, gradients, _ = evaluate(model, [GradientAccumulation(2), GradientAccumulation(3)], x, y)
    same(gradients, plain)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", later("mixed_float16")])
def test_mixed_precision_trains(rows, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build(dropout=0.1, dtype=policy)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(0.05), cross_entropy(), transforms=[GradientAccumulation(2)])
    losses = model.fit(*rows, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all(np.isfinite(v).all() for v in values(model.variables))


def test_outputs_whose_losses_have_no_common_weight_are_refused(rows):
    model = two_headed()
    losses = {"kind": cross_entropy(), "size": keras.losses.MeanSquaredError(reduction="sum")}
    with pytest.raises(ConfigError, match=r"reduced in different ways \(sum, sum_over_batch_size\)"):
        model.compile("sgd", losses, transforms=[GradientAccumulation(2)])
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, 3, mask_zero=True)(ids)
    model = TrainableModel(ids, [keras.layers.Dense(CLASSES)(x), keras.layers.Dense(CLASSES)(x)])
    model.compile("sgd", [cross_entropy(), cross_entropy()])
    labels = rows[0] % CLASSES
    with pytest.raises(ConfigError, match="no common weight"):
        evaluate(model, [GradientAccumulation(2)], rows[0], [labels, labels])


def test_arrays_of_different_lengths_are_refused(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    with pytest.raises(ConfigError, match=r"\[4, 6\] rows"):
        evaluate(model, [GradientAccumulation(2)], rows[0][:6], rows[1][:4])


@pytest.mark.parametrize("parts", [0, -1, 1.5])
def test_parts_that_cannot_be(parts):
    with pytest.raises(ConfigError, match="GradientAccumulation: parts"):
        GradientAccumulation(parts)


def test_config_round_trip():
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(GradientAccumulation(3)))
    assert again.parts == 3
