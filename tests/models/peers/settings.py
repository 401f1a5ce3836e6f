"""The settings of every family, each odd in another way: `PEERS[family][name]`.

No size is one that another size could stand in for: a transposed kernel, a wrong head count or a width taken for
another one changes shapes or numbers.
"""

from tests.models.peers.making import Setting

ENCODER = {
    "vocab_size": 23,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 14,
    "max_position_embeddings": 16,
}
ONE_ODD_LAYER = {
    **ENCODER,
    "hidden_size": 15,
    "num_attention_heads": 3,
    "intermediate_size": 33,
    "num_hidden_layers": 1,
}
# Rotary and sinusoidal positions need heads of even width.
ONE_ODD_EVEN_HEADS = {**ONE_ODD_LAYER, "hidden_size": 18}
LONG = {**ENCODER, "vocab_size": 13, "num_hidden_layers": 1, "max_position_embeddings": 150}

ALBERT = {
    "plain": Setting("AlbertForPreTraining", {**ENCODER, "embedding_size": 10}),
    "masked_lm": Setting("AlbertForMaskedLM", {**ENCODER, "embedding_size": 10, "hidden_act": "gelu"}),
    "groups": Setting(
        "AlbertForPreTraining", {**ENCODER, "embedding_size": 10, "num_hidden_layers": 3, "num_hidden_groups": 2}
    ),
    "one_layer_odd_sizes": Setting(
        "AlbertForMaskedLM",
        {**ONE_ODD_LAYER, "embedding_size": 10, "type_vocab_size": 3, "layer_norm_eps": 1e-5, "hidden_act": "relu"},
    ),
    "long_left_padding": Setting("AlbertForPreTraining", {**LONG, "embedding_size": 6}, length=150, left=True),
}

ELECTRA = {
    "discriminator": Setting("ElectraForPreTraining", {**ENCODER, "embedding_size": 10}),
    "generator": Setting("ElectraForMaskedLM", {**ENCODER, "embedding_size": 10, "num_hidden_layers": 1}),
    # Its blocks with relu are left out: `transformers` keeps gelu in the head then, the original does not.
    "generator_one_layer_odd_sizes": Setting(
        "ElectraForMaskedLM", {**ONE_ODD_LAYER, "embedding_size": 15, "type_vocab_size": 3, "layer_norm_eps": 1e-5}
    ),
    "discriminator_one_layer_relu": Setting(
        "ElectraForPreTraining", {**ONE_ODD_LAYER, "embedding_size": 15, "layer_norm_eps": 1e-5, "hidden_act": "relu"}
    ),
    "discriminator_long_left_padding": Setting(
        "ElectraForPreTraining", {**LONG, "embedding_size": 6}, length=150, left=True
    ),
}

ROFORMER = {
    "plain": Setting("RoFormerForMaskedLM", ENCODER),
    "embedding_size": Setting("RoFormerForMaskedLM", {**ENCODER, "embedding_size": 10, "num_hidden_layers": 1}),
    "rotary_value": Setting("RoFormerForMaskedLM", {**ENCODER, "num_hidden_layers": 1, "rotary_value": True}),
    "one_layer_odd_sizes": Setting(
        "RoFormerForMaskedLM", {**ONE_ODD_EVEN_HEADS, "type_vocab_size": 3, "hidden_act": "relu"}
    ),
    "long_left_padding": Setting("RoFormerForMaskedLM", LONG, length=150, left=True),
}

NEZHA = {
    "plain": Setting("NezhaForPreTraining", ENCODER),
    "clipped": Setting(
        "NezhaForPreTraining", {**ENCODER, "num_hidden_layers": 1, "max_relative_position": 5}, length=14
    ),
    "one_layer_odd_sizes": Setting(
        "NezhaForPreTraining",
        {**ONE_ODD_EVEN_HEADS, "max_relative_position": 3, "type_vocab_size": 3, "hidden_act": "relu"},
    ),
    "masked_lm": Setting("NezhaForMaskedLM", {**ENCODER, "num_hidden_layers": 1, "max_relative_position": 4}),
    "long_left_padding": Setting("NezhaForPreTraining", {**LONG, "max_relative_position": 64}, length=150, left=True),
}

ERNIE3 = {**ENCODER, "type_vocab_size": 4, "use_task_id": True, "layer_norm_eps": 1e-5}
ERNIE = {
    "plain": Setting("ErnieForPreTraining", ENCODER),
    "task_zero": Setting("ErnieForPreTraining", ERNIE3),
    "tasks": Setting("ErnieForPreTraining", {**ERNIE3, "num_hidden_layers": 1, "task_type_vocab_size": 5}, tasks=True),
    "masked_lm_one_layer_odd_sizes": Setting(
        "ErnieForMaskedLM", {**ONE_ODD_LAYER, "type_vocab_size": 3, "use_task_id": True, "hidden_act": "relu"}
    ),
    "long_left_padding": Setting(
        "ErnieForPreTraining", {**LONG, "type_vocab_size": 4, "use_task_id": True}, length=150, left=True, tasks=True
    ),
}

MODERN = {
    "vocab_size": 23,
    "hidden_size": 12,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 14,
    "max_position_embeddings": 16,
    "local_attention": 6,
    "pad_token_id": 0,
}


def alternating(every: int, of_the_whole: float = 160000.0, of_windows: float = 10000.0) -> dict:
    """Which blocks see the whole text, and the rotary bases of both kinds, as release 5 has them."""
    bases = {"full_attention": of_the_whole, "sliding_attention": of_windows}
    rope = {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()}
    return {"global_attn_every_n_layers": every, "rope_parameters": rope}


# As the files of release 4, which are nearly all there are, say it, with BERT's defaults beside the values that count.
MODERN_OLDER = {
    "layer_types": None,
    "rope_parameters": None,
    "global_attn_every_n_layers": 2,
    "global_rope_theta": 300.0,
    "local_rope_theta": 20.0,
    "position_embedding_type": "absolute",
    "layer_norm_eps": 1e-3,
}
MODERNBERT = {
    "plain": Setting("ModernBertForMaskedLM", {**MODERN, **alternating(3)}, length=11),
    "every_second_older_config": Setting(
        "ModernBertForMaskedLM",
        {**MODERN, "num_hidden_layers": 3, **alternating(2, 300.0, 20.0)},
        length=13,
        stored=MODERN_OLDER,
    ),
    "all_whole": Setting("ModernBertForMaskedLM", {**MODERN, "num_hidden_layers": 2, **alternating(1)}),
    "window_wider_than_text": Setting(
        "ModernBertForMaskedLM", {**MODERN, "num_hidden_layers": 2, "local_attention": 128, **alternating(3)}
    ),
    "odd_window_all_biases_left_padding": Setting(
        "ModernBertForMaskedLM",
        {
            **ONE_ODD_EVEN_HEADS,
            "num_hidden_layers": 2,
            "local_attention": 5,
            "pad_token_id": 0,
            "norm_eps": 1e-3,
            "hidden_activation": "relu",
            "classifier_activation": "silu",
            **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True),
            **alternating(2, 50.0, 5.0),
        },
        length=12,
        left=True,
    ),
    "no_output_bias_long": Setting(
        "ModernBertForMaskedLM",
        {**MODERN, "vocab_size": 13, "num_hidden_layers": 2, "decoder_bias": False, **alternating(2)},
        length=90,
    ),
}

DECODER = {"vocab_size": 23, "n_embd": 14, "n_layer": 2, "n_head": 2, "n_positions": 12}
ONE_ODD_DECODER = {**DECODER, "n_embd": 15, "n_head": 3, "n_layer": 1}
LONG_DECODER = {**DECODER, "vocab_size": 13, "n_embd": 12, "n_layer": 1, "n_positions": 70}

GPT = {
    "plain": Setting("OpenAIGPTLMHeadModel", DECODER),
    "one_layer_odd_sizes": Setting("OpenAIGPTLMHeadModel", {**ONE_ODD_DECODER, "layer_norm_epsilon": 1e-3}),
    "all_positions": Setting("OpenAIGPTLMHeadModel", LONG_DECODER, length=70),
}

GPT2 = {
    "plain": Setting("GPT2LMHeadModel", DECODER),
    "one_layer_odd_sizes": Setting("GPT2LMHeadModel", {**ONE_ODD_DECODER, "n_inner": 33, "layer_norm_epsilon": 1e-3}),
    "exact_gelu": Setting("GPT2LMHeadModel", {**DECODER, "n_layer": 1, "n_inner": 18, "activation_function": "gelu"}),
    "all_positions": Setting("GPT2LMHeadModel", LONG_DECODER, length=70),
}

T5_SIZES = {
    "vocab_size": 23,
    "d_model": 14,
    "d_kv": 4,
    "num_heads": 3,
    "d_ff": 18,
    "num_layers": 2,
    "decoder_start_token_id": 0,
}
GATED = {**T5_SIZES, "num_layers": 1, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
# As the files of T5 1.1 and mT5 say it; what release 5 writes in their place says "tied" and tells by the weights.
PUBLISHED = {"tie_word_embeddings": False, "scale_decoder_outputs": None, "is_gated_act": None, "dense_act_fn": None}

T5 = {
    "plain": Setting("T5ForConditionalGeneration", T5_SIZES),
    "more_decoder_layers_other_buckets": Setting(
        "T5ForConditionalGeneration",
        {
            **T5_SIZES,
            "num_layers": 1,
            "num_decoder_layers": 2,
            "relative_attention_num_buckets": 10,
            "relative_attention_max_distance": 18,
            "layer_norm_epsilon": 1e-3,
        },
        length=11,
        decoder_length=40,
    ),
    "long_left_padding": Setting(
        "T5ForConditionalGeneration",
        {**T5_SIZES, "vocab_size": 13, "num_layers": 1},
        length=150,
        decoder_length=5,
        left=True,
    ),
    "encoder": Setting("T5EncoderModel", T5_SIZES),
    "gated_untied": Setting("T5ForConditionalGeneration", GATED, untied=True, stored=PUBLISHED),
    "gated_untied_as_release_5_saves": Setting("T5ForConditionalGeneration", GATED, untied=True),
}

MT5 = {
    "plain": Setting("MT5ForConditionalGeneration", {**GATED, "num_layers": 2}, untied=True, stored=PUBLISHED),
    "long": Setting(
        "MT5ForConditionalGeneration",
        {**GATED, "vocab_size": 13, "num_heads": 5, "d_kv": 3, "num_decoder_layers": 1},
        length=150,
        decoder_length=5,
        untied=True,
        stored=PUBLISHED,
    ),
}

LLAMA_SIZES = {
    "vocab_size": 23,
    "hidden_size": 12,
    "intermediate_size": 18,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
}
GROUPED = {**LLAMA_SIZES, "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 3}


def rope(theta: float, **scaling) -> dict:
    """Rotary settings as release 5 names them."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **scaling}}


def older(theta: float, scaling: dict | None = None) -> dict:
    """The same as the files of earlier releases, which are nearly all there are, say it."""
    return {"rope_parameters": None, "rope_theta": theta, "rope_scaling": scaling}


LLAMA = {
    "plain": Setting("LlamaForCausalLM", {**LLAMA_SIZES, **rope(10000.0)}),
    "grouped_other_theta": Setting(
        "LlamaForCausalLM", {**GROUPED, **rope(500.0), "num_hidden_layers": 1, "rms_norm_eps": 1e-3}
    ),
    "tied_left_padding": Setting(
        "LlamaForCausalLM", {**GROUPED, **rope(10000.0), "tie_word_embeddings": True}, left=True
    ),
    "linear_scaling_long": Setting(
        "LlamaForCausalLM",
        {**LLAMA_SIZES, "vocab_size": 13, "num_hidden_layers": 1, **rope(300.0, rope_type="linear", factor=2.0)},
        length=90,
    ),
    "older_config_linear_scaling": Setting(
        "LlamaForCausalLM",
        {**LLAMA_SIZES, "num_hidden_layers": 1, **rope(300.0, rope_type="linear", factor=2.0)},
        length=20,
        stored=older(300.0, {"type": "linear", "factor": 2.0}),
    ),
    "attention_bias_one_layer": Setting(
        "LlamaForCausalLM",
        {**LLAMA_SIZES, **rope(10000.0), "num_hidden_layers": 1, "head_dim": 6, "attention_bias": True},
    ),
}

QWEN2 = {
    "plain": Setting("Qwen2ForCausalLM", {**GROUPED, **rope(1e6)}),
    "tied_older_config": Setting(
        "Qwen2ForCausalLM",
        {**LLAMA_SIZES, **rope(700.0), "num_hidden_layers": 1, "tie_word_embeddings": True},
        length=20,
        stored={**older(700.0), "layer_types": None},
    ),
    "one_layer_left_padding": Setting("Qwen2ForCausalLM", {**GROUPED, **rope(1e6), "num_hidden_layers": 1}, left=True),
}

QWEN3 = {
    "plain": Setting("Qwen3ForCausalLM", {**GROUPED, **rope(1e6), "head_dim": 6}),
    "tied_older_config": Setting(
        "Qwen3ForCausalLM",
        {**LLAMA_SIZES, **rope(700.0), "num_hidden_layers": 1, "head_dim": 14, "tie_word_embeddings": True},
        length=20,
        stored={**older(700.0), "layer_types": None},
    ),
    "attention_bias_left_padding": Setting(
        "Qwen3ForCausalLM",
        {**GROUPED, **rope(1e6), "head_dim": 4, "num_hidden_layers": 1, "attention_bias": True},
        left=True,
    ),
}

PEERS: dict[str, dict[str, Setting]] = {
    "albert": ALBERT,
    "electra": ELECTRA,
    "roformer": ROFORMER,
    "nezha": NEZHA,
    "ernie": ERNIE,
    "modernbert": MODERNBERT,
    "gpt": GPT,
    "gpt2": GPT2,
    "t5": T5,
    "mt5": MT5,
    "llama": LLAMA,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
}
