"""Small models with random weights, and what the tests do to them: cut into blocks, differentiate, export."""

from unittest import mock

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.checkpoints.weight_map import save_rows
from qingformer.models import Backbone, BackboneConfig, CausalLM, MaskedLM

SIZES = {
    "vocab_size": 29,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 14,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
Arrays = dict[str, np.ndarray]


def build(kind: type, family: str, seed: int = 0, **options):
    """A model of that family and kind, its weights random and large enough for every part to matter."""
    config = BackboneConfig(**{**SIZES, **options, "family": family})
    # Every weight is overwritten; on JAX each shape that is drawn first costs a compilation.
    with mock.patch.object(keras.src.backend.random, "truncated_normal", zeros):
        model = kind(config)
    randomise(model, seed)
    return model


def zeros(shape, *args, **kwargs):
    return ops.convert_to_tensor(np.zeros(shape, "float32"))


def kind_of(application: str) -> type:
    """The model with the language head of a role."""
    return MaskedLM if application == "encoder" else CausalLM


def randomise(model, seed: int = 0) -> None:
    """Gains around one, everything else around zero; also the variables that start as zeros or ones."""
    generator = np.random.default_rng(seed)
    for path, variable in model.named_variables().items():
        centre = 1.0 if path.endswith("gamma") else 0.0
        scale = 0.7 if path.endswith("embeddings") else 0.3
        variable.assign(generator.normal(centre, scale, tuple(variable.shape)))


def sample_inputs(generator, config: BackboneConfig, lengths: list[int]) -> Arrays:
    """Rows of those lengths, padded on the right with id 0; segments 0...0 1...1 in the kept part."""
    width = max(lengths)
    mask = np.array([[1] * n + [0] * (width - n) for n in lengths], "int32")
    token_ids = generator.integers(1, config.vocab_size, mask.shape).astype("int32") * mask
    segments = max(config.type_vocab_size, 1)
    segment_ids = np.sort(generator.integers(0, segments, mask.shape), axis=1).astype("int32") * mask
    return {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": mask}


def accepted(model, inputs: Arrays) -> dict:
    """Those of the inputs that the model has, as tensors."""
    names = {tensor.name for tensor in model.inputs}
    return {name: ops.convert_to_tensor(array) for name, array in inputs.items() if name in names}


def numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def run(model, inputs: Arrays) -> list[np.ndarray]:
    """The outputs of all blocks, then that of the model: its logits, or a backbone's hidden states."""
    outputs = [model.get_layer(f"block_{index}").output for index in range(model.config.num_hidden_layers)]
    # A block that hands its scores on has two outputs.
    outputs = [output[0] if isinstance(output, (list, tuple)) else output for output in outputs]
    last = model.output["sequence_output"] if isinstance(model, Backbone) else model.output
    cut = keras.Model(model.inputs, [*outputs, last])
    given = accepted(model, inputs)
    values = compiled(lambda tensors: cut(tensors))([given[tensor.name] for tensor in model.inputs])
    return [numpy(value) for value in values]


def stored_weights(model) -> Arrays:
    """The weights under their TensorFlow names."""
    return save_rows(model.weight_map(model.config), "tensorflow", model.weight_arrays().items())


def gradients_of(model, inputs: Arrays, weight: np.ndarray) -> Arrays:
    """Gradient of sum(output * weight) by variable path."""
    trained = {variable.path: variable.value for variable in model.trainable_variables}
    fixed = [variable.value for variable in model.non_trainable_variables]
    weight, inputs = ops.convert_to_tensor(weight), accepted(model, inputs)

    def loss(values):
        outputs, _ = model.stateless_call(values, fixed, inputs)
        return ops.sum((outputs["sequence_output"] if isinstance(model, Backbone) else outputs) * weight)

    _, found = compiled(backend.value_and_grad(loss))(list(trained.values()))
    return {path: numpy(gradient) for path, gradient in zip(trained, found)}


def compiled(function):
    """On JAX, where a function of its own shapes is compiled quicker than each of its operations."""
    return backend.compile(function) if backend.name() == "jax" else function
