"""Saves into folders that hold something already: the user's files, a tokenizer, another format, a trained task."""

import json

import numpy as np
import pytest

import qingformer as qf
from qingformer.errors import CheckpointError
from qingformer.models import Backbone, BackboneConfig
from qingformer.tokenization import Tokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气好"]
SIZES = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def backbone(seed=0):
    made = Backbone(BackboneConfig(**SIZES, max_position_embeddings=16))
    values = np.random.default_rng(seed)
    for variable in made.named_variables().values():
        variable.assign(values.normal(size=variable.shape))
    return made


def classifier(labels=("a", "b"), seed=0):
    return qf.TextClassifier(backbone(seed), Tokenizer.from_vocabulary(TOKENS), labels=list(labels), max_length=8)


def same(folder, made):
    theirs = Backbone.from_pretrained(folder).named_variables()
    return all(
        np.array_equal(variable.numpy(), theirs[path].numpy()) for path, variable in made.named_variables().items()
    )


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    """A folder with what a user keeps there."""
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "deep" / "loss.png").write_bytes(b"png")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def theirs_is_there(folder):
    return (folder / "notes.txt").read_text() == "mine" and (folder / "plots/deep/loss.png").read_bytes() == b"png"


@pytest.mark.parametrize("tokenizer_first", [True, False])
@pytest.mark.parametrize("format", ["qingformer", "huggingface", "tensorflow"])
def test_a_model_and_a_tokenizer_live_together(folder, format, tokenizer_first):
    made, tokenizer = backbone(), Tokenizer.from_vocabulary(TOKENS)
    steps = [lambda: tokenizer.save_pretrained(folder), lambda: made.save_pretrained(folder, format=format)]
    for step in steps if tokenizer_first else reversed(steps):
        step()
    assert same(folder, made)
    assert Tokenizer.from_pretrained(folder).vocabulary == TOKENS
    assert theirs_is_there(folder)


FORMATS = ["qingformer", "huggingface", "tensorflow"]


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_the_last_format_is_the_one_that_is_read(folder, first, second):
    backbone(0).save_pretrained(folder, format=first)
    backbone(1).save_pretrained(folder, format=second)
    assert same(folder, backbone(1))
    fresh = folder / "fresh"
    backbone(1).save_pretrained(fresh, format=second)
    assert names(folder) == names(fresh) | {"notes.txt", "plots", "fresh"}
    assert theirs_is_there(folder)


def test_a_checkpoint_of_somebody_else_stays_and_is_not_read(folder):
    backbone(0).save_pretrained(folder / "original", format="tensorflow")
    config = folder / "original" / "bert_config.json"
    config.write_text(config.read_text().replace("qingformer_version", "comment"))
    original = {name: (folder / "original" / name).read_bytes() for name in names(folder / "original")}
    backbone(1).save_pretrained(folder / "original")
    assert same(folder / "original", backbone(1))
    assert all((folder / "original" / name).read_bytes() == content for name, content in original.items())


def test_shards_of_an_earlier_model_go(folder):
    from qingformer.checkpoints import write_safetensors

    made = backbone(0)
    made.save_pretrained(folder)
    write_safetensors(folder / "model.safetensors", made.weight_arrays(), max_shard_bytes=1000)
    assert same(folder, made)
    backbone(1).save_pretrained(folder)
    assert same(folder, backbone(1))
    assert names(folder) == {"config.json", "model.safetensors", "notes.txt", "plots"}


def test_a_checkpoint_that_would_not_be_read_back_is_refused(folder):
    (folder / "pytorch_model.bin").write_bytes(b"theirs")
    with pytest.raises(CheckpointError, match=r"holds pytorch_model\.bin, which would be read in place of"):
        backbone().save_pretrained(folder, format="tensorflow")
    assert names(folder) == {"notes.txt", "plots", "pytorch_model.bin"}


def test_a_task_and_its_adapters_live_together(folder):
    made = classifier()
    made.backbone.enable_lora(2)
    for _ in range(2):
        made.save(folder)
        made.save_adapters(folder)
    assert qf.load(folder).labels == ["a", "b"]
    assert len(classifier().load_adapters(folder)) == 2
    assert {"adapters", "adapters.json", "head.safetensors", "notes.txt", "vocab.txt"} <= names(folder)
    classifier(seed=1).save(folder)
    assert same(folder, backbone(1))
    assert "adapters" not in names(folder)  # those of the encoder that was here before
    assert theirs_is_there(folder)


def test_another_task_does_not_get_the_files_of_this_one(folder):
    made = classifier()
    made.backbone.enable_lora(2)
    made.save_adapters(folder / "adapters")
    made.save(folder / "whole")
    other = classifier(labels=["x", "y", "z"])
    other.backbone.enable_lora(2)
    with pytest.raises(CheckpointError, match="holds the adapters of another task"):
        other.save(folder / "adapters")
    with pytest.raises(CheckpointError, match="holds the model of another task"):
        other.save_adapters(folder / "whole")
    with pytest.raises(CheckpointError, match=r"holds a trained task, whose head\.safetensors belongs to"):
        backbone(1).save_pretrained(folder / "whole")
    assert qf.load(folder / "whole").labels == ["a", "b"]
    classifier().backbone.save_pretrained(folder / "whole")  # the very same encoder
    other.save(folder / "whole")  # a whole task replaces a whole task
    assert qf.load(folder / "whole").labels == ["x", "y", "z"]


@pytest.mark.parametrize(("first", "second"), [("qingformer", "peft"), ("peft", "qingformer")])
def test_adapters_of_the_other_form_go(folder, first, second):
    made = backbone()
    made.enable_lora(2)
    made.save_adapters(folder, format=first)
    made.save_adapters(folder, format=second)
    made.save_adapters(folder / "fresh", format=second)
    assert names(folder) == names(folder / "fresh") | {"notes.txt", "plots", "fresh"}


def test_one_flipped_bit_of_our_own_weights_is_found(folder):
    made = classifier()
    made.save(folder)
    for name in ("model.safetensors", "head.safetensors"):
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(CheckpointError, match=rf"{name}: damaged: .* does not have the checksum"):
            qf.load(folder)
        (folder / name).write_bytes(good)
    assert qf.load(folder).labels == ["a", "b"]


def test_an_interrupted_save_is_finished_by_the_reader(folder):
    backbone(0).save_pretrained(folder)
    backbone(1).save_pretrained(folder / "new")
    (folder / "new").rename(folder / ".qingformer-complete")  # all written, killed before anything was put in place
    assert same(folder, backbone(1))
    assert names(folder) == {"config.json", "model.safetensors", "notes.txt", "plots"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {"<pad>": 99}),  # an id that leaves a gap: the folder could not be read
        ("added_tokens.json", {"[unused1]": 8}),
        ("special_tokens_map.json", {"additional_special_tokens": ["明"]}),  # cut elsewhere than before
    ],
)
@pytest.mark.parametrize("what", ["tokenizer", "model", "task", "huggingface task"])
def test_files_of_another_tokenizer_that_would_be_read_with_the_new_one_are_refused(tmp_path, what, name, content):
    task = classifier()
    tokenizer = task.tokenizer
    saves = {
        "tokenizer": lambda: tokenizer.save_pretrained(tmp_path),
        "model": lambda: task.backbone.save_pretrained(tmp_path, tokenizer=tokenizer),
        "task": lambda: task.save(tmp_path),
        "huggingface task": lambda: task.save(tmp_path, format="huggingface"),
    }
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(qf.QingFormerError, match=f"{name} of another tokenizer, which would be read together"):
        saves[what]()
    assert names(tmp_path) == {name}
    harmless = {"added_tokens.json": {"[UNK]": 1}, "special_tokens_map.json": {"cls_token": "[CLS]"}}[name]
    (tmp_path / name).write_text(json.dumps(harmless))
    saves[what]()
    assert Tokenizer.from_pretrained(tmp_path).encode("姚明").token_ids == tokenizer.encode("姚明").token_ids
