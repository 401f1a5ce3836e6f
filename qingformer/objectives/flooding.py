"""Flooding: keep the training loss from sinking below a level."""

import keras
from keras import ops

from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.outputs import Output, Outputs, Term
from qingformer.objectives.transform_arguments import not_negative
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class Flooding(Transform):
    """Turn the gradient round where the loss L of a batch is below the level b: descent above, ascent below.

        |L - b| + b

    With `per_sample=True` every entry l_i of an output's loss (a row, or a position of a sequence) has its own flood,
    which is then weighted and averaged as the loss is: `mean_i w_i (|l_i - b| + b)`. There the term is a value to
    differentiate; the plain form multiplies the gradient underneath by the sign of L - b, whatever made that gradient.
    The logged loss is the flooded one, and never below b (plain form).

    Args:
        level: the level b, in the units of the loss, >= 0; 0 is plain training where the loss is never negative.
        per_sample: flood each entry instead of the mean of the batch.

    Raises:
        ConfigError: a level that cannot be; in `compile` with `per_sample`, a model without a loss on its outputs.

    Source: Ishida et al. 2020, arXiv 2002.08709; 科学空间, archives/7643; each sample by itself: Xie et al. 2022,
    "iFlood: A Stable and Effective Regularizer" (ICLR).

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[Flooding(0.1)])
    """

    def __init__(self, level: float, per_sample: bool = False) -> None:
        self.level = not_negative("Flooding", "level", level)
        self.per_sample = bool(per_sample)

    def __call__(self, objective: Objective) -> Objective:
        """The flooded objective."""
        return (_FloodedSamples if self.per_sample else _Flooded)(objective, self.level)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"level": self.level, "per_sample": self.per_sample}


class _Flooded(TransformedObjective):
    def __init__(self, objective: Objective, level: float) -> None:
        super().__init__(objective)
        self.level = level

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        loss, aux = self.objective(trainable, state, batch)
        return self._flooded(loss, aux, state)

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        (loss, aux), gradients = self.objective.value_and_grad(trainable, state, batch)
        sign = ops.sign(loss / ops.cast(state.scale, loss.dtype) - self.level)
        return self._flooded(loss, aux, state), [g * ops.cast(sign, g.dtype) for g in gradients]

    def _flooded(self, loss: Tensor, aux: Aux, state: State) -> tuple[Tensor, Aux]:
        level = self.level * ops.cast(state.scale, loss.dtype)
        logged = ops.abs(aux.loss - self.level) + self.level
        return ops.abs(loss - level) + level, aux._replace(loss=logged)


class _FloodedSamples(TransformedObjective):
    def __init__(self, objective: Objective, level: float) -> None:
        super().__init__(objective)
        self.level = level
        self.outputs = Outputs(self.model, "Flooding")

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        loss, aux = self.objective(trainable, state, batch)
        terms = [(output, self._below(output)) for output in self.outputs.found]
        added = self.outputs.total(terms, batch, aux.predictions)
        scaled = ops.cast(added * ops.cast(state.scale, added.dtype), loss.dtype)
        return loss + scaled, aux._replace(loss=aux.loss + ops.cast(added, aux.loss.dtype))

    def _below(self, output: Output) -> Term:
        """|l - b| + b = l + 2 max(b - l, 0): what is added to the loss that is there already."""

        def below(labels: Tensor, predicted: Tensor) -> Tensor:
            return 2 * ops.relu(self.level - ops.cast(output.loss.call(labels, predicted), "float32"))

        return below
