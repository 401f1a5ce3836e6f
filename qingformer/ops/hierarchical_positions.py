"""Absolute positions beyond a learned table."""

from keras import ops

from qingformer.types import Tensor


def hierarchical_positions(table: Tensor, position_ids: Tensor, alpha: float = 0.4) -> Tensor:
    """Look up positions below N^2 in a table of N by hierarchical decomposition.

    u_i = (p_i - alpha p_0) / (1 - alpha), and position m N + r has the vector alpha u_m + (1 - alpha) u_r; positions
    below N keep exactly their trained vector. `table` (N, d) float, `position_ids` integer of any shape S below N^2,
    0 < alpha < 1, alpha != 0.5; returns S + (d,). Source: 科学空间 archives/7947.

    Example: `hierarchical_positions(ops.ones((4, 8)), ops.arange(10))`
    """
    size = table.shape[0]
    base = (table - alpha * table[:1]) / (1.0 - alpha)
    coarse = ops.take(base, position_ids // size, axis=0)
    fine = ops.take(base, position_ids % size, axis=0)
    return alpha * coarse + (1.0 - alpha) * fine
