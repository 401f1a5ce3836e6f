"""RoFormer (Su et al. 2021, arXiv 2104.09864): BERT with rotary queries and keys instead of a position table."""

from tests.references import parts


def forward(weights, config, token_ids, segment_ids, padding_mask, application="encoder", position_ids=None):
    """`weights` by TensorFlow name; `token_ids`, `segment_ids`, `padding_mask` (B, T); see `parts.bert_result`."""
    weights = parts.in_float64(weights)
    positions = parts.positions_or_count(position_ids, token_ids)

    def norm(x, name):
        return parts.layer_norm(x, weights, name, config.get("layer_norm_eps", 1e-7))

    x = norm(parts.embed(weights, token_ids, segment_ids, config), "bert/embeddings/LayerNorm")
    keep = parts.visible(padding_mask, segment_ids, application)
    layers = parts.post_norm_blocks(
        parts.widen(x, weights), weights, config, keep, norm, turn=lambda head: parts.rotary(head, positions)
    )
    return parts.bert_result(layers, weights, config, application)
