"""A wrapped optimizer is a Keras optimizer: in `fit`, in files, with callbacks, loss scaling and low precision."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.objectives import FGM, TrainableModel, Transform, TransformedObjective
from qingformer.optimizers import (
    AccumulateGradients,
    ExponentialMovingAverage,
    Frozen,
    IncrementDropout,
    LayerAdaptation,
    LayerwiseLearningRate,
    LazyUpdates,
    Lookahead,
    PiecewiseLinear,
    WeightDecay,
    Wrapper,
    chain,
    layer_decay,
)
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.optimizers.toolkit import Adam2, PlainAdam, make_variables, numbers, run

LossScale = keras.optimizers.LossScaleOptimizer


MARKED = [pytest.param(k, marks=SLOW_ON_JAX) for k in (AccumulateGradients, ExponentialMovingAverage, Lookahead)]


def adam(rate=0.05, **settings):
    return keras.optimizers.Adam(rate, **settings)


def everything(faster="first", lazy="kernel", frozen="last/bias"):
    """All wrappers at once, with a loss-scaling optimizer in their midst."""
    inner = LayerAdaptation(WeightDecay(LayerwiseLearningRate(adam(), {faster: 2.0}), 0.1, ["bias"]), ["bias"])
    inner = LossScale(LazyUpdates(IncrementDropout(inner, 0.8, seed=4), [lazy]))
    return ExponentialMovingAverage(Lookahead(AccumulateGradients(Frozen(inner, {frozen: 2}), 2), 2), 0.9)


def make_model(dtype=None):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="first", dtype=dtype)(inputs)
    return TrainableModel(inputs, keras.layers.Dense(2, name="last", dtype=dtype)(x))


def rows():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    return x, x[:, :2] * 2 + 1


def fit(model, epochs=2, **options):
    return model.fit(*rows(), batch_size=4, epochs=epochs, shuffle=False, verbose=0, **options).history


def values(model):
    return [numbers(v) for v in [*model.variables, *model.optimizer.variables]]


def variables():
    generator = np.random.default_rng(2)
    return make_variables({"a/kernel": generator.normal(size=(4, 3)), "b/bias": generator.normal(size=3)})


def gradients(steps=4):
    generator = np.random.default_rng(3)
    return [[generator.normal(size=(4, 3)).astype("float32"), np.ones(3, "float32")] for _ in range(steps)]


# --- the base ---------------------------------------------------------------------------------------------------------


def test_a_bare_wrapper_changes_nothing():
    plain, ours = adam(clipnorm=0.5), Wrapper(Wrapper(adam(clipnorm=0.5)))
    traces = [run(optimizer, variables(), gradients()) for optimizer in (plain, ours)]
    for a, b in zip(*traces):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(plain.variables, ours.variables, strict=True):
        np.testing.assert_array_equal(numbers(a), numbers(b))


def test_its_variables_rate_and_count_are_the_inner_ones():
    inner = adam(0.05, loss_scale_factor=4.0)
    optimizer = ExponentialMovingAverage(Lookahead(inner))
    run(optimizer, variables(), gradients(3))
    assert len({id(v) for v in optimizer.variables}) == len(optimizer.variables) == 2 + 1 + 2 + (2 + 2 * 2)
    assert [type(each).__name__ for each in chain(optimizer)][:2] == ["ExponentialMovingAverage", "Lookahead"]
    assert int(optimizer.iterations) == 3
    optimizer.learning_rate = 0.25
    assert float(inner.learning_rate) == float(optimizer.learning_rate) == 0.25
    assert float(numbers(optimizer.scale_loss(keras.ops.ones(())))) == 4.0
    optimizer.loss_scale_factor = None
    assert inner.loss_scale_factor is None
    weights = [numbers(v) + 1 for v in optimizer.variables]
    optimizer.set_weights(weights)
    for variable, expected in zip(optimizer.variables, weights):
        np.testing.assert_array_equal(numbers(variable), expected)
    scheduled = WeightDecay(adam(PiecewiseLinear(0.1, {2: 1.0})))
    run(scheduled, variables(), gradients(1))
    assert float(numbers(scheduled.learning_rate)) == pytest.approx(0.05)


def test_the_rest_of_the_interface():
    optimizer = Wrapper(keras.optimizers.AdamW(0.05, weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    indices = variables()
    before = numbers(indices[1])
    zeros = [keras.ops.zeros(v.shape) for v in indices]
    optimizer.apply_gradients(zip(zeros, indices))  # builds it
    np.testing.assert_array_equal(numbers(indices[1]), before)
    optimizer.apply([], [])
    optimizer.apply(zeros)
    assert int(optimizer.iterations) == 2
    with pytest.raises(ValueError, match="1 gradients for 2"):
        optimizer.apply(zeros[:1])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply(zeros, variables())


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("kind", [*MARKED, WeightDecay])
def test_a_variable_without_gradient_stays(kind):
    optimizer = kind(PlainAdam())
    indices = variables()
    optimizer.build(indices)
    before = [numbers(v) for v in indices]
    for _ in range(2):
        optimizer.apply([keras.ops.ones((4, 3)), None], indices)
    assert np.abs(numbers(indices[0]) - before[0]).min() > 1e-3
    np.testing.assert_array_equal(numbers(indices[1]), before[1])
    optimizer.apply([keras.ops.ones(3)], indices[1:])  # some of the variables
    optimizer.apply([keras.ops.ones(3)], indices[1:])
    assert np.abs(numbers(indices[1]) - before[1]).min() > 1e-4


def test_constraints_hold_after_the_wrapper():
    index = keras.Variable(np.full(3, 0.5, "float32"), name="kernel")
    index.constraint = keras.constraints.NonNeg()
    optimizer = WeightDecay(keras.optimizers.SGD(1.0), 3.0)
    optimizer.build([index])
    optimizer.apply([keras.ops.ones(3) * 0.1], [index])
    np.testing.assert_array_equal(numbers(index), np.zeros(3))


def test_low_precision_weights():
    """Each wrapper computes in float32; only what it hands on is rounded to bfloat16 (spacing 2^-7 from 1 to 2)."""
    results = []
    for name in ("float32", "bfloat16"):
        indices = [keras.Variable(np.linspace(1, 2, 12).reshape(4, 3), dtype=name, name="kernel")]
        inner = WeightDecay(keras.optimizers.SGD(0.25), 0.5)
        optimizer = ExponentialMovingAverage(LayerAdaptation(LayerwiseLearningRate(inner, {"kernel": 0.5})), 0.5)
        step = [keras.ops.cast(gradients()[0][0], indices[0].dtype)]
        optimizer.build(indices)
        optimizer.apply(step, indices)
        assert keras.backend.standardize_dtype(optimizer.averages()[0].dtype) == "float32"
        assert keras.backend.standardize_dtype(indices[0].value.dtype) == name
        results.append(numbers(keras.ops.cast(indices[0].value, "float32")))
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=2**-5)


def test_a_batch_without_an_update_takes_no_outer_change_back():
    inner = Lookahead(AccumulateGradients(keras.optimizers.SGD(0.5), 2), steps=1, step_size=0.5)
    for trace in run(WeightDecay(inner, 0.5), variables(), gradients(3)):
        assert np.any(trace[1] != trace[0])
        np.testing.assert_array_equal(trace[2], trace[1])


# --- around and inside of loss scaling --------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [pytest.param(True, marks=SLOW_ON_JAX), False], ids=["around", "inside"])
def test_an_overflowed_step_leaves_everything_as_it_was(outside):
    wrap = lambda inner: ExponentialMovingAverage(WeightDecay(Lookahead(inner, 1, 0.5), 0.5), 0.5)  # noqa: E731
    optimizer = wrap(LossScale(adam(), initial_scale=8.0)) if outside else LossScale(wrap(adam()), initial_scale=8.0)
    expected = wrap(adam())
    steps = gradients(3)
    scaled = [[8 * g for g in steps[0]], [np.full_like(g, np.inf) for g in steps[1]], [4 * g for g in steps[2]]]
    ours, theirs = run(optimizer, variables(), scaled), run(expected, variables(), [steps[0], steps[2]])
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a[1], a[0])
        np.testing.assert_allclose(a[[0, 2]], b, rtol=1e-5, atol=1e-6)
    averages = next(each for each in chain(optimizer) if isinstance(each, ExponentialMovingAverage))
    assert int(averages._updates) == 2
    for a, b in zip(averages.averages(), expected.averages()):
        np.testing.assert_allclose(numbers(a), numbers(b), rtol=1e-5, atol=1e-6)


@slow_on_jax
def test_float16_model():
    """A loss-scaling optimizer in the midst of the wrappers is enough; there is no second one around them."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model()
        model.compile(everything(), "mse", transforms=[FGM(0.01, layer="first")])
    finally:
        keras.config.set_dtype_policy("float32")
    assert sum(isinstance(each, LossScale) for each in chain(model.optimizer)) == 1
    history = fit(model, epochs=6)
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert int(model.optimizer.iterations) > 5


# --- in fit, with callbacks and files ---------------------------------------------------------------------------------


def test_callbacks_set_the_rate():
    model = make_model()
    model.compile(LayerwiseLearningRate(Adam2(0.05), {"first": 2.0}), "mse")
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.25 if epoch == 0 else rate),
        keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=100.0),
    ]
    history = fit(model, epochs=3, callbacks=callbacks)
    assert history["learning_rate"] == pytest.approx([0.25, 0.25, 0.125])


@slow_on_jax
def test_saved_with_all_slots_it_goes_on_where_it_was(tmp_path):
    model = make_model()
    model.compile(everything(), "mse", transforms=[FGM(0.01, layer="first")])
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for a, b in zip(values(again), values(model)):
        np.testing.assert_array_equal(a, b)
    assert fit(again) == fit(model)
    for a, b in zip(values(again), values(model)):
        np.testing.assert_array_equal(a, b)


def test_a_file_written_before_the_first_step(tmp_path):
    optimizer = Lookahead(adam())
    again = Lookahead(adam())
    again.build(variables())
    store = {}
    optimizer.save_own_variables(store)
    with pytest.warns(UserWarning, match="own variables stay"):
        again.load_own_variables(store)


class Seeds(Transform):
    """Adds to the loss what it draws, so that the logs show it."""

    def __call__(self, objective):
        return _Seeds(objective)


class _Seeds(TransformedObjective):
    def __call__(self, trainable, state, batch):
        loss, aux = super().__call__(trainable, state, batch)
        drawn = 0 * loss + keras.random.uniform((), seed=state.seed(1))
        return loss, aux._replace(loss=drawn)


def test_transforms_draw_anew_for_each_batch_of_an_accumulation():
    model = make_model()
    model.compile(Wrapper(AccumulateGradients(adam(), 4)), "mse", transforms=[Seeds()])
    x, y = rows()
    seen = [float(model.train_on_batch(x[:4], y[:4])) for _ in range(3)]
    means = np.array(seen) * [1, 2, 3] - np.array([0, seen[0], 2 * seen[1]])  # from Keras' running means
    assert len({round(float(value), 5) for value in (*seen, *means)}) > 3
    assert int(model.optimizer.iterations) == 0


# --- what each one promises -------------------------------------------------------------------------------------------


def test_frozen_weights_are_held_against_momentum_and_decay():
    inner = WeightDecay(keras.optimizers.SGD(0.1, momentum=0.9), 0.5)
    start = [numbers(v) for v in variables()]
    traces = run(Frozen(inner, {"kernel": 2, "a/": 3}), variables(), gradients(4))
    plain = run(WeightDecay(keras.optimizers.SGD(0.1, momentum=0.9), 0.5), variables(), gradients(4))
    np.testing.assert_array_equal(traces[0][:3], [start[0]] * 3)
    assert np.abs(traces[0][3] - start[0]).max() > 0.01
    np.testing.assert_array_equal(traces[1], plain[1])


def test_update_dropout_keeps_the_mean_and_rests_exactly():
    index = make_variables({"a/kernel": np.zeros((300, 100)), "b/kernel": np.zeros((300, 100))})
    optimizer = IncrementDropout(keras.optimizers.SGD(1.0, momentum=0.9), keep=0.25, seed=1)
    ones = [-np.ones((300, 100), "float32")] * 2
    traces = run(optimizer, index, [ones, ones])
    first, second = traces[0][0], traces[0][1] - traces[0][0]
    assert set(np.unique(first)) == {0.0, 4.0}
    assert first.mean() == pytest.approx(1.0, abs=0.05)
    assert second.mean() == pytest.approx(1.9, abs=0.1)
    for a, b in ((first, second), (first, traces[1][0])):  # another mask in another step, for another variable
        assert np.mean((a > 0) & (b > 0)) == pytest.approx(0.25**2, abs=0.01)
    other = run(IncrementDropout(keras.optimizers.SGD(1.0), keep=0.25, seed=2), variables(), gradients(1))
    same = run(IncrementDropout(keras.optimizers.SGD(1.0), keep=0.25, seed=1), variables(), gradients(1))
    assert np.any(other[0] != same[0])
    plain = run(keras.optimizers.SGD(1.0), variables(), gradients(2))
    kept = run(IncrementDropout(keras.optimizers.SGD(1.0), keep=1.0), variables(), gradients(2))
    np.testing.assert_array_equal(kept[0], plain[0])


def test_adapted_steps_have_the_length_of_the_weights():
    start = variables()
    lengths = [np.linalg.norm(numbers(v)) for v in start]
    before = [numbers(v) for v in start]
    traces = run(LayerAdaptation(keras.optimizers.SGD(0.125, momentum=0.0)), start, gradients(1))
    for trace, old, length in zip(traces, before, lengths):
        assert np.linalg.norm(trace[0] - old) == pytest.approx(0.125 * length, rel=1e-5)
    zero = run(LayerAdaptation(WeightDecay(keras.optimizers.SGD(0.0), 0.1)), variables(), gradients(1))
    np.testing.assert_array_equal(zero[0][0], before[0])


@pytest.mark.parametrize(
    ("optimizer", "direct"),
    [
        pytest.param(adam, True, marks=SLOW_ON_JAX),
        pytest.param(lambda: keras.optimizers.AdamW(0.05), True, marks=SLOW_ON_JAX),
        (lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), True),
        pytest.param(lambda: keras.optimizers.Lion(0.05), True, marks=SLOW_ON_JAX),
        pytest.param(lambda: keras.optimizers.RMSprop(0.05, momentum=0.5), True, marks=SLOW_ON_JAX),
        (lambda: keras.optimizers.Nadam(0.05), False),  # counts something up in each call
        pytest.param(lambda: keras.optimizers.Adafactor(0.05), False, marks=SLOW_ON_JAX),
        pytest.param(lambda: Wrapper(adam()), False, marks=SLOW_ON_JAX),
        (lambda: adam(gradient_accumulation_steps=2), True),
    ],
)
def test_the_rate_is_multiplied_where_the_step_is_linear_in_it(optimizer, direct):
    ours = LayerwiseLearningRate(optimizer(), {"kernel": 3.0, "a/": 0.5})
    assert ours._direct == direct
    traces = run(ours, variables(), gradients(2))
    plain = run(optimizer(), variables(), gradients(2))
    start = numbers(variables()[0])
    first = 1 if getattr(optimizer(), "gradient_accumulation_steps", None) else 0
    np.testing.assert_allclose(traces[0][first] - start, 1.5 * (plain[0][first] - start), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(traces[1], plain[1], rtol=1e-6)
    if direct:  # not only in the first step
        np.testing.assert_allclose(traces[0] - start, 1.5 * (plain[0] - start), rtol=1e-3, atol=1e-5)


def test_a_lazy_row_rests_and_its_statistics_too_if_asked():
    steps = gradients(3)
    steps[1][0][2] = 0
    still = [LazyUpdates(PlainAdam(), ["kernel"], hold) for hold in (False, True)]
    for optimizer in still:
        traces = run(optimizer, variables(), steps)
        np.testing.assert_array_equal(traces[0][1][2], traces[0][0][2])
        assert np.all(traces[0][1][[0, 1, 3]] != traces[0][0][[0, 1, 3]])
    once = [steps[0], steps[2]]
    expected = PlainAdam(bias_correction=False)
    run(expected, variables(), once)
    np.testing.assert_allclose(numbers(still[1].inner_optimizer.m[0])[2], numbers(expected.m[0])[2], rtol=1e-6)
    assert np.any(numbers(still[0].inner_optimizer.m[0])[2] != numbers(expected.m[0])[2])


def test_statistics_belong_to_the_variable_with_the_longest_name_that_fits():
    start, step = np.ones((2, 3)), [np.ones((2, 3), "float32")] * 2
    indices = make_variables({"table": start, "table_more": start})
    optimizer = LazyUpdates(PlainAdam(), ["table_more"], hold_state=True)
    resting = [step[0], np.array([[1.0] * 3, [0.0] * 3], "float32")]
    run(optimizer, indices, [step, resting])
    first, second = (numbers(m) for m in optimizer.inner_optimizer.m)
    assert second[1] == pytest.approx(0.1, rel=1e-5)
    assert first[1] == pytest.approx(0.19, rel=1e-5)


# --- layer_decay ------------------------------------------------------------------------------------------------------


def stack(*paths):
    class Stack:
        trainable_variables = make_variables({path: np.zeros(1) for path in paths})

    return Stack()


def test_layer_decay_falls_to_the_embeddings():
    paths = ["token_embedding/embeddings", "embeddings_norm/gamma", "block_0/attention/kernel", "block_1/norm/gamma"]
    paths += [f"block_{n}/kernel" for n in range(2, 12)] + ["block_1/position_embedding/table", "classifier/kernel"]
    model = stack(*paths)
    optimizer = LayerwiseLearningRate(adam(), layer_decay(model, 0.5))
    optimizer.build(model.trainable_variables)
    found = {v.path: optimizer.factor_of(v) for v in model.trainable_variables}
    assert found["classifier/kernel"] == 1
    assert found["block_11/kernel"] == 0.5
    assert found["block_1/norm/gamma"] == found["block_1/position_embedding/table"] == 0.5**11
    assert found["block_0/attention/kernel"] == 0.5**12
    assert found["token_embedding/embeddings"] == found["embeddings_norm/gamma"] == 0.5**13
    assert len(optimizer.factors) == 13
    assert layer_decay(stack("encoder_block_0/k/kernel"), 0.5) == {"block_0/": 0.5}


# --- bad arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wrapper("adam"), "not an optimizer"),
        (lambda: LayerwiseLearningRate(adam(), {}), "pattern: factor"),
        (lambda: LayerwiseLearningRate(adam(), ["crf"]), "pattern: factor"),
        (lambda: LayerwiseLearningRate(adam(), {"crf": -1}), "'crf' is -1"),
        (lambda: LayerwiseLearningRate(adam(), {"(": 1}), "not a regular expression"),
        (lambda: LayerwiseLearningRate(Wrapper(adam()), {"a": 1}, scale_decay=False), "decay cannot be told apart"),
        (lambda: WeightDecay(adam(), -0.1), "rate is -0.1"),
        (lambda: WeightDecay(adam(), 0.1, "bias"), "list of patterns"),
        (lambda: LayerAdaptation(adam(), [1]), "not a regular expression"),
        (lambda: IncrementDropout(adam(), 0.0), "keep is 0.0"),
        (lambda: Frozen(adam(), {"a": 1.5}), "ends at 1.5"),
        (lambda: Frozen(adam(), {}), "pattern: step"),
        (lambda: Lookahead(adam(), 0), "steps is 0"),
        (lambda: Lookahead(adam(), 5, 1.5), "step_size is 1.5"),
        (lambda: AccumulateGradients(adam(), 2.5), "steps is 2.5"),
        (lambda: ExponentialMovingAverage(adam(), 1.0), "momentum is 1.0"),
        (lambda: layer_decay(stack("block_0/kernel"), 1.5), "rate is 1.5"),
        (lambda: layer_decay(stack("a/kernel", "b/bias"), 0.5), "a/kernel, b/bias"),
        (lambda: layer_decay(stack("block_0/kernel"), 0.5, block="block_"), "must have the group"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: LayerwiseLearningRate(adam(), {"crf": 100.0}),
        lambda: Frozen(adam(), {"a/": 1, "crf": 3}),
        lambda: LazyUpdates(adam(), ["crf"]),
    ],
)
def test_a_pattern_that_chooses_nothing_is_refused(optimizer):
    with pytest.raises(ConfigError, match=r"'crf' matches no trainable variable; their paths are: a/kernel, b/bias"):
        optimizer().build(variables())
