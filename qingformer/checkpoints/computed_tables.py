"""Tables that a file holds although they are computed here: they must be what the configuration gives."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from qingformer.errors import CheckpointError

TOLERANCE = 1e-2  # of tables that were stored as bfloat16


def check_computed(
    names: Mapping[str, str],
    read: Callable[[str], np.ndarray],
    computed: Mapping[str, tuple[np.ndarray, ...]],
    source: str,
) -> None:
    """Raise `CheckpointError` for a stored table that differs from all arrays of its pattern.

    `names` maps names as the family knows them to stored names; rows beyond the shorter table do not count.
    """
    for alias, name in names.items():
        for pattern, arrays in computed.items():
            if re.search(pattern, alias) and not any(_same(read(name), array) for array in arrays):
                raise CheckpointError(
                    f"{source}: {name} differs from the table of positions that this model computes from its "
                    "configuration; correct the configuration, or pass strict=False to leave the stored table out"
                )


def _same(stored: np.ndarray, ours: np.ndarray) -> bool:
    if stored.ndim != ours.ndim or stored.shape[1:] != ours.shape[1:]:
        return False
    if ours.ndim == 1 and len(stored) != len(ours):
        return False
    rows = min(len(stored), len(ours))
    return bool(np.allclose(stored[:rows].astype("float32"), ours[:rows], rtol=TOLERANCE, atol=TOLERANCE))
