"""GPT2_ML (科学空间 archives/7292): no norm before attention, two around the feed-forward.

x1 = x + Att(x); y = LN0(x1); x2 = LN1(x1 + FFN(y)): the second residual is taken before the first norm.
"""

import numpy as np

from tests.references import parts


def position_vectors(table, length, alpha):
    """Rows of the table; beyond it, where `alpha` is given, q_(mN+r) = alpha u_m + (1 - alpha) u_r."""
    if not alpha:
        return table[:length]
    size = len(table)
    basis = (table - alpha * table[0]) / (1 - alpha)
    return np.stack([alpha * basis[i // size] + (1 - alpha) * basis[i % size] for i in range(length)])


def forward(weights, config, token_ids, segment_ids, padding_mask, application="lm"):
    """`weights` by TensorFlow name; `token_ids`, `padding_mask` (B, T), no segments; see `parts.result`."""
    weights = parts.in_float64(weights)
    epsilon = config.get("layer_norm_eps", 1e-5)
    keep = parts.visible(padding_mask, segment_ids, application)
    table = weights["newslm/embeddings/word_embed"]
    alpha = config.get("hierarchical_position")
    x = table[token_ids] + position_vectors(weights["newslm/embeddings/pos_embed"], token_ids.shape[1], alpha)
    x = parts.layer_norm(x, weights, "newslm/embeddings/LayerNorm_embed_norm", epsilon)
    layers = []
    for index in range(config["num_hidden_layers"]):
        scope = f"newslm/layer{index:02d}"
        names = [f"{scope}/{name}" for name in ("query_layer", "key_layer", "value_layer", "context_projection_layer")]
        x = x + parts.attention(x, x, weights, names, config, keep)[0]
        y = parts.layer_norm(x, weights, f"{scope}/LayerNorm_mlp_ln0", epsilon)
        fed = parts.feed_forward(y, weights, f"{scope}/intermediate", f"{scope}/output", config["hidden_act"])
        x = parts.layer_norm(x + fed, weights, f"{scope}/LayerNorm_mlp_ln1", epsilon)
        layers.append(x)
    return parts.result(layers, x @ table.T, application)
