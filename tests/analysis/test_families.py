"""Counts of every family are compared with its real model: parameters, and the products of its traced forward pass."""

import keras
import numpy as np
import pytest

from qingformer.analysis import count_parameters, encoder_cost
from qingformer.models import FAMILIES, Backbone, BackboneConfig
from tests.analysis.products import product_flops

SIZES = {
    "vocab_size": 40,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "attention_head_size": 4,
}
GAU = {"num_attention_heads": 1, "attention_key_size": 6, "family": "gau_alpha"}
CASES = {
    **{family: {"family": family} for family in FAMILIES if family != "gau_alpha"},
    "gau_alpha": GAU,
    "gau_alpha with biases": GAU | {"use_bias": True},
    "no pooler": {"pooler": False},
    "narrow embeddings": {"embedding_size": 8},
    "odd heads": {"attention_head_size": 5, "attention_key_size": 3},
    "no segments": {"type_vocab_size": 0},
    "shared segments": {"shared_segment_embeddings": True},
    "condition": {"condition_size": 5},
    "condition through a layer": {"condition_size": 5, "condition_hidden_size": 7},
    "condition of a norm without gain": {"family": "roformer_v2", "condition_size": 5},
    "ernie with tasks": {"family": "ernie", "use_task_id": True, "embedding_size": 8},
    "modernbert with offsets": {"family": "modernbert", "norm_bias": True, "embedding_size": 8},
    "bucketed": {"position_embedding_type": "bucketed", "relative_attention_num_buckets": 8},
    "albert unshared": {"family": "albert", "share_blocks": False},
    "albert in groups": {"family": "albert", "num_hidden_layers": 5, "num_hidden_groups": 2},
    "albert, tokens alone narrow": {"family": "albert", "project_tokens": True, "embedding_size": 6},
    "albert as wide as its tokens": {"family": "albert", "project_tokens": True, "embedding_size": None},
    "nezha beyond the clip": {"family": "nezha", "max_relative_position": 3},
    "gated feed-forward": {"hidden_act": ("gelu", "linear")},
    "llama, grouped queries": {"family": "llama", "num_key_value_heads": 1},
    "qwen2": {"family": "llama", "attention_bias": True},
    "qwen3": {"family": "llama", "query_key_norm": True, "num_key_value_heads": 1},
    "t5 encoder": {"family": "t5", "application": "encoder"},
    "t5 decoder": {"family": "t5", "application": "decoder", "num_decoder_layers": 3},
    "t5.1.1": {"family": "t5", "num_decoder_layers": 1, "hidden_act": ("gelu", "linear"), "attention_head_size": 5},
}


def config_of(case: str) -> BackboneConfig:
    return BackboneConfig(**{**SIZES, **CASES[case]})


@pytest.mark.parametrize("case", CASES)
def test_parameters_equal_those_of_the_model(case):
    config = config_of(case)
    parts = count_parameters(config)
    assert sum(parts.values()) == Backbone(config, initializer="zeros").count_params()
    assert min(parts.values()) >= 0


@pytest.mark.parametrize("length", [2, 7])
@pytest.mark.parametrize("case", CASES)
def test_flops_equal_the_products_of_the_traced_model(case, length):
    if keras.backend.backend() != "jax":
        pytest.skip("the products are read from a JAX program")
    import jax

    config = config_of(case)
    model = Backbone(config, initializer="zeros")
    inputs = {tensor.name: np.ones((1, *given(tensor.shape[1:], length)), tensor.dtype) for tensor in model.inputs}
    traced = jax.make_jaxpr(lambda arrays: model(arrays))(inputs)
    counted = sum(product_flops(equation) for equation in traced.jaxpr.eqns)
    assert encoder_cost(config, length).total_forward_flops == counted - condition_flops(config)


def given(shape: tuple[int | None, ...], length: int) -> list[int]:
    """The shape of an input for a sentence of that length."""
    return [length if size is None else size for size in shape]


def condition_flops(config: BackboneConfig) -> int:
    """What the norms do with their condition, once a sentence, is no part of the count."""
    if config.condition_size is None:
        return 0
    norms = 2 * config.num_hidden_layers + 1
    width, vectors = config.condition_hidden_size, 2 if config.norm_type == "layer_norm" else 1
    into = 2 * config.condition_size * width if width else 0
    return norms * (into + 2 * vectors * (width or config.condition_size) * config.hidden_size)


def test_tables_of_positions_that_are_not_there_do_not_count():
    sizes = {**SIZES, "max_position_embeddings": 1000}
    for family in ("nezha", "roformer", "roformer_v2"):
        config = BackboneConfig(**sizes, family=family)
        assert count_parameters(config) == count_parameters(config.replace(max_position_embeddings=1))
    longer = count_parameters(BackboneConfig(**sizes))["embeddings"]
    assert longer - count_parameters(BackboneConfig(**SIZES))["embeddings"] == 984 * 12


def test_two_units_have_little_more_than_a_block_of_roformer_v2():
    base = {"vocab_size": 21128}
    unit = count_parameters(BackboneConfig(**base, family="gau_alpha"))
    block = count_parameters(BackboneConfig(**base, family="roformer_v2"))
    assert unit["embeddings"] == block["embeddings"]
    more = sum(unit.values()) - sum(block.values())
    assert more == 12 * (2 * 768 * 128 + 4 * 128)
    assert more / (block["attention"] + block["feed_forward"]) == pytest.approx(0.028, abs=5e-4)
