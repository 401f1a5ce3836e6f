"""What a block may use beside its hidden states, as one typed value."""

from typing import NamedTuple

from qingformer.types import Tensor, Tensors


class AttentionContext(NamedTuple):
    """The masks, positions and other sequences of a block; None for what a model does not have.

    - `attention_mask` bool, broadcastable to (B, N, T, T), True = keep; `bias` float, broadcastable to the same, is
      added to the scores; `rotary` (B or 1, T, 2, D/2) float32 is a table of `ops.rotary.rotary_table`.
    - `scores` (B, N, T, T) float: those of the block before, for attention with residual scores.
    - `condition` (B, c) float, on which conditional norms depend.
    - `context` (B, S, d) float: another sequence, with its `context_mask` and `context_bias`.

    A layer of a functional Keras model finds the tensors that flow into it among its arguments, and files of such
    models name them; therefore a context reaches a layer as keyword arguments: `block(x, **context.given())`.

    Example: `AttentionContext(attention_mask=ops.ones((1, 1, 1, 5), "bool")).given()`
    """

    attention_mask: Tensor | None = None
    bias: Tensor | None = None
    rotary: Tensor | None = None
    scores: Tensor | None = None
    condition: Tensor | None = None
    context: Tensor | None = None
    context_mask: Tensor | None = None
    context_bias: Tensor | None = None

    def given(self) -> Tensors:
        """The tensors that are there, by name."""
        return {name: tensor for name, tensor in self._asdict().items() if tensor is not None}

    def of_attention(self, crosses: bool = False) -> Tensors:
        """The arguments of the attention; the other sequence is its own unless the block `crosses` to it later."""
        # Only what is given: a layer of the user's own need not know of arguments that no model here uses.
        names = ("attention_mask", "bias", "rotary", "scores", *(() if crosses else ("context",)))
        given = self.given()
        return {name: given[name] for name in names if name in given}

    def of_cross_attention(self) -> Tensors:
        """The arguments of the cross attention."""
        return {"context": self.context, "attention_mask": self.context_mask, "bias": self.context_bias}
