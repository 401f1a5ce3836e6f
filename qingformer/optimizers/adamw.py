"""AdamW as fine-tuning uses it: norms and biases do not decay. As a class of ours, and as Keras' class."""

import re
from collections.abc import Iterable
from typing import Any

import keras

from qingformer.optimizers.adam import Adam
from qingformer.optimizers.patterns import ELEMENTWISE
from qingformer.types import LearningRate

NOT_DECAYED = ("bias", "gamma", "beta")


def adamw(
    learning_rate: LearningRate = 2e-5,
    weight_decay: float = 0.01,
    not_decayed: Iterable[str] = NOT_DECAYED,
    **options: object,
) -> keras.optimizers.AdamW:
    """Keras' AdamW, whose decay spares biases and the gains and shifts of norms.

        m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,
        theta -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps),   and theta -= lr * weight_decay * theta

    It is exactly that class, so that torch runs its fused form. Defaults that differ from Keras': epsilon 1e-6,
    clipping at a global norm of 1, decay 0.01.

    Source: Loshchilov, Hutter 2017, arXiv 1711.05101; settings: Devlin et al. 2018, arXiv 1810.04805.

    Args:
        learning_rate: number or schedule.
        weight_decay: decay per step, times the learning rate.
        not_decayed: names of variables (the last part of their path) that are not decayed. This list is not part of
            Keras' optimizer configuration: a model loaded from a `.keras` file decays everything until compiled anew.
        options: passed to `keras.optimizers.AdamW`.

    Example:
        >>> model.compile(adamw(warmup_linear(2e-5, total_steps=3000)))
    """
    settings = {"epsilon": 1e-6} | options
    if not {"clipnorm", "global_clipnorm", "clipvalue"} & set(options):
        settings["global_clipnorm"] = 1.0
    optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, **settings)
    # Keras searches for these patterns in the name, which on TensorFlow is the whole path and ends in ":0".
    optimizer.exclude_from_weight_decay(var_names=[rf"(?:^|/){re.escape(n)}(?::\d+)?$" for n in not_decayed])
    return optimizer


@keras.saving.register_keras_serializable("qingformer")
class AdamW(Adam):
    """`Adam` with decay, which spares biases and the gains and shifts of norms.

        theta -= lr * (m' / (sqrt(v') + epsilon) + weight_decay * theta)

    What is spared is saved with a model, epsilon stands where the paper has it, the bias correction can be switched
    off, and bfloat16 weights have float32 state; `adamw` is the fused class of Keras on torch.

    Args:
        learning_rate: number or schedule.
        weight_decay: decoupled decay.
        exclude_from_weight_decay: regular expressions of paths that do not decay.
        options: those of `Adam` and `Optimizer`.

    Raises:
        ConfigError: an argument that cannot be.

    Source: Loshchilov, Hutter 2017, arXiv 1711.05101.

    Example:
        >>> model.compile(AdamW(warmup_linear(2e-5, total_steps=3000), global_clipnorm=1.0))
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        weight_decay: float | None = 0.01,
        exclude_from_weight_decay: Iterable[str] = ELEMENTWISE,
        **options: Any,
    ) -> None:
        super().__init__(
            learning_rate, weight_decay=weight_decay, exclude_from_weight_decay=exclude_from_weight_decay, **options
        )
