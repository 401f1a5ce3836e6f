"""A learning rate for another batch size, with the reasons."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from qingformer.analysis.rate_laws import SignLaw, power_rate, sgd_rate
from qingformer.errors import ConfigError

LAWS = ("adam", "sgd", "power", "sqrt", "linear", "constant")


@dataclass(frozen=True)
class RateSuggestion:
    """A rate for the new batch size, the law that gave it, and the reasoning line by line.

    `steps` and `examples` are what a run at the new batch size takes, in units of the least of each.
    """

    rate: float
    factor: float
    law: str
    steps: float
    examples: float
    lines: tuple[str, ...]


def suggest_learning_rate(
    rate: float,
    batch_size: int,
    new_batch_size: int,
    noise_scale: float,
    law: str = "adam",
    *,
    beta_n: float = math.inf,
    exponent: float = 0.75,
) -> RateSuggestion:
    """Carry a rate that is good at one batch size over to another.

        constant  1                      linear  B' / B              sqrt   sqrt(B' / B)
        sgd       (1 + B_noise / B) / (1 + B_noise / B')             power  the same to the power alpha
        adam      eta*(B') / eta*(B) of `SignLaw` with kappa^2 = B_noise

    The rate at `batch_size` is taken to be the best one there; if it is half of that, so is what is suggested.

    Args:
        rate, batch_size: what is in use.
        new_batch_size: what to go to.
        noise_scale: `NoiseScale.value`, in examples, >= 0; infinite for the limit of noise alone.
        law: one of the names above; `adam` for all optimizers that divide by the gradient's own size.
        beta_n: of `SignLaw`; infinite (a diagonal Hessian) leaves out the fall of the rate at large batches.
        exponent: alpha of the law "power".

    Raises:
        ConfigError: an unknown law, or a number that cannot be.

    Source: 科学空间 archives/10542; McCandlish et al. 2018, arXiv 1812.06162; Li et al. 2024, arXiv 2405.14578; Goyal
    et al. 2017 (linear), arXiv 1706.02677; Krizhevsky 2014 (square root), arXiv 1404.5997.

    Example:
        >>> round(suggest_learning_rate(1e-3, 32, 128, noise_scale=96, law="sgd").rate, 6)
        0.002286
    """
    if law not in LAWS:
        raise ConfigError(f"law is {law!r}; it must be one of {', '.join(LAWS)}")
    if batch_size < 1 or new_batch_size < 1 or not 0 < rate < math.inf:
        raise ConfigError(f"rate {rate} at batch sizes {batch_size} and {new_batch_size}; all must be positive")
    if not noise_scale >= 0:
        raise ConfigError(f"noise_scale is {noise_scale}; it must be 0 or more")
    factor = _factor(law, batch_size, new_batch_size, noise_scale, beta_n, exponent)
    ratio = noise_scale / new_batch_size
    return RateSuggestion(
        rate=rate * factor,
        factor=factor,
        law=law,
        steps=1 + ratio,
        examples=math.inf if noise_scale == 0 else 1 + 1 / ratio,
        lines=(
            _about_noise(batch_size, noise_scale),
            _about_law(law, batch_size, new_batch_size, noise_scale, beta_n, exponent),
            f"By the law {law!r}, from {batch_size} to {new_batch_size} the rate changes by a factor of {factor:.3g}: "
            f"{rate:.3g} becomes {rate * factor:.3g}.",
            _about_cost(new_batch_size, noise_scale),
        ),
    )


def _factor(law: str, old: float, new: float, noise: float, beta_n: float, exponent: float) -> float:
    growth = new / old
    plain = {"constant": 1.0, "sqrt": math.sqrt(growth), "linear": growth}
    if law in plain:
        return plain[law]
    if math.isinf(noise):  # the limits of the laws
        return {"sgd": growth, "power": growth**exponent, "adam": math.sqrt(growth)}[law]
    if law == "adam":
        if noise == 0:
            return 1.0
        rates: Callable[[float], float] = SignLaw(math.sqrt(noise), beta_n).rate
    elif law == "sgd":
        rates = lambda size: sgd_rate(size, noise)  # noqa: E731
    else:
        rates = lambda size: power_rate(size, noise, exponent)  # noqa: E731
    return rates(new) / rates(old)


def _about_noise(size: int, noise: float) -> str:
    if math.isinf(noise):
        return (
            "The mean gradient does not stand out of its noise: the noise scale is larger than this data can show, and "
            "every batch here is far below it."
        )
    share = f"The gradient noise scale is {noise:.3g} examples; a batch of {size} is "
    if noise == 0:
        return "The gradients of all examples are the same: there is no noise that a larger batch could average away."
    if size < noise / 3:
        return share + f"{size / noise:.2g} of it, so a step follows noise more than the gradient."
    if size > 3 * noise:
        return share + f"{size / noise:.2g} times as large, so a step follows the gradient already."
    return share + f"{size / noise:.2g} times that, so gradient and noise have a like share in a step."


def _about_law(law: str, old: int, new: int, noise: float, beta_n: float, exponent: float) -> str:
    if law == "constant":
        return "The rate is kept, whatever the batch size."
    if law == "linear":
        return "Linear law: steps of SGD in noise add up, so half as many may be twice as long; it has no upper end."
    if law == "sqrt":
        return "Square-root law: the variance of a step, rate^2 / B, stays the same; it has no upper end."
    if math.isinf(noise):
        return {"sgd": "In the limit SGD's law is linear.", "adam": "In the limit Adam's law is the square root."}.get(
            law, f"In the limit the law is (B' / B)^{exponent:g}."
        )
    if law == "sgd":
        return (
            f"SGD: the best rate is proportional to 1 / (1 + B_noise / B), linear below {noise:.3g} examples and "
            f"constant far above; a batch of {new} reaches {sgd_rate(new, noise):.0%} of the largest rate."
        )
    if law == "power":
        return f"Power law: SGD's factor to the power {exponent:g}, which was seen to fit Adam."
    if noise == 0:
        return "Adam: without noise the best rate is the same at every batch size."
    sign = SignLaw(math.sqrt(noise), beta_n)
    turn = math.pi * noise / 2
    line = (
        f"Adam moves by the sign of the gradient: the best rate grows as the square root of B well below "
        f"pi/2 B_noise = {turn:.3g} examples and is constant well above"
    )
    if math.isinf(sign.surge_batch_size):
        return f"{line}; a batch of {new} reaches {sign.rate(new) / sign.rate_max:.0%} of the largest rate."
    return f"{line}; with beta_n = {beta_n:g} it is largest at {sign.surge_batch_size:.3g} and falls beyond."


def _about_cost(size: int, noise: float) -> str:
    if math.isinf(noise):
        return "Twice the batch then halves the steps at the same number of examples."
    if noise == 0:
        return "The number of steps does not depend on the batch size; the smallest batch costs least."
    return (
        f"A run at {size} takes {1 + noise / size:.3g} times the least number of steps and {1 + size / noise:.3g} "
        "times the least number of examples."
    )
