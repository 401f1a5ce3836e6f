"""Costs are compared with hand counts, with published sizes, and with the products in a traced forward pass."""

import doctest
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from qingformer.analysis import activation_bytes, cost, encoder_cost, memory_estimate
from qingformer.errors import ConfigError
from tests.analysis.products import product_flops


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
    counted = sum(product_flops(equation) for equation in traced.jaxpr.eqns)
    assert encoder_cost(sizes, length, num_labels=labels).total_forward_flops == counted


def test_training_is_three_forward_passes_of_products():
    jax = pytest.importorskip("jax")

    def product(a, b):
        return (a @ b).sum()

    a, b = np.ones((5, 7), "float32"), np.ones((7, 3), "float32")
    step = jax.make_jaxpr(jax.value_and_grad(product, argnums=(0, 1)))(a, b)
    assert sum(product_flops(equation) for equation in step.jaxpr.eqns) == 3 * (2 * 5 * 7 * 3)


def test_activation_memory_of_other_parts():
    tiny = {"vocab_size": 50, "hidden_size": 4, "num_hidden_layers": 1, "intermediate_size": 8}
    heads = {"num_attention_heads": 2, "max_position_embeddings": 16, "type_vocab_size": 0}

    def values(**changes):
        return activation_bytes(SimpleNamespace(**tiny, **heads, **changes), 3, bytes_per_value=1)

    plain = 8 * 12 + 2 * 24 + 2 * 2 * 9 + 12
    assert values() == plain
    assert values(hidden_act=("gelu", "linear")) == plain + 3 * 24
    assert values(position_embedding_type="relative", max_relative_position=1) == plain + 2 * 2 * 3 * 3
    assert values(position_embedding_type="relative") == plain + 2 * 2 * 3 * 5
    assert values(family="gau_alpha", attention_key_size=2) == 2 * 12 + 6 * 24 + 4 * 6 + 2 * 9 + 12
    both = plain - 12 + 6 * 12 + 2 * 2 * 9
    assert values(application="decoder") == both + 12
    assert values(application="seq2seq", num_decoder_layers=2) == plain + 2 * both + 12


def test_activation_memory_scales_as_documented():
    sizes = Sizes(100, 4, 3, 2, 8, 16, 2)
    one = activation_bytes(sizes, 3)
    assert one == 4 * (3 * (8 * 12 + 2 * 24 + 2 * 2 * 9) + 12)
    assert activation_bytes(sizes, 3, batch_size=5, bytes_per_value=2) == 5 * one // 2
    assert activation_bytes(sizes, 3, recompute=True) == 4 * (3 * 12 + (8 * 12 + 2 * 24 + 2 * 2 * 9) + 12)


@pytest.mark.parametrize(("length", "labels"), [(0, 2), (4, -1)])
def test_impossible_requests_are_named(length, labels):
    with pytest.raises(ConfigError, match=r"length is 0|num_labels is -1"):
        encoder_cost(Sizes(), length, num_labels=labels)


@pytest.mark.parametrize("module", [cost, memory_estimate])
def test_docstring_examples_run(module):
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0


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
