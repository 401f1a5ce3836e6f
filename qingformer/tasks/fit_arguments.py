"""Checks of the transforms, optimizer and callbacks given to `fit`, before anything else is done."""

from collections.abc import Iterable, Mapping

import keras

from qingformer.errors import ConfigError
from qingformer.objectives import Transform
from qingformer.objectives.named_transforms import NAMED
from qingformer.optimizers import AdjustableRate, chain
from qingformer.types import LearningRate

_CHANGE_RATES = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)


def check_arguments(
    transforms: object,
    optimizer: object,
    learning_rate: LearningRate,
    callbacks: Iterable[keras.callbacks.Callback] | None,
) -> None:
    """Refuse arguments that `fit` cannot use.

    Raises:
        ConfigError: names the argument and what to write in its place.
    """
    check_transforms(transforms)
    callbacks = _listed(callbacks)
    if optimizer is None:
        _check_averages(None, callbacks)
        return
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ConfigError(
            f"optimizer is {_shown(optimizer)}; give an optimizer, such as keras.optimizers.AdamW(1e-4), or leave it "
            "out and say learning_rate="
        )
    if learning_rate is not None:
        raise ConfigError(
            f"optimizer= and learning_rate={_shown(learning_rate)} are both given; write the rate into the optimizer: "
            f"{type(optimizer).__name__}({_shown(learning_rate)})"
        )
    _check_callbacks(optimizer, callbacks)
    _check_averages([*chain(optimizer)][-1], callbacks)


def check_transforms(transforms: object) -> None:
    """Refuse anything but a list of transforms; the error shows how to write one.

    Raises:
        ConfigError: one transform without a list, names in the place of objects, classes, or other things.

    Example:
        >>> check_transforms([])
    """
    if isinstance(transforms, Transform | str):
        written = _call(transforms)
        raise ConfigError(f"transforms is {_shown(transforms)}; give a list: transforms=[{written}]")
    if not isinstance(transforms, Iterable) or isinstance(transforms, Mapping):
        raise ConfigError(f"transforms is {_shown(transforms)}; give a list, such as transforms=[qf.FGM()]")
    for each in transforms if isinstance(transforms, list | tuple) else ():
        if not isinstance(each, Transform):
            raise ConfigError(f"transforms holds {_shown(each)}; give an object: transforms=[{_call(each)}]")


def _listed(callbacks: object) -> list[keras.callbacks.Callback]:
    """The callbacks; none for None, as in Keras."""
    if not isinstance(callbacks, Iterable | None):
        raise ConfigError(f"callbacks is {_shown(callbacks)}; give a list: callbacks=[keras.callbacks.CSVLogger(...)]")
    listed = list(callbacks or ())
    for each in listed:
        if not isinstance(each, keras.callbacks.Callback):
            raise ConfigError(
                f"callbacks holds {_shown(each)}; give objects, such as keras.callbacks.CSVLogger('x.csv')"
            )
    return listed


def _check_averages(optimizer: object, callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """`SwapEMAWeights` needs an optimizer with averages; Keras raises only after the first epoch."""
    if not getattr(optimizer, "use_ema", False) and any(
        isinstance(c, keras.callbacks.SwapEMAWeights) for c in callbacks
    ):
        raise ConfigError(
            "SwapEMAWeights needs an optimizer that averages: optimizer=keras.optimizers.AdamW(1e-4, use_ema=True)"
        )


def _check_callbacks(optimizer: keras.optimizers.Optimizer, callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """A callback cannot change a schedule; Keras raises only at the end of the epoch in which one tries."""
    changing = [each for each in callbacks if isinstance(each, _CHANGE_RATES)]
    schedule = [*chain(optimizer)][-1]._learning_rate
    if changing and callable(schedule) and not isinstance(schedule, keras.Variable | AdjustableRate):
        raise ConfigError(
            f"{type(changing[0]).__name__} sets the learning rate, but that of {type(optimizer).__name__} is a "
            "schedule; give the optimizer a number, or qf.optimizers.AdjustableRate(schedule)"
        )


def _call(transform: object) -> str:
    """How the object is written that was meant."""
    if isinstance(transform, type):
        return f"qf.{transform.__name__}()"
    if isinstance(transform, Transform):
        return f"{type(transform).__name__}(...)"
    name, _, value = str(transform).partition("=")
    made = NAMED.get(name.strip().lower().replace("-", "_"))
    if made is None:
        return "qf.FGM()"
    kind = made[1] if isinstance(made[1], type) else type(made[1]())
    return f"qf.{kind.__name__}({value[:20]})"


def _shown(value: object) -> str:
    if isinstance(value, Transform | keras.callbacks.Callback):
        return f"a single {type(value).__name__}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value)[:80]
