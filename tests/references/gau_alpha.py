"""GAU-alpha (Hua et al. 2022, arXiv 2202.10447; 科学空间 archives/9052): gated units, softmax_plus, rotary."""

import math

import numpy as np

from tests.references import parts


def gated_attention(x, weights, scope, config, keep, positions):
    """O = (U * A V) W_o, with U, V and the shared Z from one dense layer, one head."""
    kernel = weights[f"{scope}/i_dense/kernel"]
    shared_size = weights[f"{scope}/q_scaleoffset/gamma"].shape[0]
    inner = (kernel.shape[1] - shared_size) // 2
    everything = parts.ACTIVATIONS[config["hidden_act"]](x @ kernel)
    gate, value, shared = everything[..., :inner], everything[..., inner : 2 * inner], everything[..., 2 * inner :]
    query = parts.rotary(shared * weights[f"{scope}/q_scaleoffset/gamma"], positions)
    key = parts.rotary(shared * weights[f"{scope}/k_scaleoffset/gamma"], positions)
    scores = np.einsum("bqs,bks->bqk", query, key) / math.sqrt(shared_size)
    normalize = parts.NORMALIZATIONS[config.get("attention_normalization", "softmax_plus")]
    return (gate * (normalize(scores, keep) @ value)) @ weights[f"{scope}/o_dense/kernel"]


def forward(weights, config, token_ids, segment_ids, padding_mask, application="encoder", position_ids=None):
    """`weights` by TensorFlow name; `token_ids`, `segment_ids`, `padding_mask` (B, T); see `parts.result`."""
    weights = parts.in_float64(weights)
    epsilon = config.get("layer_norm_eps", 1e-7)
    positions = parts.positions_or_count(position_ids, token_ids)
    keep = parts.visible(padding_mask, segment_ids, application)
    x = parts.rms_norm(parts.embed(weights, token_ids, segment_ids, config), epsilon)
    layers = []
    for index in range(config["num_hidden_layers"]):
        scope = f"GAU_alpha/encoder/layer_{index}/gau"
        x = parts.rms_norm(x + gated_attention(x, weights, scope, config, keep, positions), epsilon)
        layers.append(x)
    return parts.result(layers, x @ weights["bert/embeddings/word_embeddings"].T, application)
