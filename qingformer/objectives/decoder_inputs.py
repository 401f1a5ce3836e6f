"""Where the target side of a sequence-to-sequence batch is: in its own decoder input, or behind the source."""

from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.types import Nest, Tensor

DECODER_TOKENS, TOKENS, SEGMENTS = "decoder_token_ids", "token_ids", "segment_ids"


class DecoderInputs:
    """The inputs of `model` that say what the decoder reads.

    With a decoder of its own (the input `decoder_token_ids`) every position but the first, which holds the start
    token, is target; padding is what `decoder_padding_mask` or, without it, the id 0 says. Otherwise source and target
    share `token_ids`, and the target is where `segment_ids` is 1 (UniLM); with `segments=""` it is everything but the
    first position and the padding (a causal language model). `who` is the trick that asks, for its errors.

    Raises:
        ConfigError: an input that the model does not have.
    """

    def __init__(self, model: keras.Model, who: str, tokens: str | None = None, segments: str | None = None) -> None:
        self.who = who
        self.names = input_names(model)
        self.tokens = tokens or (DECODER_TOKENS if DECODER_TOKENS in self.names else TOKENS)
        self.segments = segments if segments is not None else "" if self.tokens == DECODER_TOKENS else SEGMENTS
        self._check(self.tokens, "token_input")
        if self.segments:
            self._check(self.segments, "segment_input")
        prefix = "decoder_" if self.tokens.startswith("decoder_") else ""
        self.mask = f"{prefix}padding_mask" if f"{prefix}padding_mask" in self.names else ""
        self.source = TOKENS if self.tokens != TOKENS and TOKENS in self.names else ""
        self.source_mask = "padding_mask" if self.source and "padding_mask" in self.names else ""
        self.dtypes = dict(zip(self.names, (x.dtype for x in model.inputs)))

    def _check(self, name: str, argument: str) -> None:
        if name not in self.names:
            without = " (segment_input='' for a causal language model)" if argument == "segment_input" else ""
            raise ConfigError(
                f"{self.who}: the model has no input {name!r}; name one with {argument}=, "
                f"there are {', '.join(self.names)}{without}"
            )

    def read(self, x: Nest, name: str) -> Tensor:
        """The input `name` of the nest `x`, in the dtype of the model."""
        if isinstance(x, dict):
            if name not in x:
                raise ConfigError(f"{self.who}: the data has no input {name!r}; it has {', '.join(map(str, x))}")
            found = x[name]
        else:
            found = keras.tree.flatten(x)[self.names.index(name)]
        return ops.cast(found, self.dtypes[name])

    def replace(self, x: Nest, tokens: Tensor) -> Any:
        """The nest `x` with other decoder tokens."""
        if isinstance(x, dict):
            return {**x, self.tokens: tokens}
        flat = list(keras.tree.flatten(x))
        flat[self.names.index(self.tokens)] = tokens
        return keras.tree.pack_sequence_as(x, flat)

    def target(self, x: Nest) -> Tensor:
        """Where a target token is read: bool (B, T)."""
        ids = self.read(x, self.tokens)
        if self.segments:
            return self.read(x, self.segments) == 1
        return self.not_padding(x) & (ops.arange(ops.shape(ids)[1]) > 0)[None]

    def not_padding(self, x: Nest) -> Tensor:
        """Where the decoder's input holds a token: bool (B, T)."""
        return self.read(x, self.mask) > 0 if self.mask else self.read(x, self.tokens) != 0

    def source_tokens(self, x: Nest) -> tuple[Tensor, Tensor] | None:
        """Ids (B, S) and bool (B, S) of an encoder with an input of its own."""
        if not self.source:
            return None
        ids = self.read(x, self.source)
        return ids, self.read(x, self.source_mask) > 0 if self.source_mask else ids != 0


def input_names(model: keras.Model) -> list[str]:
    """The names of the flat inputs: the keys of a dictionary, otherwise the names of `keras.Input`."""
    if isinstance(model.input, dict):
        return [str(name) for name in keras.tree.flatten({key: key for key in model.input})]
    return [str(x.name) for x in model.inputs]
