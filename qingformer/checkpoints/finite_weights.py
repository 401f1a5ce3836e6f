"""Weights that are not finite are not saved unless that is asked for."""

from collections.abc import Mapping

import numpy as np

from qingformer.checkpoints.examination import count_not_finite
from qingformer.errors import CheckpointError


def check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse to save arrays with values that are not finite.

    Raises:
        CheckpointError: names the first weight, and how they are saved all the same.
    """
    found = {name: count for name, values in arrays.items() if (count := count_not_finite(values))}
    if found:
        name, count = next(iter(found.items()))
        others = f", and {len(found) - 1} more weights are not" if len(found) > 1 else ""
        raise CheckpointError(
            f"weight {name[-120:]}: {count} of {arrays[name].size} values are not finite (nan or inf){others}; "
            "nothing was saved; pass check_finite=False to save it all the same"
        )
