"""Names for the types of values that the libraries share no class for, or that have no shorter name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the command line uses these names before it imports Keras
    import keras

# A tensor of the backend in use (`jax.Array`, `torch.Tensor`, `tf.Tensor`), or the symbolic `keras.KerasTensor` while a
# functional model is made: the libraries have no class in common, so a checker can be told no more than the name.
Tensor: TypeAlias = Any
# A tensor, or lists, tuples and dictionaries of them, as models take and give.
Nest: TypeAlias = Any
# Tensors by name, as the inputs and outputs of a model are.
Tensors: TypeAlias = dict[str, Tensor]
# What Keras gives a layer as a shape: sizes, None where a size varies.
Shape: TypeAlias = tuple[int | None, ...]
# Whatever JSON can hold, as read from a file or given by `get_config`.
Config: TypeAlias = dict[str, Any]
# Arguments by name, to be passed on.
Options: TypeAlias = dict[str, Any]
# Either of the two, read only.
Values: TypeAlias = Mapping[str, Any]
# How a layer is told to fill its weights: an initialiser, its name, or the configuration that one was serialised to.
InitializerLike: TypeAlias = "str | Config | keras.initializers.Initializer | None"
# The numbers that a layer computes and keeps: a type, a policy such as "mixed_bfloat16", None for Keras' own choice.
DtypeLike: TypeAlias = "str | keras.DTypePolicy | None"
# A rate, or the schedule that gives it for each step, or the configuration that one was serialised to.
LearningRate: TypeAlias = "float | Config | keras.optimizers.schedules.LearningRateSchedule"
