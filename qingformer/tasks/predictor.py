"""Fast prediction: one compiled call per batch and length, and the object that a prediction is."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from qingformer import backend
from qingformer.data import PaddedBatches
from qingformer.data.cells import quoted
from qingformer.data.tables import is_empty
from qingformer.errors import DataError
from qingformer.tasks import checks
from qingformer.tasks.in_use import reading
from qingformer.training import DivergenceError, check_weights
from qingformer.types import Config


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one text.

    `labels` are those chosen (exactly one unless the task is multi-label, where there may be none or several),
    `probability` is that of the first of them (of the likeliest label when none is chosen), and `probabilities` maps
    every label to its probability, or is None when they were not asked for.
    """

    labels: tuple[str, ...]
    probability: float
    probabilities: dict[str, float] | None = None

    def to_dict(self) -> Config:
        """`label` and all else as dictionaries, lists and numbers that JSON can hold."""
        return {"label": self.label, **asdict(self), "labels": list(self.labels)}

    @property
    def label(self) -> str | None:
        """The likeliest label chosen, or None."""
        return self.labels[0] if self.labels else None


class Predictor:
    """Runs `activation(model(inputs))` without the per-call work of `Model.predict`.

    The weights are arguments of the compiled function, so training further does not compile again.
    """

    def __init__(self, model: keras.Model, activation: Callable[[Any], Any]) -> None:
        self.model = model

        def forward(trainable: list[Any], non_trainable: list[Any], inputs: Config) -> Any:
            outputs, _ = model.stateless_call(trainable, non_trainable, inputs, training=False)
            return activation(keras.tree.map_structure(lambda output: keras.ops.cast(output, "float32"), outputs))

        self._forward = backend.compile(forward)

    def __call__(self, batches: PaddedBatches, done: Callable[[int], None] | None = None) -> np.ndarray:
        """Outputs `(n, C)` float32 in input order; `done` hears the number of texts after each batch."""
        return batches.restore_order(np.concatenate([found for _, found in self.run(batches, done)]))

    def run(
        self, batches: PaddedBatches, done: Callable[[int], None] | None = None
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """For each batch the numbers of its examples, -1 for padding, and the outputs, arrays in the model's form."""
        with reading(self.model):
            # Read once for all batches: on JAX every read of a variable takes a look at the stateless scopes.
            weights = self._weights()
            rows = batches.order()
            for number, (inputs, *_) in enumerate(batches):
                yield rows[number], self._outputs(weights, inputs)
                if done is not None:
                    done(int((rows[number] >= 0).sum()))  # rows of padding are no texts

    def once(self, inputs: Config) -> Any:
        """The outputs of one batch that is there already."""
        with reading(self.model):
            return self._outputs(self._weights(), inputs)

    def _weights(self) -> tuple[list[Any], list[Any]]:
        kinds = self.model.trainable_variables, self.model.non_trainable_variables
        trainable, others = ([variable.value for variable in variables] for variables in kinds)
        return trainable, others

    def _outputs(self, weights: tuple[list[Any], list[Any]], inputs: Config) -> Any:
        with backend.without_gradients():
            outputs = keras.tree.map_structure(keras.ops.convert_to_numpy, self._forward(*weights, inputs))
        # Masked scores may be -inf; NaN passes through `max`.
        # One pass over the outputs; only if it fails are the weights looked through.
        if any(array.size and not array.max() < math.inf for array in keras.tree.flatten(outputs)):
            self._refuse()
        return outputs

    def _refuse(self) -> None:
        check_weights(self.model.variables)
        raise DivergenceError("the model's outputs are not finite, though its weights are; compute in float32")


def choose(
    probabilities: np.ndarray, labels: Sequence[str], *, multi_label: bool, threshold: float, with_all: bool
) -> list[Prediction]:
    """Turn probabilities `(n, C)` into predictions: the largest, or all of at least `threshold`, likeliest first."""
    results = []
    for row in probabilities:
        # Stable: of two labels with the same probability the first one is chosen, on every platform.
        order = np.argsort(-row, kind="stable")
        chosen = [i for i in order if row[i] >= threshold] if multi_label else order[:1]
        table = {label: float(value) for label, value in zip(labels, row)} if with_all else None
        results.append(Prediction(tuple(labels[i] for i in chosen), float(row[order[0]]), table))
    return results


def asked(data: object, what: str) -> bool:
    """Whether there is anything to predict in a list, a table or a file.

    Raises:
        DataError: a text in the place of a list, or a path where no file is.
    """
    if isinstance(data, str) and data != "-" and not os.path.exists(data):
        raise DataError(
            f"predict takes a list of {what} or the path of a file, and there is no file {quoted(data)}; "
            "put what is asked in a list"
        )
    return isinstance(data, str | os.PathLike) or not is_empty(data)


def rows_for(count: int, batch_size: int) -> int:
    """Rows of a batch for `count` examples: no more than a power of two that holds them all.

    >>> rows_for(3, 32), rows_for(100, 32)
    (4, 32)
    """
    # A power of two, so that calls with 3, 5 and 7 texts run two programs, not three.
    return min(checks.whole_number(batch_size, "batch_size"), 1 << max(count - 1, 0).bit_length())
