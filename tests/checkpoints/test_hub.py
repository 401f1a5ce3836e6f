"""Models come from a stand-in Hub on loopback into the cache, and from the cache when there is no network."""

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from qingformer.checkpoints import locate, open_checkpoint, write_safetensors
from qingformer.checkpoints.hub import choose
from qingformer.errors import CheckpointError
from tests.checkpoints.stand_in_hub import COMMIT, StandInHub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running stand-in that HF_ENDPOINT names, and an empty cache."""
    write_safetensors(tmp_path / "model.safetensors", {"w": np.arange(5, dtype=np.float32)})
    files = {
        "config.json": b'{"model_type": "bert"}',
        "vocab.txt": "[PAD]\n天\n".encode(),
        "model.safetensors": (tmp_path / "model.safetensors").read_bytes(),
        "pytorch_model.bin": b"never needed",
        "tf_model.h5": b"never needed",
        "README.md": b"never needed",
        "onnx/model.safetensors": b"never needed",
    }
    (tmp_path / "model.safetensors").unlink()
    repositories = {"org/model": files, "org/readme": {"README.md": b"hello"}}
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    huggingface_hub.close_session()
    with StandInHub(repositories).running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running
    huggingface_hub.close_session()


def downloaded(hub):
    return sorted(line.split("/")[-1] for line in hub.requests if line.startswith("GET") and "/resolve/" in line)


def test_only_what_is_needed_is_downloaded(hub):
    files = locate("hf://org/model")
    assert downloaded(hub) == ["config.json", "model.safetensors", "vocab.txt"]
    assert files.layout == "huggingface"
    assert open_checkpoint(files.require("weights")).read("w").tolist() == [0, 1, 2, 3, 4]
    assert files.require("vocabulary").read_text("utf-8").split() == ["[PAD]", "天"]
    assert files.require("config").name == "config.json"


def test_vocabulary_alone(hub):
    assert locate("hf://org/model", need=("vocabulary",)).weights is None
    assert downloaded(hub) == ["vocab.txt"]


def test_nothing_is_downloaded_twice(hub):
    locate("hf://org/model")
    hub.requests.clear()
    assert locate("hf://org/model").require("weights").exists()
    assert downloaded(hub) == []


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_revisions(hub, revision):
    first = locate(f"hf://org/model@{revision}")
    assert locate("hf://org/model", revision).directory == first.directory
    assert any(f"/resolve/{revision}/" in line for line in hub.requests)
    assert not any("/main" in line for line in hub.requests)


def test_cache_serves_when_offline(hub, monkeypatch):
    directory = locate("hf://org/model").directory
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate("hf://org/model").directory == directory
    assert open_checkpoint(locate("hf://org/model").require("weights")).names() == ["w"]
    assert hub.requests == []
    with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE is set, and the cache .* does not have it at 'v1'"):
        locate("hf://org/model@v1")
    with pytest.raises(CheckpointError, match=r"hf://org/other: HF_HUB_OFFLINE is set"):
        locate("hf://org/other")


def test_cache_serves_when_the_network_is_gone(hub, monkeypatch):
    directory = locate("hf://org/model").directory
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert locate("hf://org/model").directory == directory
    with pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1:9 cannot be reached .* does not have it"):
        locate("hf://org/other")


def test_cached_without_what_is_needed(hub, monkeypatch):
    locate("hf://org/model", need=("vocabulary",))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"no weights .*it holds: vocab.txt"):
        locate("hf://org/model", need=("weights",))


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("hf://org/missing", r"hf://org/missing: no such model on http.*or it is private"),
        ("hf://org/model@v9", r"no revision 'v9'"),
        ("hf://org/readme", r"no pretrained model there; it holds: README\.md"),
        ("hf://model", r"is written hf://org/name"),
        ("hf://org/model/file", r"is written hf://org/name"),
        ("hf://../..", r"hf://"),
        ("hf://org/model@", r"is written hf://org/name"),
    ],
)
def test_errors(hub, source, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        locate(source)
    assert "\n" not in str(caught.value)


def test_two_revisions_contradict(hub):
    with pytest.raises(CheckpointError, match="names one revision"):
        locate("hf://org/model@v1", "main")


@pytest.mark.parametrize(
    ("status", "code", "match"),
    [
        (403, "GatedRepo", "access is gated; accept its terms"),
        (401, "", "private|access refused"),
        (403, "", "access refused"),
        (429, "", "answered"),
    ],
)
def test_refusals(hub, status, code, match):
    hub.refuse["org/model"] = (status, code)
    with pytest.raises(CheckpointError, match=f"hf://org/model: .*{match}"):
        locate("hf://org/model")


def test_server_failure_falls_back_to_the_cache(hub):
    directory = locate("hf://org/model").directory
    hub.broken = True
    assert locate("hf://org/model").directory == directory
    with pytest.raises(CheckpointError, match="does not answer properly"):
        locate("hf://org/model@v1")


def test_login_page_instead_of_an_answer(hub):
    hub.login_page = True
    with pytest.raises(CheckpointError, match=r"something else than JSON; is HF_ENDPOINT right\?.* does not have it"):
        locate("hf://org/model")


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
def test_damaged_download_is_refused_and_removed(hub, name):
    hub.corrupt.add(name)
    with pytest.raises(CheckpointError, match=f"{name} arrived damaged .* removed; run again"):
        locate("hf://org/model")
    hub.corrupt.clear()
    assert open_checkpoint(locate("hf://org/model").require("weights")).read("w")[4] == 4


def test_choice_of_files():
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert choose([*shards, "model.safetensors.index.json", "pytorch_model.bin"], ("weights",)) == [
        *shards,
        "model.safetensors.index.json",
    ]
    assert choose(["pytorch_model.bin", "x/model.safetensors"], ("weights",)) == ["pytorch_model.bin"]
    assert choose(["onnx/a.safetensors", "a.bin", "deep/config.json"]) == ["a.bin"]
    ckpt = ["bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"]
    assert choose([*ckpt, "bert_model.ckpt.meta", "bert_config.json"]) == ["bert_config.json", *ckpt]
    assert choose(["bert_config.json", "a_config.json"], ("config",)) == ["bert_config.json"]
    assert choose(["spiece.model", "merges.txt", "config.json"], ("vocabulary",)) == ["merges.txt", "spiece.model"]
    assert choose(["README.md"]) == []
