"""The family of a model is found from its files: keys, model type, names of weights; and it can be said outright."""

import json

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_tensor_bundle
from qingformer.checkpoints.weight_map import save_rows
from qingformer.errors import ConfigError
from qingformer.json_files import read_json
from qingformer.models import Backbone, BackboneConfig, MaskedLM, PreTraining
from qingformer.models.family_registry import family_class, family_of
from qingformer.models.inspection import inspect
from qingformer.models.shapes import weight_shapes
from tests.models import zoo
from tests.references.albert_brightmart import forward as brightmart

KEYS = [
    ({}, "bert"),
    ({"vocab_size": 100}, "bert"),
    ({"num_hidden_groups": 1}, "albert"),
    ({"use_relative_position": True, "model_type": "bert"}, "nezha"),
    ({"use_relative_position": False, "model_type": "bert"}, "bert"),
    ({"max_relative_position": 64}, "nezha"),
    ({"n_ctx": 1024, "n_embd": 8, "n_vocab": 9}, "gpt2"),
    ({"n_ctx": 512, "n_embd": 8, "afn": "gelu"}, "gpt"),
    ({"n_ctx": 512, "model_type": "openai-gpt", "afn": "gelu"}, "gpt"),
    ({"n_ctx": 1024, "model_type": "gpt2"}, "gpt2"),
    ({"model_type": "qwen2"}, "llama"),
    ({"model_type": "qwen3"}, "llama"),
    ({"model_type": "mt5"}, "t5"),
    ({"model_type": "ernie", "use_task_id": True}, "ernie"),
    ({"model_type": "modernbert", "global_attn_every_n_layers": 3}, "modernbert"),
    ({"model_type": "roformer-v2"}, "roformer_v2"),
    ({"model_type": "gau-alpha"}, "gau_alpha"),
    *(({"model_type": family}, family) for family in zoo.PLAIN),
    *(({"family": family, "model_type": "bert"}, family) for family in zoo.PLAIN),
]


@pytest.mark.parametrize(("values", "family"), KEYS, ids=[json.dumps(values) for values, _ in KEYS])
def test_keys_tell_the_family(values, family):
    assert family_of(values, "config.json") == family


# What the names of the weights alone say where that is not the family itself: SimBERT and T-TA are BERT to the last
# name, RoFormer-Sim is RoFormer, and Hugging Face files of RoFormerV2 begin like RoFormer's.
ALIKE = {
    ("simbert", "tensorflow"): "bert",
    ("simbert", "huggingface"): "bert",
    ("tta", "tensorflow"): "bert",
    ("tta", "huggingface"): "bert",
    ("roformer_sim", "huggingface"): "roformer",
    ("roformer_v2", "huggingface"): "roformer",
}
WITHOUT_TABLE = [("nezha", "tensorflow"), ("roformer", "tensorflow"), ("roformer_sim", "tensorflow")]
STORED = [(name, layout) for name, entry in zoo.TABLE.items() for layout in entry.formats if layout != "qingformer"]


def stored_names(name: str, layout: str) -> list[str]:
    """The names under which a model of the table is stored."""
    entry = zoo.TABLE[name]
    shapes = weight_shapes([zoo.class_of(entry.head)], entry.config())[0]
    arrays = ((path, np.zeros(shape, "float32")) for path, shape in shapes.items())
    return list(save_rows(family_class(entry.family).weight_map(entry.config()), layout, arrays))


@pytest.mark.parametrize(("name", "layout"), STORED)
def test_names_of_weights_tell_the_family(name, layout):
    family, names = zoo.TABLE[name].family, stored_names(name, layout)
    if (family, layout) in WITHOUT_TABLE:
        with pytest.raises(ConfigError) as problem:
            family_of({}, "model.ckpt", names)
        assert str(problem.value) == (
            "model.ckpt: weights without a table of positions are RoFormer's or NEZHA's, and nothing tells which; "
            "pass family='roformer' or family='nezha'"
        )
    else:
        assert family_of({}, "model.ckpt", names) == ALIKE.get((family, layout), family)


def without_marks(folder):
    """The configuration of a saved model as the original's files have it: nothing names the family."""
    values = read_json(folder / "bert_config.json", ConfigError)
    (folder / "bert_config.json").write_text(json.dumps({key: values[key] for key in values if key != "model_type"}))
    return folder


def test_a_family_that_files_do_not_tell_can_be_said(tmp_path):
    model = zoo.make("roformer_sim")
    model.save_pretrained(tmp_path / "model", format="tensorflow")
    without_marks(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"bert_config\.json: weights without a table.*pass family='roformer' or"):
        type(model).from_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model", family="roformer_sim")
    zoo.same(zoo.run(again), zoo.run(model))
    other = type(model).from_pretrained(tmp_path / "model", family="roformer", application="unilm")
    assert zoo.distance(zoo.run(other), zoo.run(model)) > 1e-3  # its pooler is not linear


@pytest.mark.parametrize("name", ["albert", "electra", "gau_alpha", "gpt2", "gpt2_ml", "roformer_v2", "t5"])
def test_the_family_is_found_without_any_key_of_its_own(name, tmp_path):
    model = zoo.make(name)
    model.save_pretrained(tmp_path / "model", format="tensorflow")
    again = type(model).from_pretrained(without_marks(tmp_path / "model"))
    assert again.config == model.config


@pytest.mark.parametrize("key", ["family", "model_type"])
def test_an_unknown_family_lists_the_known_ones(key):
    with pytest.raises(ConfigError) as problem:
        family_of({key: "xlnet"}, "config.json")
    families = ", ".join(sorted(zoo.PLAIN))
    assert str(problem.value) == f"config.json: 'xlnet' is not a family of this package; known are {families}"


# --- brightmart's ALBERT ----------------------------------------------------------------------------------------------


def brightmart_names(name: str) -> str:
    """A name of Google's ALBERT under brightmart's."""
    renamed = {
        "transformer/group_0/inner_group_0/attention_1/": "layer_shared/attention/",
        "transformer/group_0/inner_group_0/LayerNorm_1/": "layer_shared/output/LayerNorm/",
        "transformer/group_0/inner_group_0/LayerNorm/": "layer_shared/attention/output/LayerNorm/",
        "transformer/group_0/inner_group_0/ffn_1/intermediate/output/": "layer_shared/output/",
        "transformer/group_0/inner_group_0/ffn_1/": "layer_shared/",
    }
    for theirs, new in renamed.items():
        name = name.replace(theirs, new)
    return name


@pytest.fixture(scope="module")
def tiny_brightmart(tmp_path_factory):
    """A folder as brightmart's: names, and a configuration without a mark of the family."""
    folder = tmp_path_factory.mktemp("brightmart")
    model = zoo.make("albert, brightmart", "PreTraining", num_hidden_layers=3)
    stored = save_rows(model.weight_map(model.config), "tensorflow", model.weight_arrays().items())
    stored = {brightmart_names(name): array for name, array in stored.items()}
    assert "bert/embeddings/word_embeddings_2" in stored
    assert "bert/encoder/layer_shared/intermediate/dense/kernel" in stored
    write_tensor_bundle(folder / "albert_model.ckpt", stored)
    config = {key: value for key, value in zoo.SIZES.items() if not key.endswith("_prob")}
    config |= {"num_hidden_layers": 3, "embedding_size": 6, "type_vocab_size": 2, "ln_type": "postln"}
    (folder / "albert_config_tiny.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    return folder


def test_brightmart_files_are_found_and_equal_the_numpy_forward(tiny_brightmart):
    model = PreTraining.from_pretrained(tiny_brightmart)
    assert model.config.family == "albert"
    assert model.config.project_tokens
    inputs = zoo.inputs_of(model)
    with open_checkpoint(tiny_brightmart / "albert_model.ckpt") as checkpoint:
        weights = {name: checkpoint.read(name) for name in checkpoint.names()}
    config = read_json(tiny_brightmart / "albert_config_tiny.json", ConfigError)
    wanted = brightmart(weights, config, **inputs)
    kept = inputs["padding_mask"].astype(bool)
    found = zoo.values(model(inputs)) | zoo.values(model.backbone(inputs))
    for name in ("sequence_output", "mlm_logits"):
        np.testing.assert_allclose(found[name][kept], wanted[name][kept], rtol=0, atol=2e-5, err_msg=name)
    for name in ("pooled_output", "next_sentence_logits"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=2e-5, err_msg=name)


def test_brightmart_files_load_unshared_and_are_kept_in_our_format(tiny_brightmart, tmp_path):
    shared = MaskedLM.from_pretrained(tiny_brightmart)
    wanted = zoo.run(shared)
    apart = MaskedLM.from_pretrained(tiny_brightmart, share_blocks=False)
    assert "block_2/attention/query/kernel" in apart.named_variables()
    zoo.same(zoo.run(apart), wanted, atol=1e-6)
    shared.save_pretrained(tmp_path / "ours")
    zoo.same(zoo.run(MaskedLM.from_pretrained(tmp_path / "ours")), wanted)


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "family", "head"),
    [("albert_tiny_zh", "albert", "pretraining"), ("albert_tiny_zh_google", "albert", "pretraining"),
     ("t5_1_1_tiny", "t5", "seq2seq")],
)  # fmt: skip
def test_real_lists_of_variables_match_in_names_and_shapes(folder, family, head, shared, tmp_path):
    source = shared / "vocab" / "ckpt_index" / folder
    if family == "t5":  # its settings are in another language: the same ones as a configuration
        values = {"vocab_size": 32128, "d_model": 32, "d_kv": 64, "d_ff": 64, "num_heads": 2, "num_layers": 2}
        (tmp_path / "config.json").write_text(json.dumps(values | {"feed_forward_proj": "gated-gelu"}))
        (tmp_path / "model.ckpt.index").write_bytes((source / "model.ckpt-0.index").read_bytes())
        source = tmp_path
    stored = inspect(str(source))
    assert stored.family == family
    role = stored.best
    assert (role.head, role.complete) == (head, True)
    assert role.report.missing == role.report.left_over == role.report.unknown == []
    assert len(role.report.loaded) == len(stored.tensors)
    assert stored.config.project_tokens == (folder == "albert_tiny_zh")


# Files whose keys do not name the family, as it must then be said where no weights do.
UNMARKED = {"albert_zh": "albert", "gpt2_ml": "gpt2_ml", "chinese_roformer-sim": "roformer_sim",
            "chinese_roformer-v2": "roformer_v2", "albert_tiny_zh/": "albert"}  # fmt: skip
MARKED = {"albert": "albert", "bert": "bert", "electra": "electra", "gau_alpha": "gau_alpha", "nezha": "nezha",
          "roformer_base": "roformer", "t5_pegasus": "t5", "wobert": "bert"}  # fmt: skip
LINGUISTIC = ("vocab.json", "keep_tokens.json")


@pytest.mark.shared
def test_every_real_configuration_belongs_to_its_family_and_builds(shared):
    root, seen = shared / "vocab", set()
    files = [file for file in sorted(root.rglob("*.json")) if not file.name.endswith(LINGUISTIC)]
    assert len(files) > 30
    for file in files:
        name, values = str(file.relative_to(root)), read_json(file, ConfigError)
        if name.startswith("uer_configs"):
            with pytest.raises(ConfigError, match="unknown key emb_size, feedforward_size, heads_num"):
                BackboneConfig.from_dict(values, name, family=family_of(values, name))
            continue
        found = family_of(values, name)
        unmarked = next((family for start, family in UNMARKED.items() if start in name), None)
        start = name.removeprefix("ckpt_index/")
        family = unmarked or next(family for key, family in MARKED.items() if start.startswith(key))
        assert found in (family, "bert" if unmarked else family), name
        if values.get("ln_type") == "preln":
            with pytest.raises(ConfigError, match=rf"{name}: ln_type is 'preln', which this family does not have"):
                BackboneConfig.from_dict(values, name, family=family)
            continue
        config = BackboneConfig.from_dict(values, name, family=family)
        assert config.vocab_size == values["vocab_size"]
        head = zoo.class_of(zoo.TABLE[family].head if family != "electra" else "Backbone")
        shapes = weight_shapes([Backbone, head], config.replace(num_hidden_layers=2, num_decoder_layers=None))
        assert shapes[0]["token_embedding/embeddings"] == (config.vocab_size, config.width_of_embeddings)
        assert set(shapes[0]) <= set(shapes[1])
        seen.add(family)
    assert seen == {*MARKED.values(), *UNMARKED.values()}
