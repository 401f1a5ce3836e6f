"""Parameters, floating-point operations and activation memory of a model, from its configuration alone."""

from dataclasses import dataclass

from qingformer.analysis.memory_estimate import activation_bytes
from qingformer.analysis.parameters import count_parameters
from qingformer.analysis.shape import EncoderSizes, Shape, option, shape_of
from qingformer.errors import ConfigError


@dataclass(frozen=True)
class EncoderCost:
    """What one model costs: parameters by part (a count), floating-point operations per sentence, activation bytes.

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
    def multiply_adds(self) -> dict[str, int]:
        """Multiply-adds of one prediction by part: half of the operations."""
        # A multiply-add counts as two operations.
        return {part: flops // 2 for part, flops in self.forward_flops.items()}

    @property
    def quadratic_share(self) -> float:
        """The share of the operations that grows with the square of the length: scores and weighted sums."""
        return self.forward_flops["attention_scores"] / self.total_forward_flops

    @property
    def total_training_flops(self) -> int:
        """Operations of one training step per sentence: 3 times the forward pass.

        A product `C = A B` of the forward pass has two in the backward pass, `dA = dC B^T` and `dB = A^T dC`, each as
        large as itself.
        """
        # The backward pass has two products, of inputs and of weights, for each of the forward pass.
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

    What other families differ in: a gated attention unit of widths e and s has 2 T H (3 e + s) and 2 T^2 (e + s), no
    feed-forward; a feed-forward part with g gates has 2 (g + 1) T H I; grouped queries have narrower keys and values;
    relative positions clipped at l multiply queries and weights by the 2 l + 1 vectors, 2 T (2 l + 1)(A + K); a decoder
    behind an encoder looks at a source as long as its target. Rotary positions and blocks that share their weights cost
    no products. A causal mask halves what would be needed, not what is computed. The head over the vocabulary of a
    language model, 2 T E V, is not counted.

    Args:
        config: anything with the keys of `EncoderSizes`, such as a backbone's configuration.
        length: tokens per sentence, special tokens included.
        num_labels: outputs of a classification layer on top; 0 for none.
        pooler: whether there is a dense layer on the first position; None for what the configuration says.

    Raises:
        ConfigError: the length is below 1 or the number of labels is negative.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), table 1, for the order; 科学空间 archives/8610; the constants are
    counted here.

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
    shape = shape_of(config)
    pooled = option(config, "pooler", True) if pooler is None else pooler
    reach = None if shape.reach is None else min(shape.reach, length - 1)
    flops = {
        "embedding_projection": _embedding_flops(config, shape, length),
        "attention_projections": 2 * length * projection_weights(shape),
        "attention_scores": 2 * length * length * pair_weights(shape),
        "relative_positions": 2 * length * relative_weights(shape, reach),
        "feed_forward": 2 * length * feed_forward_weights(shape),
        "pooler": 2 * shape.hidden * shape.hidden if pooled else 0,
        "classifier": 2 * shape.hidden * num_labels,
    }
    parameters = count_parameters(config, num_labels=num_labels, pooler=pooled)
    return EncoderCost(parameters, flops, activation_bytes(config, length), length)


def projection_weights(shape: Shape) -> int:
    """Multiply-adds per token of the dense layers of all attentions, or of all gated attention units."""
    if shape.unit:
        return shape.own * shape.hidden * (3 * shape.inner + shape.key)
    widths = shape.keys + shape.shared_keys + shape.shared_values + shape.values
    return (shape.own + shape.crossed) * shape.hidden * widths


def feed_forward_weights(shape: Shape) -> int:
    """Multiply-adds per token of all feed-forward parts."""
    return 0 if shape.unit else shape.own * (shape.gates + 1) * shape.hidden * shape.inner


def pair_weights(shape: Shape) -> int:
    """Multiply-adds per pair of query and key: scores and weighted sums of all attentions."""
    return (shape.own + shape.crossed) * (shape.keys + shape.values)


def relative_weights(shape: Shape, reach: int | None) -> int:
    """Multiply-adds per token of the vectors of distances up to `reach`."""
    return 0 if reach is None else shape.own * (2 * max(reach, 1) + 1) * (shape.keys + shape.values)


def _embedding_flops(config: EncoderSizes, shape: Shape, length: int) -> int:
    """The projection of narrow embeddings, of the tokens alone or of all of them."""
    projected = option(config, "project_tokens", False) or shape.embedding != shape.hidden
    return projected * 2 * length * shape.embedding * shape.hidden
