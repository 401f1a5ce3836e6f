"""Costs are compared with hand counts, with published sizes, and with the products in a traced forward pass."""

import doctest
from dataclasses import dataclass

import numpy as np
import pytest

from qingformer.analysis import activation_bytes, cost, encoder_cost
from qingformer.errors import ConfigError
from qingformer.models import Backbone, BackboneConfig


@dataclass(frozen=True)
class Sizes:
    vocab_size: int = 21128
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2


def test_bert_base_chinese_has_its_published_parameter_count():
    assert encoder_cost(Sizes(), 128).total_parameters == 102_267_648


def test_flops_equal_a_count_written_as_loops():
    sizes = Sizes(50, 12, 3, 4, 20, 16, 2)
    length, total = 7, 0
    for _ in range(sizes.num_hidden_layers):
        for _ in ("query", "key", "value", "output"):
            total += 2 * length * 12 * 12
        for _ in range(sizes.num_attention_heads):
            head = 12 // 4
            total += 2 * length * head * length + 2 * length * length * head
        total += 2 * length * 12 * 20 + 2 * length * 20 * 12
    total += 2 * 1 * 12 * 12 + 2 * 1 * 12 * 5
    cost_of = encoder_cost(sizes, length, num_labels=5)
    assert cost_of.total_forward_flops == total
    assert cost_of.total_training_flops == 3 * total


def test_parts_vanish_when_absent():
    bare = encoder_cost(Sizes(), 128, pooler=False)
    assert bare.parameters["pooler"] == bare.parameters["classifier"] == bare.forward_flops["pooler"] == 0


def test_quadratic_part_overtakes_the_rest_where_the_docstring_says():
    flops = encoder_cost(Sizes(), 2 * 768 + 3072).forward_flops
    assert flops["attention_scores"] == flops["attention_projections"] + flops["feed_forward"]


def test_forward_flops_equal_the_matrix_products_of_a_traced_encoder():
    jax = pytest.importorskip("jax")
    sizes = Sizes(30, 16, 2, 4, 24, 16, 2)
    length, labels = 6, 3
    traced = jax.make_jaxpr(lambda x: _plain_encoder(jax.numpy, x, sizes, labels))(np.ones((length, 16), "float32"))
    counted = sum(_product_flops(equation) for equation in traced.jaxpr.eqns)
    assert encoder_cost(sizes, length, num_labels=labels).total_forward_flops == counted


def test_training_is_three_forward_passes_of_products():
    jax = pytest.importorskip("jax")

    def product(a, b):
        return (a @ b).sum()

    a, b = np.ones((5, 7), "float32"), np.ones((7, 3), "float32")
    step = jax.make_jaxpr(jax.value_and_grad(product, argnums=(0, 1)))(a, b)
    assert sum(_product_flops(equation) for equation in step.jaxpr.eqns) == 3 * (2 * 5 * 7 * 3)


def test_activation_memory_scales_as_documented():
    sizes = Sizes(100, 4, 3, 2, 8, 16, 2)
    one = activation_bytes(sizes, 3)
    assert one == 4 * (3 * (8 * 12 + 2 * 24 + 2 * 2 * 9) + 12)
    assert activation_bytes(sizes, 3, batch_size=5, bytes_per_value=2) == 5 * one // 2
    assert activation_bytes(sizes, 3, recompute=True) == 4 * (3 * 12 + (8 * 12 + 2 * 24 + 2 * 2 * 9) + 12)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pooler": False},
        {"embedding_size": 8},
        {"attention_head_size": 5, "attention_key_size": 3},
        {"type_vocab_size": 0},
        {"shared_segment_embeddings": True},
    ],
)
def test_parameters_equal_those_of_the_model(changes):
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    config = BackboneConfig(vocab_size=40, max_position_embeddings=16, **(sizes | changes))
    weights = Backbone(config).named_variables().values()
    assert encoder_cost(config, 8).total_parameters == sum(int(np.prod(weight.shape)) for weight in weights)


@pytest.mark.parametrize(("length", "labels"), [(0, 2), (4, -1)])
def test_impossible_requests_are_named(length, labels):
    with pytest.raises(ConfigError, match=r"length is 0|num_labels is -1"):
        encoder_cost(Sizes(), length, num_labels=labels)


def test_docstring_examples_run():
    assert doctest.testmod(cost).failed == 0
    assert doctest.testmod(cost).attempted > 0


def _plain_encoder(jnp, x, sizes, labels):
    """The products of an encoder in their plainest form; what stands between them does not matter here."""
    hidden, heads = sizes.hidden_size, sizes.num_attention_heads
    square = np.ones((hidden, hidden), "float32")
    for _ in range(sizes.num_hidden_layers):
        query, key, value = ((x @ square).reshape(len(x), heads, -1) for _ in range(3))
        scores = jnp.einsum("qnd,knd->nqk", query, key)
        context = jnp.einsum("nqk,knd->qnd", scores, value).reshape(x.shape)
        x = context @ square
        inner = np.ones((hidden, sizes.intermediate_size), "float32")
        x = (x @ inner) @ inner.T
    return (x[0] @ square) @ np.ones((hidden, labels), "float32")


def _product_flops(equation):
    if equation.primitive.name in ("jit", "pjit"):
        return sum(_product_flops(inner) for inner in equation.params["jaxpr"].jaxpr.eqns)
    if equation.primitive.name != "dot_general":
        return 0
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = int(np.prod([equation.invars[0].aval.shape[axis] for axis in contracted]))
    return 2 * depth * int(np.prod(equation.outvars[0].aval.shape))
