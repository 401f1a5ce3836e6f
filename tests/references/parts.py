"""The parts of the NumPy forwards of the model families: float64, one formula a function, slow and obvious.

A mask is True where a query (second axis from the end) may see a key (last axis).
"""

import math

import numpy as np


def linear(x, weights, name):
    """x W + b, the bias only where the checkpoint has one."""
    y = x @ weights[f"{name}/kernel"]
    return y + weights[f"{name}/bias"] if f"{name}/bias" in weights else y


def layer_norm(x, weights, name, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def rms_norm(x, epsilon):
    """x / RMS(x), nothing learned."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf, otypes=["float64"])(x / math.sqrt(2)))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def swish(x):
    return x / (1 + np.exp(-x))


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "swish": swish,
    "silu": swish,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "linear": lambda x: x,
}


def feed_forward(x, weights, inner, outer, activation):
    return linear(ACTIVATIONS[activation](linear(x, weights, inner)), weights, outer)


def sinusoidal(positions, size):
    """[sin(p r_0), cos(p r_0), sin(p r_1), cos(p r_1), ...] with r_i = 10000^(-2i/size); `positions` (...)."""
    vectors = np.zeros((*np.shape(positions), size))
    for i in range(size // 2):
        angle = np.asarray(positions, "float64") * 10000.0 ** (-2 * i / size)
        vectors[..., 2 * i], vectors[..., 2 * i + 1] = np.sin(angle), np.cos(angle)
    return vectors


def rotary(x, positions):
    """Turn neighbours (x_2i, x_2i+1) of `x` (B, T, ..., D) by p r_i; `positions` (B, T)."""
    turned = np.zeros_like(x)
    for i in range(x.shape[-1] // 2):
        angle = np.asarray(positions, "float64") * 10000.0 ** (-2 * i / x.shape[-1])
        angle = angle.reshape(angle.shape + (1,) * (x.ndim - 3))
        first, second = x[..., 2 * i], x[..., 2 * i + 1]
        turned[..., 2 * i] = first * np.cos(angle) - second * np.sin(angle)
        turned[..., 2 * i + 1] = second * np.cos(angle) + first * np.sin(angle)
    return turned


def visible(padding_mask, segment_ids, application):
    """Which keys each query may see, (B, T, T) bool: padding never, and what the application hides."""
    batch, length = np.shape(padding_mask)
    keep = np.zeros((batch, length, length), bool)
    for row in range(batch):
        passed = np.cumsum(segment_ids[row])
        for query in range(length):
            allowed = {
                "encoder": np.full(length, True),
                "lm": np.arange(length) <= query,
                "unilm": passed <= passed[query],
            }
            keep[row, query] = np.asarray(padding_mask[row], bool) & allowed[application]
    return keep


def softmax(scores, keep):
    """Over the keys that the row may see; a row that sees none gets zeros."""
    seen = keep.any(-1, keepdims=True)
    highest = np.where(keep, scores, -np.inf).max(-1, keepdims=True)
    powers = np.where(keep, np.exp(np.where(keep, scores - np.where(seen, highest, 0), 0)), 0)
    return powers / np.where(seen, powers.sum(-1, keepdims=True), 1)


def softmax_plus(scores, keep):
    """softmax(a log(max(l, 16)) / log(512)), l the number of keys that the row may see."""
    count = np.maximum(keep.sum(-1, keepdims=True), 16)
    return softmax(scores * np.log(count) / math.log(512), keep)


def squared_relu(scores, keep):
    """relu(a)^2 / l over the keys that the row may see."""
    return np.where(keep, np.maximum(scores, 0) ** 2 / np.maximum(keep.sum(-1, keepdims=True), 1), 0)


NORMALIZATIONS = {"softmax": softmax, "softmax_plus": softmax_plus, "squared_relu": squared_relu}


def split_heads(x, heads):
    return x.reshape(*x.shape[:2], heads, x.shape[-1] // heads)


def attention(query_from, key_from, weights, names, config, keep, turn=None, relative=None, before=None):
    """Multi-head attention with its output projection; returns its output and its scores.

    `names` are the layers of query, key, value and output. `turn` is applied to queries and keys (B, T, heads, D).
    `relative` (Tq, Tk, D) is added to the keys and to the values, seen from each query. `before` are the scores of the
    block before, added to these (RealFormer, arXiv 2012.11747).
    """
    heads = config["num_attention_heads"]
    sources = (query_from, key_from, key_from)
    query, key, value = (split_heads(linear(x, weights, name), heads) for x, name in zip(sources, names))
    if turn is not None:
        query, key = turn(query), turn(key)
    scores = np.einsum("bqhd,bkhd->bhqk", query, key)
    if relative is not None:
        scores = scores + np.einsum("bqhd,qkd->bhqk", query, relative)
    scores = scores / math.sqrt(query.shape[-1])
    if before is not None:
        scores = scores + before
    normalize = NORMALIZATIONS[config.get("attention_normalization", "softmax")]
    shares = normalize(scores, np.broadcast_to(keep[:, None], scores.shape))
    joined = np.einsum("bhqk,bkhd->bqhd", shares, value)
    if relative is not None:
        joined = joined + np.einsum("bhqk,qkd->bqhd", shares, relative)
    return linear(joined.reshape(*joined.shape[:2], -1), weights, names[3]), scores


def post_norm_blocks(x, weights, config, keep, norm, keys_from=None, **how):
    """x = norm(x + Att(x)), x = norm(x + FFN(x)) under BERT's names; the output of each block.

    `norm` takes (x, name). Keys and values come from `keys_from` in every block, where it is given. `how` goes to
    `attention`.
    """
    outputs, scores = [], None
    for index in range(config["num_hidden_layers"]):
        names = bert_names(index)
        before = scores if config.get("residual_attention_scores") else None
        source = x if keys_from is None else keys_from
        attended, scores = attention(x, source, weights, names["attention"], config, keep, before=before, **how)
        x = norm(x + attended, names["attention_norm"])
        fed = feed_forward(x, weights, *names["feed_forward"], config["hidden_act"])
        x = norm(x + fed, names["feed_forward_norm"])
        outputs.append(x)
    return outputs


def bert_names(index):
    """The layers of block `index` under BERT's names: query, key, value, output; the norms; the feed-forward."""
    scope = f"bert/encoder/layer_{index}"
    return {
        "attention": [f"{scope}/attention/self/{name}" for name in ("query", "key", "value")]
        + [f"{scope}/attention/output/dense"],
        "attention_norm": f"{scope}/attention/output/LayerNorm",
        "feed_forward": (f"{scope}/intermediate/dense", f"{scope}/output/dense"),
        "feed_forward_norm": f"{scope}/output/LayerNorm",
    }


def embed(weights, token_ids, segment_ids, config):
    """Token plus segment vectors under BERT's names; segments from the token table where the config shares it."""
    x = weights["bert/embeddings/word_embeddings"][token_ids]
    if config.get("shared_segment_embeddings"):
        return x + weights["bert/embeddings/word_embeddings"][segment_ids]
    if "bert/embeddings/token_type_embeddings" in weights:
        x = x + weights["bert/embeddings/token_type_embeddings"][segment_ids]
    return x


def widen(x, weights):
    """The dense layer from the embedding size to the hidden size, where the two differ."""
    name = "bert/encoder/embedding_hidden_mapping_in"
    return linear(x, weights, name) if f"{name}/kernel" in weights else x


def mlm_head(x, weights, config):
    """Dense, activation, norm (the original's epsilon is 1e-12), product with the token table, vocabulary bias."""
    x = ACTIVATIONS[config["hidden_act"]](linear(x, weights, "cls/predictions/transform/dense"))
    x = layer_norm(x, weights, "cls/predictions/transform/LayerNorm", config.get("layer_norm_eps", 1e-12))
    return x @ weights["bert/embeddings/word_embeddings"].T + weights["cls/predictions/output_bias"]


def result(layers, logits, application):
    """What every forward returns: the output of each block, that of the last one, and the logits of the role."""
    name = "mlm_logits" if application == "encoder" else "lm_logits"
    return {"layers": layers, "sequence_output": layers[-1], name: logits}


def bert_result(layers, weights, config, application):
    """The same with those heads of BERT that the checkpoint has."""
    found = {"layers": layers, "sequence_output": layers[-1]}
    if "cls/predictions/output_bias" in weights:
        found = result(layers, mlm_head(layers[-1], weights, config), application)
    if "bert/pooler/dense/kernel" in weights:
        first = linear(layers[-1][:, 0], weights, "bert/pooler/dense")
        found["pooled_output"] = ACTIVATIONS[config.get("pooler_act", "tanh")](first)
    if "cls/seq_relationship/output_weights" in weights:
        kernel, bias = (weights[f"cls/seq_relationship/output_{name}"] for name in ("weights", "bias"))
        found["next_sentence_logits"] = found["pooled_output"] @ kernel.T + bias
    return found


def in_float64(weights):
    return {name: np.asarray(array, "float64") for name, array in weights.items()}


def positions_or_count(position_ids, token_ids):
    if position_ids is not None:
        return np.asarray(position_ids)
    return np.broadcast_to(np.arange(token_ids.shape[1]), token_ids.shape)
