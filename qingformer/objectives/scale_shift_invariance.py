"""WEISSI: a penalty on weights that does not change when scale moves from one layer to another."""

import keras
from keras import ops

from qingformer.objectives.transform_arguments import not_negative
from qingformer.objectives.weight_penalty import KERNELS, WeightPenalty
from qingformer.types import Config, Tensor

_NOTHING = 1e-30  # a sum of squares that counts as no weight at all


@keras.saving.register_keras_serializable("qingformer")
class ScaleShiftInvariance(WeightPenalty):
    """Penalise kernels in a way that is blind to moving scale between layers (WEISSI).

        norm_strength * sum_l log ||W_l||_F + shape_strength * sum_l || W_l / ||W_l||_F ||_1

    A network with positively homogeneous activations (ReLU) is the same function after W_l -> c_l W_l with the product
    of all c_l equal to 1, if the bias of layer l is multiplied by c_1 ... c_l. The sum of squares changes under this,
    so L2 can shrink without any change of the function; both sums above stay as they are. A kernel that is zero
    everywhere contributes nothing, in value and gradient.

    Args:
        norm_strength: factor of the first sum (the paper's lambda_1), >= 0.
        shape_strength: factor of the second sum (lambda_2), >= 0.
        pattern: regular expression searched in the paths of the variables; by default what is called kernel.

    Raises:
        ConfigError: a negative strength; in `compile`, a pattern that fits no trainable variable.

    Source: Liu et al. 2020, arXiv 2008.02965; 科学空间, archives/7681.

    Example:
        >>> transforms = [ScaleShiftInvariance(1e-3, 1e-4)]
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=transforms)
    """

    def __init__(self, norm_strength: float = 1e-3, shape_strength: float = 1e-4, pattern: str = KERNELS) -> None:
        super().__init__(pattern)
        self.norm_strength = not_negative("ScaleShiftInvariance", "norm_strength", norm_strength)
        self.shape_strength = not_negative("ScaleShiftInvariance", "shape_strength", shape_strength)

    def penalty(self, weight: Tensor) -> Tensor:
        """norm_strength * log ||W||_F + shape_strength * ||W||_1 / ||W||_F."""
        squares = ops.sum(weight**2)
        squares = ops.where(squares > _NOTHING, squares, 1.0)
        # The sign as a constant, because the slope of `abs` at 0 is 1 on JAX: zeros would be pushed below zero.
        absolute = ops.sum(weight * ops.stop_gradient(ops.sign(weight)))
        return self.norm_strength * ops.log(squares) / 2 + self.shape_strength * absolute / ops.sqrt(squares)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        strengths = {"norm_strength": self.norm_strength, "shape_strength": self.shape_strength}
        return {**strengths, **super().get_config()}
