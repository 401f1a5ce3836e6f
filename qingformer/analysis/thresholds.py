"""The lengths at which the parts of a model change places in cost."""

from dataclasses import dataclass

from qingformer.analysis.cost import feed_forward_weights, pair_weights, projection_weights, relative_weights
from qingformer.analysis.shape import EncoderSizes, shape_of

WIDER_HEADS = 4


@dataclass(frozen=True)
class AttentionThresholds:
    """Lengths in tokens; beyond each, the statement of its name holds, at it both sides cost the same.

    `attention_exceeds_feed_forward` is 0 where it does at any length, and None without a feed-forward part.
    `linear_attention_cheaper` compares the two ways to mix values and nothing else; `linear_attention_worthwhile` does
    so with heads that are four times as wide, which linear attention needs for equal quality.
    """

    attention_exceeds_feed_forward: float | None
    quadratic_exceeds_linear: float
    linear_attention_cheaper: float
    linear_attention_worthwhile: float


# Solved for the length: costs are polynomials of degree two in it.
def attention_thresholds(config: EncoderSizes) -> AttentionThresholds:
    """When attention, its quadratic part, and linear attention in its place matter, counted in multiply-adds.

    With p multiply-adds per token in the projections of attention, f in the feed-forward part, q per pair of tokens in
    scores and weighted sums (p = 4 H^2, f = 8 H^2, q = 2 H in BERT), and heads with keys of size k and values of
    size v (both d as a rule), at length n

        attention > feed-forward        p n + q n^2 > f n           n > (f - p) / q        2 H, 1536 in BERT-base
        quadratic > linear parts        q n^2 > (p + f) n           n > (p + f) / q        6 H, 4608
        linear attention Q (K^T V)      2 n k v < n^2 (k + v)       n > 2 k v / (k + v)    d, 64
        the same, heads 4 times wider   2 n (4 d)^2 < 2 n^2 d       n > 16 d               1024

    and beyond the last one the other linear parts still dominate: below about 2000 tokens there is little to win.
    Grouped queries, gates, relative positions and gated attention units enter p, f and q as in `encoder_cost`.

    Source: Su 2021, 科学空间 archives/8610.

    Example:
        >>> from types import SimpleNamespace
        >>> base = SimpleNamespace(vocab_size=21128, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        ...                        intermediate_size=3072, max_position_embeddings=512, type_vocab_size=2)
        >>> attention_thresholds(base).quadratic_exceeds_linear
        4608.0
    """
    shape = shape_of(config)
    pairs = max(1, pair_weights(shape))
    attention = projection_weights(shape) + relative_weights(shape, shape.reach)
    feed_forward = feed_forward_weights(shape)
    width = 2 * shape.key * shape.value / (shape.key + shape.value)
    return AttentionThresholds(
        attention_exceeds_feed_forward=max(0.0, (feed_forward - attention) / pairs) if feed_forward else None,
        quadratic_exceeds_linear=(attention + feed_forward) / pairs,
        linear_attention_cheaper=width,
        linear_attention_worthwhile=WIDER_HEADS**2 * width,
    )
