"""Names for the types of values that the three libraries share no class for."""

from typing import Any, TypeAlias

import keras

# A tensor of the backend in use (`jax.Array`, `torch.Tensor`, `tf.Tensor`), or the symbolic `keras.KerasTensor` while a
# functional model is made: the libraries have no class in common, so a checker can be told no more than the name.
Tensor: TypeAlias = Any
# Tensors by name, as the inputs and outputs of a model are.
Tensors: TypeAlias = dict[str, Tensor]
# What Keras gives a layer as a shape: sizes, None where a size varies.
Shape: TypeAlias = tuple[int | None, ...]
# Whatever JSON can hold, as read from a file or given by `get_config`.
Config: TypeAlias = dict[str, Any]
# How a layer is told to fill its weights: an initialiser, its name, or the configuration that one was serialised to.
InitializerLike: TypeAlias = "str | Config | keras.initializers.Initializer | None"
# The numbers that a layer computes and keeps: a type, a policy such as "mixed_bfloat16", None for Keras' own choice.
DtypeLike: TypeAlias = "str | keras.DTypePolicy | None"
