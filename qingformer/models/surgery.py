"""Changes to weights on their way into a model: vocabulary surgery, and stretching to another size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qingformer.errors import ConfigError

CompoundToken = Sequence[int] | tuple[Sequence[int], Sequence[float]]
# Variables with an axis for the vocabulary, and which one it is.
# The output kernel is (hidden size, vocabulary), the others have the vocabulary in front.
VOCABULARY_VARIABLES = {"token_embedding/embeddings": 0, "mlm_bias/bias": 0, "lm_head/kernel": 1}


@dataclass(frozen=True)
class VocabularySurgery:
    """Keep some rows of the token table, then append means of rows for new compound tokens.

    `keep_tokens`: ids of the original vocabulary in their new order (None: all). `compound_tokens`: for each new token
    the ids it is made of, counted after `keep_tokens`, as a plain list (mean) or as (ids, weights) (weighted mean).
    The output bias of the language-model head follows, and so does an output table that is not the token table.
    """

    keep_tokens: Sequence[int] | None = None
    compound_tokens: Sequence[CompoundToken] = ()

    def new_size(self, vocab_size: int) -> int:
        """Size of the vocabulary afterwards; `ConfigError` if an id is outside the vocabulary."""
        kept = vocab_size if self.keep_tokens is None else len(self.keep_tokens)
        check_ids("keep_tokens", [] if self.keep_tokens is None else self.keep_tokens, vocab_size)
        for item in self.compound_tokens:
            check_ids("compound_tokens", parts_of(item)[0], kept)
        return kept + len(self.compound_tokens)

    def __call__(self, path: str, array: np.ndarray) -> np.ndarray:
        """The array of variable `path` after surgery: (V, ...) to (V', ...), an output table (H, V) to (H, V')."""
        if path not in VOCABULARY_VARIABLES:
            return array
        axis = VOCABULARY_VARIABLES[path]
        if self.keep_tokens is not None:
            array = np.take(array, np.asarray(self.keep_tokens), axis)
        if not self.compound_tokens:
            return array
        new = [
            # A new token begins as the mean of the pieces that it stands for, weighted if the caller says so.
            np.average(np.take(array, np.asarray(ids), axis), axis=axis, weights=weights)
            for ids, weights in map(parts_of, self.compound_tokens)
        ]
        return np.concatenate([array, np.stack(new, axis).astype(array.dtype)], axis)


@dataclass(frozen=True)
class FirstRows:
    """Leave out the rows of the vocabulary from `size` on, which are spare, before the surgery `then`."""

    size: int
    then: VocabularySurgery

    def __call__(self, path: str, array: np.ndarray) -> np.ndarray:
        """The array of variable `path` without its spare rows, after surgery."""
        if path in VOCABULARY_VARIABLES:
            axis = VOCABULARY_VARIABLES[path]
            array = np.take(array, np.arange(min(self.size, array.shape[axis])), axis)
        return self.then(path, array)


def spare_rows_advice(path: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> str | None:
    """How to load a table of another number of rows than the configuration says; None for other variables."""
    axis = VOCABULARY_VARIABLES.get(path)
    if axis is None or len(stored) != len(wanted) or stored[axis] == wanted[axis]:
        return None
    rows = stored[axis]
    if rows < wanted[axis]:
        return f"vocab_size is larger than the table; pass vocab_size={rows}"
    return f"pass vocab_size={rows} to keep all rows, vocab_size={wanted[axis]} to leave out the last"


def parts_of(item: CompoundToken) -> tuple[Sequence[int], Sequence[float] | None]:
    """Ids and weights of a compound token."""
    if len(item) == 2 and not np.isscalar(item[0]):
        return item[0], item[1]  # type: ignore[return-value]
    return item, None  # type: ignore[return-value]


def check_ids(name: str, ids: Sequence[int], size: int) -> None:
    """Refuse ids outside a vocabulary of `size`."""
    outside = [i for i in ids if not 0 <= i < size]
    if outside:
        raise ConfigError(f"{name}: id {outside[0]} is outside the vocabulary of {size} tokens")


def orthogonal_resize(array: np.ndarray, shape: tuple[int, ...], window: int = 2) -> np.ndarray:
    """Stretch an array to a larger shape by repeating blocks of `window` rows, keeping its Frobenius norm.

    Along each axis that grows, every block of `window` entries is repeated until the new size is reached, then cut;
    an axis that shrinks is cut. Any shapes of equal rank. Errors: `ConfigError` if a growing axis does not divide by
    `window`. Source: the weight stretching of bert4keras 0.11.5.

    Example: `orthogonal_resize(np.eye(2), (4, 4))`
    """
    if array.shape == tuple(shape):
        return array
    before = np.linalg.norm(array)
    for axis, (old, new) in enumerate(zip(array.shape, shape)):
        if new > old:
            array = repeat_blocks(array, axis, -(-new // old), window)
        array = np.take(array, np.arange(new), axis=axis)
    after = np.linalg.norm(array)
    # Repeating entries made the matrix longer; brought back to its norm it does to a vector what it did.
    return array * (before / after) if after > 0 else array


def repeat_blocks(array: np.ndarray, axis: int, times: int, window: int) -> np.ndarray:
    """Repeat every block of `window` entries of an axis `times` times."""
    size = array.shape[axis]
    if size % window:
        raise ConfigError(f"cannot stretch an axis of {size} entries: it does not divide into blocks of {window}")
    moved = np.moveaxis(array, axis, 0)
    # (n, ...) to (n / window, 1, window, ...): blocks are repeated whole, as rotary positions turn pairs of entries.
    blocks = moved.reshape(size // window, 1, window, *moved.shape[1:])
    repeated = np.repeat(blocks, times, axis=1).reshape(size * times, *moved.shape[1:])
    return np.moveaxis(repeated, 0, axis)


@dataclass(frozen=True)
class Stretch:
    """Bring every array of another size to the model's, scaled so that signals keep their magnitude.

    With r the ratio of the new to the old size of the axis named: queries and keys are multiplied by r_last^(1/4),
    since their product is divided by sqrt(key size), unless `attention_scale` is false; the feed-forward input side by
    r_last^(1/2), its output side by r_first^(-1/2); for (leaky) relu, which is homogeneous, all four feed-forward
    arrays take the output side's factor.
    Source: the weight stretching of bert4keras 0.11.5.
    """

    hidden_act: str
    attention_scale: bool = True

    def __call__(self, path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The array of variable `path` in the new shape."""
        new = orthogonal_resize(array, shape)
        first, last = shape[0] / array.shape[0], shape[-1] / array.shape[-1]
        if self.attention_scale and ("/attention/query/" in path or "/attention/key/" in path):
            # Queries and keys share it: their product of longer vectors is divided by the root of the new size.
            return new * last**0.25
        if "/feed_forward/output/" in path or ("/feed_forward/" in path and self.hidden_act in ("relu", "leaky_relu")):
            return new * first**-0.5
        if "/feed_forward/intermediate/" in path:
            return new * last**0.5
        return new
