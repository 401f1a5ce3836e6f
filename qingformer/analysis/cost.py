"""Parameters, floating-point operations and activation memory of a BERT-like encoder, from its configuration alone."""

from dataclasses import dataclass
from typing import Protocol

from qingformer.errors import ConfigError


class EncoderSizes(Protocol):
    """The configuration keys that decide what an encoder costs."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def type_vocab_size(self) -> int: ...


@dataclass(frozen=True)
class EncoderCost:
    """What one encoder costs: parameters by part (a count), floating-point operations per sentence, activation bytes.

    `forward_flops` counts a multiply-add as two operations and matrix products only: norms, activations, softmax
    and lookups are a few per cent in any size that is used, and no two libraries count them alike.
    """

    parameters: dict[str, int]
    forward_flops: dict[str, int]
    activation_bytes: int
    length: int

    @property
    def total_parameters(self) -> int:
        """Sum of all parts."""
        return sum(self.parameters.values())

    @property
    def total_forward_flops(self) -> int:
        """Operations of one prediction of one sentence."""
        return sum(self.forward_flops.values())

    @property
    def total_training_flops(self) -> int:
        """Operations of one training step per sentence: 3 times the forward pass.

        A product `C = A B` of the forward pass has two in the backward pass, `dA = dC B^T` and `dB = A^T dC`, each as
        large as itself.
        """
        return 3 * self.total_forward_flops


def encoder_cost(config: EncoderSizes, length: int, *, num_labels: int = 0, pooler: bool | None = None) -> EncoderCost:
    """Count what `config` costs for one sentence of `length` tokens.

    With T = length, H = hidden size, I = intermediate size, L = layers, A and K = all heads' values and keys together
    (both H as a rule), E = width of the embeddings (H as a rule), C = labels, and 2mnk operations for a product of an
    (m, k) with a (k, n) matrix, the forward pass takes

        2 T E H [where E is not H]  +  L * (4 T H (A + K) [query, key, value, output]
        + 2 T^2 (A + K) [scores, weighted sum]  +  4 T H I [feed-forward])
        + 2 H^2 [pooler, one position] + 2 H C [classifier]

    For A = K = H that is L (8 T H^2 + 4 T^2 H + 4 T H I): the quadratic part overtakes the projections and the
    feed-forward together at T = 2H + I (4608 tokens in BERT-base).

    Args:
        config: anything with the keys of `EncoderSizes`, such as a backbone's configuration.
        length: tokens per sentence, special tokens included.
        num_labels: outputs of a classification layer on top; 0 for none.
        pooler: whether there is a dense layer on the first position; None for what the configuration says.

    Raises:
        ConfigError: the length is below 1 or the number of labels is negative.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), table 1, for the order; the constants are counted here.

    Example:
        >>> from types import SimpleNamespace
        >>> base = SimpleNamespace(vocab_size=21128, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        ...                        intermediate_size=3072, max_position_embeddings=512, type_vocab_size=2)
        >>> encoder_cost(base, 128).total_parameters
        102267648
    """
    if length < 1:
        raise ConfigError(f"length is {length}; a sentence has at least one token")
    if num_labels < 0:
        raise ConfigError(f"num_labels is {num_labels}; it must be 0 (no classifier) or more")
    hidden, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    width, values, keys = _widths(config)
    pooled = getattr(config, "pooler", True) if pooler is None else pooler
    segments = 0 if getattr(config, "shared_segment_embeddings", False) else config.type_vocab_size
    rows = config.vocab_size + config.max_position_embeddings + segments
    projected = width != hidden
    attention = 2 * (hidden * keys + keys) + (hidden * values + values) + (values * hidden + hidden)
    parameters = {
        "embeddings": rows * width + 2 * width + projected * (width * hidden + hidden),
        "attention": layers * (attention + 2 * hidden),
        "feed_forward": layers * (2 * hidden * inner + inner + hidden + 2 * hidden),
        "pooler": (hidden * hidden + hidden) if pooled else 0,
        "classifier": num_labels * (hidden + 1),
    }
    flops = {
        "embedding_projection": projected * 2 * length * width * hidden,
        "attention_projections": layers * 4 * length * hidden * (values + keys),
        "attention_scores": layers * 2 * length * length * (values + keys),
        "feed_forward": layers * 4 * length * hidden * inner,
        "pooler": 2 * hidden * hidden if pooled else 0,
        "classifier": 2 * hidden * num_labels,
    }
    return EncoderCost(parameters, flops, activation_bytes(config, length), length)


def _widths(config: EncoderSizes) -> tuple[int, int, int]:
    """Width of the embeddings, of all heads' values and of all heads' keys; the hidden size where nothing is said."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    values = heads * (getattr(config, "attention_head_size", None) or hidden // heads)
    key_size = getattr(config, "attention_key_size", None)
    return getattr(config, "embedding_size", None) or hidden, values, heads * key_size if key_size else values


def activation_bytes(
    config: EncoderSizes, length: int, *, batch_size: int = 1, bytes_per_value: int = 4, recompute: bool = False
) -> int:
    """Bytes that a training step must keep between the forward and the backward pass (an estimate from above).

    Kept values per layer and sentence, with T, H, I as in `encoder_cost` and N attention heads:

        8 T H  [input, query, key, value, context, two sums before a norm, input of the feed-forward]
        + 2 T I [before and after the activation]  +  2 N T^2 [probabilities, and after dropout]

    and T H for the embedding's output. With `recompute` (gradient checkpointing) only the T H input of each layer
    stays, and one layer's values are alive at a time. A compiler that fuses recomputes some of these by itself.

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
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    boundary = length * hidden
    layer = 8 * boundary + 2 * length * inner + 2 * heads * length * length
    layers = config.num_hidden_layers
    kept = layers * boundary + layer if recompute else layers * layer
    return batch_size * bytes_per_value * (kept + boundary)
