"""Folders in the form of `peft`, made by hand: scales, joined matrices, heads, tables, and what is refused."""

import json

import numpy as np
import pytest
from keras import ops

from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models import Backbone, BackboneConfig, CausalLM, MaskedLM
from qingformer.tasks import TextClassifier
from tests.tasks import helpers

PREFIX = "base_model.model."
QUERY, VALUE = (f"bert.encoder.layer.0.attention.self.{name}" for name in ("query", "value"))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def factors(module, inputs, outputs, rank=2, seed=0):
    return {
        f"{PREFIX}{module}.lora_A.weight": normal(rank, inputs, seed=seed),
        f"{PREFIX}{module}.lora_B.weight": normal(outputs, rank, seed=seed + 1),
    }


def folder(path, arrays, **settings):
    path.mkdir(exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4} | settings))
    write_safetensors(path / "adapter_model.safetensors", arrays)
    return path


def updates(model):
    """What adapters add to each kernel."""
    before = model.weight_arrays()

    def found():
        after = model.weight_arrays()
        return {path.removesuffix("/kernel"): after[path] - before[path] for path in after if "kernel" in path}

    return found


def test_each_module_has_its_own_scale_and_rank(tmp_path):
    arrays = factors(QUERY, 16, 16, 4) | factors(VALUE, 16, 16, seed=5)
    settings = {"alpha_pattern": {"self.query": 8}, "rank_pattern": {"query": 4}, "use_rslora": True}
    body = helpers.backbone()
    change = updates(body)
    body.load_adapters(folder(tmp_path / "one", arrays, **settings))
    wanted = {
        "block_0/attention/query": 8 / np.sqrt(4) * (normal(16, 4, seed=1) @ normal(4, 16)).T,
        "block_0/attention/value": 4 / np.sqrt(2) * (normal(16, 2, seed=6) @ normal(2, 16, seed=5)).T,
    }
    for path, update in wanted.items():
        np.testing.assert_allclose(change()[path], update, atol=1e-5)
    body.save_adapters(tmp_path / "two", format="peft")
    written = json.loads((tmp_path / "two" / "adapter_config.json").read_text())
    assert sorted([written["r"], *written["rank_pattern"].values()]) == [2, 4]
    again = helpers.backbone()
    change = updates(again)
    again.load_adapters(tmp_path / "two")
    for path, update in wanted.items():
        np.testing.assert_allclose(change()[path], update, atol=1e-5)


def test_one_adapter_of_a_joined_matrix_is_three(tmp_path):
    config = BackboneConfig(
        family="gpt2", vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=16,
    )  # fmt: skip
    model = CausalLM(config)
    change = updates(model)
    arrays = factors("transformer.h.0.attn.c_attn", 8, 24)
    model.load_adapters(folder(tmp_path, arrays, fan_in_fan_out=True))
    whole = 2 * normal(2, 8).T @ normal(24, 2, seed=1).T
    for name, part in zip(("query", "key", "value"), np.split(whole, 3, axis=1)):
        np.testing.assert_allclose(change()[f"block_0/attention/{name}"], part, atol=1e-5)


@pytest.mark.parametrize("before", ["", "modules_to_save.", "modules_to_save.default."])
def test_a_head_beside_the_adapters_goes_into_the_task(tmp_path, before):
    head = {f"{PREFIX}classifier.{before}weight": normal(2, 16), f"{PREFIX}classifier.{before}bias": normal(2, seed=3)}
    folder(tmp_path, factors(QUERY, 16, 16) | head, task_type="SEQ_CLS", modules_to_save=["classifier"])
    task = helpers.classifier(labels=["a", "b"])
    assert task.load_adapters(tmp_path) == ["block_0/attention/query"]
    kernel, bias = (ops.convert_to_numpy(v) for v in task.model.get_layer("classifier").weights)
    np.testing.assert_array_equal(kernel, normal(2, 16).T)
    np.testing.assert_array_equal(bias, normal(2, seed=3))
    with pytest.raises(CheckpointError, match=r"classifier.*are not adapters \(a head"):
        helpers.backbone().load_adapters(tmp_path)
    with pytest.raises(ConfigError, match="the files of peft name no labels; make the task with labels="):
        helpers.classifier().load_adapters(tmp_path)
    with pytest.raises(CheckpointError, match="shape"):
        helpers.classifier(labels=["a", "b", "c"]).load_adapters(tmp_path)


def test_modules_of_the_body_that_were_saved_whole_take_their_place(tmp_path):
    pooler = {f"{PREFIX}bert.pooler.dense.weight": normal(16, 16), f"{PREFIX}bert.pooler.dense.bias": normal(16)}
    head = {f"{PREFIX}classifier.weight": normal(2, 16), f"{PREFIX}classifier.bias": normal(2, seed=3)}
    folder(tmp_path, factors(QUERY, 16, 16) | head | pooler, modules_to_save=["pooler", "classifier"])
    task = helpers.classifier(labels=["a", "b"])
    task.load_adapters(tmp_path)
    kernel, bias = (ops.convert_to_numpy(v) for v in task.backbone.get_layer("pooler").weights)
    np.testing.assert_array_equal(kernel, normal(16, 16).T)
    np.testing.assert_array_equal(bias, normal(16))
    trained = {v.path.split("/")[0] for v in task.model.trainable_variables}
    assert trained == {"block_0", "pooler", "classifier"}


@pytest.mark.parametrize("case", ["table", "output", "both", "both, other"])
def test_a_tied_table_that_was_saved_whole_is_one_with_its_output(tmp_path, case):
    arrays, table = factors(QUERY, 16, 16), normal(25, 16)
    if case != "output":
        arrays[f"{PREFIX}bert.embeddings.word_embeddings.weight"] = table
    if case != "table":
        arrays[f"{PREFIX}cls.predictions.decoder.weight"] = table + 1 if case == "both, other" else table
    folder(tmp_path, arrays)
    model = MaskedLM(helpers.backbone())
    if case == "both":
        model.load_adapters(tmp_path)
        np.testing.assert_array_equal(model.weight_arrays()["token_embedding/embeddings"], table)
        return
    with pytest.raises(CheckpointError, match="was trained apart from the matrix that this model ties to it"):
        model.load_adapters(tmp_path)
    if case == "table":
        body = helpers.backbone()
        body.load_adapters(tmp_path)
        np.testing.assert_array_equal(body.weight_arrays()["token_embedding/embeddings"], table)


def test_files_without_a_head_want_one_in_the_task(tmp_path):
    helpers.backbone().save_pretrained(tmp_path / "base", tokenizer=helpers.tokenizer())
    task = TextClassifier.from_pretrained(tmp_path / "base", ["a", "b"], max_length=16)
    with pytest.raises(CheckpointError, match="has no head, and that of this task is random"):
        task.load_adapters(folder(tmp_path / "peft", factors(QUERY, 16, 16)))


@pytest.mark.parametrize(("arrays", "settings", "said"), [
    (factors(QUERY.replace("0", "7"), 16, 16), {}, "layer.7.attention.self.query is not a linear layer"),
    (factors("score", 16, 2), {}, "holds no adapters"),
    (factors(QUERY, 16, 16) | factors("score", 16, 2), {}, "score is a head's module, which this model does not have"),
    (factors(QUERY, 16, 16), {"alpha_pattern": {"query": "much"}}, "gives bert.*query no positive number"),
    (factors(QUERY, 16, 16), {"alpha_pattern": [1]}, "no positive number"),
    (factors(QUERY, 16, 16), {"use_dora": True}, "use_dora=True is another method"),
    (factors(QUERY, 16, 16), {"peft_type": "PREFIX_TUNING"}, "peft_type is 'PREFIX_TUNING'; only LORA"),
    (factors(QUERY, 16, 16), {"init_lora_weights": "olora"}, "init_lora_weights='olora' changed the base weights"),
    ({f"{PREFIX}bert.embeddings.word_embeddings.lora_embedding_A": normal(2, 26)}, {}, "adapter of an embedding table"),
])  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, arrays, settings, said):
    body = helpers.backbone()
    with pytest.raises(CheckpointError, match=said) as raised:
        body.load_adapters(folder(tmp_path, arrays, **settings))
    assert len(str(raised.value)) < 400
    assert not any("lora" in variable.path for variable in body.variables)


def test_adapters_of_a_tied_table_are_neither_merged_nor_lost(tmp_path):
    model = MaskedLM(helpers.backbone())
    table = model.backbone.get_layer("token_embedding")
    with pytest.raises(ConfigError, match=r"token_embedding is a table, .* also_train=\['token_embedding'\] trains it"):
        model.enable_lora(2, "token_embedding")
    model.enable_lora(2)
    table.enable_lora(2)
    table.lora_embeddings_b.assign(normal(2, 16))
    before = ops.convert_to_numpy(model({"token_ids": np.array([[2, 5, 3]])}))
    for change in (model.merge_lora, lambda: model.save_adapters(tmp_path / "small")):
        with pytest.raises(ConfigError, match="token_embedding, a table that is tied to the output, has an adapter"):
            change()
    model.save_pretrained(tmp_path / "whole")
    again = MaskedLM.from_pretrained(tmp_path / "whole")
    for each in (model, again):
        found = ops.convert_to_numpy(each({"token_ids": np.array([[2, 5, 3]])}))
        np.testing.assert_allclose(found, before, atol=1e-5)
    assert Backbone.from_pretrained(tmp_path / "whole").config == model.config
    with open_checkpoint(tmp_path / "whole" / "model.safetensors") as file:
        assert "token_embedding/embeddings" in file.names()
