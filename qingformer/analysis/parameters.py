"""How many parameters a model has, part by part, from its configuration alone."""

from collections.abc import Mapping

from qingformer.analysis.shape import EncoderSizes, Shape, option, shape_of


def count_parameters(config: EncoderSizes, *, num_labels: int = 0, pooler: bool | None = None) -> dict[str, int]:
    """Parameters by part: embeddings, attention, feed-forward, last norm, pooler, classifier.

    Each part has its norms; of blocks that share their weights each group counts once. The gated attention unit, which
    does the work of both, stands under attention: 3 d e + d s + 2 s without biases. The head over the vocabulary of a
    language model is not counted. `num_labels` and `pooler` as in `encoder_cost`.

    Example: `count_parameters(BackboneConfig(vocab_size=21128))["embeddings"]`
    """
    shape = shape_of(config)
    pooled = option(config, "pooler", True) if pooler is None else pooler
    norm = norm_parameters(config, shape.hidden)
    bias = option(config, "use_bias", True)
    attention = unit_parameters(config, shape) if shape.unit else attention_parameters(config, shape)
    feed_forward = 0 if shape.unit else feed_forward_parameters(config, shape) + norm
    last = norm if option(config, "norm_position", "post") == "pre" else 0
    parts = {
        "embeddings": embedding_parameters(config, shape),
        "attention": shape.stored * (attention + norm)
        + shape.crossed * (attention_parameters(config, shape) + norm)
        + shape.stacks * bucket_parameters(config),
        "feed_forward": shape.stored * feed_forward,
        "final_norm": shape.stacks * last,
        "pooler": dense(shape.hidden, shape.hidden, bias) if pooled else 0,
        "classifier": num_labels * (shape.hidden + 1),
    }
    # A family with layers that no other has counts them itself.
    further: Mapping[str, int] = option(config, "further_parameters", {})
    return {part: count + further.get(part, 0) for part, count in parts.items()}


def dense(inputs: int, outputs: int, bias: bool) -> int:
    """Parameters of a dense layer."""
    return inputs * outputs + bias * outputs


def norm_parameters(config: EncoderSizes, width: int) -> int:
    """Gain and offset where the norm has them, and what makes them depend on a condition."""
    kind, condition = option(config, "norm_type", "layer_norm"), option(config, "condition_size", None)
    vectors = {"layer_norm": 2, "rms_norm": 1, "rms_norm_without_gain": 1 if condition else 0}[kind]
    if not condition:
        return vectors * width
    through = option(config, "condition_hidden_size", None)
    return vectors * width * (1 + (through or condition)) + condition * (through or 0)


def embedding_parameters(config: EncoderSizes, shape: Shape) -> int:
    """Tables, norm and projection before the first block."""
    tokens_alone = option(config, "project_tokens", False)
    width = shape.hidden if tokens_alone else shape.embedding
    absolute = option(config, "position_embedding_type", "absolute") == "absolute"
    segments = 0 if option(config, "shared_segment_embeddings", False) else config.type_vocab_size
    rows = segments + (config.max_position_embeddings if absolute else 0)
    norm = norm_parameters(config, width) if option(config, "embedding_norm", True) else 0
    bias = option(config, "use_bias", True) and not tokens_alone
    projected = tokens_alone or shape.embedding != shape.hidden
    projection = dense(shape.embedding, shape.hidden, bias) if projected else 0
    return config.vocab_size * shape.embedding + rows * width + norm + projection


def attention_parameters(config: EncoderSizes, shape: Shape) -> int:
    """Queries, keys, values, output, and the norms of queries and keys where there are any."""
    general = option(config, "use_bias", True)
    bias, out = (option(config, key, None) for key in ("attention_bias", "attention_output_bias"))
    bias, out = general if bias is None else bias, general if out is None else out
    parts = [dense(shape.hidden, width, bias) for width in (shape.keys, shape.shared_keys, shape.shared_values)]
    norms = 2 * shape.key if option(config, "query_key_norm", False) else 0
    return sum(parts) + dense(shape.values, shape.hidden, out) + norms


def unit_parameters(config: EncoderSizes, shape: Shape) -> int:
    """The gated attention unit: gate, values and shared keys at once, two gains (and offsets), output."""
    bias = option(config, "use_bias", True)
    inward = dense(shape.hidden, 2 * shape.inner + shape.key, bias)
    return inward + (2 + 2 * bias) * shape.key + dense(shape.inner, shape.hidden, bias)


def feed_forward_parameters(config: EncoderSizes, shape: Shape) -> int:
    """The inner matrix, or matrices with a gate, and the one back."""
    bias = option(config, "use_bias", True)
    return shape.gates * dense(shape.hidden, shape.inner, bias) + dense(shape.inner, shape.hidden, bias)


def bucket_parameters(config: EncoderSizes) -> int:
    """The learned biases of bucketed distances, one table a stack."""
    if option(config, "position_embedding_type", "absolute") != "bucketed":
        return 0
    return option(config, "relative_attention_num_buckets", 32) * config.num_attention_heads
