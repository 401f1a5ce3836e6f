"""The models equal the numbers of bert4keras 0.11.5, read from its own TensorFlow checkpoints."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from qingformer.models import (
    Backbone,
    CausalLM,
    MaskedLM,
    NextSentencePrediction,
    PreTraining,
    ReplacedTokenDetection,
    Similarity,
)

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras"
CASES = sorted(
    folder.name for folder in FIXTURES.iterdir() if (folder / "builds.json").exists() and "t5" not in folder.name
)
BUILDS = [
    (case, build) for case in CASES for build in json.loads((FIXTURES / case / "builds.json").read_text())["builds"]
]
# Quirks of the original that this package leaves behind, each checked by a test of its own below: the original hands
# only the last layer's scores on, and masks positions whose segment id is 0 when segments share the token table.
LEFT_BEHIND = {("bert", "residual_attention_scores_3_layers"), ("bert_shared_segments", "zero_segment_quirk")}


def options_of(build: dict) -> dict:
    """The arguments of `from_pretrained` that say what the original's arguments said."""
    kwargs = build["kwargs"]
    names = {
        "segment_vocab_size": "type_vocab_size",
        "layer_norm_cond_size": "condition_size",
        "layer_norm_cond_hidden_size": "condition_hidden_size",
        "layer_norm_cond_hidden_act": "condition_hidden_act",
        "autoresize_weights": "autoresize",
    }
    heads = ("with_", "final_activation")
    options = {names.get(key, key): value for key, value in kwargs.items() if not key.startswith(heads)}
    if not build["model"].startswith("bert"):
        options["family"] = build["model"].removesuffix("_unshared")
    if build["model"] == "albert_unshared":
        options["share_blocks"] = False
    if options.get("hierarchical_position") is True:
        options["hierarchical_position"] = 0.4
    if "compound_tokens" in options:
        options["compound_tokens"] = [
            item["ids"] if item["weights"] is None else (item["ids"], item["weights"])
            for item in options["compound_tokens"]
        ]
    if isinstance(kwargs.get("with_pool"), str):
        options["pooler_act"] = kwargs["with_pool"]
    if build.get("gelu") == "tanh":
        options["hidden_act"] = "gelu_new"
    if "application" in build:
        options["application"] = build["application"]
    return options


def class_of(build: dict) -> type:
    kinds = {name.split("_")[0] for name in build["outputs"]}
    if kinds == {"pooled", "lm"}:
        return Similarity
    if kinds == {"replaced"}:
        return ReplacedTokenDetection
    if kinds == {"nsp", "mlm"}:
        return PreTraining
    if kinds == {"nsp"}:
        return NextSentencePrediction
    if "lm" in kinds:
        return CausalLM
    return MaskedLM if "mlm" in kinds else Backbone


def load(case: str, build: dict):
    model = class_of(build).from_pretrained(FIXTURES / case / "model.ckpt", **options_of(build))
    extra = FIXTURES / case / "extra_weights.npz"
    if build["weights_outside_checkpoint"]:
        assign_condition_weights(model, np.load(extra))
    return model


def assign_condition_weights(model, arrays) -> None:
    """The projections of conditional norms are in no checkpoint: order hidden (if any), offset, gain."""
    variables = model.named_variables()
    hidden = any(key.split("/")[1] == "4" for key in arrays)
    parts = ["hidden", "beta", "gamma"] if hidden else ["beta", "gamma"]
    for key in arrays:
        layer, index = key.split("/")[:2]
        path = layer.replace("Embedding-Norm", "embeddings_norm").replace("MLM-Norm", "mlm_norm")
        if path.startswith("Transformer"):
            number, kind = path.split("-")[1:3]
            part = "attention_norm" if kind == "MultiHeadSelfAttention" else "feed_forward_norm"
            path = f"block_{number}/{part}"
        path = f"{path}/condition_{parts[int(index) - 2]}/kernel"
        if path in variables:
            variables[path].assign(arrays[key])


def outputs_of(model, build: dict, inputs: dict) -> dict:
    result = model(inputs)
    if not isinstance(result, dict):
        heads = [name for name in build["outputs"] if name != "pooled_output"]
        result = {heads[0].split("_")[0]: result, **model.backbone(inputs)}
    else:
        renamed = {"mlm_logits": "mlm", "next_sentence_logits": "nsp", "lm_logits": "lm"}
        result = {renamed.get(key, key): value for key, value in result.items()}
        if "sentence_embedding" in result:
            result |= model.backbone(inputs)
    found = {}
    for name in build["outputs"]:
        value = result[name] if name in result else result[name.split("_")[0]]
        if name.startswith("replaced"):
            value = ops.expand_dims(ops.sigmoid(value) if name.endswith("probabilities") else value, -1)
        elif name.endswith("probabilities"):
            value = ops.softmax(value)
        found[name] = ops.convert_to_numpy(value)
    return found


@pytest.mark.parametrize(("case", "build"), BUILDS, ids=[f"{case}-{build['name']}" for case, build in BUILDS])
def test_equals_the_original(case, build):
    model = load(case, build)
    arrays = np.load(FIXTURES / case / f"{build['name']}.npz")
    inputs = {name: arrays[name] for name in build["inputs"]}
    valid = arrays["valid"]
    found = outputs_of(model, build, inputs)
    for name in build["outputs"]:
        expected = arrays[name]
        there, wanted = (found[name][valid], expected[valid]) if expected.ndim == 3 else (found[name], expected)
        difference = np.abs(there - wanted).max()
        if (case, build["name"]) in LEFT_BEHIND:
            assert difference > 1e-3
        else:
            assert difference < 2e-5, f"{name} differs by {difference}"


WITH_LAYERS = [(case, build) for case, build in BUILDS if build.get("layers")]


@pytest.mark.parametrize(("case", "build"), WITH_LAYERS, ids=[f"{case}-{build['name']}" for case, build in WITH_LAYERS])
def test_every_layer_equals_the_original(case, build):
    model = load(case, build)
    model = getattr(model, "backbone", model)
    arrays = np.load(FIXTURES / case / f"{build['name']}.npz")
    names = list(build["layers"])
    ours = {key: "embeddings_norm" if key == "embedding_norm" else key.replace("layer", "block") for key in names}
    cut = keras.Model(model.inputs, [model.get_layer(ours[key]).output for key in names])
    inputs = model.complete_inputs({key: arrays[key] for key in build["inputs"]})
    values = cut([inputs[tensor.name] for tensor in model.inputs])
    for key, value in zip(names, values):
        there, wanted = ops.convert_to_numpy(value)[arrays["valid"]], arrays[key][arrays["valid"]]
        np.testing.assert_allclose(there, wanted, atol=2e-5, rtol=0)


def test_every_recorded_model_is_there():
    families = "albert bert electra gau_alpha gpt gpt2 gpt2_ml nezha roformer roformer_v2".split()
    assert set(families) <= set(CASES)
    assert len(BUILDS) > 70
