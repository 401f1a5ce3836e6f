"""What every optimizer of Keras can do, ours can: state, dtypes, saving, clipping, accumulation, loss scaling."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, TrainableModel
from qingformer.optimizers import LAMB, AdaFactor, Adam, AdamW, AdaX, LazyAdam, Lion, PiecewiseLinear, Tiger
from tests.conftest import slow_on_jax
from tests.optimizers.support import ALL, SHAPES, make_gradients, make_variables, numbers, train

each = pytest.mark.parametrize("name", ALL)


def state_bytes(optimizer, shape):
    variables = make_variables(shapes={"kernel": shape})
    optimizer.build(variables)
    return sum(4 * int(np.prod(v.shape)) for v in optimizer.variables if len(v.shape))


def test_bytes_of_state():
    n, m = 768, 3072
    adam = state_bytes(Adam(), (n, m))
    assert adam == 4 * 2 * n * m
    assert state_bytes(AdaFactor(), (n, m)) == 4 * (n + m) < adam / 100
    assert state_bytes(AdaFactor(beta_1=0.9), (n, m)) == 4 * (n + m + n * m)
    assert state_bytes(AdaFactor(), (n, 127)) == 4 * n * 127
    assert state_bytes(AdaFactor(), (2, 300, 200)) == 4 * 2 * (300 + 200)
    assert state_bytes(Tiger(accumulation_steps=4), (n, m)) == state_bytes(Lion(), (n, m)) == 4 * n * m


@each
def test_zero_gradients_and_zero_weights_give_numbers(name):
    variables = make_variables(values={key: np.zeros(shape) for key, shape in SHAPES.items()})
    zeros = [np.zeros(shape, "float32") for shape in SHAPES.values()]
    tiny = [np.full(shape, 1e-20, "float32") for shape in SHAPES.values()]
    optimizer = ALL[name]()
    for value in train(optimizer, variables, [zeros, zeros]):
        np.testing.assert_array_equal(value, 0.0)
    for value in train(optimizer, variables, [tiny, make_gradients(1)[0]]):
        assert np.isfinite(value).all()
        assert np.any(value != 0)  # also what starts at zero moves
    for value in numbers(optimizer.variables):
        assert np.isfinite(value).all()


def test_scalars_are_trained_too():
    """A scalar has no axes for rows, norms or factors."""
    for name in ("AdaFactor", "LAMB", "LazyAdam", "Tiger"):
        variables = make_variables(shapes={"temperature": ()})
        before = numbers(variables)[0]
        after = train(ALL[name](), variables, [[np.array(0.5, "float32")]])[0]
        assert np.isfinite(after), name
        assert after < before, name


@each
def test_state_of_bfloat16_weights_is_float32(name):
    """Only the result is rounded: one step of bfloat16 weights is the rounded step of the same weights in float32."""
    low = make_variables("bfloat16")
    start = dict(zip(SHAPES, numbers(low)))
    optimizer, gradients = ALL[name](), make_gradients(1)
    found = train(optimizer, low, gradients)
    assert {v.dtype for v in optimizer.variables[2:]} == {"float32"}
    assert {v.dtype for v in low} == {"bfloat16"}
    for value, exact in zip(found, train(ALL[name](), make_variables(values=start), gradients)):
        np.testing.assert_allclose(value, exact, rtol=2**-8)


@each
def test_configuration_survives(name):
    optimizer = ALL[name](global_clipnorm=2.0, exclude_from_weight_decay=["norm", "bias$"])
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["exclude_from_weight_decay"] == ["norm", "bias$"]


def test_every_argument_is_part_of_the_configuration():
    made = [
        AdaFactor(None, 0.5, 0.6, 1e-20, 1e-2, False, None, 7, ["a"], 0.1, ["b"]),
        Adam(PiecewiseLinear(0.5, {3: 1.0}), 0.5, 0.6, 1e-3, False, 0.1, ["a"]),
        LAMB(0.5, 0.4, 0.6, 1e-3, False, 0.1, ["a"], ["b"]),
        LazyAdam(0.5, ["a"], False, beta_1=0.3, weight_decay=0.1),
        Lion(0.5, 0.4, 0.6, 0.1, ["a"]),
        Tiger(0.5, 0.4, 0.3, 3, ["a"], ["b"], 0.1, ["c"]),
        AdaX(0.5, 0.4, 0.3, 0.1, 0.2, ["a"]),
        AdamW(0.5, 0.2, ["a"], epsilon=0.3),
    ]
    for optimizer in made:
        config = optimizer.get_config()
        again = type(optimizer).from_config(keras.saving.deserialize_keras_object(config) or dict(config))
        assert again.get_config() == config, optimizer.name


def small_model(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,), dtype="int32")
    x = keras.layers.Embedding(7, 4, name="token_embedding")(inputs)
    outputs = keras.layers.Dense(5, name="head")(keras.layers.GlobalAveragePooling1D()(x))
    return TrainableModel(inputs, outputs)


def rows(count, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 7, (count, 3)).astype("int32"), random.normal(size=(count, 5)).astype("float32")


FIRST = ("AdaFactor, relative",)


@pytest.mark.parametrize("name", [n if n in FIRST else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(name, tmp_path):
    """State included, under clipping, with Keras' accumulation of two batches, and in the middle of one."""
    x, y = rows(20)
    options = {"clipnorm": 0.5, "gradient_accumulation_steps": 2}
    model = small_model()
    model.compile(ALL[name](**options), "mse")
    before = numbers(model.variables)
    model.fit(x[:12], y[:12], batch_size=4, shuffle=False, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, numbers(model.variables)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, again):
        one.fit(x[12:], y[12:], batch_size=4, shuffle=False, verbose=0)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for a, b in zip(numbers(model.optimizer.variables), numbers(again.optimizer.variables)):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(numbers(model.variables), numbers(again.variables)):
        np.testing.assert_array_equal(a, b)


def test_it_learns_under_a_transform_and_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = rows(8)
    model.compile(AdaFactor(0.05, min_dim_size_to_factor=4), "mse", transforms=[FGM(0.1)])
    losses = model.fit(x, y, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.02


def stateless(optimizer, gradients):
    """Values after each step through `stateless_apply`, compiled; nothing may be changed in place."""
    variables = make_variables()
    optimizer.build(variables)
    weights, state = [v.value for v in variables], [v.value for v in optimizer.variables]
    given = [*weights, *state]
    kept = numbers(given)
    step = backend.compile(lambda state, gradients, weights: optimizer.stateless_apply(state, gradients, weights))
    found = []
    for gradient in gradients:
        weights, state = step(state, [keras.ops.convert_to_tensor(g) for g in gradient], weights)
        found.append(numbers(weights))
    for old, value in zip(kept, numbers(given)):
        np.testing.assert_array_equal(old, value)
    return found


@pytest.mark.skipif(backend.name() == "tensorflow", reason="Keras has no stateless_apply there")
@pytest.mark.parametrize("name", ["AdamW", "AdaFactor"])
def test_stateless_steps_change_nothing_in_place(name):
    gradients = make_gradients(2)
    expected = train(ALL[name](), make_variables(), gradients)
    for a, b in zip(stateless(ALL[name](), gradients)[-1], expected):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@slow_on_jax
@each
def test_accumulation_is_one_step_with_the_mean(name):
    gradients = make_gradients(4)
    means = [[(a + b) / 2 for a, b in zip(*pair)] for pair in (gradients[:2], gradients[2:])]
    expected = train(ALL[name](), make_variables(), means)
    for a, b in zip(train(ALL[name](gradient_accumulation_steps=2), make_variables(), gradients), expected):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_tiger_accumulates_without_memory():
    """Four batches for two updates: the same weights as with Keras' accumulator."""
    gradients = make_gradients(4)
    means = [[(a + b) / 2 for a, b in zip(*pair)] for pair in (gradients[:2], gradients[2:])]
    plain, thrifty = Tiger(0.01), Tiger(0.01, accumulation_steps=2)
    expected = train(plain, make_variables(), means)
    for a, b in zip(train(thrifty, make_variables(), gradients), expected):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    for a, b in zip(numbers(thrifty.variables[2:]), numbers(plain.variables[2:])):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.1}], ids=str)
def test_clipping_comes_before_the_step(options):
    given = make_gradients(1)[0]
    total = np.sqrt(sum(np.sum(g**2) for g in given))
    clipped = {
        "clipnorm": [g * min(1, 0.5 / np.linalg.norm(g)) for g in given],
        "global_clipnorm": [g * min(1, 0.5 / total) for g in given],
        "clipvalue": [np.clip(g, -0.1, 0.1) for g in given],
    }[next(iter(options))]
    expected = train(Adam(0.1, epsilon=1.0), make_variables(), [clipped])
    for a, b in zip(train(Adam(0.1, epsilon=1.0, **options), make_variables(), [given]), expected):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("name", ["AdaFactor, relative", pytest.param("Adam", marks=pytest.mark.slow)])
def test_inside_of_loss_scaling(name):
    """Scaled gradients give the plain step, and a step that overflowed is none."""
    given = make_gradients(1)[0]
    outer = keras.optimizers.LossScaleOptimizer(ALL[name](), initial_scale=1024.0)
    steps = [[1024 * g for g in given], [np.full_like(g, np.inf) for g in given]]
    if backend.name() == "jax":  # Keras' loss scaling leaks a tracer there outside of a compiled step
        first, second = stateless(outer, steps)
    else:
        variables = make_variables()
        first, second = (train(outer, variables, [step]) for step in steps)
        assert int(outer.iterations) == 1
    for a, b, plain in zip(first, second, train(ALL[name](), make_variables(), [given])):
        np.testing.assert_allclose(a, plain, rtol=1e-6)
        np.testing.assert_array_equal(a, b)


@slow_on_jax
def test_sparse_gradients_are_made_dense():
    dense = make_gradients(1)[0]
    given = [keras.ops.convert_to_tensor(g) for g in dense]
    if backend.name() == "tensorflow":
        import tensorflow as tf

        given[0] = tf.IndexedSlices(tf.constant(dense[0]), tf.range(len(dense[0])), tf.constant(dense[0].shape))
    elif backend.name() == "jax":
        from jax.experimental import sparse

        given[0] = sparse.BCOO.fromdense(given[0])
    else:
        pytest.skip("Keras has no sparse gradients on torch")
    variables = make_variables()
    optimizer = LazyAdam(0.1, clipnorm=1.0)
    optimizer.build(variables)
    optimizer.apply(given)
    expected = train(LazyAdam(0.1, clipnorm=1.0), make_variables(), [dense])
    for a, b in zip(numbers(variables), expected):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_rate_can_be_changed():
    optimizer = AdaFactor(0.5)
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25
    assert AdaFactor.from_config(optimizer.get_config()).get_config()["learning_rate"] == 0.25
    assert float(AdaFactor(PiecewiseLinear(0.5, {0: 1.0})).learning_rate) == 0.5


def test_keras_way_to_exclude_is_remembered():
    optimizer = AdamW(0.1)
    optimizer.exclude_from_weight_decay(var_names=["kernel"])
    assert optimizer.get_config()["exclude_from_weight_decay"][-1] == "kernel"
    optimizer.build(make_variables())
    assert optimizer._decays == [True, False, False]
    with pytest.raises(ConfigError, match="when you make the optimizer"):
        optimizer.exclude_from_weight_decay(var_names=["embeddings"])


def test_a_pattern_without_a_variable_is_a_warning():
    with pytest.warns(UserWarning, match=r"LAMB: exclude_from_layer_adaptation: 'Norm' .*layer_of_kernel/kernel"):
        LAMB(exclude_from_layer_adaptation=["Norm", "bias"]).build(make_variables())


WRONG = [
    (Adam, {"learning_rate": -1.0}, "learning_rate"),
    (Adam, {"beta_1": 1.0}, "beta_1"),
    (Adam, {"beta_2": "0.9"}, "beta_2"),
    (Adam, {"epsilon": 0}, "epsilon"),
    (AdamW, {"weight_decay": float("nan")}, "weight_decay"),
    (AdamW, {"exclude_from_weight_decay": "bias"}, "list of patterns"),
    (AdamW, {"exclude_from_weight_decay": ["("]}, "regular expression"),
    (AdaFactor, {"epsilon_1": 0.0}, "epsilon_1"),
    (AdaFactor, {"clipping_threshold": 0}, "clipping_threshold"),
    (AdaFactor, {"min_dim_size_to_factor": 0}, "min_dim_size_to_factor"),
    (AdaFactor, {"exclude_from_parameter_scale": [3]}, "exclude_from_parameter_scale"),
    (LAMB, {"exclude_from_layer_adaptation": ["*"]}, "exclude_from_layer_adaptation"),
    (Tiger, {"accumulation_steps": 0}, "accumulation_steps"),
    (Tiger, {"accumulation_steps": 2, "gradient_accumulation_steps": 2}, "accumulation_steps"),
    (AdaX, {"beta_2": 0.0}, "beta_2"),
    (LazyAdam, {"lazy": "embeddings"}, "lazy"),
]


@pytest.mark.parametrize(("made", "options", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_arguments_that_cannot_be(made, options, words):
    with pytest.raises(ConfigError, match=words):
        made(**options)
