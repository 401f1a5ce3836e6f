"""PyTorch files are read bit for bit without PyTorch; a pickle that wants anything but tensors is refused, not run."""

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint
from qingformer.checkpoints.torch_pickle import read_pickle
from qingformer.checkpoints.torch_types import Companion
from qingformer.errors import CheckpointError
from tests.checkpoints.support import FIXTURES, assert_holds, expected


@pytest.mark.parametrize("name", ["torch_zip.bin", "torch_legacy.bin"])
def test_written_by_torch(name):
    with open_checkpoint(FIXTURES / name, verify=True) as checkpoint:
        assert checkpoint.format == "torch"
        assert_holds(checkpoint, expected("torch"))
        assert not checkpoint.read("transposed").flags.writeable


def test_zipped_tensors_are_views():
    checkpoint = open_checkpoint(FIXTURES / "torch_zip.bin")
    assert not checkpoint.read("whole").flags.owndata
    assert np.shares_memory(checkpoint.read("whole"), checkpoint.read("offset"))


def test_wrapped_and_nested():
    assert open_checkpoint(FIXTURES / "torch_wrapped.pt").names() == ["a"]
    nested = open_checkpoint(FIXTURES / "torch_nested.pt")
    assert nested.names() == ["a.b.0", "a.b.1.c"]
    assert nested.read("a.b.1.c").tolist() == [0, 1]
    assert open_checkpoint(FIXTURES / "torch_module.bin").names() == ["weight", "bias"]


def test_newer_types():
    checkpoint = open_checkpoint(FIXTURES / "torch_newer.bin")
    assert checkpoint.read("small").dtype == np.uint16
    assert checkpoint.read("f8").astype(np.float32).tolist() == [1, 1, 1]


def test_shards(tmp_path):
    for part in (1, 2):
        (tmp_path / f"pytorch_model-{part:05d}-of-00002.bin").write_bytes((FIXTURES / "torch_module.bin").read_bytes())
    names = {"weight": "pytorch_model-00001-of-00002.bin", "bias": "pytorch_model-00002-of-00002.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": names}))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.format == "torch"
    assert {name: checkpoint.shape(name) for name in checkpoint.names()} == {"weight": (3, 2), "bias": (3,)}
    assert (
        checkpoint.read("weight").tobytes() == open_checkpoint(FIXTURES / "torch_module.bin").read("weight").tobytes()
    )


def test_a_pickled_class_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"wants torch\.nn\.modules\.linear\.Linear.*nothing was run"):
        open_checkpoint(FIXTURES / "torch_pickled_class.bin")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_training_code_keeps_beside_its_weights_is_passed_over(protocol):
    options = argparse.Namespace(rate=1e-5, out=Path("a"), names=["b"])
    beside = {"f1": np.float64(0.5), "best": [np.float32(1), options], "epoch": 3, "args": options}
    found = read_pickle(io.BytesIO(pickle.dumps(beside, protocol)), lambda identity: None)
    assert found == {"f1": Companion(), "best": [Companion(), Companion()], "epoch": 3, "args": Companion()}
    with pytest.raises(CheckpointError, match=r"damaged: its pickle cannot be decoded"):
        read_pickle(io.BytesIO(b"\x80\x02ctorch\nSize\n)\x81."), lambda identity: None)
    hostile = pickle.dumps(argparse.Namespace(run=Attack(os.system, "true")), protocol)
    with pytest.raises(CheckpointError, match=r"wants (posix|nt)\.system.*nothing was run"):
        read_pickle(io.BytesIO(hostile), lambda identity: None)


class Attack:
    """What a hostile file would call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def zipped(path: Path, pickled: bytes, storages=(), compress=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in storages:
            archive.writestr(f"archive/data/{key}", data)
        for name, data in extra:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy", "magic"])
def test_malicious_pickle_runs_nothing(tmp_path, form, protocol):
    """The canary file appears when `pickle` reads the same bytes, and does not when we do."""
    canary = tmp_path / "ran"
    attack = pickle.dumps({"w": Attack(os.system, f"touch {canary}")}, protocol)
    pickle.loads(attack)
    assert canary.exists()
    canary.unlink()
    path = tmp_path / "evil.bin"
    if form == "zip":
        zipped(path, attack)
    else:
        path.write_bytes(attack if form == "magic" else MAGIC + attack + pickle.dumps([], 2))
    with pytest.raises(CheckpointError, match=r"wants (posix|nt)\.system.*nothing was run"):
        open_checkpoint(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "stream",
    [
        pickle.dumps(Attack(eval, "1+1"), 2),
        pickle.dumps(Attack(getattr, "", "join"), 4),
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"(ios\nsystem\n(S'true'\nlo.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
        b"\x80\x02ccollections\nOrderedDict\nccollections\nOrderedDict\nR.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
        b"\x80\x02\x8f.",
        b"\x80\x05\x97.",
        b"\x80\x02P1\n.",
    ],
)
def test_every_other_way_to_run_code_is_refused(stream):
    with pytest.raises(CheckpointError):
        read_pickle(io.BytesIO(stream), pytest.fail)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b".",
        b"(.",
        b"0.",
        b"\x80\x02h\x05.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x02\x8b\xff\xff\xff\xff.",
        b"\x80\x02\x8a\xff\x01.",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02K\x01K\x02.",
        b"\x80\x02}b.",
        b"\x80\x02K\x01}b.",
        b"\x80\x02](K\x01K\x02",
        b"\x80\x02)R.",
        b"\x80\x02(K\x01(l.",
        b"I1234x\n.",
        b"L" + b"9" * 5000 + b"L\n.",
        b"\xff.",
    ],
)
def test_damaged_pickles(stream):
    with pytest.raises(CheckpointError):
        read_pickle(io.BytesIO(stream), pytest.fail)


def test_pickles_that_grow_stay_small():
    """Tuples of doubled tuples are cheap to describe and take forever to hash, print or walk."""
    doubled = b"\x80\x02)" + b"2\x86" * 60
    for stream in (b"\x80\x02}" + doubled[2:] + b"K\x01s.", doubled + b"\x93.", doubled + b"K\x01\x93."):
        with pytest.raises(CheckpointError):
            read_pickle(io.BytesIO(stream), pytest.fail)


def test_deep_and_cyclic_containers(tmp_path):
    deep = b"\x80\x02" + b"](" * 200_000 + b"e" * 200_000 + b"."
    with pytest.raises(CheckpointError, match="not a state_dict"):
        open_checkpoint(zipped(tmp_path / "deep.bin", deep))
    cyclic: dict = {"w": 1.0}
    cyclic["self"] = cyclic
    with pytest.raises(CheckpointError, match="holds no tensors"):
        open_checkpoint(zipped(tmp_path / "cyclic.bin", pickle.dumps(cyclic, 2)))
    chain: dict = {}
    for _ in range(100):
        chain = {"a": chain, "b": 1}
    with pytest.raises(CheckpointError, match="nested deeper"):
        open_checkpoint(zipped(tmp_path / "chain.bin", pickle.dumps(chain, 2)))
    long: dict = {"w" * 3000: {"v" * 3000: [1, [2]]}, "x": 1}
    with pytest.raises(CheckpointError, match="6001 characters"):
        open_checkpoint(zipped(tmp_path / "long.bin", pickle.dumps(long, 2)))


def tensor_pickle(key=b"0", count=4, offset=0, shape=(2, 2), strides=(2, 1), kind=b"FloatStorage", extra=b""):
    """A state_dict {"w": tensor}, assembled operation by operation."""

    def integer(value):
        raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def integers(values):
        return b"(" + b"".join(map(integer, values)) + b"t"

    storage = b"(X\x07\0\0\0storagectorch\n" + kind + b"\nX" + struct.pack("<I", len(key)) + key + b"X\3\0\0\0cpu"
    storage += integer(count) + extra + b"tQ"
    arguments = b"(" + storage + integer(offset) + integers(shape) + integers(strides) + b"\x89}t"
    return b"\x80\x02}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def test_assembled_tensor(tmp_path):
    data = np.arange(4, dtype=np.float32)
    checkpoint = open_checkpoint(zipped(tmp_path / "m.bin", tensor_pickle(), [("0", data.tobytes())]), verify=True)
    assert checkpoint.read("w").tolist() == [[0, 1], [2, 3]]
    legacy = MAGIC + tensor_pickle(extra=b"N") + pickle.dumps(["0"], 2) + struct.pack("<q", 4) + data.tobytes()
    (tmp_path / "old.bin").write_bytes(legacy)
    assert open_checkpoint(tmp_path / "old.bin").read("w").tolist() == [[0, 1], [2, 3]]


HOSTILE = {
    "reaches beyond": ({"offset": 1}, "beyond its storage"),
    "huge offset": ({"offset": 1 << 62}, "beyond its storage"),
    "negative offset": ({"offset": -1}, "impossible offset"),
    "huge shape": ({"shape": (1 << 47, 1 << 47)}, "impossible shape"),
    "negative stride": ({"strides": (-2, 1)}, "impossible shape or strides"),
    "strides too few": ({"strides": (1,)}, "impossible shape or strides"),
    "expanded to nonsense": ({"shape": (1 << 20, 1 << 10), "strides": (0, 0)}, "far larger than its storage"),
    "dimensions": ({"shape": (1,) * 100, "strides": (1,) * 100}, "impossible shape or strides"),
    "storage larger than its bytes": ({"count": 1 << 40}, "truncated"),
    "no such storage": ({"key": b"7"}, "no storage '7'"),
    "path as key": ({"key": b"../../../etc/passwd"}, "no storage"),
    "negative count": ({"count": -4}, "unknown type or size"),
    "not a storage type": ({"kind": b"Size"}, "unknown type or size"),
    "unknown storage type": ({"kind": b"QInt8Storage"}, "wants torch.QInt8Storage"),
    "six values": ({"extra": b"N"}, "five values"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tensors(tmp_path, case):
    changes, match = HOSTILE[case]
    path = zipped(tmp_path / "m.bin", tensor_pickle(**changes), [("0", bytes(16))])
    with pytest.raises(CheckpointError, match=match) as caught:
        open_checkpoint(path)
    assert "m.bin" in str(caught.value)


def test_zip_tricks(tmp_path):
    bomb = zipped(tmp_path / "bomb.bin", tensor_pickle(), [("0", bytes(1 << 20))], zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed or encrypted"):
        open_checkpoint(bomb)
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped(tmp_path / "twice.bin", tensor_pickle(), [("0", bytes(16)), ("0", bytes(16))])
    with pytest.raises(CheckpointError, match="occurs twice"):
        open_checkpoint(twice)
    slip = zipped(tmp_path / "slip.bin", tensor_pickle(), [("0", bytes(16))], extra=[("../../escaped", b"x")])
    assert open_checkpoint(slip).names() == ["w"]
    assert not (tmp_path.parent.parent / "escaped").exists()
    two = zipped(tmp_path / "two.bin", tensor_pickle(), [("0", bytes(16))], extra=[("b/data.pkl", b"x")])
    with pytest.raises(CheckpointError, match=r"2 records named data\.pkl"):
        open_checkpoint(two)
    script = zipped(tmp_path / "script.pt", tensor_pickle(), extra=[("archive/constants.pkl", b"")])
    with pytest.raises(CheckpointError, match="TorchScript"):
        open_checkpoint(script)
    big = zipped(tmp_path / "big.bin", tensor_pickle(), [("0", bytes(16))], extra=[("archive/byteorder", b"big")])
    with pytest.raises(CheckpointError, match="byte order"):
        open_checkpoint(big)


def test_overlapping_zip_records(tmp_path):
    raw = bytearray(zipped(tmp_path / "m.bin", tensor_pickle(), [("0", bytes(16)), ("1", bytes(16))]).read_bytes())
    first, second = (raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 1), raw.rindex(b"PK\x01\x02"))
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    (tmp_path / "m.bin").write_bytes(raw)
    with pytest.raises(CheckpointError, match="overlap"):
        open_checkpoint(tmp_path / "m.bin")


def test_zip_checksum_is_verified_unless_it_is_not_wanted(tmp_path):
    path = zipped(tmp_path / "m.bin", tensor_pickle(), [("0", b"\x11" * 16)])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"\x11" * 16)] ^= 1
    path.write_bytes(raw)
    assert open_checkpoint(path, verify=False).read("w").shape == (2, 2)
    with pytest.raises(CheckpointError, match=r"tensor w: damaged.*checksum"):
        open_checkpoint(path).read("w")


def test_checksum_of_the_pickle_is_always_verified(tmp_path):
    path = zipped(tmp_path / "m.bin", tensor_pickle(), [("0", bytes(16))])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"X\1\0\0\0wc", b"X\1\0\0\0vc"))
    with pytest.raises(CheckpointError, match="do not match their checksum"):
        open_checkpoint(path)


def old_file(keys=("0",), counts=(4,), data=bytes(16), machine=True, magic=0x1950A86A20F9469CFC6C, pickled=None):
    head = pickle.dumps(magic, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": machine}, 2)
    body = tensor_pickle(extra=b"N") if pickled is None else pickled
    return head + body + pickle.dumps(list(keys), 2) + b"".join(struct.pack("<q", count) for count in counts) + data


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (old_file(machine=False), "byte order"),
        (old_file(magic=5), "not a file of torch.save"),
        (old_file(keys=("1",)), "belongs to no tensor"),
        (old_file(keys=("0", "0")), "different keys"),
        (old_file(keys=(3,)), "different keys"),
        (old_file(keys=()), "no storage '0'"),
        (old_file(counts=(5,)), "has 5 elements"),
        (old_file(counts=(-1,)), "elements"),
        (old_file(data=bytes(15)), "truncated"),
        (old_file(pickled=tensor_pickle()[:-1]), "decoded|not a state_dict|damaged"),
        (old_file(pickled=tensor_pickle(extra=b"K\x01")), "view of storage"),
        (old_file(pickled=tensor_pickle(extra=b"X\1\0\0\0vK\x03K\x03\x87")), "beyond storage"),
    ],
)
def test_damaged_old_files(tmp_path, content, match):
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(tmp_path / "m.bin")


def test_old_view_of_a_storage(tmp_path):
    data = np.arange(6, dtype=np.float32).tobytes()
    pickled = tensor_pickle(count=6, extra=b"X\1\0\0\0vK\x02K\x04\x87")
    (tmp_path / "m.bin").write_bytes(old_file(counts=(6,), data=data, pickled=pickled))
    assert open_checkpoint(tmp_path / "m.bin").read("w").tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty file"),
        (b"hello", "neither"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04garbage", "zip directory"),
    ],
)
def test_other_files(tmp_path, content, match):
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        open_checkpoint(tmp_path / "m.bin")


def test_plain_containers_survive():
    value = OrderedDict(a=[1, 2.5, "x", None, True, b"y"], b=((), (1,), (1, 2), (1, 2, 3)), c={"d": -(2**40)})
    for protocol in (0, 1, 2, 4, 5):
        if protocol < 3:
            value["a"] = value["a"][:5]  # bytes are written as a call of codecs.encode, which is refused
        assert read_pickle(io.BytesIO(pickle.dumps(value, protocol)), pytest.fail) == value


@pytest.mark.shared
def test_real_old_file(shared):
    checkpoint = open_checkpoint(shared / "weights" / "rxnmapper_albert")
    assert sum(checkpoint.read(name).size for name in checkpoint.names()) == 877_598
    words = checkpoint.read("albert.embeddings.word_embeddings.weight")
    np.testing.assert_array_equal(checkpoint.read("predictions.decoder.weight"), words)
