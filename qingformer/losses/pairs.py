"""How vectors of sentences lie in the predictions of losses that compare them."""

from keras import ops

from qingformer.errors import ConfigError
from qingformer.types import Tensor

LAYOUTS = ("rows", "pairs")


def check_layout(owner: str, layout: str, known: tuple[str, ...] = LAYOUTS) -> str:
    """`layout`, or a `ConfigError` that names the loss that cannot read it."""
    if layout not in known:
        raise ConfigError(f"{owner}: layout is {layout!r}; choose one of {', '.join(known)}")
    return layout


def grouped(owner: str, layout: str, y_pred: Tensor) -> Tensor:
    """Vectors that belong together, (M, K, d) float32 with K >= 2.

    "rows": (2M, d), rows 2m and 2m + 1 are the m-th pair. "pairs": (M, K, d), or a tuple of K arrays (M, d).
    """
    if isinstance(y_pred, tuple):
        y_pred = ops.stack(list(y_pred), axis=1)
    rank = 2 if layout == "rows" else 3
    if len(y_pred.shape) != rank:
        wanted = "(2M, d), the two of a pair in rows 2m and 2m + 1" if rank == 2 else "(M, 2 or more, d)"
        raise ConfigError(
            f"{owner}: with layout={layout!r} it expects vectors {wanted}, not an array of shape {tuple(y_pred.shape)}"
        )
    if rank == 2:
        if y_pred.shape[0] is not None and y_pred.shape[0] % 2:
            raise ConfigError(f"{owner}: {y_pred.shape[0]} rows do not make pairs; the batch size must be even")
        y_pred = ops.reshape(y_pred, (-1, 2, y_pred.shape[-1]))
    if y_pred.shape[1] < 2:
        raise ConfigError(f"{owner}: one vector for each row is nothing to compare; expected (M, 2 or more, d)")
    return ops.cast(y_pred, "float32")


def one_each(values: Tensor, layout: str, pairs: Tensor) -> Tensor:
    """The label or weight of each pair, (M,): of its first row where there is one for every row."""
    values = ops.reshape(values, (-1,))
    if layout != "rows" or (values.shape[0] is not None and values.shape[0] == pairs.shape[0]):
        return values
    return ops.reshape(values, (-1, 2))[:, 0]
