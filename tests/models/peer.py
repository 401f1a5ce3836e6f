"""BERT in `transformers` on random weights: what parity fixtures hold and the live parity test compares with."""

from pathlib import Path

import numpy as np

SETTINGS = {
    "plain": {},
    "one_layer_odd_sizes": {
        "hidden_size": 21,
        "num_attention_heads": 3,
        "intermediate_size": 33,
        "num_hidden_layers": 1,
    },
    "many_heads": {"hidden_size": 36, "num_attention_heads": 12, "intermediate_size": 50},
    "long": {"max_position_embeddings": 160, "length": 150},
    "single_token": {"length": 1},
    "no_pooler": {"no_pooler": True},
    "left_padding": {"left": True},
    "tanh_gelu_other_epsilon": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "three_segments_relu": {"type_vocab_size": 3, "hidden_act": "relu"},
}
BASE = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
}


def make(name: str, directory: Path) -> dict[str, np.ndarray]:
    """Write a random model of that setting to `directory`; return inputs, outputs and gradients of `transformers`."""
    import torch
    import transformers

    torch.manual_seed(len(name))
    settings = dict(SETTINGS[name])
    length, left = settings.pop("length", 9), settings.pop("left", False)
    kind = transformers.BertForMaskedLM if settings.pop("no_pooler", False) else transformers.BertForPreTraining
    config = transformers.BertConfig(**{**BASE, **settings}, tie_word_embeddings=True)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    generator = np.random.default_rng(len(name))
    inputs = make_inputs(generator, config.vocab_size, config.type_vocab_size, length, left)
    tensors = {
        "input_ids": torch.tensor(inputs["token_ids"]).long(),
        "token_type_ids": torch.tensor(inputs["segment_ids"]).long(),
        "attention_mask": torch.tensor(inputs["padding_mask"]).long(),
    }
    result = model(**tensors, output_hidden_states=True)
    logits = result.prediction_logits if "prediction_logits" in result else result.logits
    outputs = {"sequence_output": result.hidden_states[-1], "mlm_logits": logits}
    if kind is transformers.BertForPreTraining:
        outputs["pooled_output"] = model.bert.pooler(result.hidden_states[-1])
        outputs["next_sentence_logits"] = result.seq_relationship_logits
    weights = {f"weight/{key}": loss_weight(generator, key, value, inputs) for key, value in outputs.items()}
    loss = sum((value * torch.tensor(weights[f"weight/{key}"])).sum() for key, value in outputs.items())
    loss.backward()
    arrays = {f"input/{key}": value for key, value in inputs.items()} | weights
    arrays |= {f"output/{key}": value.detach().numpy() for key, value in outputs.items()}
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    return arrays | {f"gradient/{key}": value.numpy() for key, value in gradients.items()}


def make_inputs(generator, vocab_size: int, segments: int, length: int, left: bool) -> dict[str, np.ndarray]:
    """Three rows of different length, padded on one side with id 0."""
    lengths = [length, max(1, length - 3), max(1, length // 2)]
    mask = np.array([[1] * n + [0] * (length - n) for n in lengths], "int32")
    mask = mask[:, ::-1].copy() if left else mask
    token_ids = generator.integers(1, vocab_size, (3, length)).astype("int32") * mask
    segment_ids = np.sort(generator.integers(0, segments, (3, length)), axis=1).astype("int32")
    return {"token_ids": token_ids, "segment_ids": segment_ids * mask, "padding_mask": mask}


def loss_weight(generator, name: str, value, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Random weights of a linear loss, zero at padding, so that the gradient tests every output."""
    weight = generator.normal(size=tuple(value.shape)).astype("float32")
    return weight * inputs["padding_mask"][..., None] if value.ndim == 3 else weight
