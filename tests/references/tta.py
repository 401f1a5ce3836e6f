"""T-TA (Shin et al. 2020, arXiv 2004.08097; 科学空间 archives/7661): every token from all others, in one pass.

The queries start from the positions alone, through the norm of the embeddings; keys and values are the embedded input
in every block; no token sees itself. Names of the variables: BERT's.
"""

import numpy as np

from tests.references import parts


def forward(weights, config, token_ids, segment_ids, padding_mask, application="encoder"):
    """`weights` by TensorFlow name; `token_ids`, `segment_ids`, `padding_mask` (B, T); see `parts.bert_result`.

    `mask_diagonal` of the config (True if absent) keeps the diagonal of the attention hidden, as in pre-training.
    """
    weights = parts.in_float64(weights)
    length = token_ids.shape[1]

    def norm(x, name):
        return parts.layer_norm(x, weights, name, config.get("layer_norm_eps", 1e-12))

    keep = parts.visible(padding_mask, segment_ids, application)
    if config.get("mask_diagonal", True):
        keep = keep & ~np.eye(length, dtype=bool)
    positions = weights["bert/embeddings/position_embeddings"][:length]
    streams = (parts.embed(weights, token_ids, segment_ids, config) + positions, positions)
    source, start = (parts.widen(norm(x, "bert/embeddings/LayerNorm"), weights) for x in streams)
    start = np.broadcast_to(start, source.shape)
    layers = parts.post_norm_blocks(start, weights, config, keep, norm, keys_from=source)
    return parts.bert_result(layers, weights, config, application)
