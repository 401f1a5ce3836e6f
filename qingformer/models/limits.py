"""Absurd sizes are refused before anything is built: by stated limits, and by what the weights file holds."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from qingformer.errors import ConfigError

POSITIVE_IF_GIVEN = "embedding_size attention_head_size attention_key_size condition_size condition_hidden_size".split()
# Far above every published model of these families.
LIMITS: dict[str, float] = {
    "vocab_size": 10_000_000,
    "max_position_embeddings": 100_000_000,
    "type_vocab_size": 10_000,
    "num_hidden_layers": 512,
    "num_decoder_layers": 512,
    "num_hidden_groups": 1000,
    "num_attention_heads": 1024,
    "num_key_value_heads": 1024,
    "intermediate_size": 1_000_000,
    "relative_attention_num_buckets": 65_536,
    "relative_attention_max_distance": 100_000_000,
    "max_relative_position": 100_000,
    "rotary_limit": 100_000_000,
    "rotary_base": 1e12,
    "rotary_scaling": 1e6,
    "layer_norm_eps": 1.0,
    "initializer_range": 10.0,
    "hidden_size": 65_536,
    **dict.fromkeys(POSITIVE_IF_GIVEN, 65_536),
}
MAXIMUM_ACTIVATIONS = 8
# A file may lack a part of the model, which loading names; more room where that part may start anew.
_ROOM, _MORE_ROOM, _SPARE = 4, 64, 1_000_000


def check_limits(config: Any) -> None:
    """Raise `ConfigError`, naming the key, for a size beyond its limit or a number that is not finite."""
    for key, limit in LIMITS.items():
        value = getattr(config, key)
        if value is not None and not 0 <= value <= limit:
            raise ConfigError(f"{key} is {str(value)[:40]}: expected a number up to {limit:,}")
    for key in POSITIVE_IF_GIVEN:
        if getattr(config, key) == 0:
            raise ConfigError(f"{key} is 0: expected a positive number, or null")
    if config.layer_norm_eps <= 0:
        raise ConfigError(f"layer_norm_eps is {config.layer_norm_eps}: expected a positive number")
    if len(config.activations) > MAXIMUM_ACTIVATIONS:
        raise ConfigError(f"hidden_act has {len(config.activations)} activations: at most {MAXIMUM_ACTIVATIONS}")


def check_stored_sizes(config: Any, source: str, shapes: Mapping[str, tuple[int, ...]], exact: bool) -> None:
    """Compare sizes with what the weights file holds, before a model of these sizes is built.

    No part that a size decides alone may have far more values than the file has in all, nor may there be more blocks
    than stored tensors: what is missing within these bounds is named by loading.

    Raises:
        ConfigError: names the key and both numbers.
    """
    stored = sum(math.prod(shape) for shape in shapes.values())
    allowed = (_ROOM if exact else _MORE_ROOM) * stored + _SPARE
    blocks = 0 if config.share_blocks else config.num_hidden_layers
    for key, number in (("num_hidden_layers", blocks), ("num_decoder_layers", config.num_decoder_layers or 0)):
        if number > (1 if exact else _MORE_ROOM) * len(shapes) + 12:
            raise ConfigError(
                f"{source}: {key} is {number}, but the weights file holds {len(shapes)} tensors; the configuration and "
                "the weights belong to different models"
            )
    for key, count in _parts(config):
        if count > allowed:
            raise ConfigError(
                f"{source}: {key} is {getattr(config, key)}, which takes {count:,} weights or more, but the file "
                f"of weights holds {stored:,} in all; the configuration and the weights belong to different models"
            )


def _parts(config: Any) -> Iterable[tuple[str, int]]:
    """Keys of the configuration, and how many weights they need at least."""
    width, hidden = config.width_of_embeddings, config.hidden_size
    yield "vocab_size", config.vocab_size * min(width, hidden)
    if config.position_embedding_type == "absolute" and config.hierarchical_position is None:
        yield "max_position_embeddings", config.max_position_embeddings * min(width, hidden)
    yield "type_vocab_size", config.type_vocab_size * min(width, hidden)
    if config.position_embedding_type == "bucketed":
        buckets = config.relative_attention_num_buckets
        yield "relative_attention_num_buckets", buckets * config.num_attention_heads
    if config.num_hidden_layers:
        yield "intermediate_size", config.intermediate_size * hidden
        yield "hidden_size", hidden * config.key_size
        yield "num_attention_heads", hidden * config.num_attention_heads
    groups = config.num_hidden_groups if config.share_blocks else config.num_hidden_layers
    yield "num_hidden_layers", groups * hidden * config.intermediate_size
    yield "num_decoder_layers", _decoder_weights(config)


def _decoder_weights(config: Any) -> int:
    if config.num_decoder_layers is None or config.application not in ("seq2seq", "decoder"):
        return 0
    return int(config.num_decoder_layers * config.hidden_size * config.intermediate_size)
