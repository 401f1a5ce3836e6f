"""Label smoothing for whole-number labels, which Keras' sparse cross entropy lacks."""

import keras
from keras import losses, ops

from qingformer.errors import ConfigError
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.outputs import Output, Outputs, Term
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class LabelSmoothing(Transform):
    """Train towards (1 - rate) * onehot(y) + rate / K instead of onehot(y), for labels y that are class numbers.

        -sum_k ((1 - rate) [k = y] + rate / K) log p_k  =  -log p_y + rate * (z_y - mean_k z_k)

    with the logits z, or z = log p where the outputs are probabilities (at least 1e-7). The second form is what is
    computed: it needs no one-hot matrix over a vocabulary. Weights, masks, the ignored class and the divisor are those
    of the output's own loss. It acts on every output with a sparse categorical cross entropy; for the dense and the
    binary ones Keras has `label_smoothing=`. List it before transforms that make passes of their own.

    Args:
        rate: share of the probability that is spread over all K classes, in [0, 1).

    Raises:
        ConfigError: a rate outside of [0, 1); in `compile`, a model without a sparse categorical cross entropy.

    Source: Szegedy et al. 2015, arXiv 1512.00567.

    Example:
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss, transforms=[LabelSmoothing(0.1)])
    """

    def __init__(self, rate: float = 0.1) -> None:
        if not 0 <= rate < 1:
            raise ConfigError(f"LabelSmoothing: rate is {rate}; it must be in [0, 1)")
        self.rate = float(rate)

    def __call__(self, objective: Objective) -> Objective:
        """The objective with smoothed labels."""
        return _Smoothed(objective, self.rate)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {"rate": self.rate}


class _Smoothed(TransformedObjective):
    def __init__(self, objective: Objective, rate: float) -> None:
        super().__init__(objective)
        self.rate = rate
        self.outputs = Outputs(self.model, "LabelSmoothing")
        self.sparse = [o for o in self.outputs.found if o.function is losses.sparse_categorical_crossentropy]
        if not self.sparse:
            there = "; ".join(f"{output.name}: {output.loss.name}" for output in self.outputs.found)
            raise ConfigError(
                "LabelSmoothing: no output has a sparse categorical cross entropy; the others have Keras' own "
                f"label_smoothing= (losses: {there})"
            )

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        loss, aux = self.objective(trainable, state, batch)
        terms = [(output, _gap(output)) for output in self.sparse]
        added = self.rate * self.outputs.total(terms, batch, aux.predictions)
        scaled = ops.cast(added * ops.cast(state.scale, added.dtype), loss.dtype)
        return loss + scaled, aux._replace(loss=aux.loss + ops.cast(added, aux.loss.dtype))


def _gap(output: Output) -> Term:
    """How far the label's logit is above the mean of all."""

    def gap(labels: Tensor, predicted: Tensor) -> Tensor:
        z = ops.cast(predicted, "float32")
        if not output.option("from_logits", False):
            z = ops.log(ops.clip(z, 1e-7, 1.0))
        places = ops.cast(ops.reshape(labels, (*ops.shape(z)[:-1], 1)), "int32")
        return ops.squeeze(ops.take_along_axis(z, places, axis=-1), -1) - ops.mean(z, axis=-1)

    return gap
