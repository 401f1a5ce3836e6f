"""Folders of the library `peft` in models and tasks: the numbers are those of `peft`."""

import keras
import numpy as np
import pytest

from qingformer.errors import CheckpointError
from qingformer.models import Backbone, CausalLM
from qingformer.tasks import SequenceTagger, TextClassifier
from tests.tasks.test_fine_tuned_peers import TAGS, batch, ours, stored, theirs

pytestmark = pytest.mark.peers
OPTIONS = {
    "patterns": {"alpha_pattern": {"query": 8, "layer.1.attention.self.value": 3}, "rank_pattern": {"query": 4}},
    "rank-stabilised": {"use_rslora": True, "r": 3},
    "every layer": {"target_modules": "all-linear"},
}


def adapted(model, directory, **options):
    """The model with random adapters of `peft`, which are saved to `directory`."""
    import peft
    import torch

    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["query", "value"], **options}
    made = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    made.save_pretrained(directory)
    return made


def pickled(directory):
    """The folder as older versions write it."""
    import torch
    from safetensors.torch import load_file

    file = directory / "adapter_model.safetensors"
    torch.save(load_file(file), directory / "adapter_model.bin")
    file.unlink()
    return directory


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("family", ["Bert", "Electra"])
def test_a_classifier_with_its_adapters_and_its_head(tmp_path, family, options):
    model = stored(tmp_path / "base", family, "SequenceClassification", id2label={0: "neg", 1: "pos"})
    made = adapted(model, tmp_path / "peft", task_type="SEQ_CLS", **options)
    pickled(tmp_path / "peft")
    wanted = theirs(made, batch()).logits.numpy()
    task = TextClassifier.from_pretrained(tmp_path / "base", max_length=16)
    task.load_adapters(tmp_path / "peft")
    np.testing.assert_allclose(ours(task, batch()), wanted, atol=1e-5)
    other = TextClassifier.from_pretrained(tmp_path / "base", ["pos", "neg"], max_length=16)
    other.load_adapters(tmp_path / "peft")
    np.testing.assert_allclose(ours(other, batch()), wanted[:, ::-1], atol=1e-5)
    with pytest.raises(CheckpointError, match=r"classifier.*load .* into (its|the) task"):
        Backbone.from_pretrained(tmp_path / "base").load_adapters(tmp_path / "peft")
    task.backbone.save_adapters(tmp_path / "back", format="peft")
    body = Backbone.from_pretrained(tmp_path / "base")
    body.load_adapters(tmp_path / "back")
    one, same = (keras.ops.convert_to_numpy(b(batch())["sequence_output"]) for b in (body, task.backbone))
    np.testing.assert_allclose(one, same, atol=1e-5)


def test_modules_of_the_body_that_were_saved_whole(tmp_path):
    model = stored(tmp_path / "base", "Bert", "SequenceClassification", id2label={0: "neg", 1: "pos"})
    made = adapted(model, tmp_path / "peft", modules_to_save=["LayerNorm", "pooler", "classifier"])
    task = TextClassifier.from_pretrained(tmp_path / "base", max_length=16)
    task.load_adapters(tmp_path / "peft")
    np.testing.assert_allclose(ours(task, batch()), theirs(made, batch()).logits.numpy(), atol=1e-5)


def test_adapters_of_the_classifier_itself(tmp_path):
    model = stored(tmp_path / "base", "Bert", "SequenceClassification")
    made = adapted(model, tmp_path / "peft", target_modules="all-linear")
    wanted = theirs(made, batch()).logits.numpy()
    task = TextClassifier.from_pretrained(tmp_path / "base", max_length=16)
    task.load_adapters(tmp_path / "peft")
    np.testing.assert_allclose(ours(task, batch()), wanted, atol=1e-5)
    with pytest.raises(CheckpointError, match="classifier is a head's module"):
        Backbone.from_pretrained(tmp_path / "base").load_adapters(tmp_path / "peft")


def test_a_tagger(tmp_path):
    model = stored(tmp_path / "base", "Bert", "TokenClassification", id2label=dict(enumerate(TAGS)))
    made = adapted(model, tmp_path / "peft", task_type="TOKEN_CLS")
    task = SequenceTagger.from_pretrained(tmp_path / "base", max_length=16)
    task.load_adapters(tmp_path / "peft")
    kept = batch()["padding_mask"].astype(bool)
    wanted = theirs(made, batch()).logits.numpy()[:, :, [4, 0, 1, 2, 3]]
    np.testing.assert_allclose(ours(task, batch())[kept], wanted[kept], atol=1e-5)
    classifier = TextClassifier(task.backbone, task.tokenizer, ["a", "b"], max_length=16)
    with pytest.raises(CheckpointError, match="task_type is TOKEN_CLS, which is not that of a text-classifier"):
        classifier.load_adapters(tmp_path / "peft")


@pytest.mark.parametrize("targets", [["c_attn"], ["c_attn", "c_proj", "c_fc"]])
def test_joined_matrices(tmp_path, targets):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "base")
    made = adapted(model, tmp_path / "peft", target_modules=targets, fan_in_fan_out=True)
    ids = np.random.default_rng(0).integers(1, 50, (2, 6)).astype("int32")
    lm = CausalLM.from_pretrained(tmp_path / "base")
    paths = lm.load_adapters(tmp_path / "peft")
    assert "block_0/attention/key" in paths
    with torch.no_grad():
        wanted = made(input_ids=torch.tensor(ids).long()).logits.numpy()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(lm({"token_ids": ids})), wanted, atol=1e-5)
