"""Attention masks: True keeps a key, False hides it. Shapes broadcast to (batch, heads, queries, keys)."""

from keras import ops

from qingformer.types import Tensor


def padding_mask_from_ids(token_ids: Tensor, pad_token_id: int | None = 0) -> Tensor:
    """Mask of the positions that are not padding: token_ids != pad, and position 0 always kept.

    Without a padding token (None) everything is kept. Position 0 is kept whatever its token, so that no row is without
    a key (and because start symbols may share the id of padding). `token_ids` (B, T) integer; returns (B, T) int32, 1 =
    keep.

    Example: `padding_mask_from_ids(ops.array([[101, 7, 102, 0]]))` gives `[[1, 1, 1, 0]]`
    """
    if pad_token_id is None:
        return ops.ones_like(token_ids, dtype="int32")
    # The first position stays visible also in an empty text, so that attention has something to average.
    first = ops.arange(ops.shape(token_ids)[1], dtype="int32") == 0
    return ops.cast(ops.logical_or(token_ids != pad_token_id, first[None, :]), "int32")


def keys_mask(padding_mask: Tensor) -> Tensor:
    """Hide padding keys from every query: (B, T) integer or bool to (B, 1, 1, T) bool."""
    return ops.cast(padding_mask, "bool")[:, None, None, :]


def causal_mask(length: int | Tensor) -> Tensor:
    """Mask of a language model, keep(j, k) = [k <= j]: (1, 1, T, T) bool.

    Example: `causal_mask(3)`
    """
    index = ops.arange(length, dtype="int32")
    return (index[None, :] <= index[:, None])[None, None]


def others_mask(length: int | Tensor) -> Tensor:
    """Mask that hides every position from itself: (1, 1, T, T) bool, False on the diagonal.

    Source: Shin et al. 2020 (T-TA), arXiv 2004.08097.

    Example: `others_mask(3)`
    """
    index = ops.arange(length, dtype="int32")
    return (index[None, :] != index[:, None])[None, None]


def unilm_mask(segment_ids: Tensor) -> Tensor:
    """Mask of a prefix language model: keep(j, k) = [c_k <= c_j] with c = cumsum(segment_ids).

    Source rows (segment 0) see the whole source, target rows (segment 1) see the source and the target up to
    themselves; all zeros is bidirectional, all ones is causal. `segment_ids` (B, T) integer; returns (B, 1, T, T) bool.
    Source: Dong et al. 2019, arXiv 1905.03197; 科学空间 archives/6933.

    Example: `unilm_mask(ops.array([[0, 0, 1, 1]]))`
    """
    # 0 0 0 1 1 1 becomes 0 0 0 1 2 3: the source sees itself whole, the target what is before it.
    order = ops.cumsum(ops.cast(segment_ids, "int32"), axis=1)
    return (order[:, None, :] <= order[:, :, None])[:, None]


def masked_scores(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Replace hidden scores by a large finite negative number, so that a row without any key stays finite.

    `scores` (B, N, Tq, Tk) float32; `mask` broadcastable to it, bool, or None.
    """
    return scores if mask is None else ops.where(mask, scores, ops.cast(-1e30, scores.dtype))
