"""The article's numbers, and that the costs are equal where the thresholds say."""

import doctest
from types import SimpleNamespace

import pytest

from qingformer.analysis import attention_thresholds, encoder_cost, thresholds
from qingformer.models import BackboneConfig

BASE = BackboneConfig(vocab_size=21128)


def test_one_layer_of_base_size_at_512_has_the_published_multiply_adds():
    found = encoder_cost(BASE.replace(num_hidden_layers=1), 512).multiply_adds
    assert found["attention_projections"] == 4 * 512 * 768**2 == 1_207_959_552
    assert found["attention_scores"] == 2 * 512**2 * 768 == 402_653_184
    assert found["attention_projections"] + found["attention_scores"] == 1_610_612_736
    assert found["feed_forward"] == 8 * 512 * 768**2 == 2_415_919_104


def test_thresholds_of_base_size():
    found = attention_thresholds(BASE)
    assert found.attention_exceeds_feed_forward == 1536
    assert found.quadratic_exceeds_linear == 4608
    assert found.linear_attention_cheaper == 64
    assert found.linear_attention_worthwhile == 1024


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
        {"hidden_act": ("gelu", "linear")},
        {"num_key_value_heads": 4},
        {"attention_key_size": 32},
        {"family": "nezha"},
        {"family": "gau_alpha"},
        {"family": "t5"},
    ],
)
def test_both_sides_cost_the_same_at_the_thresholds(changes):
    # Every threshold here is a whole number or nearly so: between the lengths around it the larger side changes.
    config = BackboneConfig(vocab_size=100, **changes)
    found = attention_thresholds(config)

    def differences(length):
        flops = encoder_cost(config, length).forward_flops
        attention = flops["attention_projections"] + flops["relative_positions"]
        return (
            attention + flops["attention_scores"] - flops["feed_forward"],
            flops["attention_scores"] - attention - flops["feed_forward"],
        )

    for index, length in enumerate((found.attention_exceeds_feed_forward, found.quadratic_exceeds_linear)):
        if length:
            assert differences(int(length - 1e-9))[index] <= 0 <= differences(int(length) + 1)[index]
            if length == int(length):
                assert differences(int(length))[index] == 0


def test_attention_of_a_gated_unit_has_no_feed_forward_to_exceed():
    found = attention_thresholds(BackboneConfig(vocab_size=100, family="gau_alpha"))
    assert found.attention_exceeds_feed_forward is None
    assert found.quadratic_exceeds_linear == 768 * (3 * 1536 + 128) / (1536 + 128)


def test_attention_may_exceed_a_narrow_feed_forward_at_any_length():
    assert attention_thresholds(BASE.replace(intermediate_size=768)).attention_exceeds_feed_forward == 0


def test_the_cheaper_way_to_mix_values_changes_at_the_threshold():
    config = BackboneConfig(vocab_size=100, attention_key_size=32)
    length = attention_thresholds(config).linear_attention_cheaper
    linear, quadratic = 2 * length * 32 * 64, length**2 * (32 + 64)
    assert linear == pytest.approx(quadratic)


def test_quadratic_share_reaches_a_half_at_the_threshold():
    assert encoder_cost(BASE.replace(pooler=False), 4608).quadratic_share == 0.5
    assert encoder_cost(BASE.replace(pooler=False), 512).quadratic_share == pytest.approx(0.1)


def test_no_layers_have_no_thresholds_but_no_error_either():
    nothing = SimpleNamespace(
        vocab_size=10, hidden_size=8, num_hidden_layers=0, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=4, type_vocab_size=2,
    )  # fmt: skip
    assert attention_thresholds(nothing).quadratic_exceeds_linear == 0


def test_docstring_examples_run():
    assert doctest.testmod(thresholds).failed == 0
    assert doctest.testmod(thresholds).attempted > 0
