"""Transforms by name, as a command line or a settings file gives them: `fgm=0.5`."""

from collections.abc import Callable
from typing import Any

from qingformer.errors import ConfigError
from qingformer.objectives.child_tuning import ChildTuningF
from qingformer.objectives.child_tuning_fisher import ChildTuningD
from qingformer.objectives.clipping import ClipGradients
from qingformer.objectives.fgm import FGM
from qingformer.objectives.flooding import Flooding
from qingformer.objectives.gradient_accumulation import GradientAccumulation
from qingformer.objectives.gradient_penalty import GradientPenalty
from qingformer.objectives.noise import EmbeddingNoise
from qingformer.objectives.objective import Transform
from qingformer.objectives.pgd import PGD
from qingformer.objectives.r_drop import RDrop
from qingformer.objectives.scale_shift_invariance import ScaleShiftInvariance
from qingformer.objectives.smoothed_labels import LabelSmoothing
from qingformer.objectives.vat import VirtualAdversarialTraining
from qingformer.objectives.weight_penalty import L2Regularization

_RELATIVE = ("fgm", "pgd")  # whose number may be a share: 30%

# Name, what the number stands for, and how the transform is made of it (by default without).
NAMED: dict[str, tuple[str, Callable[..., Transform]]] = {
    "fgm": ("length of the perturbation", FGM),
    "pgd": ("radius of the ball", PGD),
    "vat": ("weight of the smoothness term", VirtualAdversarialTraining),
    "gradient_penalty": ("weight of the penalty", GradientPenalty),
    "r_drop": ("weight of the divergence", RDrop),
    "child_tuning": ("share of the gradient that is kept", ChildTuningF),
    "child_tuning_d": ("share of the weights that is trained", ChildTuningD),
    "flooding": ("level of the loss", lambda level=0.1: Flooding(level)),
    "label_smoothing": ("share of the label for all classes", LabelSmoothing),
    "embedding_noise": ("deviation of the noise", lambda stddev=0.1: EmbeddingNoise(stddev, positions="all")),
    "l2": ("strength", L2Regularization),
    "weissi": ("strength of the norms' logarithms", ScaleShiftInvariance),
    "accumulation": ("parts of a batch", lambda parts=2: GradientAccumulation(parts)),
    "clip": ("largest norm of the whole gradient", lambda norm=1.0: ClipGradients(global_norm=norm)),
}


def named_transform(text: str) -> Transform:
    """The transform that `text` names: `fgm` with its default, `fgm=0.3` with a number (see `NAMED`).

    For `fgm` and `pgd` a number in percent is the share of the length of a token's vector: `fgm=30%`.

    Raises:
        ConfigError: an unknown name, or something that is no number.

    Example:
        >>> named_transform("r_drop=4").alpha
        4.0
    """
    name, equals, value = text.partition("=")
    name = name.strip().lower().replace("-", "_")
    if name not in NAMED:
        raise ConfigError(f"{text}: {name!r} is not known; there is: {', '.join(NAMED)}, as in fgm=30%")
    arguments: list[Any] = []
    if equals:
        share = value.strip().endswith("%")
        if share and name not in _RELATIVE:
            raise ConfigError(f"{text}: only {' and '.join(_RELATIVE)} take a percentage; give a number")
        try:
            number = float(value.strip().removesuffix("%"))
        except ValueError:
            raise ConfigError(f"{text}: {value!r} is not a number") from None
        if share:
            return NAMED[name][1](relative=number / 100)
        arguments = [number]
    return NAMED[name][1](*arguments)
