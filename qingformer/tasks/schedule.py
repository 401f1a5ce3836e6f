"""The optimizer that fine-tuning starts from: AdamW, warmed up and let down in straight lines."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("qingformer")
class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that rises to `peak` over `warmup_steps` and falls to zero at `total_steps`, both linearly.

        rate(t) = peak * min((t + 1) / warmup_steps, max(0, (total_steps - t) / (total_steps - warmup_steps)))

    for step t from 0. Source: Devlin et al. 2018 (arXiv 1810.04805), appendix A.2.

    Example:
        >>> float(LinearWarmup(1.0, warmup_steps=4, total_steps=8)(1))
        0.5
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int) -> None:
        self.peak, self.warmup_steps, self.total_steps = peak, warmup_steps, total_steps

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rise = (step + 1.0) / max(1, self.warmup_steps)
        fall = (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps)
        return self.peak * keras.ops.clip(keras.ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The three arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "total_steps": self.total_steps}


def default_optimizer(learning_rate: float, total_steps: int) -> keras.optimizers.Optimizer:
    """AdamW with a tenth of the steps as warm-up, decay 0.01 (not of biases and norms), gradient norm at most 1.

    Source: Loshchilov and Hutter 2017 (arXiv 1711.05101); settings of Devlin et al. 2018 (arXiv 1810.04805).
    """
    schedule = LinearWarmup(learning_rate, max(1, total_steps // 10), total_steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0, epsilon=1e-6)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
