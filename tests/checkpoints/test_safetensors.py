"""safetensors: files of the reference implementation, our own, shards, and headers that lie."""

import json
import struct

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.errors import CheckpointError
from tests.checkpoints.support import FIXTURES, assert_holds, expected, native, some_tensors


def test_written_by_the_reference_implementation():
    checkpoint = open_checkpoint(FIXTURES / "types.safetensors")
    assert checkpoint.format == "safetensors"
    assert checkpoint.metadata == {"format": "pt"}
    assert_holds(checkpoint, expected("types.safetensors"))


def test_round_trip(tmp_path):
    tensors = some_tensors()
    assert write_safetensors(tmp_path / "m.safetensors", tensors) == [tmp_path / "m.safetensors"]
    checkpoint = open_checkpoint(tmp_path / "m.safetensors")
    assert checkpoint.metadata == {"format": "pt"}
    assert_holds(checkpoint, native(tensors))
    write_safetensors(tmp_path / "m.safetensors", {"a": np.ones(1)}, metadata={"made": "今天"})
    assert open_checkpoint(tmp_path / "m.safetensors").metadata == {"made": "今天"}


@pytest.mark.parametrize("length", [0x0280, 0x0380])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path, length):
    header = json.dumps({"a": tensor()}).encode().ljust(length)
    write_raw(tmp_path / "m.safetensors", header, bytes(8))
    assert open_checkpoint(tmp_path / "m.safetensors").format == "safetensors"


def test_reading_copies_nothing(tmp_path):
    write_safetensors(tmp_path / "m.safetensors", {"a": np.ones(3, np.int8), "w": np.ones(9, np.float32)})
    array = open_checkpoint(tmp_path / "m.safetensors").read("w")
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert array.flags.aligned


def test_shards_round_trip(tmp_path):
    tensors = {f"layer.{number}": np.full((10, 10), number, np.float32) for number in range(7)}
    tensors["large"] = np.zeros(1000, np.float32)
    paths = write_safetensors(tmp_path / "model.safetensors", tensors, max_shard_bytes=1000)
    assert paths[-1].name == "model.safetensors.index.json"
    assert [path.name for path in paths[:2]] == ["model-00001-of-00005.safetensors", "model-00002-of-00005.safetensors"]
    index = json.loads(paths[-1].read_text())
    assert index["metadata"]["total_size"] == 7 * 400 + 4000
    for source in (tmp_path, paths[-1]):
        checkpoint = open_checkpoint(source)
        assert checkpoint.format == "safetensors"
        assert_holds(checkpoint, tensors)
    (tmp_path / "model-00003-of-00005.safetensors").unlink()
    checkpoint = open_checkpoint(tmp_path)
    assert "layer.6" in checkpoint
    assert checkpoint.read("layer.6")[0, 0] == 6
    with pytest.raises(CheckpointError, match=r"names model-00003-of-00005.safetensors, which is not beside it"):
        checkpoint.read("layer.4")


def test_an_earlier_save_in_the_other_form_is_superseded(tmp_path):
    """Left beside the new files, the old ones would be loaded instead of them."""
    path = tmp_path / "model.safetensors"
    (tmp_path / "model-notes.safetensors").write_bytes(b"of someone else")
    for number, limit in enumerate((None, 100, 300, None, 100)):
        tensors = {name: np.full(20, number, np.float32) for name in "abcdef"}
        written = write_safetensors(path, tensors, max_shard_bytes=limit)
        kept = {entry.name for entry in tmp_path.iterdir()}
        assert kept == {"model-notes.safetensors", *(entry.name for entry in written)}
        assert_holds(open_checkpoint(tmp_path), tensors)


@pytest.mark.parametrize(
    ("index", "match"),
    [
        ({}, "weight_map"),
        ([], "weight_map"),
        ({"weight_map": {"a": "../secret.safetensors"}}, "not a file name beside"),
        ({"weight_map": {"a": "/etc/passwd"}}, "not a file name beside"),
        ({"weight_map": {"a": "b\\c"}}, "not a file name beside"),
        ({"weight_map": {"a": 3}}, "not a file name beside"),
        ({"weight_map": {"a": "gone.safetensors"}}, "not beside it"),
        ({"weight_map": {"b": "model.safetensors"}}, "no tensor named 'b'"),
    ],
)
def test_bad_shard_indexes(tmp_path, index, match):
    write_safetensors(tmp_path / "model.safetensors", {"a": np.ones(1)})
    path = tmp_path / "x.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(path).read("b")


def test_writer_refuses_what_the_format_lacks(tmp_path):
    for name, tensor in [("a", np.array(["x"])), ("", np.zeros(1)), ("__metadata__", np.zeros(1))]:
        with pytest.raises(CheckpointError, match="cannot"):
            write_safetensors(tmp_path / "m.safetensors", {name: tensor})
    with pytest.raises(CheckpointError, match=r"ends in .safetensors"):
        write_safetensors(tmp_path / "m.bin", {"a": np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def tensor(begin=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HOSTILE = {
    "gap": ({"a": tensor(), "b": tensor(12, 20)}, 20, "gap or an overlap"),
    "overlap": ({"a": tensor(), "b": tensor(4, 12)}, 12, "gap or an overlap"),
    "too short": ({"a": tensor()}, 4, "truncated"),
    "too long": ({"a": tensor()}, 9, "damaged"),
    "huge": ({"a": tensor(0, 1 << 60, (1 << 58,))}, 8, "impossible shape"),
    "overflow": ({"a": tensor(0, 8, (1 << 40, 1 << 40))}, 8, "impossible shape"),
    "negative": ({"a": tensor(-8, 0)}, 8, "lists of counts"),
    "fraction": ({"a": tensor(0, 8, (2.0,))}, 8, "lists of counts"),
    "truth": ({"a": tensor(0, 4, (True,))}, 4, "lists of counts"),
    "unknown type": ({"a": tensor(dtype="F4")}, 8, "unknown type"),
    "list as type": ({"a": tensor(dtype=["F32"])}, 8, "unknown type"),
    "size": ({"a": tensor(0, 4)}, 4, "needs 8 bytes"),
    "missing key": ({"a": {"dtype": "F32"}}, 0, "exactly"),
    "no table": ({"a": 1}, 0, "exactly"),
    "metadata": ({"__metadata__": {"a": 1}}, 0, "__metadata__"),
    "dimensions": ({"a": tensor(0, 4, (1,) * 60)}, 4, "60 dimensions"),
    "a list": ([], 0, "not a JSON object"),
}


def write_raw(path, header: bytes, data: bytes, length=None):
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers(tmp_path, case):
    header, size, match = HOSTILE[case]
    write_raw(tmp_path / "m.safetensors", json.dumps(header).encode(), bytes(size))
    with pytest.raises(CheckpointError, match=match) as caught:
        open_checkpoint(tmp_path / "m.safetensors")
    assert "m.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "length", "match"),
    [
        (b"{}", 1 << 62, "a header of"),
        (b"{}", 50, "a header of"),
        (b'{"a":', None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b"\xff{}", None, "not JSON"),
        (b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":1}', None, "occurs twice"),
    ],
)
def test_damaged_headers(tmp_path, header, length, match):
    write_raw(tmp_path / "m.safetensors", header, bytes(4), length)
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(tmp_path / "m.safetensors")


@pytest.mark.shared
@pytest.mark.parametrize(("name", "parameters"), [("chemts_gpt2_0.2m", 209_024), ("chemts_gpt2_0.5m", 460_992)])
def test_real_files(shared, name, parameters):
    checkpoint = open_checkpoint(shared / "weights" / name)
    assert sum(checkpoint.read(tensor).size for tensor in checkpoint.names()) == parameters


def test_every_layout_of_memory_is_written_right(tmp_path):
    grid = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {
        "transposed": grid.T,
        "fortran": np.asfortranarray(grid),
        "strided": grid[:, ::2, ::-1],
        "broadcast": np.broadcast_to(np.float32(3), (2, 2)),
        "scalar": np.asarray(np.float32(7)),
        "big_endian": grid.astype(">f4").T,
    }
    (path,) = write_safetensors(tmp_path / "m.safetensors", arrays)
    with open_checkpoint(path, verify=True) as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.read(name), array)
            assert file.read(name).shape == array.shape


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "bool", "complex64"])
def test_any_changed_bit_of_a_tensor_is_found(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 2, 70_001).astype(dtype)  # more than a block of the checksum
    (path,) = write_safetensors(tmp_path / "m.safetensors", {"w": values})
    good = path.read_bytes()
    start = len(good) - values.nbytes
    for place in (start, start + 1021 * values.itemsize, len(good) - 1):
        for bit in range(8):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            with pytest.raises(CheckpointError, match=r"m\.safetensors: damaged: 'w' does not have the checksum"):
                open_checkpoint(path, verify=True).read("w")
            assert open_checkpoint(path, verify=False).read("w").shape == (70_001,)


def test_exchanged_blocks_shapes_and_names_are_found(tmp_path):
    values = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
    (path,) = write_safetensors(tmp_path / "m.safetensors", {"w": values, "v": values + 1})
    good = path.read_bytes()
    start = len(good) - values.nbytes
    changed = bytearray(good)
    changed[start : start + 4096], changed[start + 8192 : start + 12288] = (
        good[start + 8192 : start + 12288],
        good[start : start + 4096],
    )
    shape = good.replace(b'"w":{"dtype":"F32","shape":[256,512]', b'"w":{"dtype":"F32","shape":[512,256]')
    swapped = good.replace(b'"w":{', b'"x":{').replace(b'"v":{', b'"w":{').replace(b'"x":{', b'"v":{')
    for content in (bytes(changed), shape, swapped):
        assert content != good
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="checksum"):
            open_checkpoint(path, verify=True).read("w")
