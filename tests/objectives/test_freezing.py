"""Frozen weights stand still to the bit, under every optimizer, and only for their span."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.objectives import FGM, Freeze, GradientAccumulation, gradual_unfreezing
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.objectives.conftest import build, cross_entropy
from tests.objectives.tools import evaluate, state_of, values


class Watch(keras.callbacks.Callback):
    """The weights before training and after every step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(values(self.model.trainable_variables))


def path_of(rows, transforms, optimizer, steps=6):
    model = build(dropout=0.2)
    model.compile(optimizer, cross_entropy(), transforms=transforms)
    watch = Watch()
    model.fit(*rows, batch_size=8, epochs=steps // 3, shuffle=False, verbose=0, callbacks=[watch])
    return [*watch.seen, values(model.trainable_variables)]


def moved(path, index):
    return [not np.array_equal(a[index], b[index]) for a, b in pairwise(path)]


OPTIMIZERS = {
    "adamw": lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "accumulating": lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1, gradient_accumulation_steps=2),
}


@pytest.mark.parametrize("name", ["adamw", *(pytest.param(n, marks=SLOW_ON_JAX) for n in ("momentum", "accumulating"))])
def test_frozen_weights_stand_still_to_the_bit_for_their_span(rows, name):
    """Steps 2 and 3: the optimizer has momentum by then, and weight decay acts in every step."""
    path = path_of(rows, [Freeze({"embedding": (2, 4), "bias": (0, None)})], OPTIMIZERS[name]())
    frozen = [step in (2, 3) for step in range(6)]
    updates = [name != "accumulating" or step % 2 == 1 for step in range(6)]
    assert moved(path, 0) == [update and not held for update, held in zip(updates, frozen)]
    assert moved(path, 1) == updates
    assert not any(moved(path, 2))


@slow_on_jax
def test_until_a_weight_is_frozen_nothing_differs(rows):
    free = path_of(rows, [FGM(0.0)], OPTIMIZERS["adamw"](), steps=3)
    path = path_of(rows, [Freeze({"embedding": (2, 3)})], OPTIMIZERS["adamw"](), steps=3)
    for ours, theirs in zip(path[:3], free[:3]):
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_gradient_of_a_frozen_weight_is_zero(rows):
    model = build()
    model.compile("sgd", cross_entropy())
    _, plain, _ = evaluate(model, [], *rows)
    _, gradients, _ = evaluate(model, [Freeze({"logits": (3, 5)}), GradientAccumulation(3)], *rows, step=4)
    np.testing.assert_allclose(gradients[0], plain[0], rtol=1e-5, atol=1e-7)
    assert not gradients[1].any()
    assert not gradients[2].any()


def test_gradual_unfreezing_and_overlapping_patterns(rows):
    transform = gradual_unfreezing(["logits/kernel", "embedding"], every=10)
    assert transform.spans == {"logits/kernel": (0, 10), "embedding": (0, 20)}
    model = build()
    model.compile("sgd", cross_entropy())
    objective = Freeze({"embedding": (0, 3), "token": (5, 7), "bias": (4, None)})(
        gradual_unfreezing(["bias"], 2)(model.objective())
    )

    def frozen(step):
        return {
            i: bool(keras.ops.convert_to_numpy(h))
            for i, h in objective.frozen_masks(state_of(model, step=step)).items()
        }

    assert [step for step in range(9) if frozen(step)[0]] == [0, 1, 2, 5, 6]
    assert [step for step in range(9) if frozen(step)[2]] == [0, 1, 4, 5, 6, 7, 8]
    assert 1 not in frozen(0)


@pytest.mark.parametrize(
    "spans", [{}, {"a": (3, 3)}, {"a": (-1, 3)}, {"a": (0.5, 3)}, {"a": (None, 3)}, {"a": 3}, {"a": (0, 1, 2)}], ids=str
)
def test_spans_that_cannot_be(spans):
    with pytest.raises(ConfigError, match="Freeze"):
        Freeze(spans)


def test_config_round_trip():
    transform = Freeze({"a": (0, None), "b": (3, 5)})
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert again.spans == transform.spans
