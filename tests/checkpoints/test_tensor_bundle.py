"""TensorFlow checkpoints: what TensorFlow wrote is read bit for bit, and what is wrong is said clearly."""

import shutil

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_tensor_bundle
from qingformer.checkpoints.bundle_entry import BundleEntry, encode_entry, encode_header
from qingformer.checkpoints.sorted_table import write_table
from qingformer.checkpoints.tensor_bundle import TensorBundle
from qingformer.checkpoints.wire import write_field
from qingformer.errors import CheckpointError
from tests.checkpoints.support import FIXTURES, assert_holds, expected, native, some_tensors


@pytest.mark.parametrize("name", ["types.ckpt", "sharded.ckpt"])
def test_written_by_tensorflow(name):
    with open_checkpoint(FIXTURES / name, verify=True) as checkpoint:
        assert checkpoint.format == "tensorflow"
        assert_holds(checkpoint, expected("types.ckpt"))


def test_many_entries():
    checkpoint = open_checkpoint(FIXTURES / "many.ckpt", verify=True)
    assert len(checkpoint) == 400
    assert checkpoint.read("layer_398/kernel").tolist() == [398, 398]


def test_text_tensor():
    checkpoint = open_checkpoint(FIXTURES / "text.ckpt", verify=True)
    assert checkpoint.names() == []
    assert checkpoint.names(everything=True) == ["words"]
    words = checkpoint.read("words")
    assert words.tolist() == [["天气".encode(), b""], [b"b" * 300, b"c"]]


def test_object_checkpoint_is_recognised_and_named_clearly():
    checkpoint = open_checkpoint(FIXTURES / "object.ckpt", verify=True)
    assert checkpoint.is_object_checkpoint
    assert checkpoint.names() == ["model/kernel"]
    assert "model/kernel/.ATTRIBUTES/VARIABLE_VALUE" in checkpoint
    assert checkpoint.read("model/kernel/.ATTRIBUTES/VARIABLE_VALUE").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert checkpoint.full_names() == {"model/kernel": "dense/kernel"}
    assert not open_checkpoint(FIXTURES / "types.ckpt").is_object_checkpoint


def test_partitioned_and_v1_say_what_to_do():
    with pytest.raises(CheckpointError, match=r"part: is a partitioned variable.*re-save"):
        open_checkpoint(FIXTURES / "partitioned.ckpt")
    with pytest.raises(CheckpointError, match=r"V1 checkpoint.*SaverDef\.V2"):
        open_checkpoint(FIXTURES / "v1.ckpt")


def test_float32_is_a_view_into_the_mapped_file(tmp_path):
    write_tensor_bundle(tmp_path / "m.ckpt", {"w": np.arange(1000, dtype=np.float32)})
    first, second = (open_checkpoint(tmp_path / "m.ckpt") for _ in range(2))
    array = first.read("w")
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert array.__array_interface__["data"] == first.read("w").__array_interface__["data"]
    first.close()
    assert array.sum() == second.read("w").sum() == 499500


@pytest.mark.parametrize(
    "name", ["types.ckpt", "types.ckpt.index", "types.ckpt.data-00000-of-00001", "types.ckpt.meta"]
)
def test_any_file_of_the_checkpoint_may_be_named(name):
    assert open_checkpoint(FIXTURES / name).path == FIXTURES / "types.ckpt"


def test_directory_with_checkpoint_file(tmp_path):
    write_tensor_bundle(tmp_path / "model.ckpt-1", {"w": np.zeros(1, np.float32)})
    write_tensor_bundle(tmp_path / "model.ckpt-2", {"w": np.ones(1, np.float32)})
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/elsewhere/model.ckpt-2"\nall_model_checkpoint_paths: "model.ckpt-1"\n'
    )
    assert open_checkpoint(tmp_path).read("w").tolist() == [1]
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(CheckpointError, match=r"several sets of weights \(model.ckpt-1, model.ckpt-2\)"):
        open_checkpoint(tmp_path)


def test_slots_are_left_out_unless_asked_for(tmp_path):
    slots = ["w/adam_m", "w/adam_v", "w_slot_vr", "w/m", "global_step", "beta1_power", "optimizer/iteration"]
    slots += ["w/LAMB_1", "w/vc", "w/ExponentialMovingAverage", "global_step_1", "current_loss_scale", "num_good_steps"]
    model = ["w", "lonely/m", "other/adam_module"]
    write_tensor_bundle(tmp_path / "m.ckpt", {name: np.zeros(1, np.float32) for name in [*slots, *model]})
    checkpoint = open_checkpoint(tmp_path / "m.ckpt")
    assert sorted(checkpoint.names()) == sorted(model)
    assert sorted(checkpoint.names(everything=True)) == sorted([*slots, *model])
    assert checkpoint.read("w/adam_m").shape == (1,)


def test_round_trip(tmp_path):
    tensors = some_tensors()
    tensors |= {f"layer_{number}/名": np.full((number, 2), number, np.float32) for number in range(300)}
    write_tensor_bundle(tmp_path / "a" / "m.ckpt", tensors)
    assert_holds(open_checkpoint(tmp_path / "a" / "m.ckpt", verify=True), native(tensors))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["m.ckpt.data-00000-of-00001", "m.ckpt.index"]


def test_writer_refuses_what_the_format_lacks(tmp_path):
    for name, tensor in [("a", np.array(["x"])), ("", np.zeros(1)), ("\0a", np.zeros(1)), ("n" * 5000, np.zeros(1))]:
        with pytest.raises(CheckpointError, match="cannot"):
            write_tensor_bundle(tmp_path / "m.ckpt", {"good": np.zeros(2), name: tensor})
    assert list(tmp_path.iterdir()) == []


def test_unknown_name_offers_close_ones():
    with pytest.raises(CheckpointError, match=r"no tensor named 'of/float23'; close names: of/float"):
        open_checkpoint(FIXTURES / "types.ckpt").read("of/float23")


def test_data_checksum_is_verified_unless_it_is_not_wanted(tmp_path):
    write_tensor_bundle(tmp_path / "m.ckpt", {"w": np.arange(1000, dtype=np.float32), "x": np.ones(3, np.int8)})
    data = tmp_path / "m.ckpt.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[17] ^= 4
    data.write_bytes(raw)
    assert open_checkpoint(tmp_path / "m.ckpt", verify=False).read("w").shape == (1000,)
    checkpoint = open_checkpoint(tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=r"tensor w: damaged.*checksum"):
        checkpoint.read("w")
    assert checkpoint.read("x").tolist() == [1, 1, 1]


def test_missing_and_short_data_files(tmp_path):
    for part in ("index", "data-00000-of-00003", "data-00001-of-00003"):
        shutil.copy(FIXTURES / f"sharded.ckpt.{part}", tmp_path)
    checkpoint = open_checkpoint(tmp_path / "sharded.ckpt")
    entries = checkpoint._records()
    missing = next(name for name in checkpoint.names() if entries[name].shard == 2)
    with pytest.raises(CheckpointError, match=r"sharded.ckpt.data-00002-of-00003: no such file"):
        checkpoint.read(missing)
    (tmp_path / "sharded.ckpt.data-00001-of-00003").write_bytes(b"1")
    short = next(name for name in checkpoint.names() if entries[name].shard == 1 and entries[name].size)
    with pytest.raises(CheckpointError, match=r"truncated.*the file has 1"):
        open_checkpoint(tmp_path / "sharded.ckpt").read(short)
    (tmp_path / "sharded.ckpt.index").unlink()
    with pytest.raises(CheckpointError, match=r"sharded.ckpt.index: no such file"):
        open_checkpoint(tmp_path / "sharded.ckpt.data-00000-of-00003")


def entry(**changes):
    values = {"code": 1, "shape": (2,), "shard": 0, "offset": 0, "size": 8, "checksum": 0}
    return encode_entry(BundleEntry(**(values | changes)))


HOSTILE = {
    "huge shape": (entry(shape=(1 << 40, 1 << 40), size=8), "shape"),
    "huge offset": (entry(offset=1 << 62), "truncated"),
    "negative size": (entry(size=(1 << 64) - 8), "negative"),
    "size differs": (entry(size=12), "does not have 12 bytes"),
    "no such shard": (entry(shard=3), "data file 3 of 1"),
    "many dimensions": (entry(shape=(1,) * 40, size=4), "40 dimensions"),
    "unknown type": (entry(code=99), "data type 99"),
    "negative dimension": (entry(shape=((1 << 64) - 1,)), "impossible shape"),
    "text of nonsense count": (entry(code=7, shape=(1 << 40,)), "fewer bytes than strings"),
    "zero times huge": (entry(shape=(0, 1 << 47, 1 << 47), size=0), "impossible shape"),
    "not a record": (b"\xff\xff", "truncated"),
    "wrong kind of field": (write_field(1, b"x"), "wrong kind"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_entries(tmp_path, case):
    message, match = HOSTILE[case]
    (tmp_path / "m.ckpt.index").write_bytes(write_table([(b"", encode_header()), (b"w", message)]))
    (tmp_path / "m.ckpt.data-00000-of-00001").write_bytes(bytes(64))
    with pytest.raises(CheckpointError, match=match) as caught:
        open_checkpoint(tmp_path / "m.ckpt").read("w")
    assert "m.ckpt" in str(caught.value) or "data type" in str(caught.value) or "w:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (write_field(1, 1) + write_field(2, 1), "byte order"),
        (write_field(1, 1 << 40), "data files announced"),
        (write_field(1, 1) + write_field(3, write_field(1, 9) + write_field(2, 9)), "version 9"),
    ],
)
def test_hostile_headers(tmp_path, header, match):
    (tmp_path / "m.ckpt.index").write_bytes(write_table([(b"", header), (b"w", entry())]))
    with pytest.raises(CheckpointError, match=match):
        TensorBundle(tmp_path / "m.ckpt")


def test_index_without_header_or_with_bad_names(tmp_path):
    for entries in ([], [(b"w", entry())]):
        (tmp_path / "m.ckpt.index").write_bytes(write_table(entries))
        with pytest.raises(CheckpointError, match="no header"):
            TensorBundle(tmp_path / "m.ckpt")
    (tmp_path / "m.ckpt.index").write_bytes(write_table([(b"", encode_header()), (b"\xff\xfe", entry())]))
    with pytest.raises(CheckpointError, match="not UTF-8"):
        TensorBundle(tmp_path / "m.ckpt")


REAL_INDEXES = [
    ("vocab/ckpt_index/albert_tiny_zh/albert_model.ckpt", 31, 31, "bert/embeddings/word_embeddings_2", (128, 312)),
    (
        "vocab/ckpt_index/albert_tiny_zh_google/albert_model.ckpt",
        97,
        32,
        "bert/encoder/embedding_hidden_mapping_in/kernel",
        (128, 312),
    ),
    ("vocab/ckpt_index/t5_1_1_tiny/model.ckpt-0", 105, 52, "shared/embedding", (32128, 32)),
    ("weights/toy_keras_bert_ckpt/bert_model.ckpt", 139, 46, "bert/embeddings/word_embeddings", (15, 4)),
    ("weights/toy_keras_gpt2_ckpt", 40, 40, "model/wpe", (20, 15)),
]


@pytest.mark.shared
@pytest.mark.parametrize(("source", "everything", "model", "name", "shape"), REAL_INDEXES)
def test_real_indexes(shared, source, everything, model, name, shape):
    checkpoint = open_checkpoint(shared / source)
    assert len(checkpoint.names(everything=True)) == everything
    assert len(checkpoint.names()) == model
    assert checkpoint.shape(name) == shape
    assert str(checkpoint.dtype(name)) == ("bfloat16" if "t5" in source else "float32")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("source", "parameters"), [("toy_keras_bert_ckpt/bert_model.ckpt", 701), ("toy_keras_gpt2_ckpt", 14_355)]
)
def test_real_checkpoints(shared, source, parameters):
    checkpoint = open_checkpoint(shared / "weights" / source, verify=True)
    assert sum(checkpoint.read(name).size for name in checkpoint.names()) == parameters
    assert all(np.isfinite(checkpoint.read(name)).all() for name in checkpoint.names())
