"""A loop over the first axis of arrays, compiled where the library compiles."""

from collections.abc import Callable
from typing import Any

import keras

from qingformer.backend.library import name

Function = Callable[..., Any]


def scan(function: Function, carry: Any, elements: Any, length: Any) -> tuple[Any, Any]:
    """Call `carry, output = function(carry, element)` for one element after the other, one in memory at a time.

    `elements` is a nest of arrays whose first axis is `length`; an entry may be None. The result is the last carry, and
    the outputs (a nest of arrays) stacked along a new first axis. `carry` keeps its structure, shapes and dtypes. The
    body is compiled once on JAX, twice on TensorFlow, where `length` may be a tensor (1 or more); on torch it is called
    again and again. Unlike `keras.ops.scan`, the outputs need not look like the carry on TensorFlow.

    Example:
        >>> last, sums = scan(lambda total, x: (total + x, total + x), keras.ops.zeros(()), keras.ops.ones(3), 3)
    """
    if name() == "jax":
        import jax

        return jax.lax.scan(function, carry, elements, length)
    if name() == "tensorflow":
        return _tensorflow_scan(function, carry, elements, length)
    outputs = []
    for place in range(length):
        carry, output = function(carry, _element(elements, place))
        outputs.append(output)
    return carry, keras.tree.map_structure(lambda *leaves: keras.ops.stack(leaves), *outputs)


def _element(elements: Any, place: Any) -> Any:
    return keras.tree.map_structure(lambda x: None if x is None else x[place], elements)


def _tensorflow_scan(function: Function, carry: Any, elements: Any, length: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    # The first call stands outside of the loop: only its result says what arrays the loop has to fill.
    carry, output = function(carry, _element(elements, 0))
    structure, outputs = keras.tree.map_structure(lambda _: 0, carry), output
    values = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(carry)]
    rows = [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(output)]
    arrays = [tf.TensorArray(x.dtype, size=length, element_shape=x.shape).write(0, x) for x in rows]

    def body(place: Any, values: list[Any], arrays: list[Any]) -> tuple[Any, list[Any], list[Any]]:
        after, output = function(keras.tree.pack_sequence_as(structure, values), _element(elements, place))
        written = [array.write(place, x) for array, x in zip(arrays, keras.tree.flatten(output))]
        return place + 1, [tf.convert_to_tensor(leaf) for leaf in keras.tree.flatten(after)], written

    # One iteration at a time: TensorFlow would otherwise keep several in memory.
    _, values, arrays = tf.while_loop(
        lambda place, *_: place < length, body, (tf.constant(1), values, arrays), parallel_iterations=1
    )
    stacked = [array.stack() for array in arrays]
    return keras.tree.pack_sequence_as(structure, values), keras.tree.pack_sequence_as(outputs, stacked)
