"""Gradients, second order included, against finite differences and hand formulas, on whichever backend is set."""

import ast
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.backend import keras_internals


def array(values, dtype="float32"):
    return keras.ops.convert_to_tensor(np.asarray(values, dtype))


def numpy(values):
    return keras.ops.convert_to_numpy(values)


def test_value_and_gradient_of_a_nest_with_unused_and_integer_arguments():
    def function(values, index, scale):
        return scale * keras.ops.sum(keras.ops.take(values["a"], index) ** 2)

    values = {"a": array([1.0, 2.0, 3.0]), "b": array([5.0])}
    loss, gradients = backend.value_and_grad(function)(values, array([0, 2, 2], "int32"), 3.0)
    assert float(loss) == pytest.approx(3 * (1 + 9 + 9))
    np.testing.assert_allclose(numpy(gradients["a"]), [6.0, 0.0, 36.0])
    np.testing.assert_array_equal(numpy(gradients["b"]), [0.0])  # the loss does not see it: zero, not None


def test_auxiliary_results_come_back_beside_the_loss():
    function = backend.value_and_grad(lambda w: (keras.ops.sum(w[0]), {"double": 2 * w[0]}), has_aux=True)
    (loss, aux), gradients = function([array([1.0, 2.0])])
    assert float(loss) == 3.0
    np.testing.assert_array_equal(numpy(aux["double"]), [2.0, 4.0])
    np.testing.assert_array_equal(numpy(gradients[0]), [1.0, 1.0])


def test_a_loss_of_no_argument_has_zero_gradient():
    loss, gradients = backend.value_and_grad(lambda w: keras.ops.sum(array([2.0])))([array([1.0, 2.0])])
    assert float(loss) == 2.0
    np.testing.assert_array_equal(numpy(gradients[0]), [0.0, 0.0])


def test_sparse_gradients_are_dense_arrays():
    def function(w):
        return keras.ops.sum(keras.ops.take(w[0], array([1, 1], "int32"), axis=0))

    _, (gradient,) = backend.value_and_grad(function)([array(np.ones((3, 2)))])
    np.testing.assert_array_equal(numpy(gradient), [[0, 0], [2, 2], [0, 0]])


def penalised(values):
    """A loss plus half the squared norm of its own gradient: needs second derivatives."""

    def loss(w):
        return keras.ops.sum(keras.ops.tanh(w[0] @ w[1]) ** 2)

    value, gradients = backend.value_and_grad(loss)(values)
    return value + 0.5 * sum(keras.ops.sum(g**2) for g in gradients)


def test_second_order_equals_finite_differences():
    generator = np.random.default_rng(0)
    point = [generator.normal(size=(2, 3)).astype("float32"), generator.normal(size=(3, 2)).astype("float32")]
    _, gradients = backend.value_and_grad(penalised)([array(p) for p in point])
    for which, position in [(0, (0, 1)), (0, (1, 2)), (1, (0, 0)), (1, (2, 1))]:
        values = []
        for sign in (1, -1):
            moved = [p.copy() for p in point]
            moved[which][position] += sign * 1e-2
            values.append(float(penalised([array(p) for p in moved])))
        slope = (values[0] - values[1]) / 2e-2
        assert float(numpy(gradients[which])[position]) == pytest.approx(slope, rel=2e-2, abs=1e-2)


def test_third_order():
    def first(w):
        return backend.value_and_grad(lambda v: v[0] ** 4)(w)[1][0]

    def second(w):
        return backend.value_and_grad(first)(w)[1][0]

    _, (third,) = backend.value_and_grad(second)([array(2.0)])
    assert float(third) == pytest.approx(24 * 2.0)


def test_inner_gradients_see_outer_values_as_constants():
    def outer(w):
        inner = backend.value_and_grad(lambda v: keras.ops.sum(v[0] * w[0]))  # w is a constant of the inner function
        return keras.ops.sum(inner([w[0]])[1][0] ** 2)

    _, (gradient,) = backend.value_and_grad(outer)([array([3.0])])
    assert float(numpy(gradient)[0]) == pytest.approx(6.0)


def test_compiling_twice_gives_the_same_function():
    calls = []

    def function(x, power):
        calls.append(power)
        return x**power

    compiled = backend.compile(function, static_argument_names=("power",))
    assert float(compiled(array(3.0), power=2)) == 9.0
    assert float(compiled(array(3.0), power=3)) == 27.0
    assert backend.compile(function, static_argument_names=("power",)) is compiled
    if backend.name() != "torch":
        before = len(calls)
        compiled(array(4.0), power=2)
        assert len(calls) == before  # not traced again


def test_bound_methods_can_be_compiled():
    class Doubler:
        def double(self, x):
            return 2 * x

    assert float(backend.compile(Doubler().double)(array(2.0))) == 4.0


def test_compilation_cache_is_for_jax_only(tmp_path):
    found = backend.enable_compilation_cache(tmp_path / "cache")
    if backend.name() != "jax":
        assert found is None
        return
    import jax

    try:
        assert found == tmp_path / "cache"
        assert found.is_dir()
        assert jax.config.jax_compilation_cache_dir == str(found)
    finally:
        jax.config.update("jax_compilation_cache_dir", None)


def test_default_cache_folder_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backend.sys, "platform", "linux")
    assert backend._user_cache() == tmp_path


def test_device_kind():
    assert backend.device_kind() in ("cpu", "gpu", "tpu")


def test_fixed_seed_repeats_and_fresh_seeds_differ():
    generator = keras.random.SeedGenerator(3)
    first, second = backend.fresh_seed(generator), backend.fresh_seed(generator)

    def draw(seed):
        return numpy(keras.random.uniform((8,), seed=backend.FixedSeed(seed)))

    np.testing.assert_array_equal(draw(first), draw(first))
    assert not np.array_equal(draw(first), draw(second))


def test_random_state_of_the_process_is_put_back():
    layer = keras.layers.Dropout(0.5)
    x = array(np.ones(64))
    state = backend.random_state()
    assert bool(state) == (backend.name() == "torch")
    with backend.repeated_randomness():
        first = numpy(layer(x, training=True))
    if backend.name() == "torch":
        np.testing.assert_array_equal(numpy(layer(x, training=True)), first)
        assert not np.array_equal(numpy(layer(x, training=True)), first)
        backend.set_random_state(state)
        np.testing.assert_array_equal(numpy(layer(x, training=True)), first)


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("stateless", [False, True])
def test_recomputed_gradients_equal_plain_ones(rate, stateless):
    layer = keras.layers.Dense(4, activation="tanh")
    layer.build((None, 4))
    x = array(np.random.default_rng(0).normal(size=(3, 4)))
    seed = backend.fresh_seed(keras.random.SeedGenerator(1))

    def body(x, seed):
        return keras.random.dropout(layer(x), rate, seed=backend.FixedSeed(seed))

    def loss(w, recompute):
        mapping = list(zip(layer.trainable_variables, w[1:])) if stateless else []
        with keras.StatelessScope(mapping) if stateless else nullcontext():
            y = backend.remat(body, w[0], seed) if recompute else body(w[0], seed)
        return keras.ops.sum(y**2)

    values = [x] + ([v.value for v in layer.trainable_variables] if stateless else [])
    plain_loss, plain = backend.value_and_grad(loss)(values, False)
    loss_again, again = backend.value_and_grad(loss)(values, True)
    assert float(loss_again) == float(plain_loss)
    assert any(np.abs(numpy(g)).max() > 0 for g in plain)
    for a, b in zip(plain, again):
        np.testing.assert_allclose(numpy(a), numpy(b), rtol=1e-6)


@pytest.mark.skipif(backend.name() != "jax", reason="the recomputation is visible in a jaxpr only")
def test_recomputation_is_really_in_the_program():
    import jax

    def function(x):
        return backend.remat(lambda y: keras.ops.sum(keras.ops.sin(y)), x)

    program = str(jax.make_jaxpr(jax.grad(function))(1.0))
    assert "remat" in program or "checkpoint" in program


def test_scan_carries_on_and_stacks_outputs_of_another_shape():
    xs = {"a": keras.ops.convert_to_tensor(np.arange(6, dtype="float32").reshape(3, 2)), "b": None}

    def step(carry, element):
        total, count = carry
        assert element["b"] is None
        total = total + keras.ops.sum(element["a"])
        return (total, count + 1), {"double": 2 * element["a"], "total": total}

    def run(xs):
        start = (keras.ops.zeros(()), keras.ops.zeros((), "int32"))
        return backend.scan(step, start, xs, keras.ops.shape(xs["a"])[0])

    for call in (run, backend.compile(run)):
        (total, count), outputs = call(xs)
        assert (float(total), int(count)) == (15.0, 3)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(outputs["double"]), 2 * np.arange(6).reshape(3, 2))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(outputs["total"]), [1.0, 6.0, 15.0])


def test_scan_can_be_differentiated():
    x = keras.ops.convert_to_tensor(np.array([2.0, 3.0, 5.0], "float32"))

    def product(x):
        return backend.scan(lambda carry, factor: (carry * factor, carry), keras.ops.ones(()), x, 3)[0]

    value, gradient = backend.value_and_grad(product)(x)
    assert float(value) == 30.0
    np.testing.assert_allclose(keras.ops.convert_to_numpy(gradient), [15.0, 10.0, 6.0], rtol=1e-6)


# --- the three files, and what Keras does not export ------------------------------------------------------------------

PACKAGE = Path(backend.__file__).parent.parent


def public_functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return {
        node.name: [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)] for node in found
    }


def test_the_three_libraries_have_the_same_functions_with_the_same_arguments():
    ours, theirs, others = (
        public_functions(PACKAGE / "backend" / f"{name}.py") for name in ("jax", "torch", "tensorflow")
    )
    assert ours == theirs == others
    face = public_functions(PACKAGE / "backend" / "__init__.py")
    own = {"name", "fresh_seed", "keep_freed_memory", "known_values", "enable_compilation_cache"}
    assert {name: face[name] for name in face if name not in own} == {
        name: ours[name] for name in ours if name not in ("set_up", "is_at_hand", "enable_compilation_cache")
    }
    assert set(backend.__all__) == {*face, "FixedSeed"}


def modules_in(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def test_one_file_alone_leans_on_what_keras_does_not_export_and_none_on_uninitialised_arrays():
    for path in PACKAGE.rglob("*.py"):
        used = set(modules_in(ast.parse(path.read_text(encoding="utf-8"))))
        if path.name != "keras_internals.py":
            assert not [name for name in used if name.startswith("keras.src")], path
        # From jax 0.11 on their content is whatever was in memory; zeros cost nothing more once compiled.
        assert not used & {"ops.empty", "keras.ops.empty", "jnp.empty", "ops.empty_like"}, path


def test_keras_still_has_what_it_does_not_export():
    internals = keras_internals
    x = keras.ops.ones((2, 3))
    internals.set_keras_mask(x, keras.ops.ones((2,), "bool"))
    assert internals.get_keras_mask(x).shape == (2,)
    assert not internals.in_stateless_scope()
    with keras.StatelessScope():
        assert internals.in_stateless_scope()
    assert internals.random_seed_dtype() in ("uint32", "int32", "int64")
    assert internals.result_type("bfloat16", "float32") == "float32"
    internals.global_state.set_global_attribute("qingformer_test", 3)
    assert internals.global_state.get_global_attribute("qingformer_test") == 3
    assert issubclass(keras.losses.MeanSquaredError, internals.LossFunctionWrapper)
    kept, held_out = internals.train_validation_split((np.arange(10),), validation_split=0.2)
    assert (kept[0].tolist(), held_out[0].tolist()) == (list(range(8)), [8, 9])
    assert float(internals.unscale_loss_for_distribution(keras.ops.ones(()))) == 1.0


def test_keras_keeps_the_names_of_the_compiled_loss_that_training_reads():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((1, 2), "float32"), np.ones((1, 1), "float32"))
    assert isinstance(model._compile_loss, keras_internals.CompileLoss)
    assert len(model._compile_loss._flat_losses) == 1


def test_lists_set_without_tracking_stay_plain_lists():
    class Holder(keras.layers.Layer):
        @keras_internals.no_automatic_dependency_tracking
        def hold(self):
            self.kept = [keras.Variable(0.0)]

    holder = Holder()
    holder.hold()
    assert holder.variables == []  # tracked, the list would make its variable one of the layer
