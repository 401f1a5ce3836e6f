"""Between clipped distances and keys: the two reshapes are compared with loops, and with each other."""

import numpy as np
import pytest
from keras import ops

from qingformer.ops.relative_distances import distances_to_keys, keys_to_distances, relative_table, sinusoidal_table

SIZES = [(1, 1), (1, 3), (2, 1), (3, 2), (4, 4), (5, 2), (9, 3), (9, 8), (9, 12)]


def numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[-1]).normal(size=shape).astype("float32")


@pytest.mark.parametrize(("length", "reach"), SIZES)
def test_values_of_distances_reach_their_keys(length, reach):
    values = random(2, 3, length, 2 * reach + 1)
    expected = np.zeros((2, 3, length, length), "float32")
    for j in range(length):
        for k in range(length):
            expected[:, :, j, k] = values[:, :, j, max(-reach, min(reach, k - j)) + reach]
    np.testing.assert_array_equal(numpy(distances_to_keys(ops.convert_to_tensor(values))), expected)


@pytest.mark.parametrize(("length", "reach"), SIZES)
def test_values_of_keys_are_summed_by_distance(length, reach):
    values = random(2, 3, length, length)
    expected = np.zeros((2, 3, length, 2 * reach + 1), "float32")
    for j in range(length):
        for k in range(length):
            expected[:, :, j, max(-reach, min(reach, k - j)) + reach] += values[:, :, j, k]
    found = numpy(keys_to_distances(ops.convert_to_tensor(values), reach))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("length", "rows"), [(1, 3), (2, 3), (3, 5), (7, 9), (100, 9)])
def test_table_holds_the_distances_that_occur(length, rows):
    table = numpy(relative_table(length, 6, limit=4))
    reach = rows // 2
    expected = numpy(sinusoidal_table(ops.arange(4 - reach, 4 + reach + 1), 6))
    np.testing.assert_array_equal(table, expected)


def test_half_precision_keeps_the_sums_beyond_the_clip():
    length = 1024
    weights = ops.cast(ops.ones((1, length, length)) / length, "bfloat16")
    found = numpy(keys_to_distances(weights, 1))[0]
    # Row 0 has every key but one after it: added up in bfloat16, the sum would stop growing at 1/4.
    assert found[0, 2] == pytest.approx(1.0, abs=1e-2)
    assert found[-1, 0] == pytest.approx(1.0, abs=1e-2)
