"""Every stored weight of the body is used, or the error names it and the key that would use it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors, write_tensor_bundle
from qingformer.errors import LONGEST, CheckpointError, ConfigError
from qingformer.models import Backbone, BackboneConfig, CausalLM, MaskedLM
from qingformer.models.family_registry import family_class
from tests.models import zoo
from tests.models.test_zoo_errors import refused

SIZES = {key: zoo.SIZES[key] for key in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")}
SMALL = {**SIZES, "num_hidden_layers": 1, "max_position_embeddings": 16}


@pytest.fixture(autouse=True)
def quick_start():
    with zoo.quick_start():
        yield


def saved(folder: Path, kind=Backbone, change=lambda arrays: arrays, settings=None, **options) -> Path:
    """A small model in Hugging Face's format whose tensors and settings were changed."""
    kind(BackboneConfig(**{**SMALL, **options})).save_pretrained(folder, format="huggingface")
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        arrays = {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}
    write_safetensors(folder / "model.safetensors", change(arrays))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **(settings or {})}))
    return folder


# --- weights that the configuration leaves out ------------------------------------------------------------------------

LLAMA = {"family": "llama", "num_key_value_heads": 1}
LEFT_OUT = {
    "biases": ({**LLAMA, "attention_bias": True, "attention_output_bias": True}, {"attention_bias": False},
               r"4 weights would stay unused \(model\.layers\.0\.self_attn\..*attention_\w*bias is"),
    "qwen2 as llama": ({**LLAMA, "attention_bias": True}, {"model_type": "llama", "attention_bias": False},
                       r"3 weights would stay unused \(.*_proj\.bias.*attention_bias is False.*attention_bias=True"),
    "qwen3 as llama": ({**LLAMA, "query_key_norm": True}, {"model_type": "llama"},
                       r"2 weights would stay unused \(.*[qk]_norm.*: pass query_key_norm=True"),
    "no segments": ({}, {"type_vocab_size": 0},
                    r"1 weights would stay unused \(bert\.embeddings\.token_type_embeddings.*type_vocab_size is 0"),
    "no positions": ({"family": "electra"}, {"position_embedding_type": "none"},
                     r"position_embeddings.*position_embedding_type is 'none', which leaves position_embedding"),
    "no biases": ({}, {"use_bias": False}, r"weights would stay unused \(.*use_bias is False"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_weight_of_the_body_that_the_configuration_leaves_out_is_an_error(case, tmp_path):
    options, settings, match = LEFT_OUT[case]
    folder = saved(tmp_path / "model", settings=settings, **options)
    refused(CheckpointError, match, Backbone.from_pretrained, folder)
    report = Backbone.from_pretrained(folder, strict=False).loading_report
    assert report.left_over


def test_what_the_caller_takes_out_may_stay_in_the_file(tmp_path):
    folder = saved(tmp_path / "model")
    report = Backbone.from_pretrained(folder, type_vocab_size=0).loading_report
    assert report.left_over == ["bert.embeddings.token_type_embeddings.weight"]


def test_a_bias_of_the_feed_forward_part_that_the_family_lacks(tmp_path):
    bias = {"model.layers.0.mlp.gate_proj.bias": np.ones(4, "float32")}
    folder = saved(tmp_path / "model", CausalLM, lambda arrays: arrays | bias, **LLAMA)
    refused(CheckpointError, r"1 weights belong to nothing .*gate_proj\.bias", CausalLM.from_pretrained, folder)


TABLES = {
    "RoFormer's sines": ({"family": "roformer"}, "encoder.embed_positions.weight", lambda a: 0.9 * a),
    "LLaMA's rates": (LLAMA, "model.layers.0.self_attn.rotary_emb.inv_freq", lambda a: a / 2),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_stored_table_is_what_the_model_computes_or_an_error(case, tmp_path):
    options, ending, other = TABLES[case]
    config = BackboneConfig(**{**SMALL, **options})
    right = next(iter(family_class(config.family).computed_tables(config).values()))[0].astype("float32")

    def stored(table):
        def change(arrays):
            name = next((name for name in arrays if name.endswith(ending)), ending)
            return arrays | {name: table}

        return saved(tmp_path / "model", change=change, **options)

    assert Backbone.from_pretrained(stored(right)).loading_report.left_over
    assert Backbone.from_pretrained(stored(right.astype("float16"))).loading_report.left_over
    folder = stored(other(right))
    refused(
        CheckpointError, rf"{re.escape(ending)} differs from the table of positions", Backbone.from_pretrained, folder
    )
    assert Backbone.from_pretrained(folder, strict=False).loading_report.left_over


def test_half_a_pooler_is_an_error_that_names_the_other_half(tmp_path):
    for half, missing in (("bias", "kernel"), ("weight", "bias")):
        folder = saved(tmp_path / half, change=lambda a, h=half: {n: x for n, x in a.items()
                                                                  if "pooler" not in n or n.endswith(h)})  # fmt: skip
        refused(CheckpointError, rf"1 weights are missing \(pooler/{missing}\)", Backbone.from_pretrained, folder)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bool"])
def test_integers_are_refused_by_name(dtype, tmp_path):
    name = "bert.encoder.layer.0.output.dense.weight"
    folder = saved(tmp_path / "model", change=lambda arrays: arrays | {name: np.ones(arrays[name].shape, dtype)})
    match = rf"{re.escape(name)} holds {dtype} numbers where the model has floats; quantised weights cannot be read"
    refused(CheckpointError, match, Backbone.from_pretrained, folder)


def test_numbers_that_are_not_finite_are_loaded_on_request_alone(tmp_path):
    name = "bert.pooler.dense.bias"
    folder = saved(tmp_path / "model", change=lambda arrays: arrays | {name: np.full(8, np.nan, "float32")})
    refused(
        CheckpointError, rf"tensor {re.escape(name)} holds 8 numbers that are not", Backbone.from_pretrained, folder
    )
    weights = Backbone.from_pretrained(folder, verify=False).weight_arrays()
    assert np.isnan(weights["pooler/bias"]).all()


def test_a_flipped_bit_of_a_tensorflow_checkpoint_never_loads_unless_asked(tmp_path):
    Backbone(BackboneConfig(**SMALL)).save_pretrained(tmp_path, format="tensorflow")
    data = tmp_path / "bert_model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2 + 3] ^= 0x40
    data.write_bytes(bytes(content))
    refused(CheckpointError, "damaged: its bytes in .* do not match their checksum", Backbone.from_pretrained, tmp_path)
    assert Backbone.from_pretrained(tmp_path, verify=False).loading_report.loaded


# --- tied tables under their other name -------------------------------------------------------------------------------

WORDS = "bert.embeddings.word_embeddings.weight"
TIED = {
    "bert": (MaskedLM, {}, WORDS, "cls.predictions.decoder.weight"),
    "bias": (MaskedLM, {}, "cls.predictions.bias", "cls.predictions.decoder.bias"),
    "albert": (MaskedLM, {"family": "albert", "embedding_size": 4}, "albert.embeddings.word_embeddings.weight",
               "predictions.decoder.weight"),
    "generator": (MaskedLM, {"family": "electra", "generator": True}, "electra.embeddings.word_embeddings.weight",
                  "generator_lm_head.weight"),
    "roformer": (MaskedLM, {"family": "roformer"}, "roformer.embeddings.word_embeddings.weight",
                 "cls.predictions.decoder.weight"),
    "gpt": (CausalLM, {"family": "gpt", "type_vocab_size": 0, "hidden_act": "gelu_new"},
            "transformer.tokens_embed.weight", "lm_head.weight"),
    "gpt2": (CausalLM, {"family": "gpt2", "hidden_act": "gelu_new"}, "transformer.wte.weight", "lm_head.weight"),
    "llama": (CausalLM, {**LLAMA, "tie_word_embeddings": True}, "model.embed_tokens.weight", "lm_head.weight"),
}  # fmt: skip


@pytest.mark.parametrize("case", TIED)
def test_a_tied_table_under_its_other_name_is_used_or_compared(case, tmp_path):
    kind, options, name, copy = TIED[case]
    folder = saved(tmp_path / "one", kind, lambda a: {copy if n == name else n: x for n, x in a.items()}, **options)
    both = saved(tmp_path / "both", kind, lambda a: a | {copy: a[name]}, **options)
    apart = saved(tmp_path / "apart", kind, lambda a: a | {copy: a[name] + 1}, **options)
    with open_checkpoint(folder) as checkpoint:
        assert name not in checkpoint.names()
        wanted = checkpoint.read(copy)
    model = kind.from_pretrained(folder)
    path = "mlm_bias/bias" if case == "bias" else "token_embedding/embeddings"
    np.testing.assert_array_equal(model.weight_arrays()[path], wanted)
    assert kind.from_pretrained(both).loading_report.copies == {copy: name}
    refused(CheckpointError, f"{copy} should be a copy of {name} but differs", kind.from_pretrained, apart)
    assert copy in Backbone.from_pretrained(apart, **({"generator": True} if case == "generator" else {})
                                            ).loading_report.left_over  # fmt: skip


# --- prefixes and names of other programs -----------------------------------------------------------------------------

PREFIXES = ["module.", "_orig_mod.", "bert_model.", "model.", "encoder.", "0.auto_model.", "module.model.", "a.b/"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off(prefix, tmp_path):
    plain = saved(tmp_path / "plain", MaskedLM)
    folder = saved(tmp_path / "model", MaskedLM, lambda arrays: {prefix + name: a for name, a in arrays.items()})
    model = MaskedLM.from_pretrained(folder)
    assert model.loading_report.prefix == prefix
    assert not model.loading_report.unknown
    with open_checkpoint(folder) as checkpoint:
        table = checkpoint.read(prefix + WORDS)
    np.testing.assert_array_equal(model.weight_arrays()["token_embedding/embeddings"], table)
    assert MaskedLM.from_pretrained(plain).loading_report.prefix == ""


WRAPPERS = {
    "fsdp": lambda name: "_fsdp_wrapped_module." + name.replace(".layer.0.", ".layer.0._fsdp_wrapped_module."),
    "compiled part": lambda name: name.replace(".encoder.", ".encoder._orig_mod."),
    "activation checkpointing": lambda name: name.replace(
        "attention.self", "_checkpoint_wrapped_module.attention.self"
    ),
}


@pytest.mark.parametrize("case", WRAPPERS)
def test_wrappers_within_names_are_taken_off(case, tmp_path):
    folder = saved(tmp_path / "model", change=lambda arrays: {WRAPPERS[case](name): a for name, a in arrays.items()})
    report = Backbone.from_pretrained(folder).loading_report
    assert [*report.missing, *report.unknown, *report.left_over] == []


def test_two_tensors_of_one_name_without_its_wrappers_are_not_mixed(tmp_path):
    twice = lambda arrays: {**arrays, "bert._orig_mod.pooler.dense.bias": np.ones(8, "float32")}  # noqa: E731
    match = r"1 weights belong to nothing in this model \(bert\._orig_mod\.pooler\.dense\.bias\)"
    refused(CheckpointError, match, Backbone.from_pretrained, saved(tmp_path / "model", change=twice))


def test_buffers_of_positions_segments_and_counters_stay_in_the_file(tmp_path):
    buffers = {f"bert.embeddings.{kind}_ids": np.zeros((1, 16), "int64") for kind in ("position", "token_type")}
    buffers |= {"n_averaged": np.array([3]), "norm.num_batches_tracked": np.array([3])}
    report = Backbone.from_pretrained(saved(tmp_path / "model", change=lambda a: {**a, **buffers})).loading_report
    assert sorted(report.left_over) == sorted(buffers)


LOOK_ALIKES = {
    "model type": ({}, {"model_type": "xlm-roberta", "architectures": None}, "bert", "'xlm-roberta', which counts pos"),
    "class": ({}, {"model_type": None, "architectures": ["RobertaForMaskedLM"]}, None, "'RobertaForMaskedLM', which"),
    "gemma": (LLAMA, {"model_type": "gemma", "architectures": ["GemmaForCausalLM"]}, "llama", "adds 1 to the gain"),
    "a window": (LLAMA, {"model_type": "mistral", "sliding_window": 4}, "llama",
                 "sliding_window is 4, but .*write null in its place if no text will have more than 4 tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOOK_ALIKES)
def test_files_that_fit_a_family_in_their_names_alone_are_refused(case, tmp_path):
    options, settings, family, match = LOOK_ALIKES[case]
    refused(ConfigError, match, Backbone.from_pretrained, saved(tmp_path / "model", settings=settings, **options),
            family=family)  # fmt: skip


def test_files_of_berts_class_are_berts_whatever_their_type(tmp_path):
    folder = saved(tmp_path / "model", settings={"model_type": "roberta", "architectures": ["BertForMaskedLM"]})
    assert Backbone.from_pretrained(folder, family="bert").config.family == "bert"
    for settings in ({"sliding_window": None}, {"sliding_window": 64}, {"model_type": "qwen2", "sliding_window": 4}):
        whole = {"model_type": "mistral", **settings, "max_position_embeddings": 64}
        values = {**SMALL, "rms_norm_eps": 1e-6, **whole}
        assert BackboneConfig.from_dict(values, family="llama").max_position_embeddings == 64


def test_a_body_without_its_word_in_a_model_of_ones_own_with_a_head(tmp_path):
    def wrapped(arrays):
        body = {f"net.bert_model.{name.removeprefix('bert.')}": array for name, array in arrays.items()}
        return body | {"net.classifier.weight": np.ones((2, 8), "float32")}

    report = Backbone.from_pretrained(saved(tmp_path / "model", change=wrapped)).loading_report
    assert report.left_over == ["net.classifier.weight"]
    assert not report.unknown


@pytest.mark.parametrize("word", ["roberta", "electra", "ernie"])
def test_the_word_of_another_architecture_is_no_prefix(word, tmp_path):
    folder = saved(tmp_path / "model", change=lambda a: {n.replace("bert.", f"{word}."): x for n, x in a.items()})
    match = rf"none of the model's weights is there; the file has {word}\."
    refused(CheckpointError, match, Backbone.from_pretrained, folder, family="bert")


def test_two_bodies_in_one_file_are_not_mixed(tmp_path):
    folder = saved(
        tmp_path / "model", change=lambda a: {f"{s}.{n}": x for s in ("left", "right") for n, x in a.items()}
    )
    refused(CheckpointError, r"\d+ weights belong to nothing in this model \(right\.", Backbone.from_pretrained, folder)


STRANGE = {
    "layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE": "Keras' save_weights",
    "dense_3/kernel": "names that Keras gives to layers without one",
    "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight": "adapters of peft; load_adapters",
    "encoder.0.qweight": "quantised weights",
    "a": "is it another family's checkpoint",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_stand_beside_the_wanted_ones_with_what_they_look_like(name, tmp_path):
    folder = saved(tmp_path / "model", change=lambda arrays: {name: np.ones(2, "float32")})
    with pytest.raises(CheckpointError) as problem:
        Backbone.from_pretrained(folder)
    message = str(problem.value)
    assert STRANGE[name] in message
    assert name[:12] in message
    assert "bert.embeddings" in message
    assert len(message) <= LONGEST


def test_numbered_norms_of_keras_in_a_tensorflow_checkpoint(tmp_path):
    model = Backbone(BackboneConfig(**SMALL))
    model.save_pretrained(tmp_path, format="tensorflow")
    with open_checkpoint(tmp_path) as checkpoint:
        arrays = {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}
    norms = iter(range(100))
    names = {name.rpartition("/")[0]: f"layer_normalization_{next(norms)}" for name in arrays if "LayerNorm" in name}
    arrays = {n.replace("LayerNorm", names.get(n.rpartition("/")[0], "")): x for n, x in arrays.items()}
    write_tensor_bundle(tmp_path / "bert_model.ckpt", arrays)
    zoo.same(Backbone.from_pretrained(tmp_path).weight_arrays(), model.weight_arrays())


def test_an_output_that_is_not_stored_may_be_the_token_table(tmp_path):
    tied = {"tie_word_embeddings": False}
    folder = saved(tmp_path / "model", CausalLM, settings=tied, **{**LLAMA, "tie_word_embeddings": True})
    match = r"1 weights are missing \(lm_head/kernel\); pass tie_word_embeddings=True if .* table, strict=False starts"
    refused(CheckpointError, match, CausalLM.from_pretrained, folder)
    assert CausalLM.from_pretrained(folder, tie_word_embeddings=True).loading_report.missing == []


SHAPES = {
    "zero": ({}, "bert.pooler.dense.weight", (0,), r"is empty where pooler/kernel needs \(8, 8\); DeepSpeed's ZeRO-3"),
    "flat": (
        {"family": "gpt2"},
        "transformer.h.0.attn.c_attn.weight",
        (190,),
        r"has shape \(190,\), out of which block_0",
    ),
    "parts": (
        {"family": "gpt2"},
        "transformer.h.0.attn.c_attn.bias",
        (23,),
        r"has shape \(23,\), out of which block_0",
    ),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_shape_that_cannot_be_laid_out_is_named(case, tmp_path):
    options, name, shape, match = SHAPES[case]
    folder = saved(tmp_path / "model", change=lambda arrays: {**arrays, name: np.ones(shape, "float32")}, **options)
    refused(CheckpointError, match, Backbone.from_pretrained, folder)


# --- keys of the configuration ----------------------------------------------------------------------------------------


def test_unknown_keys_are_one_short_line_and_may_be_passed_over(tmp_path):
    strange = {f"zzz_{i}": i for i in range(50)}
    folder = saved(tmp_path / "model", settings=strange)
    match = (
        r"config\.json: unknown key zzz_0, zzz_1, zzz_2, zzz_3, zzz_4 and 45 more; correct it, or pass .*strict=False"
    )
    refused(ConfigError, match, Backbone.from_pretrained, folder)
    report = Backbone.from_pretrained(folder, strict=False).loading_report
    assert report.unknown_keys == list(strange)
    refused(ConfigError, "quantization_config is", Backbone.from_pretrained,
            saved(tmp_path / "int8", settings={"quantization_config": {"load_in_8bit": True}}))  # fmt: skip


def test_a_near_name_and_the_way_past_it_are_both_told():
    match = r"unknown key emb_size; did you mean embedding_size\? strict=False passes over it"
    refused(ConfigError, match, BackboneConfig.from_dict, {**SMALL, "emb_size": 8})
    assert BackboneConfig.from_dict({**SMALL, "ln_type": "postln"}) == BackboneConfig.from_dict(SMALL)
    refused(ConfigError, "ln_type is 'preln', which", BackboneConfig.from_dict, {**SMALL, "ln_type": "preln"})


HARMLESS = """max_sequence_length unsloth_version unsloth_fixed transformers.js_config num_choices
    decoder_start_token_id tie_encoder_decoder xla_device sbert_ce_default_activation_function
    sentence_transformers _commit_hash summary_type loss_type use_return_dict image_token_id""".split()


@pytest.mark.parametrize("key", HARMLESS)
def test_keys_that_change_no_number_are_accepted(key):
    for value in (None, 3, "x", {"a": 1}):
        assert BackboneConfig.from_dict({**SMALL, key: value}) == BackboneConfig.from_dict(SMALL)


def test_a_report_is_one_line_and_its_details_have_the_names(tmp_path):
    report = Backbone.from_pretrained(saved(tmp_path / "model", MaskedLM)).loading_report
    assert repr(report) == f"<LoadingReport {report.summary()}; details() has the names>"
    assert str(report) == repr(report)
    assert "\n" not in repr(report)
    assert "  cls.predictions.bias" in report.details().splitlines()
