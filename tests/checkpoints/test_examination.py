"""Damaged bytes with a stored checksum, and numbers that are not finite, never reach a model unless it is asked for."""

import ml_dtypes
import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors, write_tensor_bundle
from qingformer.checkpoints.examination import Examined, count_not_finite
from qingformer.errors import CheckpointError
from tests.checkpoints.test_torch_file import tensor_pickle, zipped

FLOATS = ["float16", "float32", "float64", ml_dtypes.bfloat16, ml_dtypes.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_number_that_is_not_finite_is_counted(dtype):
    array = np.ones((3, 50), "float32")
    assert count_not_finite(array.astype(dtype)) == 0
    array[0, 0], array[2, 49], array[1, 3] = np.nan, np.inf, -np.inf
    assert count_not_finite(array.astype(dtype)) == 3


def test_large_numbers_whose_sum_runs_over_are_finite():
    assert count_not_finite(np.full(9, np.finfo("float32").max)) == 0
    assert count_not_finite(np.full(9, np.finfo("float16").max)) == 0
    assert count_not_finite(np.array([1, 2])) == 0
    assert count_not_finite(np.array([0x7F], np.uint8).view(ml_dtypes.float8_e4m3fn)) == 1


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def examined(path, name):
    with open_checkpoint(path, verify=False) as checkpoint, Examined(checkpoint) as stored:
        return stored.read(name)


def test_a_flipped_bit_of_a_tensorflow_checkpoint(tmp_path):
    prefix = write_tensor_bundle(tmp_path / "m.ckpt", {f"w{i}": np.arange(10.0) for i in range(9)})
    flip(tmp_path / "m.ckpt.data-00000-of-00001", 3 * 80 + 5)
    with pytest.raises(CheckpointError, match=r"tensor w3: damaged: its bytes in .* do not match their checksum"):
        examined(prefix, "w3")
    with pytest.raises(CheckpointError, match="tensor w3: damaged"):
        open_checkpoint(prefix).read("w3")
    assert examined(prefix, "w4").tolist() == list(range(10))
    assert open_checkpoint(prefix, verify=False).read("w3").shape == (10,)


def test_a_flipped_bit_of_a_zipped_pytorch_file(tmp_path):
    data = np.arange(4, dtype="float32")
    path = zipped(tmp_path / "m.bin", tensor_pickle(), [("0", data.tobytes())])
    assert examined(path, "w").size == 4
    flip(path, path.read_bytes().index(data.tobytes()) + 6)
    with pytest.raises(CheckpointError, match="tensor w: damaged: its bytes do not match their checksum"):
        examined(path, "w")


def test_numbers_that_are_not_finite_are_named_with_the_way_around(tmp_path):
    arrays = {"good": np.ones(3, "float32"), "bad": np.array([1, np.nan, np.inf], "float32")}
    (path,) = write_safetensors(tmp_path / "model.safetensors", arrays)
    match = rf"{path}: tensor bad holds 2 numbers that are not finite .* verify=False loads it all the same"
    with pytest.raises(CheckpointError, match=match):
        examined(path, "bad")
    assert examined(path, "good").tolist() == [1, 1, 1]
