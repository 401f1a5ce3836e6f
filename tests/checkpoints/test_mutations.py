"""Damaged files end in the same data or in a CheckpointError: never in another error, a hang, or nonsense memory."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qingformer.checkpoints import open_checkpoint
from qingformer.checkpoints.snappy import decompress
from qingformer.checkpoints.sorted_table import read_table, write_table
from qingformer.checkpoints.torch_pickle import read_pickle
from qingformer.checkpoints.torch_types import Storage
from qingformer.errors import CheckpointError
from tests.checkpoints.support import FIXTURES, assert_same, expected

MAXIMUM_BYTES = 48 << 20  # all fixtures are smaller than 12 KB; an expanded tensor may take 16 MiB
SETTINGS = settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4)
cuts = st.one_of(st.none(), st.floats(0, 1))


def mutated(data: bytes, edits, cut) -> bytes:
    """`data` with some bytes changed and perhaps the end missing; positions are fractions of the length."""
    result = bytearray(data)
    for position, difference in edits:
        if result:
            result[int(position * len(result))] ^= difference
    return bytes(result[: None if cut is None else int(cut * len(result))])


def read_all(path, verify=True):
    """All tensors by name, within the memory bound; damage as CheckpointError."""
    tracemalloc.start()
    try:
        with open_checkpoint(path, verify=verify) as checkpoint:
            return {name: np.asarray(checkpoint.read(name)) for name in checkpoint.names(everything=True)}
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MAXIMUM_BYTES


def result_or_error(function, *arguments, **options):
    """What `function` returns, or None after a CheckpointError, whose message must be one line."""
    try:
        return function(*arguments, **options)
    except CheckpointError as problem:
        message = str(problem)
    assert message.isprintable()
    return None


def same_or_error(path, wanted):
    """For formats with checksums."""
    tensors = result_or_error(read_all, path)
    if tensors is not None:
        assert set(tensors) == set(wanted)
        for name, tensor in tensors.items():
            assert_same(tensor, wanted[name], name)


@SETTINGS
@given(part=st.sampled_from(["index", "data-00000-of-00001"]), edits=changes, cut=cuts)
def test_tensorflow(tmp_path, part, edits, cut):
    for name in ("index", "data-00000-of-00001"):
        data = (FIXTURES / f"types.ckpt.{name}").read_bytes()
        (tmp_path / f"types.ckpt.{name}").write_bytes(mutated(data, edits, cut) if name == part else data)
    same_or_error(tmp_path / "types.ckpt", expected("types.ckpt"))


@SETTINGS
@given(edits=changes, cut=cuts)
def test_zipped_torch(tmp_path, edits, cut):
    data = (FIXTURES / "torch_zip.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(mutated(data, edits, cut))
    same_or_error(tmp_path / "m.bin", expected("torch"))


@SETTINGS
@given(name=st.sampled_from(["torch_legacy.bin", "types.safetensors"]), edits=changes, cut=cuts)
def test_formats_without_checksums(tmp_path, name, edits, cut):
    """What a changed byte says cannot be known, but it is read within bounds or refused."""
    (tmp_path / name).write_bytes(mutated((FIXTURES / name).read_bytes(), edits, cut))
    result_or_error(read_all, tmp_path / name)


@pytest.mark.parametrize("name", ["torch_legacy.bin", "torch_zip.bin", "types.safetensors", "types.ckpt.index"])
def test_every_truncation_is_an_error(tmp_path, name):
    data = (FIXTURES / name).read_bytes()
    for size in range(0, len(data), 7):
        (tmp_path / name).write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / name)


@SETTINGS
@given(edits=changes, choice=st.integers(0, 18))
def test_index_that_lies_under_right_checksums(tmp_path, edits, choice):
    """Someone who forges an entry also forges the checksum of its block."""
    entries = list(read_table((FIXTURES / "types.ckpt.index").read_bytes()))
    key, value = entries[choice]
    entries[choice] = (key, mutated(value, edits, None))
    (tmp_path / "m.ckpt.index").write_bytes(write_table(entries))
    (tmp_path / "m.ckpt.data-00000-of-00001").write_bytes((FIXTURES / "types.ckpt.data-00000-of-00001").read_bytes())
    result_or_error(read_all, tmp_path / "m.ckpt", verify=False)


@SETTINGS
@given(edits=changes, cut=cuts)
def test_pickle_that_lies_under_right_checksums(tmp_path, edits, cut):
    with zipfile.ZipFile(FIXTURES / "torch_zip.bin") as source, zipfile.ZipFile(tmp_path / "m.bin", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, mutated(content, edits, cut) if name.endswith("data.pkl") else content)
    result_or_error(read_all, tmp_path / "m.bin")


@SETTINGS
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path, data):
    (tmp_path / "m.bin").write_bytes(data)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "m.bin")
    result_or_error(decompress, data)
    result_or_error(lambda: list(read_table(data)))


@SETTINGS
@given(st.binary(max_size=200))
def test_any_pickle(data):
    stream = io.BytesIO(b"\x80\x02" + data + b".")
    result_or_error(read_pickle, stream, lambda identity: Storage("0", np.dtype(np.int8), 1))
