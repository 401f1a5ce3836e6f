"""Multi-head attention equals every recorded case of bert4keras 0.11.5: biases, masks, positions, normalisations."""

import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from qingformer import layers
from qingformer.ops.relative_distances import relative_table

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "layers"
CASES = sorted(path.stem for path in FIXTURES.glob("mha_*.npz"))
RECORDED_LIMIT = 4  # the recorded relative vectors are those of distances clipped at 4
NAMES = {"q": "query", "k": "key", "v": "value", "o": "output"}


def make(config: dict, arrays, **more) -> layers.MultiHeadAttention:
    """The layer of a case with its weights."""
    relative = config["p_bias"] == "typical_relative"
    kind = layers.RelativeMultiHeadAttention if relative else layers.MultiHeadAttention
    layer = kind(
        config["heads"],
        config["head_size"],
        key_size=config.get("key_size"),
        use_bias=config.get("use_bias", True),
        scaled=config.get("attention_scale", True),
        normalization=config.get("normalization", "softmax"),
        output_size=config.get("out_dim", config["heads"] * config["head_size"]),
        **({"max_relative_position": RECORDED_LIMIT} if relative else {}),
        name="a",
        **more,
    )
    layer.build(arrays["query"].shape, arrays["key_value"].shape)
    for variable in layer.variables:
        _, part, kind = variable.path.split("/")
        short = next(key for key, name in NAMES.items() if name == part)
        variable.assign(arrays[f"{short}_{kind}"])
    return layer


def call_arguments(config: dict, arrays) -> dict:
    """Mask, bias and positions as the layer takes them."""
    mask, given = None, {}
    if "key_mask" in arrays:
        mask = arrays["key_mask"][:, None, None, :]
    if "a_bias" in arrays:
        bias = arrays["a_bias"]
        bias = bias.reshape((1,) * (4 - bias.ndim) + bias.shape) if bias.ndim != 3 else bias[:, None]
        if bias.dtype == bool:
            mask = bias if mask is None else mask & bias
        else:
            given["bias"] = bias
    if "rotary_sinusoidal" in arrays:
        waves = arrays["rotary_sinusoidal"]
        given["rotary"] = np.stack([waves[..., 1::2], waves[..., 0::2]], axis=-2)
    if config["p_bias"] == "t5_relative":
        given["bias"] = arrays["relative_position"].transpose(2, 0, 1)[None]
    return {"attention_mask": mask, **given}


@pytest.mark.parametrize("implementation", ["explicit", "fused"])
@pytest.mark.parametrize("case", CASES)
def test_attention_equals_the_original(case, implementation):
    arrays = dict(np.load(FIXTURES / f"{case}.npz"))
    config = json.loads(str(arrays["config"]))
    layer = make(config, arrays, implementation=implementation)
    given = {
        key: value if value is None else ops.convert_to_tensor(value)
        for key, value in call_arguments(config, arrays).items()
    }
    output = ops.convert_to_numpy(layer(arrays["query"], context=arrays["key_value"], **given))
    relative = 1e-5 if config.get("normalization") == "squared_relu" else 0
    np.testing.assert_allclose(output, arrays["output"], atol=2e-5, rtol=relative)
    if implementation == "explicit":
        layer = make(config, arrays, residual_scores=True)
        _, scores = layer(arrays["query"], context=arrays["key_value"], **given)
        bias = ops.convert_to_numpy(given["bias"]) if config["p_bias"] == "t5_relative" else 0.0
        np.testing.assert_allclose(ops.convert_to_numpy(scores) + bias, arrays["attention_logits"], atol=2e-5)


def test_the_relative_cases_are_those_of_the_layer():
    arrays = np.load(FIXTURES / "mha_typical_relative.npz")
    length, width = arrays["relative_position"].shape[1:]
    table = ops.convert_to_numpy(relative_table(length, width, RECORDED_LIMIT))
    distances = np.arange(length)[None] - np.arange(length)[:, None]
    rows = np.clip(distances, -RECORDED_LIMIT, RECORDED_LIMIT) + RECORDED_LIMIT
    np.testing.assert_allclose(table[rows], arrays["relative_position"], atol=1e-6)
    t5 = np.load(FIXTURES / "mha_t5_relative.npz")
    bias = layers.RelativePositionBias(3)
    bias.build()
    bias.embeddings.assign(t5["t5_table"])
    found = ops.convert_to_numpy(bias(t5["query"]))
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), t5["relative_position"], atol=1e-6)


def test_all_recorded_cases_are_there():
    assert len(CASES) == 18
