"""Writes a model of llama2.c (version 0: seven numbers, then the arrays) as the folder `transformers` would write."""

import json
from pathlib import Path

import numpy as np

from qingformer.checkpoints import write_safetensors


def convert(source: Path, directory: Path) -> None:
    """Read `source`, write config.json and model.safetensors into `directory`; the rotary pairs stay neighbours."""
    raw = source.read_bytes()
    width, inner, layers, heads, key_value_heads, vocabulary, length = np.frombuffer(raw, "<i4", 7)
    numbers = np.frombuffer(raw, "<f4", offset=28)
    head = width // heads
    keys = key_value_heads * head
    sizes = [
        ("embed_tokens", (vocabulary, width)),
        ("input_layernorm", (layers, width)),
        ("self_attn.q_proj", (layers, width, width)),
        ("self_attn.k_proj", (layers, keys, width)),
        ("self_attn.v_proj", (layers, keys, width)),
        ("self_attn.o_proj", (layers, width, width)),
        ("post_attention_layernorm", (layers, width)),
        ("mlp.gate_proj", (layers, inner, width)),
        ("mlp.down_proj", (layers, width, inner)),
        ("mlp.up_proj", (layers, inner, width)),
        ("norm", (width,)),
    ]
    arrays, start = {}, 0
    for name, shape in sizes:
        size = int(np.prod(shape))
        array = numbers[start : start + size].reshape(shape)
        start += size
        if shape[0] == layers and name not in ("embed_tokens", "norm"):
            arrays |= {f"model.layers.{index}.{name}.weight": array[index].copy() for index in range(layers)}
        else:
            arrays[f"model.{name}.weight"] = array.copy()
    assert start + length * head == numbers.size, "what remains is the table of angles"
    config = {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "max_position_embeddings": length,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    (directory / "config.json").write_text(
        json.dumps({key: getattr(v, "item", lambda v=v: v)() for key, v in config.items()})
    )
    write_safetensors(directory / "model.safetensors", arrays, metadata={"format": "pt"})
