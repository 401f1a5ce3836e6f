"""A random model of `transformers` written to a directory, with its inputs, outputs and gradients."""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

# Our name of each output, by the class of `transformers` and its own name; the body's outputs come from its call.
SEQ2SEQ = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")
LANGUAGE_MODEL = {"logits": "lm_logits"}
MASKED = {"logits": "mlm_logits"}
HEADS = {
    "AlbertForPreTraining": {"prediction_logits": "mlm_logits", "sop_logits": "sentence_order_logits"},
    "AlbertForMaskedLM": MASKED,
    "ElectraForPreTraining": {"logits": "replaced_logits"},
    "ElectraForMaskedLM": MASKED,
    "ErnieForPreTraining": {"prediction_logits": "mlm_logits", "seq_relationship_logits": "next_sentence_logits"},
    "ErnieForMaskedLM": MASKED,
    "ModernBertForMaskedLM": MASKED,
    "RoFormerForMaskedLM": MASKED,
    "NezhaForPreTraining": {"prediction_logits": "mlm_logits", "seq_relationship_logits": "next_sentence_logits"},
    "NezhaForMaskedLM": MASKED,
    "T5ForConditionalGeneration": {"encoder_last_hidden_state": "encoder_sequence_output", "logits": "decoder_logits"},
    "MT5ForConditionalGeneration": {"encoder_last_hidden_state": "encoder_sequence_output", "logits": "decoder_logits"},
    "T5EncoderModel": {"last_hidden_state": "encoder_sequence_output"},
}
BODY = {"last_hidden_state": "sequence_output", "pooler_output": "pooled_output"}
PEER_INPUTS = {
    "token_ids": "input_ids",
    "segment_ids": "token_type_ids",
    "task_type_ids": "task_type_ids",
    "padding_mask": "attention_mask",
    "decoder_token_ids": "decoder_input_ids",
    "decoder_padding_mask": "decoder_attention_mask",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A model: class and configuration of `transformers`, lengths of its inputs, the side of the padding.

    `untied` gives the output its own table, `tasks` the model ids of tasks; `stored` are changes of the written
    config.json (None removes a key).
    """

    kind: str
    config: Mapping[str, Any]
    length: int = 9
    decoder_length: int = 7
    left: bool = False
    untied: bool = False
    tasks: bool = False
    stored: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def make(family: str, name: str, directory: Path) -> Arrays:
    """Write the random model of that setting to `directory`; return inputs, outputs and gradients of `transformers`."""
    import torch
    import transformers

    from tests.models.peers.settings import PEERS

    setting = PEERS[family][name]
    seed = zlib.crc32(f"{family}/{name}".encode())
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kind = getattr(transformers, setting.kind)
    model = randomise(kind(kind.config_class(**setting.config, attn_implementation="eager")).eval(), setting)
    model.save_pretrained(directory)
    change_config(directory / "config.json", setting.stored)

    inputs = make_inputs(generator, model.config, setting)
    outputs = compute(model, setting.kind, inputs)
    again = compute(kind.from_pretrained(directory, attn_implementation="eager").eval(), setting.kind, inputs)
    for key, value in outputs.items():
        assert torch.equal(value, again[key]), f"{family}/{name}: {key} changes when transformers reads what it wrote"

    weights = {key: loss_weight(generator, key, value, inputs) for key, value in outputs.items()}
    sum((value * torch.tensor(weights[key])).sum() for key, value in outputs.items()).backward()
    arrays = {f"input/{key}": value for key, value in inputs.items()}
    arrays |= {f"weight/{key}": value for key, value in weights.items()}
    arrays |= {f"output/{key}": value.detach().numpy() for key, value in outputs.items()}
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    return arrays | {f"gradient/{key}": value.numpy() for key, value in gradients.items()}


def randomise(model: Any, setting: Setting) -> Any:
    """Noise on every trained parameter: norm gains vary around one, biases are not zero."""
    import torch

    if setting.untied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.3)
        model.all_tied_weights_keys.pop("lm_head.weight")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def change_config(file: Path, changes: Mapping[str, Any]) -> None:
    """Change the written configuration to what other releases write."""
    config = json.loads(file.read_text())
    config = {key: value for key, value in {**config, **changes}.items() if key not in changes or value is not None}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_inputs(generator: np.random.Generator, config: Any, setting: Setting) -> Arrays:
    """Rows of different length, padded on one side with id 0; a decoder's begin with id 0 and are padded at the end."""
    longest = max(setting.length, setting.decoder_length if setting.kind in SEQ2SEQ else 0)
    rows = 3 if longest < 40 else 2
    mask = make_mask(rows, setting.length, setting.left)
    inputs = {"token_ids": generator.integers(1, config.vocab_size, mask.shape).astype("int32") * mask}
    if getattr(config, "type_vocab_size", 0):
        segments = np.sort(generator.integers(0, config.type_vocab_size, mask.shape), axis=1).astype("int32")
        inputs["segment_ids"] = segments * mask
    if setting.tasks:
        inputs["task_type_ids"] = generator.integers(0, config.task_type_vocab_size, mask.shape).astype("int32")
    inputs["padding_mask"] = mask
    if setting.kind in SEQ2SEQ:
        mask = make_mask(rows, setting.decoder_length, left=False)[::-1].copy()
        token_ids = generator.integers(1, config.vocab_size, mask.shape).astype("int32") * mask
        token_ids[:, 0] = 0
        inputs |= {"decoder_token_ids": token_ids, "decoder_padding_mask": mask}
    return inputs


def make_mask(rows: int, length: int, left: bool) -> np.ndarray:
    """The whole length, three less, and half of it: 1 = keep."""
    lengths = [length, max(1, length - 3), max(1, length // 2)][:rows]
    mask = np.array([[1] * n + [0] * (length - n) for n in lengths], "int32")
    return mask[:, ::-1].copy() if left else mask


def compute(model: Any, kind: str, inputs: Arrays) -> dict[str, Any]:
    """The outputs of `transformers` under our names."""
    import torch

    found: dict[str, Any] = {}

    def keep(_: Any, __: Any, result: Any) -> None:
        found.update({ours: result[theirs] for theirs, ours in BODY.items() if result.get(theirs) is not None})

    heads = HEADS.get(kind, LANGUAGE_MODEL)
    with_body = not any("encoder" in name for name in heads.values())
    hook = getattr(model, model.base_model_prefix).register_forward_hook(keep) if with_body else None
    result = model(**{PEER_INPUTS[key]: torch.tensor(value).long() for key, value in inputs.items()})
    if hook is not None:
        hook.remove()
    return found | {ours: result[theirs] for theirs, ours in heads.items()}


def loss_weight(generator: np.random.Generator, name: str, value: Any, inputs: Arrays) -> np.ndarray:
    """Random weights of a linear loss, zero at padding, so that the gradient tests every output.

    Eighths are exact in every precision and compress well.
    """
    weight = (np.round(generator.normal(size=tuple(value.shape)) * 8) / 8).astype("float32")
    if name in ("pooled_output", "sentence_order_logits", "next_sentence_logits"):
        return weight
    mask = inputs["decoder_padding_mask" if name.startswith("decoder") else "padding_mask"]
    return weight * mask.reshape(mask.shape + (1,) * (weight.ndim - 2)).astype("float32")
