"""The table of all families for the batteries: tiny sizes, the formats each has, and what the tests do to models."""

import contextlib
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras import ops

import qingformer as qf
from qingformer.models import FAMILIES, BackboneConfig
from qingformer.models.shapes import weight_shapes
from tests.models import random_models

OURS = ("qingformer",)
GOOGLE = ("qingformer", "tensorflow")
TRANSFORMERS = ("qingformer", "huggingface")
ALL = ("qingformer", "tensorflow", "huggingface")
# One shape for every family: on JAX every new one costs the compilation of each operation.
ROWS, LENGTH, VOCABULARY = 2, 6, 29
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@dataclass(frozen=True)
class Entry:
    """A family, or an arrangement of it: options beside the common sizes, formats, and a head for the longer tests."""

    family: str
    head: str
    formats: tuple[str, ...] = ALL
    options: dict[str, Any] = field(default_factory=dict)
    heads: tuple[str, ...] | None = None

    @property
    def all_heads(self) -> tuple[str, ...]:
        """The body alone and every head of the family, or of this arrangement."""
        return ("Backbone", *(FAMILIES[self.family].spec.heads if self.heads is None else self.heads))

    def config(self, **more: Any) -> BackboneConfig:
        """Its configuration."""
        return BackboneConfig(**{**SIZES, **self.options, **more, "family": self.family})


NARROW = {"embedding_size": 6}
# Said outright, as Hugging Face files say them: what is read again is then the same configuration.
LLAMA = {"attention_head_size": 4, "num_key_value_heads": 2, "attention_bias": False}
GATED = {
    "attention_head_size": 4,
    "hidden_act": ("gelu_new", "linear"),
    "tie_word_embeddings": False,
    "num_decoder_layers": 1,
}
TABLE = {
    "albert": Entry("albert", "PreTraining", ALL, NARROW),
    "albert, two groups": Entry("albert", "MaskedLM", ALL, NARROW | {"num_hidden_groups": 2}, ("MaskedLM",)),
    "albert, unshared": Entry("albert", "MaskedLM", OURS, NARROW | {"share_blocks": False}, ("MaskedLM",)),
    "albert, brightmart": Entry("albert", "MaskedLM", OURS, NARROW | {"project_tokens": True}, ("MaskedLM",)),
    "bert": Entry("bert", "PreTraining"),
    "electra": Entry("electra", "ReplacedTokenDetection", ALL, NARROW, ("ReplacedTokenDetection",)),
    "electra, generator": Entry("electra", "MaskedLM", ALL, NARROW | {"generator": True}, ("MaskedLM",)),
    "ernie": Entry("ernie", "PreTraining", TRANSFORMERS, {"use_task_id": True, "type_vocab_size": 4}),
    "ernie, tasks": Entry(
        "ernie", "MaskedLM", OURS, {"use_task_id": True, "custom_task_type_ids": True}, ("MaskedLM",)
    ),
    "gau_alpha": Entry("gau_alpha", "MaskedLM", GOOGLE, {"num_attention_heads": 1, "attention_key_size": 4}),
    "gpt": Entry("gpt", "CausalLM", ALL, {"type_vocab_size": 0, "hidden_act": "gelu_new"}),
    "gpt2": Entry("gpt2", "CausalLM", ALL),
    "gpt2_ml": Entry("gpt2_ml", "CausalLM", GOOGLE),
    "llama": Entry("llama", "CausalLM", TRANSFORMERS, LLAMA | {"num_key_value_heads": 1}),
    "llama, qwen2": Entry("llama", "CausalLM", TRANSFORMERS, LLAMA | {"attention_bias": True}),
    "llama, qwen3": Entry(
        "llama", "CausalLM", TRANSFORMERS, LLAMA | {"query_key_norm": True, "tie_word_embeddings": True}
    ),
    "modernbert": Entry(
        "modernbert", "MaskedLM", TRANSFORMERS, {"local_attention": 2, "global_attn_every_n_layers": 2}
    ),
    "nezha": Entry("nezha", "PreTraining"),
    "roformer": Entry("roformer", "PreTraining"),
    "roformer, narrow": Entry("roformer", "MaskedLM", ALL, NARROW, ("MaskedLM",)),
    "roformer_sim": Entry("roformer_sim", "Similarity"),
    "roformer_v2": Entry("roformer_v2", "MaskedLM"),
    "simbert": Entry("simbert", "Similarity"),
    "t5": Entry("t5", "Seq2SeqLM", ALL, {"attention_head_size": 4}),
    "t5, gated": Entry("t5", "Seq2SeqLM", ALL, GATED),
    "tta": Entry("tta", "MaskedLM"),
}
PLAIN = [name for name, entry in TABLE.items() if name == entry.family]


def class_of(head: str) -> Any:
    """The class of that name."""
    return getattr(qf, head)


def make(name: str, head: str | None = None, **options: Any) -> Any:
    """A model of an entry with random weights, all of which matter."""
    entry = TABLE[name]
    return random_models.build(class_of(head or entry.head), entry.family, **{**SIZES, **entry.options, **options})


def paths_of(name: str) -> set[str]:
    """The variables of the model that the table gives an entry."""
    return set(weight_shapes([class_of(TABLE[name].head)], TABLE[name].config())[0])


@contextlib.contextmanager
def quick_start() -> Any:
    """Models that are filled right after they are made begin with zeros: drawing would compile for every shape."""
    with mock.patch.object(keras.src.backend.random, "truncated_normal", random_models.zeros):
        yield


def inputs_of(model: Any, length: int = LENGTH, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for every input of a model, the last two places of the second row being padding."""
    generator = np.random.default_rng(seed)
    mask = np.ones((ROWS, length), "int32")
    mask[1, -2:] = 0
    tokens = generator.integers(1, VOCABULARY, (2, ROWS, length)).astype("int32") * mask
    values = {
        "token_ids": tokens[0],
        "task_type_ids": np.full((ROWS, length), 2, "int32"),
        "decoder_token_ids": tokens[1],
        "segment_ids": np.repeat([[0] * (length // 2) + [1] * (length - length // 2)], ROWS, 0).astype("int32") * mask,
        "padding_mask": mask,
        "decoder_padding_mask": mask,
    }
    return {tensor.name: values[tensor.name] for tensor in model.inputs}


def named(outputs: Any) -> dict[str, Any]:
    """Outputs by name, also of models that have one."""
    return outputs if isinstance(outputs, dict) else {"logits": outputs}


def values(outputs: Any) -> dict[str, np.ndarray]:
    """Outputs as float32 arrays by name."""
    return {name: random_models.numpy(output) for name, output in named(outputs).items()}


def run(model: Any, length: int = LENGTH) -> dict[str, np.ndarray]:
    """What a direct call gives."""
    return values(model(inputs_of(model, length)))


def same(there: dict[str, np.ndarray], wanted: dict[str, np.ndarray], atol: float = 0.0) -> None:
    """The same outputs, to the last bit unless told."""
    assert set(there) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(there[name], wanted[name], rtol=0, atol=atol, err_msg=name)


def distance(there: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """The largest difference of any output, relative to the size of that output."""
    return max(np.abs(there[name] - wanted[name]).max() / np.abs(wanted[name]).max() for name in wanted)


def same_weights(model: Any, other: Any) -> None:
    """The same paths with the same bits."""
    there, wanted = other.weight_arrays(), model.weight_arrays()
    assert set(there) == set(wanted)
    for path in wanted:
        np.testing.assert_array_equal(there[path], wanted[path], err_msg=path)


def lesson(model: Any, seed: int = 0) -> tuple[Any, Any]:
    """A loss and targets for each output: classes for logits, yes or no for single numbers, vectors for vectors."""
    generator = np.random.default_rng(seed)
    losses, targets = {}, {}
    for name, tensor in named(model.output).items():
        shape = (ROWS, *(LENGTH if size is None else size for size in tensor.shape[1:]))
        if shape[-1] in (VOCABULARY, 2):
            losses[name] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            targets[name] = generator.integers(0, shape[-1], shape[:-1])
        elif len(shape) == 2 and tensor.shape[-1] is None:
            losses[name] = keras.losses.BinaryCrossentropy(from_logits=True)
            targets[name] = generator.integers(0, 2, shape)
        else:
            losses[name] = keras.losses.MeanSquaredError()
            targets[name] = generator.normal(size=shape).astype("float32")
    if isinstance(model.output, dict):
        return losses, targets
    return losses["logits"], targets["logits"]


def train(model: Any, steps: int = 2, eagerly: bool = False, rate: float = 0.01) -> list[float]:
    """A few steps on one batch; the loss before each."""
    losses, targets = lesson(model)
    model.compile(keras.optimizers.SGD(rate), losses, run_eagerly=eagerly)
    history = model.fit(inputs_of(model), targets, batch_size=ROWS, epochs=steps, shuffle=False, verbose=0)
    return history.history["loss"]


def tensors(model: Any) -> dict[str, Any]:
    """The inputs as the backend's tensors."""
    return {name: ops.convert_to_tensor(array) for name, array in inputs_of(model).items()}
