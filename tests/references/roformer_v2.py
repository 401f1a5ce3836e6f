"""RoFormerV2 (科学空间 archives/8998): RoFormer without any bias, norms without anything learned, a bare MLM head."""

from tests.references import parts


def forward(weights, config, token_ids, segment_ids, padding_mask, application="encoder", position_ids=None):
    """`weights` by TensorFlow name; `token_ids`, `segment_ids`, `padding_mask` (B, T); see `parts.result`."""
    weights = parts.in_float64(weights)
    positions = parts.positions_or_count(position_ids, token_ids)

    def norm(x, name):
        return parts.rms_norm(x, config.get("layer_norm_eps", 1e-7))

    x = norm(parts.embed(weights, token_ids, segment_ids, config), "nothing learned")
    keep = parts.visible(padding_mask, segment_ids, application)
    layers = parts.post_norm_blocks(x, weights, config, keep, norm, turn=lambda head: parts.rotary(head, positions))
    return parts.result(layers, layers[-1] @ weights["bert/embeddings/word_embeddings"].T, application)
