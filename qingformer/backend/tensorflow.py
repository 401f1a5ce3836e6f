"""What `qingformer.backend` does on TensorFlow."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from qingformer.backend.keras_internals import in_stateless_scope, unscale_loss_for_distribution
from qingformer.backend.memoized import memoized
from qingformer.backend.seeds import FixedSeed
from qingformer.types import Nest, Tensor

Function = Callable[..., Any]

# Every public function here stands in `jax.py`, `torch.py` and `tensorflow.py` with the same arguments; its meaning is
# in the docstring of the function of that name in `qingformer.backend`.


def set_up() -> None:
    # TensorFlow marks that a variable is read before it is assigned; its "dependency optimization" drops some of these
    # marks, and the read then finds, now and then, the value after. An optimizer that compares weights before and after
    # its step is wrong in such a step (measured for `LowRankUpdates`: 1 training of 4 steps in 20).
    tf.config.optimizer.set_experimental_options({"dependency_optimization": False})


def check_device() -> None:
    pass


def device_kind() -> str:
    return next((k.lower() for k in ("TPU", "GPU") if tf.config.list_logical_devices(k)), "cpu")


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()


def value_and_grad(function: Function, has_aux: bool) -> Function:
    def wrapped(values: object, *args: object, **kwargs: object) -> Any:
        # The identity is an alias: other uses of the same tensor stay constants.
        tracked = keras.tree.map_structure(lambda leaf: tf.identity(keras.ops.convert_to_tensor(leaf)), values)
        leaves = keras.tree.flatten(tracked)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(leaves)
            result = function(tracked, *args, **kwargs)
        loss = result[0] if has_aux else result
        found = tape.gradient(loss, leaves, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # An embedding lookup gives a sparse gradient; callers get one kind of array.
        gradients = [tf.convert_to_tensor(g) for g in found]
        return result, keras.tree.pack_sequence_as(values, gradients)

    return wrapped


def eval_shape(function: Callable[[], Any]) -> None:
    function()  # inside a compiled function nothing is computed


def twice_differentiable() -> AbstractContextManager[Any]:
    return nullcontext()


def dense(array: Tensor) -> Tensor:
    if isinstance(array, tf.IndexedSlices):
        return tf.convert_to_tensor(array)
    return keras.ops.convert_to_tensor(array, sparse=False)


def is_at_hand(array: Tensor) -> bool:
    return hasattr(array, "numpy") and "CPU" in array.device


def compile(function: Function, static_argument_names: tuple[str, ...]) -> Function:
    return memoized(
        function, static_argument_names, lambda: tf.function(function, reduce_retracing=True, autograph=False)
    )


def enable_compilation_cache(folder: Path) -> Path | None:
    return None


def repeated_randomness() -> AbstractContextManager[Any]:
    return nullcontext()


def random_state() -> dict[str, Tensor]:
    return {}


def set_random_state(state: dict[str, Tensor]) -> None:
    pass


def remat(function: Function, *arrays: Tensor) -> Nest:
    if in_stateless_scope():  # weights are plain tensors here, to which recomputation would give no gradient
        return function(*arrays)
    # TensorFlow asks for the gradient of every argument, so masks and seeds must not be arguments.
    floats = [index for index, array in enumerate(arrays) if array.dtype.is_floating]

    def of_floats(*given: Tensor) -> Any:
        whole = dict(zip(floats, given))
        return function(*(whole.get(index, array) for index, array in enumerate(arrays)))

    return keras.remat(of_floats)(*(arrays[index] for index in floats))


def scan(function: Function, carry: Nest, elements: Nest, length: Tensor) -> tuple[Any, Any]:
    # The first call stands outside of the loop: only its result says what arrays the loop has to fill.
    carry, output = function(carry, _element(elements, 0))
    structure, outputs = keras.tree.map_structure(lambda _: 0, carry), output
    values = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(carry)]
    rows = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(output)]
    arrays = [tf.TensorArray(x.dtype, size=length, element_shape=x.shape).write(0, x) for x in rows]

    def body(index: Tensor, values: list[Any], arrays: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        after, output = function(keras.tree.pack_sequence_as(structure, values), _element(elements, index))
        written = [array.write(index, x) for array, x in zip(arrays, keras.tree.flatten(output))]
        return index + 1, [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(after)], written

    # One iteration at a time: TensorFlow would otherwise keep several in memory.
    _, values, arrays = tf.while_loop(
        lambda index, *_: index < length, body, (tf.constant(1), values, arrays), parallel_iterations=1
    )
    stacked = [array.stack() for array in arrays]
    return keras.tree.pack_sequence_as(structure, values), keras.tree.pack_sequence_as(outputs, stacked)


def _element(elements: Nest, index: Tensor) -> Any:
    return keras.tree.map_structure(lambda x: None if x is None else x[index], elements)


def keep_mask(seed: Tensor, shape: tuple[int, ...], rate: float, site: int) -> Tensor:
    return FixedSeed(seed).for_site(site).uniform(shape) >= rate


def prefers_fused_attention() -> bool:
    return device_kind() != "cpu"


def matmul(x: Tensor, kernel: Tensor) -> Tensor:
    return keras.ops.matmul(x, kernel)


def train_step(model: keras.Model, *arguments: object) -> Any:
    # As in Keras, but with dense gradients: an embedding's gradient has one entry for every position of the text, and
    # Keras' optimizers square these one by one, so that a token that stands in a batch three times would move otherwise
    # than on JAX and PyTorch; norms are taken over them as well.
    (data,) = arguments
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        predictions = model(x, training=True) if model._call_has_training_arg else model(x)
        loss = model._compute_loss(x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True)
        rows = tf.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        model._loss_tracker.update_state(unscale_loss_for_distribution(loss), sample_weight=rows)
        scaled = model.optimizer.scale_loss(loss)
    weights = model.trainable_weights
    gradients = [None if g is None else tf.convert_to_tensor(g) for g in tape.gradient(scaled, weights)]
    model.optimizer.apply_gradients(zip(gradients, weights))
    return model.compute_metrics(x, y, predictions, sample_weight=sample_weight)


def in_place() -> bool:
    return False


def lerp(value: Tensor, target: Tensor, share: float | Tensor) -> Tensor:
    return value + share * (target - value)


def assign_lerp(variable: keras.Variable, target: Tensor, share: float | Tensor) -> Tensor:
    value = lerp(keras.ops.convert_to_tensor(variable), target, share)
    variable.assign(value)
    return value


def assign_sub_product(variable: keras.Variable, change: Tensor, rate: Tensor) -> None:
    variable.assign(variable - rate * change)


def fused_adam(
    variables: list[keras.Variable],
    gradients: list[Tensor],
    means: list[keras.Variable],
    squares: list[keras.Variable],
    step: Tensor | None,
    **settings: object,
) -> list[bool]:
    return [False] * len(variables)
