"""The files of a model are found however the user names it, and what is ambiguous or absent is listed."""

import json

import numpy as np
import pytest

from qingformer.checkpoints import locate, open_checkpoint, write_safetensors, write_tensor_bundle
from qingformer.checkpoints.sources import unread_weights
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models import Backbone

TENSORS = {"w": np.ones(2, np.float32)}


@pytest.fixture
def google(tmp_path):
    """A directory as Google publishes BERT."""
    write_tensor_bundle(tmp_path / "bert_model.ckpt", TENSORS)
    (tmp_path / "bert_config.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    return tmp_path


@pytest.mark.parametrize(
    "name", ["", "bert_model.ckpt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"]
)
def test_tensorflow_directory(google, name):
    files = locate(google / name)
    assert files.directory == google
    assert files.config == google / "bert_config.json"
    assert files.weights == google / "bert_model.ckpt"
    assert files.vocabulary == google / "vocab.txt"
    assert files.layout == "tensorflow"
    assert open_checkpoint(files.require("weights")).names() == ["w"]


def test_tensorflow_directory_by_its_config(google):
    assert locate(google / "bert_config.json", need=("config", "weights")).weights == google / "bert_model.ckpt"


def test_huggingface_and_own_directories(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", TENSORS)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    files = locate(tmp_path, need=("config", "weights", "vocabulary"))
    assert (files.layout, files.require("weights").name) == ("huggingface", "model.safetensors")
    assert files.require("vocabulary").name == "tokenizer.json"
    (tmp_path / "config.json").write_text(json.dumps({"qingformer_version": "0.1"}))
    assert locate(str(tmp_path)).layout == "qingformer"
    assert locate(tmp_path / "model.safetensors").layout == "qingformer"
    assert locate(tmp_path / "pytorch_model.bin").require("weights").name == "pytorch_model.bin"


def test_unusual_names_when_unique(tmp_path):
    write_safetensors(tmp_path / "encoder.safetensors", TENSORS)
    (tmp_path / "albert_config_tiny.json").write_text("{}")
    files = locate(tmp_path)
    assert files.require("config").name == "albert_config_tiny.json"
    assert files.require("weights").name == "encoder.safetensors"
    assert files.vocabulary is None
    with pytest.raises(CheckpointError, match=r"no vocabulary \(vocab.txt.*it holds: albert_config_tiny.json, encoder"):
        files.require("vocabulary")


def test_a_folder_of_sentence_transformers(tmp_path):
    transformer = tmp_path / "0_Transformer"
    transformer.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (transformer / name).write_text("{}")
    (tmp_path / "config_sentence_transformers.json").write_text("{}")
    modules = [{"idx": 0, "path": "0_Transformer"}, {"idx": 1, "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    files = locate(tmp_path)
    assert files.directory == transformer
    assert files.weights == transformer / "model.safetensors"
    for other in ([], {}, [{"path": ""}], [{"path": ".."}], [{"path": "/etc"}], [{"path": "../x"}], [{"path": 1}], 3):
        (tmp_path / "modules.json").write_text(json.dumps(other))
        assert locate(tmp_path).directory == tmp_path
    (tmp_path / "modules.json").write_text("[" * 5000)
    assert locate(tmp_path).directory == tmp_path


@pytest.mark.parametrize("name", ["tf_model.h5", "model_state.pdparams", "flax_model.msgpack", "model.onnx"])
def test_weights_of_other_programs_are_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    assert name in unread_weights(tmp_path)
    assert unread_weights(tmp_path / "nowhere") == ""


def test_shards_of_an_unusual_name(tmp_path):
    write_safetensors(tmp_path / "m.safetensors", {"a": np.ones(4), "b": np.ones(4)}, max_shard_bytes=40)
    assert locate(tmp_path).require("weights").name == "m.safetensors.index.json"
    assert open_checkpoint(tmp_path).names() == ["a", "b"]


def test_several_candidates_are_listed(tmp_path):
    for name in ("a", "b"):
        write_safetensors(tmp_path / f"{name}.safetensors", TENSORS)
        (tmp_path / f"{name}_config.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    with pytest.raises(CheckpointError, match=r"several sets of weights \(a.safetensors, b.safetensors\)"):
        locate(tmp_path)
    with pytest.raises(CheckpointError, match=r"several configurations \(a_config.json, b_config.json\)"):
        locate(tmp_path, need=("config",))
    assert locate(tmp_path, need=("vocabulary",)).require("vocabulary").name == "vocab.txt"
    assert locate(tmp_path / "a.safetensors").config is None


def test_single_vocabulary_file(tmp_path):
    (tmp_path / "vocab_zh.txt").write_text("[PAD]\n")
    assert locate(tmp_path / "vocab_zh.txt").vocabulary == tmp_path / "vocab_zh.txt"
    with pytest.raises(CheckpointError, match="no weights"):
        locate(tmp_path / "vocab_zh.txt", need=("weights",))


@pytest.mark.parametrize("names", [["bert/"], ["checkpoint-1000/", "checkpoint-500/"], ["snapshots/0a1b/"]])
def test_a_model_in_a_folder_below_is_named(names, tmp_path):
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "refs").mkdir()
    match = rf"give the folder of one model: {', '.join(names)}; it holds: "
    with pytest.raises(CheckpointError, match=rf"no pretrained model here; {match}"):
        locate(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]")
    with pytest.raises(ConfigError, match=rf"no config.json or bert_config.json and no weights there; {match}"):
        Backbone.from_pretrained(tmp_path)


@pytest.mark.parametrize(("name", "said"), [
    ("bert-base-chinese", r'write "hf://ORGANISATION/bert-base-chinese"$'),
    ("hfl/rbt3", r'write "hf://hfl/rbt3"; there is no directory hfl'),
    ("{}/my-modle", r"did you mean my-model\?$"),
    ("{}/other", r"it holds: my-model/"),
    (None, "the source is None, expected a path or hf://org/name"),
])  # fmt: skip
def test_what_is_not_there_may_be_meant_otherwise(name, said, tmp_path):
    (tmp_path / "my-model").mkdir()
    with pytest.raises(CheckpointError, match=said):
        locate(name and name.format(tmp_path))


def test_a_vocabulary_is_no_model(google):
    with pytest.raises(ConfigError, match="is not a weights file; give the folder of the model"):
        Backbone.from_pretrained(google / "vocab.txt")


def test_adapters_are_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    write_safetensors(tmp_path / "adapter_model.safetensors", TENSORS)
    with pytest.raises(ConfigError, match="these are adapters: load the model that they belong to"):
        Backbone.from_pretrained(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="these are adapters: load the model that they belong to"):
        locate(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="no pretrained model here; it is empty"):
        locate(tmp_path)
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "sub").mkdir()
    with pytest.raises(CheckpointError, match=r"no pretrained model here; it holds: notes.md, sub/"):
        locate(tmp_path)
    with pytest.raises(CheckpointError, match=r"no such file.*it holds: notes.md, sub/"):
        locate(tmp_path / "bert_model.ckpt")
    with pytest.raises(CheckpointError, match="there is no directory"):
        locate(tmp_path / "gone" / "bert_model.ckpt")
    with pytest.raises(CheckpointError, match=r"beside it: notes.md, sub"):
        open_checkpoint(tmp_path / "bert_model.ckpt")


def test_hub_names_are_pointed_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match='write "hf://hfl/chinese-macbert-base"'):
        locate("hfl/chinese-macbert-base")
    with pytest.raises(CheckpointError, match="a revision"):
        locate(tmp_path, "v1")


@pytest.mark.parametrize("content", ["", "nonsense", 'model_checkpoint_path: ""', 'model_checkpoint_path: "../gone"'])
def test_useless_checkpoint_file_is_passed_over(google, content):
    (google / "checkpoint").write_text(content)
    assert locate(google).weights == google / "bert_model.ckpt"


def test_damaged_config_is_named(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", TENSORS)
    (tmp_path / "config.json").write_text('{\n"a": \n}')
    with pytest.raises(CheckpointError, match=r"config.json, line 3: not JSON"):
        locate(tmp_path)


@pytest.mark.shared
def test_real_directories(shared):
    layouts = {
        "weights/toy_keras_bert_ckpt": ("tensorflow", "bert_config.json", "bert_model.ckpt", "vocab.txt"),
        "weights/rxnmapper_albert": ("huggingface", "config.json", "pytorch_model.bin", "vocab.txt"),
        "weights/chemts_gpt2_0.2m": ("huggingface", "config.json", "model.safetensors", "tokenizer.json"),
    }
    for folder, (layout, *names) in layouts.items():
        files = locate(shared / folder, need=("config", "weights", "vocabulary"))
        assert files.layout == layout
        assert [files.require(kind).name for kind in ("config", "weights", "vocabulary")] == names


def test_a_shard_whose_name_is_longer_than_any_file_s(tmp_path):
    index = {"weight_map": {"a": "x" * 300}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match="which is not beside it"):
        open_checkpoint(tmp_path / "model.safetensors.index.json")
