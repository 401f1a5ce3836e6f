"""TensorFlow, PyTorch, safetensors and transformers read what we write, and we read what they write: bit for bit."""

import ml_dtypes
import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors, write_tensor_bundle
from tests.checkpoints.support import FIXTURES, assert_holds, assert_same, native, some_tensors

pytestmark = pytest.mark.peers


def all_types():
    """Every type that both sides know, incl. infinities and NaN."""
    generator = np.random.default_rng(3)
    tensors = some_tensors()
    for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16):
        tensors[f"special/{np.dtype(kind)}"] = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-7, 3e4]).astype(kind)
    for kind in "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split():
        limits = np.iinfo(kind)
        tensors[f"limits/{kind}"] = np.array([limits.min, limits.max], kind)
    tensors["complex"] = (generator.normal(size=3) + 1j).astype(np.complex64)
    return tensors


def as_numpy(torch, tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def test_tensorflow_reads_our_bundle(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    tensors = all_types() | {f"layer_{number}/名": np.full((number,), number, np.float32) for number in range(500)}
    prefix = str(write_tensor_bundle(tmp_path / "m.ckpt", tensors))
    listed = dict(tensorflow.train.list_variables(prefix))
    assert listed == {name: list(tensor.shape) for name, tensor in tensors.items()}
    reader = tensorflow.train.load_checkpoint(prefix)
    for name, tensor in native(tensors).items():
        assert_same(reader.get_tensor(name), tensor, name)


def test_tensorflow_saver_restores_our_bundle(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    prefix = str(write_tensor_bundle(tmp_path / "m.ckpt", {"dense/kernel": kernel}))
    restored = tensorflow.raw_ops.RestoreV2(
        prefix=prefix, tensor_names=["dense/kernel"], shape_and_slices=[""], dtypes=[tensorflow.float32]
    )
    assert_same(restored[0].numpy(), kernel)


@pytest.mark.parametrize("name", ["types.ckpt", "sharded.ckpt", "many.ckpt", "object.ckpt", "text.ckpt"])
def test_we_read_what_tensorflow_reads(name):
    tensorflow = pytest.importorskip("tensorflow")
    reader = tensorflow.train.load_checkpoint(str(FIXTURES / name))
    checkpoint = open_checkpoint(FIXTURES / name, verify=True)
    listed = dict(tensorflow.train.list_variables(str(FIXTURES / name)))
    assert len(checkpoint.names(everything=True)) == len(listed)
    for full_name, shape in listed.items():
        assert list(checkpoint.shape(full_name)) == shape
        wanted = reader.get_tensor(full_name)
        if checkpoint.dtype(full_name).hasobject:
            assert checkpoint.read(full_name).tolist() == np.asarray(wanted, object).tolist()
        else:
            assert_same(checkpoint.read(full_name), np.asarray(wanted), full_name)


@pytest.mark.shared
def test_real_indexes_list_like_tensorflow(shared):
    tensorflow = pytest.importorskip("tensorflow")
    indexes = sorted(shared.glob("vocab/ckpt_index/*/*.index")) + sorted(shared.glob("weights/*/*.index"))
    assert len(indexes) >= 5
    for index in indexes:
        prefix = str(index).removesuffix(".index")
        checkpoint = open_checkpoint(prefix)
        listed = {name: list(checkpoint.shape(name)) for name in checkpoint.names(everything=True)}
        assert listed == dict(tensorflow.train.list_variables(prefix))


def test_safetensors_library_reads_our_file(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = all_types()
    write_safetensors(tmp_path / "m.safetensors", tensors)
    loaded = safetensors.load_file(tmp_path / "m.safetensors")
    assert set(loaded) == set(tensors)
    for name, tensor in native(tensors).items():
        assert_same(as_numpy(torch, loaded[name]), tensor, name)


@pytest.mark.parametrize("legacy", [False, True])
def test_we_read_what_torch_writes(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    model = torch.nn.Transformer(8, 2, 1, 1, 16).to(torch.bfloat16)
    state = model.state_dict()
    state["view"] = torch.arange(60).reshape(3, 4, 5).permute(2, 0, 1)[1:, :, ::2]
    torch.save(state, tmp_path / "m.bin", _use_new_zipfile_serialization=not legacy)
    assert_holds(
        open_checkpoint(tmp_path / "m.bin", verify=True),
        {name: as_numpy(torch, tensor) for name, tensor in state.items()},
    )


@pytest.mark.shared
def test_real_files_equal_the_peers(shared):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    path = shared / "weights" / "rxnmapper_albert" / "pytorch_model.bin"
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert_holds(open_checkpoint(path), {name: as_numpy(torch, tensor) for name, tensor in state.items()})
    for path in sorted(shared.glob("weights/chemts*/model.safetensors")):
        state = safetensors.load_file(path)
        assert_holds(open_checkpoint(path), {name: as_numpy(torch, tensor) for name, tensor in state.items()})


@pytest.mark.parametrize("limit", [None, 2000])
def test_transformers_accepts_our_files(tmp_path, limit):
    """Also in shards; and what transformers saves in shards we read."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes))
    state = {name: as_numpy(torch, tensor) for name, tensor in model.state_dict().items()}
    model.config.save_pretrained(tmp_path / "ours")
    write_safetensors(tmp_path / "ours" / "model.safetensors", state, max_shard_bytes=limit)
    loaded, report = transformers.BertModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, tensor in loaded.state_dict().items():
        assert_same(as_numpy(torch, tensor), state[name], name)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="2KB" if limit else "1GB")
    assert_holds(open_checkpoint(tmp_path / "theirs"), state)
