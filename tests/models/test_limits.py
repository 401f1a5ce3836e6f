"""Sizes that nobody means end in one line before anything is built."""

import json
import time

import pytest

from qingformer.errors import ConfigError
from qingformer.models import Backbone
from qingformer.models.config import BackboneConfig
from qingformer.models.limits import check_stored_sizes

SMALL = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
MEANT_BY_NOBODY = {
    "vocab_size": [10**12, 0, -1, 9_999_999, "20", [20], True],
    "hidden_size": [10**9, 0, -8, 8192, 2.5],
    "num_hidden_layers": [10**9, 400, -1, None],
    "num_attention_heads": [3, 0, 10**9, -2],
    "intermediate_size": [10**9, 900_000],
    "max_position_embeddings": [10**9, 99_000_000],
    "type_vocab_size": [10**7, -1],
    "embedding_size": [0, 10**9],
    "attention_head_size": [10**9],
    "layer_norm_eps": [float("nan"), float("inf"), -1.0, 0.0],
    "initializer_range": [float("inf"), -0.1],
    "hidden_act": [["gelu", 3], ["gelu"] * 100, 7],
    "family": [["bert"], 3],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    Backbone(BackboneConfig(**SMALL)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("key", MEANT_BY_NOBODY)
def test_refused_at_once(saved, key):
    path = saved / "config.json"
    before = path.read_text(encoding="utf-8")
    try:
        for value in MEANT_BY_NOBODY[key]:
            path.write_text(json.dumps({**json.loads(before), key: value}))
            began = time.monotonic()
            with pytest.raises(ConfigError) as caught:
                Backbone.from_pretrained(saved)
            assert time.monotonic() - began < 5
            assert str(path) in str(caught.value)
            assert len(str(caught.value)) < 400
    finally:
        path.write_text(before, encoding="utf-8")


def test_a_half_stored_model_is_still_named_by_its_missing_weights(saved):
    assert Backbone.from_pretrained(saved, num_hidden_layers=2, strict=False).config.num_hidden_layers == 2


TINY = {"vocab_size": 10, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16,
        "max_position_embeddings": 16}  # fmt: skip
BEYOND_THE_FILE = {
    "vocab_size": {"vocab_size": 20_000},
    "max_position_embeddings": {"max_position_embeddings": 20_000},
    "type_vocab_size": {"type_vocab_size": 10_000, "hidden_size": 128},
    "relative_attention_num_buckets": {"position_embedding_type": "bucketed", "relative_attention_num_buckets": 60_000,
                                       "num_attention_heads": 32},
    "intermediate_size": {"intermediate_size": 20_000},
    "hidden_size": {"hidden_size": 2048},
    "num_attention_heads": {"hidden_size": 1024, "attention_head_size": 1, "num_attention_heads": 1024},
    "num_hidden_layers": {"num_hidden_layers": 12, "intermediate_size": 2048},
    "num_decoder_layers": {"family": "t5", "num_decoder_layers": 12, "intermediate_size": 2048},
}  # fmt: skip


@pytest.mark.parametrize("key", BEYOND_THE_FILE)
def test_each_size_is_compared_with_what_the_file_holds(key):
    config = BackboneConfig(**{**TINY, **BEYOND_THE_FILE[key]})
    with pytest.raises(ConfigError, match=rf"^c\.json: {key} is \d+, which takes [\d,]+ weights or more"):
        check_stored_sizes(config, "c.json", {"w": (1000,)}, exact=True)
    check_stored_sizes(config, "c.json", {"w": (1000, 1000)}, exact=True)


def test_there_are_no_more_blocks_than_tensors_unless_blocks_are_shared():
    for key, options in (
        ("num_hidden_layers", {"num_hidden_layers": 20}),
        ("num_decoder_layers", {"family": "t5", "num_decoder_layers": 20}),
    ):
        config = BackboneConfig(**{**TINY, **options})
        with pytest.raises(ConfigError, match=f"{key} is 20, but the weights file holds 1 tensors"):
            check_stored_sizes(config, "c.json", {"w": (9,)}, exact=True)
        check_stored_sizes(config, "c.json", {"w": (9,)}, exact=False)
    shared = BackboneConfig(**{**TINY, "family": "albert", "share_blocks": True, "num_hidden_layers": 500})
    check_stored_sizes(shared, "c.json", {"w": (9,)}, exact=True)


def test_parts_that_may_start_anew_have_more_room():
    config = BackboneConfig(**{**TINY, "vocab_size": 50_000})
    with pytest.raises(ConfigError, match="vocab_size is 50000"):
        check_stored_sizes(config, "c.json", {"w": (100_000,)}, exact=True)
    check_stored_sizes(config, "c.json", {"w": (100_000,)}, exact=False)
