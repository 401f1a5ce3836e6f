"""What decides the cost of a model, read from its configuration; keys that are not there take BERT's values."""

from dataclasses import dataclass
from typing import Any, Protocol

# Families whose blocks are one gated attention unit in place of attention and feed-forward.
GATED_UNITS = ("gau_alpha",)


class EncoderSizes(Protocol):
    """The configuration keys that decide what an encoder costs; a backbone's configuration has more of them."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def type_vocab_size(self) -> int: ...


@dataclass(frozen=True)
class Shape:
    """Widths and counts of a model.

    `heads` ask, `shared_heads` answer (fewer with grouped queries), `key` and `value` are the widths of one head. `own`
    blocks attend to themselves, of which `crossed` look at an encoder as well; `stored` of the `own` have weights of
    their own. `gates` counts the inner matrices of a feed-forward part; `unit` says whether blocks are gated attention
    units; `reach` is the longest distance with a vector of its own, None without such vectors.
    """

    hidden: int
    embedding: int
    inner: int
    gates: int
    heads: int
    key: int
    value: int
    shared_heads: int
    own: int
    crossed: int
    stored: int
    stacks: int
    unit: bool
    reach: int | None

    @property
    def keys(self) -> int:
        """Width of the queries of all heads."""
        return self.heads * self.key

    @property
    def values(self) -> int:
        """Width of the mixed values of all heads."""
        return self.heads * self.value

    @property
    def shared_keys(self) -> int:
        """Width of the keys of all their heads."""
        return self.shared_heads * self.key

    @property
    def shared_values(self) -> int:
        """Width of the values of all their heads."""
        return self.shared_heads * self.value


def shape_of(config: EncoderSizes) -> Shape:
    """Read a configuration."""
    hidden, heads = config.hidden_size, config.num_attention_heads
    unit = option(config, "family", "bert") in GATED_UNITS
    head = option(config, "attention_head_size", None) or hidden // heads
    role = option(config, "application", "encoder")
    encoder = 0 if role == "decoder" else config.num_hidden_layers
    decoder = option(config, "num_decoder_layers", None)
    decoder = config.num_hidden_layers if decoder is None else decoder
    crossed = decoder if role in ("seq2seq", "decoder") else 0
    groups = option(config, "num_hidden_groups", 1) if option(config, "share_blocks", False) else encoder
    relative = option(config, "position_embedding_type", "absolute") == "relative"
    activation = option(config, "hidden_act", "gelu")
    return Shape(
        hidden=hidden,
        embedding=option(config, "embedding_size", None) or hidden,
        inner=config.intermediate_size,
        gates=1 if isinstance(activation, str) else len(activation),
        heads=1 if unit else heads,
        key=option(config, "attention_key_size", None) or head,
        value=config.intermediate_size if unit else head,
        shared_heads=1 if unit else option(config, "num_key_value_heads", None) or heads,
        own=encoder + crossed,
        crossed=crossed,
        stored=min(groups, encoder) + crossed,
        stacks=2 if role == "seq2seq" else 1,
        unit=unit,
        reach=option(config, "max_relative_position", 64) if relative else None,
    )


def option(config: EncoderSizes, key: str, default: object) -> Any:
    """A value of the configuration that not every configuration has."""
    return getattr(config, key, default)
