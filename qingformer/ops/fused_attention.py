"""Attention by the kernel of the library in use, which never holds the matrix of scores."""

from keras import ops

from qingformer.ops.attention_weights import entropy_scale
from qingformer.ops.masking import masked_scores
from qingformer.types import Tensor


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float = 1.0,
    normalization: str = "softmax",
) -> Tensor:
    """softmax(scale Q K^T + bias + mask) V for `query` (B, Tq, N, D), `key` and `value` (B, Tk, N, D): (B, Tq, N, D).

    `mask` bool and `bias` float are broadcastable to (B, N, Tq, Tk); `normalization` is "softmax" or "softmax_plus".
    A query without any key averages all of them, see `zero_rows_without_keys`.

    Example: `fused_attention(*[ops.ones((1, 5, 2, 4))] * 3, scale=0.5)`
    """
    if normalization == "softmax_plus":
        # The kernel has no place between scores and softmax, so the factor goes into the queries and the bias, which
        # are all that the scores are made of. Of queries alone: a row has one number of keys.
        factor = entropy_scale(ops.shape(key)[1], mask)
        bias = None if bias is None else bias * ops.cast(factor, bias.dtype)
        factor = factor if mask is None else ops.transpose(factor, (0, 2, 1, 3))  # (B, 1, Tq, 1) to (B, Tq, 1, 1)
        query = query * ops.cast(factor, query.dtype)
    if bias is not None:
        # PyTorch's kernel refuses a mask beside a bias, and JAX's wants the whole batch: the mask becomes part of it.
        wide = ops.add(ops.cast(bias, "float32"), ops.zeros((ops.shape(query)[0], 1, 1, 1)))
        mask, bias = None, ops.cast(masked_scores(wide, mask), query.dtype)
    return ops.dot_product_attention(query, key, value, bias=bias, mask=mask, scale=scale)
