"""How much memory a training step keeps for its backward pass, from the configuration alone."""

from qingformer.analysis.shape import EncoderSizes, Shape, shape_of


def activation_bytes(
    config: EncoderSizes, length: int, *, batch_size: int = 1, bytes_per_value: int = 4, recompute: bool = False
) -> int:
    """Bytes that a training step must keep between the forward and the backward pass (an estimate from above).

    Kept values per layer and sentence, with T, H, I as in `encoder_cost` and N attention heads:

        8 T H  [input, query, key, value, context, two sums before a norm, input of the feed-forward]
        + 2 T I [before and after the activation; with g > 1 gates (2 g + 1) T I]
        + 2 N T^2 [probabilities, and after dropout]  +  2 N T (2 l + 1) [relative positions]

    and 6 T H + 2 N T^2 for a look at an encoder. A gated attention unit of widths e and s keeps
    2 T H + 6 T e + 4 T s + 2 T^2. Before the first layer T H are kept. With `recompute` (gradient checkpointing) only
    the T H input of each layer stays, and one layer's values are alive at a time. A compiler that fuses recomputes some
    of these by itself.

    Args:
        config: as in `encoder_cost`.
        length: tokens per sentence.
        batch_size: sentences per step.
        bytes_per_value: 4 for float32, 2 for bfloat16.
        recompute: whether every layer is recomputed in the backward pass.

    Source: the accounting follows Korthikanti et al. 2022 (arXiv 2205.05198), section 4, without dropout's masks.

    Example:
        >>> from types import SimpleNamespace
        >>> tiny = SimpleNamespace(vocab_size=100, hidden_size=4, num_hidden_layers=1, num_attention_heads=2,
        ...                        intermediate_size=8, max_position_embeddings=16, type_vocab_size=2)
        >>> activation_bytes(tiny, 3)
        768
    """
    shape = shape_of(config)
    boundary = length * shape.hidden
    own = values_of_unit(shape, length) if shape.unit else values_of_block(shape, length)
    # Scores and weights of each head are the part that grows with the square of the length.
    cross = 6 * boundary + 2 * shape.heads * length * length
    if recompute:
        kept = shape.own * boundary + own + (cross if shape.crossed else 0)
    else:
        kept = shape.own * own + shape.crossed * cross
    return batch_size * bytes_per_value * (kept + shape.stacks * boundary)


def values_of_block(shape: Shape, length: int) -> int:
    """Kept values of attention and feed-forward of one layer."""
    inner = 2 if shape.gates == 1 else 2 * shape.gates + 1
    columns = length if shape.reach is None else length + 2 * min(shape.reach, length - 1) + 1
    return 8 * length * shape.hidden + inner * length * shape.inner + 2 * shape.heads * length * columns


def values_of_unit(shape: Shape, length: int) -> int:
    """Kept values of one gated attention unit."""
    return length * (2 * shape.hidden + 6 * shape.inner + 4 * shape.key + 2 * length)
