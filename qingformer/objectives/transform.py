"""What all our models share when they are trained with Keras: losses and gradients that are means over examples."""

from typing import Any

import keras
from keras import ops

from qingformer import backend
from qingformer.backend.keras_internals import no_automatic_dependency_tracking
from qingformer.losses.means import CompiledLosses, LossMean, divisor, rows_with_weight
from qingformer.objectives.indices import check_indices, check_labels, index_limits
from qingformer.optimizers.adjustable import bind_rates
from qingformer.optimizers.wrapper import chain
from qingformer.types import Config, Nest


class BaseModel(keras.Model):
    """A `keras.Model` that trains to the same numbers on every backend, however its batches are padded.

    - Data that fills up batches with rows of weight 0 and says so (`pads_rows`, as `PaddedBatches` does): losses,
      gradients and what `fit` reports are means over the other rows (see `CompiledLosses`).
    - A model with layers in float16 gets a `LossScaleOptimizer`, wherever in it the policy was set.
    - Indices beyond a table of embeddings are refused where they are known: in direct calls, and in data of `fit`,
      `evaluate` and `predict` that are arrays or `PaddedBatches`.
    - On TensorFlow optimizers get dense gradients (see `backend.train_step`).
    """

    _compile_loss: Any
    optimizer: Any

    @no_automatic_dependency_tracking  # as Keras' own: metrics are listed once
    def compile(
        self, optimizer: object = "rmsprop", *args: object, auto_scale_loss: bool = True, **kwargs: object
    ) -> None:
        """`keras.Model.compile`."""
        super().compile(optimizer, *args, auto_scale_loss=False, **kwargs)
        if self._compile_loss is not None:
            self._compile_loss = CompiledLosses(self._compile_loss)
        self._loss_tracker = LossMean()
        if self.optimizer is not None:
            bind_rates(self.optimizer)
            if auto_scale_loss and _in_float16(self) and not _scales_loss(self.optimizer):
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer, name="loss_scale_optimizer")

    def fit(self, x: Nest = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """`keras.Model.fit`."""
        self._read_padding(x, *args, *kwargs.values())
        self._check_data(x, args[0] if args else kwargs.get("y"))
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Nest = None, *args: object, **kwargs: object) -> Any:
        """`keras.Model.evaluate`."""
        if not kwargs.get("_use_cached_eval_dataset"):  # within `fit`
            self._read_padding(x)
            self._check_data(x, args[0] if args else kwargs.get("y"))
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Nest, *args: object, **kwargs: object) -> Any:
        """`keras.Model.predict`."""
        self._check_data(x)
        return super().predict(x, *args, **kwargs)

    def __call__(self, inputs: Nest, *args: object, **kwargs: object) -> Nest:
        self._check_data(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def train_step(self, *arguments: object) -> Any:
        """One step in the form of the backend: `(state, data)` on JAX, `(data)` elsewhere."""
        if backend.name() == "tensorflow" and self.optimizer is not None and self.trainable_weights:
            return backend.train_step(self, *arguments)
        return super().train_step(*arguments)

    def compute_metrics(self, x: Nest, y: Nest, y_pred: Nest, sample_weight: Nest = None) -> Config:
        """Keras' metrics, after the loss of the batch has been given its weight."""
        self._loss_tracker.settle(self.batch_weight(y, y_pred, sample_weight) if self._only_weighted else None)
        found: Config = super().compute_metrics(x, y, y_pred, sample_weight)
        return found

    def batch_weight(self, y: Nest, y_pred: Nest, sample_weight: Nest) -> Any:
        """How many examples (for losses of tokens: tokens) the loss of a batch is the mean of; None for all rows."""
        losses = self._compile_loss._flat_losses or []
        if len(losses) == 1 and not keras.tree.is_nested(y) and not keras.tree.is_nested(y_pred):
            found = divisor(losses[0].loss.loss, y, y_pred, sample_weight, only_weighted=True)
            if found is not None:
                return found
        return rows_with_weight(sample_weight)

    def _check_data(self, x: Nest, y: Nest = None) -> None:
        if not hasattr(self, "_inputs_struct"):  # not functional, or not made yet
            return
        if getattr(self, "_index_limits", None) is None:
            object.__setattr__(self, "_index_limits", index_limits(self))
        check_indices(x, self._index_limits, self.input_names if hasattr(self, "input_names") else [])
        if y is not None:
            check_labels(y, self.output, self.loss if self.compiled else None)

    @property
    def _only_weighted(self) -> bool:
        return self._compile_loss is not None and self._compile_loss.only_weighted

    def _read_padding(self, *data: Nest) -> None:
        """Let losses be means over rows with a weight if one of the data sets pads, and over all rows otherwise."""
        pads = any(getattr(each, "pads_rows", False) for each in data)
        if self._compile_loss is not None and pads != self._only_weighted:
            self._compile_loss.only_weighted = pads
            self.train_function = self.test_function = None  # those were made with the other mean


def weigh_batch(optimizer: keras.optimizers.Optimizer, weight: object) -> list[tuple[keras.Variable, Any]]:
    """Which variables of an optimizer that puts batches together are to hold the weight of a batch, and its value."""
    return [
        (each.batch_weight, ops.cast(weight, "float32")) for each in chain(optimizer) if hasattr(each, "batch_weight")
    ]


def _in_float16(model: keras.Model) -> bool:
    return any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers())


def _scales_loss(optimizer: keras.optimizers.Optimizer) -> bool:
    return any(isinstance(each, keras.optimizers.LossScaleOptimizer) for each in chain(optimizer))
