"""ALBERT as brightmart's Chinese checkpoints have it (Lan et al. 2019, arXiv 1909.11942): tokens alone are narrow.

x = norm(E[t] P + S[s] + Q[p]) with E (V, e) and P (e, H), then the one block again and again; the language model goes
back through both matrices: logits = norm(act(x W + b)) P^T E^T + c.
"""

from tests.references import parts

SHARED = "bert/encoder/layer_shared/"


def forward(weights, config, token_ids, segment_ids, padding_mask, application="encoder"):
    """`weights` by TensorFlow name; `token_ids`, `segment_ids`, `padding_mask` (B, T); see `parts.bert_result`."""
    weights = parts.in_float64(weights)
    for index in range(config["num_hidden_layers"]):
        for name in [name for name in weights if name.startswith(SHARED)]:
            weights[name.replace("layer_shared", f"layer_{index}")] = weights[name]
    # Narrow vectors and their matrix are one wide table, in both directions.
    wide = weights["bert/embeddings/word_embeddings"] @ weights.pop("bert/embeddings/word_embeddings_2")
    weights["bert/embeddings/word_embeddings"] = wide

    def norm(x, name):
        return parts.layer_norm(x, weights, name, config.get("layer_norm_eps", 1e-12))

    x = parts.embed(weights, token_ids, segment_ids, config)
    x = norm(x + weights["bert/embeddings/position_embeddings"][: token_ids.shape[1]], "bert/embeddings/LayerNorm")
    keep = parts.visible(padding_mask, segment_ids, application)
    layers = parts.post_norm_blocks(x, weights, config, keep, norm)
    return parts.bert_result(layers, weights, config, application)
