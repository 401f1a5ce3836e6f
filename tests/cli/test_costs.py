"""`qingformer info` on costs: the numbers of the analysis, and what is read of them."""

import json

import pytest

from qingformer.analysis import encoder_cost
from qingformer.models import BackboneConfig

BASE = {"vocab_size": 21128, "family": "bert"}


def configuration(folder, **values):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(BASE | values))
    return folder


def test_thresholds_and_shares_are_those_of_the_analysis(cli, tmp_path):
    source = configuration(tmp_path / "base")
    found = json.loads(cli("info", source, "--length", "512", "--json").out)["cost"]
    expected = encoder_cost(BackboneConfig(vocab_size=21128), 512)
    assert found["by_part"] == expected.forward_flops
    assert found["quadratic_share"] == expected.quadratic_share == pytest.approx(0.1, abs=1e-3)
    assert found["thresholds"] == {
        "attention_exceeds_feed_forward": 1536,
        "quadratic_exceeds_linear": 4608,
        "linear_attention_cheaper": 64,
        "linear_attention_worthwhile": 1024,
    }


def test_thresholds_are_printed_in_tokens(cli, tmp_path):
    printed = cli("info", configuration(tmp_path / "base"), "--length", "512").out
    for wanted in ("512 tokens", "10.0 %", "1,536 tokens", "4,608 tokens", "64 tokens", "1,024 tokens"):
        assert wanted in printed
    printed = cli("info", configuration(tmp_path / "narrow", intermediate_size=768)).out
    assert "at any length" in printed


def test_a_gated_unit_has_no_feed_forward_part(cli, tmp_path):
    source = configuration(tmp_path / "gau", family="gau_alpha")
    assert "there is no feed-forward part" in cli("info", source).out
    assert json.loads(cli("info", source, "--json").out)["cost"]["by_part"]["feed_forward"] == 0
