"""NEZHA (Wei et al. 2019, arXiv 1909.00204): BERT with fixed sinusoidal vectors of the clipped distance."""

import numpy as np

from tests.references import parts

FARTHEST = 64


def relative_vectors(length, size, farthest=FARTHEST):
    """The vector of each query's (row) distance to each key (column), (T, T, size)."""
    vectors = np.zeros((length, length, size))
    for query in range(length):
        for key in range(length):
            distance = min(max(key - query, -farthest), farthest)
            vectors[query, key] = parts.sinusoidal(distance + farthest, size)
    return vectors


def forward(weights, config, token_ids, segment_ids, padding_mask, application="encoder"):
    """`weights` by TensorFlow name; `token_ids`, `segment_ids`, `padding_mask` (B, T); see `parts.bert_result`."""
    weights = parts.in_float64(weights)
    size = weights["bert/encoder/layer_0/attention/self/key/kernel"].shape[1] // config["num_attention_heads"]
    relative = relative_vectors(token_ids.shape[1], size, config.get("max_relative_position", FARTHEST))

    def norm(x, name):
        return parts.layer_norm(x, weights, name, config.get("layer_norm_eps", 1e-7))

    x = norm(parts.embed(weights, token_ids, segment_ids, config), "bert/embeddings/LayerNorm")
    keep = parts.visible(padding_mask, segment_ids, application)
    layers = parts.post_norm_blocks(parts.widen(x, weights), weights, config, keep, norm, relative=relative)
    return parts.bert_result(layers, weights, config, application)
