"""T5 in its three roles: recorded numbers, formats, masks, training, errors."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import qingformer as qf
from qingformer import backend
from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.checkpoints.loader import Loader
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models import T5, Backbone, BackboneConfig, CausalLM, MaskedLM, Seq2SeqLM
from tests.models import random_models
from tests.models.random_models import numpy
from tests.tasks import helpers

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras"
CASES = ["t5_1_0", "t5_1_1", "mt5_1_1"]
BUILDS = [
    (case, build) for case in CASES for build in json.loads((FIXTURES / case / "builds.json").read_text())["builds"]
]
GATED = {"hidden_act": ("gelu_new", "linear"), "tie_word_embeddings": False}
FORMATS = ["qingformer", "huggingface", "tensorflow"]


def made(kind: type = Seq2SeqLM, application: str = "seq2seq", **options):
    return random_models.build(kind, "t5", application=application, attention_head_size=5, **options)


def sample(seed: int = 0, source: int = 7, target: int = 5, rows: int = 2) -> dict[str, np.ndarray]:
    """Rows without padding; the targets begin with the id of padding, as T5's do."""
    generator = np.random.default_rng(seed)
    inputs = {
        "token_ids": generator.integers(1, 29, (rows, source)).astype("int32"),
        "decoder_token_ids": generator.integers(1, 29, (rows, target)).astype("int32"),
    }
    inputs["decoder_token_ids"][:, 0] = 0
    return inputs


def changed(array: np.ndarray, position: int) -> np.ndarray:
    """Another token at that position of every row."""
    array = array.copy()
    array[:, position] = array[:, position] % 28 + 1
    return array


def same_weights(model, other) -> None:
    there, wanted = other.weight_arrays(), model.weight_arrays()
    assert set(there) == set(wanted)
    for path in wanted:
        np.testing.assert_array_equal(there[path], wanted[path], err_msg=path)


# --- the numbers of bert4keras ----------------------------------------------------------------------------------------


def options_of(build: dict) -> dict:
    """The original biases the cross attention unless told otherwise, and scales the decoder's output always."""
    kwargs = build["kwargs"]
    options = {"cross_position_bias": kwargs.get("cross_position_bias", True), "scale_decoder_output": True}
    if "keep_tokens" in kwargs:
        options["keep_tokens"] = kwargs["keep_tokens"]
    if build.get("gelu") == "tanh":
        options["hidden_act"] = ["gelu_new", "linear"]
    half = build["model"].rpartition("_")[2]
    return {**options, "application": half if half in ("encoder", "decoder") else "seq2seq"}


@pytest.mark.parametrize(("case", "build"), BUILDS, ids=[f"{case}-{build['name']}" for case, build in BUILDS])
def test_equals_the_original(case, build):
    name = build["outputs"][0]
    kind = Backbone if name in ("encoder_sequence_output", "decoder_scaled_hidden") else Seq2SeqLM
    model = kind.from_pretrained(FIXTURES / case / "model.ckpt", **options_of(build))
    arrays = np.load(FIXTURES / case / f"{build['name']}.npz")
    found = model({key.removeprefix("encoder_"): arrays[key] for key in build["inputs"]})
    found = numpy(found["sequence_output"] if kind is Backbone else found)
    if name == "decoder_scaled_hidden":
        found = found * model.config.hidden_size**-0.5
    if name == "decoder_probabilities":
        found = numpy(ops.softmax(found))
    tolerance = {"encoder_sequence_output": 2e-5, "decoder_probabilities": 1e-6}.get(name, 5e-6)
    difference = np.abs(found - arrays[name])[arrays["valid"]].max()
    assert difference < tolerance, f"{name} differs by {difference}"


def test_every_recorded_build_is_there():
    assert len(BUILDS) == 25
    assert "hidden_given_context" in " ".join(build["name"] for _, build in BUILDS)


@pytest.mark.parametrize("part", ["cross_position_bias", "scale_decoder_output"])
def test_what_the_original_does_otherwise_than_the_official_models_matters(part):
    arrays = np.load(FIXTURES / "t5_1_1" / "logits.npz")
    options = {"cross_position_bias": True, "scale_decoder_output": True, part: False}
    model = Seq2SeqLM.from_pretrained(FIXTURES / "t5_1_1" / "model.ckpt", **options)
    found = model({"token_ids": arrays["encoder_token_ids"], "decoder_token_ids": arrays["decoder_token_ids"]})
    assert np.abs(numpy(found) - arrays["decoder_logits"])[arrays["valid"]].max() > 1e-3


# --- formats ----------------------------------------------------------------------------------------------------------

KINDS = {
    "tied": (Seq2SeqLM, {}),
    "untied": (Seq2SeqLM, {**GATED, "num_decoder_layers": 1, "relative_attention_num_buckets": 10}),
    "tied_unscaled": (Seq2SeqLM, {"scale_decoder_output": False, "hidden_act": ("gelu", "linear")}),
    "body": (Backbone, {}),
    "encoder": (Backbone, {"application": "encoder", "num_hidden_layers": 1}),
    "decoder": (Backbone, {"application": "decoder", "num_hidden_layers": 1}),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded_bit_for_bit(kind, format, tmp_path):
    cls, options = KINDS[kind]
    model = made(cls, **options)
    if (kind, format) == ("decoder", "huggingface"):
        with pytest.raises(ConfigError, match="application 'decoder' has no place in the huggingface format"):
            model.save_pretrained(tmp_path / "model", format=format)
        return
    model.save_pretrained(tmp_path / "model", format=format)
    again = cls.from_pretrained(tmp_path / "model")
    same_weights(model, again)
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    assert again.config.replace(**dropout) == model.config
    report = again.loading_report
    assert report.missing + report.left_over + report.unknown + list(report.resized) == []


@pytest.mark.parametrize("case", CASES)
def test_formats_chain_without_loss(case, tmp_path):
    model = original = Seq2SeqLM.from_pretrained(FIXTURES / case / "model.ckpt")
    for format in [*FORMATS, "tensorflow"]:
        model.save_pretrained(tmp_path / format, format=format)
        model = Seq2SeqLM.from_pretrained(tmp_path / format)
    same_weights(original, model)
    first = open_checkpoint(FIXTURES / case / "model.ckpt")
    last = open_checkpoint(tmp_path / "tensorflow" / "bert_model.ckpt")
    with first, last:
        new = {name: name.replace("/rms_norm/", "/layer_norm/") for name in first.names()}
        new |= {f"{side}/rms_norm/scale": f"{side}/final_layer_norm/scale" for side in ("encoder", "decoder")}
        new = {name: new[name] for name in first.names()}
        assert sorted(new.values()) == sorted(last.names())
        for name, written in new.items():
            np.testing.assert_array_equal(first.read(name), last.read(written), err_msg=name)


@pytest.mark.parametrize("format", FORMATS)
def test_one_half_is_read_from_the_whole(format, tmp_path):
    whole = made(**GATED)
    whole.save_pretrained(tmp_path / "model", format=format)
    inputs = sample()
    wanted = whole.backbone(inputs)
    encoder = Backbone.from_pretrained(tmp_path / "model", application="encoder")
    memory = encoder({"token_ids": inputs["token_ids"]})["sequence_output"]
    np.testing.assert_allclose(numpy(memory), numpy(wanted["encoder_sequence_output"]), atol=1e-5)
    assert [path for path in encoder.named_variables() if "decoder" in path or "lm_head" in path] == []
    assert encoder.loading_report.left_over
    decoder = Seq2SeqLM.from_pretrained(tmp_path / "model", application="decoder")
    logits = decoder({"context": memory, "decoder_token_ids": inputs["decoder_token_ids"]})
    np.testing.assert_allclose(numpy(logits), numpy(whole(inputs)), atol=1e-5)
    assert not any(path.startswith("encoder") for path in decoder.named_variables())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("fewer", "left"),
    [({"num_hidden_layers": 1}, 8 + 13), ({"num_decoder_layers": 1}, 13)],
    ids=["both", "decoder"],
)
def test_fewer_layers_on_request_alone(fewer, left, format, tmp_path):
    made().save_pretrained(tmp_path / "model", format=format)
    shorter = Seq2SeqLM.from_pretrained(tmp_path / "model", **fewer)
    assert len(shorter.loading_report.left_over) == left
    assert (shorter.config.num_hidden_layers, shorter.config.decoder_layers) == (
        fewer.get("num_hidden_layers", 2),
        fewer.get("num_decoder_layers", fewer.get("num_hidden_layers", 2)),
    )
    file = tmp_path / "model" / ("bert_config.json" if format == "tensorflow" else "config.json")
    ours = next(iter(fewer))
    key = {"num_hidden_layers": "num_layers"}.get(ours, ours) if format == "huggingface" else ours
    file.write_text(json.dumps({**json.loads(file.read_text()), key: fewer[ours]}))
    with pytest.raises(CheckpointError, match=f"{left} weights belong to nothing in this model"):
        Seq2SeqLM.from_pretrained(tmp_path / "model")


class Names:
    """A checkpoint of which only names and shapes are known."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.shapes = shapes

    def names(self) -> list[str]:
        return list(self.shapes)

    def read(self, name: str) -> np.ndarray:
        return np.zeros(self.shapes[name], "float32")


def test_the_variables_of_a_published_kind_of_checkpoint_are_exactly_ours(shared):
    folder = shared / "vocab" / "ckpt_index" / "t5_1_1_tiny"
    with open_checkpoint(folder / "model.ckpt-0") as checkpoint:
        stored = Names({name: tuple(checkpoint.shape(name)) for name in checkpoint.names()})
        everything = checkpoint.names(everything=True)
    assert len([name for name in everything if "_slot_v" in name]) == 52
    config = BackboneConfig(
        family="t5",
        vocab_size=32128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_head_size=64,
        intermediate_size=64,
        **GATED,
    )
    model = Seq2SeqLM(config, initializer="zeros")
    shapes = {path: tuple(variable.shape) for path, variable in model.named_variables().items()}
    arrays, report = Loader(T5.weight_map(config), "tensorflow").load(stored, shapes, "tiny")
    assert len(dict(arrays)) == len(shapes) == 52
    assert set(report.left_over) <= {"global_step"}
    # Slots would not be in the way either.
    stored.shapes |= dict.fromkeys(everything, ())
    assert not Loader(T5.weight_map(config), "tensorflow").load(stored, shapes, "tiny")[1].unknown
    assert T5.adapt_config(config.replace(tie_word_embeddings=True), "tensorflow", stored.names()) == config


def rewrite(folder: Path, change, model=None) -> Path:
    """A model in Hugging Face's format whose tensors went through `change`."""
    (model or made()).save_pretrained(folder, format="huggingface")
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        arrays = {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}
    write_safetensors(folder / "model.safetensors", change(arrays), metadata={"format": "pt"})
    return folder


def test_copies_of_the_token_table_and_an_unused_table_are_read(tmp_path):
    model = made()

    def older(arrays):
        table = arrays["shared.weight"]
        unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
        copies = {f"{name}.weight": table for name in ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens")}
        return {**arrays, **copies, unused: np.ones((32, 2), "float32")}

    again = Seq2SeqLM.from_pretrained(rewrite(tmp_path / "older", older, model))
    same_weights(model, again)
    assert again.config.tie_word_embeddings

    def without_shared(arrays):
        table = arrays.pop("shared.weight")
        return {**arrays, "encoder.embed_tokens.weight": table, "decoder.embed_tokens.weight": table}

    same_weights(model, Seq2SeqLM.from_pretrained(rewrite(tmp_path / "newer", without_shared, model)))


def test_an_output_table_that_differs_from_the_token_table_is_refused_or_used_as_the_file_says(tmp_path):
    def untied(arrays):
        return {**arrays, "lm_head.weight": arrays["shared.weight"] + 1}

    folder = rewrite(tmp_path / "model", untied)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight should be a copy of shared\.weight but differs"):
        Seq2SeqLM.from_pretrained(folder)
    model = Seq2SeqLM.from_pretrained(folder, tie_word_embeddings=False)
    arrays = model.weight_arrays()
    np.testing.assert_array_equal(arrays["lm_head/kernel"], arrays["token_embedding/embeddings"].T + 1)
    # Release 5 of transformers says "tied" of every model, and of this kind that the output is not scaled.
    config = json.loads((folder / "config.json").read_text())
    for kind, more in (("t5", {"scale_decoder_outputs": False}), ("mt5", {})):
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind, **more}))
        assert not Seq2SeqLM.from_pretrained(folder).config.tie_word_embeddings


def test_surgery_cuts_the_output_table_too():
    keep, compound = [0, 5, 9, 3], [[1, 2], ([0, 3], [1.0, 3.0])]
    source = FIXTURES / "t5_1_1" / "model.ckpt"
    whole = Seq2SeqLM.from_pretrained(source).weight_arrays()
    cut = Seq2SeqLM.from_pretrained(source, keep_tokens=keep, compound_tokens=compound)
    assert cut.config.vocab_size == 6
    for path, turn in (("token_embedding/embeddings", lambda x: x), ("lm_head/kernel", np.transpose)):
        kept = turn(whole[path])[keep]
        wanted = [*kept, kept[[1, 2]].mean(0), (kept[0] + 3 * kept[3]) / 4]
        np.testing.assert_allclose(turn(cut.weight_arrays()[path]), wanted, rtol=1e-5, atol=1e-7)


def test_stretching_does_not_multiply_queries_that_are_not_scaled(tmp_path):
    model = made(Backbone, "encoder", num_hidden_layers=1)
    model.save_pretrained(tmp_path / "model")
    wide = Backbone.from_pretrained(tmp_path / "model", autoresize=True, attention_head_size=20)
    small, large = (m.weight_arrays()["encoder_block_0/attention/query/kernel"] for m in (model, wide))
    assert large.shape == (12, 40)
    np.testing.assert_allclose(np.linalg.norm(large), np.linalg.norm(small), rtol=1e-5)


# --- configurations ---------------------------------------------------------------------------------------------------

PUBLISHED = {
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "vocab_size": 32128,
    "dropout_rate": 0.2,
    "layer_norm_epsilon": 1e-6,
    "relative_attention_num_buckets": 32,
    "n_positions": 512,
    "is_encoder_decoder": True,
    "decoder_start_token_id": 0,
    "initializer_factor": 1.0,
    "pad_token_id": 0,
    "model_type": "t5",
}


def read(**values) -> BackboneConfig:
    return BackboneConfig.from_dict({**PUBLISHED, **values}, "file", family="t5")


def test_published_configurations_are_understood():
    first = read()
    assert (first.hidden_size, first.head_size, first.num_attention_heads) == (512, 64, 6)
    assert (first.intermediate_size, first.layer_norm_eps) == (1024, 1e-6)
    assert (first.num_hidden_layers, first.decoder_layers, first.hidden_act) == (8, 8, "relu")
    assert (first.tie_word_embeddings, first.application) == (True, "seq2seq")
    assert (first.hidden_dropout_prob, first.attention_probs_dropout_prob) == (0.2, 0.2)
    second = read(feed_forward_proj="gated-gelu", tie_word_embeddings=False, num_decoder_layers=3)
    assert (second.hidden_act, second.tie_word_embeddings, second.decoder_layers) == (("gelu_new", "linear"), False, 3)
    assert read(feed_forward_proj="gated-silu").hidden_act == ("silu", "linear")
    assert read(feed_forward_proj="gated-gelu", dense_act_fn="gelu", is_gated_act=True).hidden_act == ("gelu", "linear")
    assert read(model_type="mt5").hidden_act == ("gelu_new", "linear")
    assert read(is_encoder_decoder=False).application == "encoder"
    with pytest.raises(ConfigError, match="file: feed_forward_proj is 'open-gelu': expected 'relu', 'gated-gelu'"):
        read(feed_forward_proj="open-gelu")
    with pytest.raises(ConfigError, match="file: unknown key d_value"):
        read(d_value=3)


def test_the_configuration_of_t5_pegasus(shared):
    values = json.loads((shared / "vocab" / "t5_pegasus" / "config.json").read_text())
    config = BackboneConfig.from_dict(values, "pegasus", family=qf.models.family_registry.family_of(values, "pegasus"))
    assert (config.family, config.vocab_size, config.hidden_act) == ("t5", 50000, ("gelu_new", "linear"))
    assert (config.tie_word_embeddings, config.decoder_layers) == (False, 12)


def test_relatives_with_other_arrangements_are_not_taken_for_t5(tmp_path):
    folder = rewrite(tmp_path / "model", lambda arrays: arrays)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "umt5"}))
    with pytest.raises(ConfigError, match="'umt5' is not a family of this package"):
        Seq2SeqLM.from_pretrained(folder)


def test_what_other_files_cannot_say_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"hidden_act=.*'relu', 'gelu'.* has no place in the huggingface format"):
        made(Backbone, "encoder", hidden_act=("relu", "gelu")).save_pretrained(tmp_path / "a", format="huggingface")
    with pytest.raises(ConfigError, match="cross_position_bias=True has no place in the huggingface format"):
        made(cross_position_bias=True, num_hidden_layers=1).save_pretrained(tmp_path / "b", format="huggingface")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "none"),
        ("embedding_size", 6),
        ("share_blocks", True),
        ("pooler", True),
        ("residual_attention_scores", True),
        ("type_vocab_size", 2),
    ],
)
def test_options_of_other_families_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key} is .*, which the family t5 does not have"):
        made(Backbone, "encoder", **{key: value})


# --- masks and roles --------------------------------------------------------------------------------------------------


def logits_of(model, **inputs) -> np.ndarray:
    return numpy(model(inputs))


def test_targets_do_not_see_their_future_and_see_their_past():
    model, inputs = made(**GATED), sample()
    before = logits_of(model, **inputs)
    for position in range(5):
        after = logits_of(model, **{**inputs, "decoder_token_ids": changed(inputs["decoder_token_ids"], position)})
        difference = np.abs(after - before).max((0, 2))
        assert difference[:position].max(initial=0.0) < 1e-6
        assert difference[position:].min() > 1e-4


def test_every_target_sees_every_source_token_and_the_encoder_no_target():
    model, inputs = made(), sample()
    before = model.backbone(inputs)
    for position in range(7):
        after = model.backbone({**inputs, "token_ids": changed(inputs["token_ids"], position)})
        for name in ("encoder_sequence_output", "sequence_output"):
            assert np.abs(numpy(after[name]) - numpy(before[name])).max(-1).min() > 1e-5, name
    after = model.backbone({**inputs, "decoder_token_ids": changed(inputs["decoder_token_ids"], 1)})
    np.testing.assert_array_equal(numpy(after["encoder_sequence_output"]), numpy(before["encoder_sequence_output"]))


def test_padding_changes_nothing_and_masks_may_be_left_out():
    model, inputs = made(cross_position_bias=True), sample()
    before = logits_of(model, **inputs)
    padded = {name: np.pad(array, ((0, 0), (0, 3))) for name, array in inputs.items()}
    np.testing.assert_allclose(logits_of(model, **padded)[:, :5], before, atol=1e-5)
    masks = {
        "padding_mask": np.pad(np.ones((2, 7), "int32"), ((0, 0), (0, 3))),
        "decoder_padding_mask": np.pad(np.ones((2, 5), "int32"), ((0, 0), (0, 3))),
    }
    kept = {name: masks[name.replace("token_ids", "padding_mask")] for name in padded}
    other = {name: np.where(kept[name], array, 9) for name, array in padded.items()}
    np.testing.assert_allclose(logits_of(model, **other, **masks)[:, :5], before, atol=1e-5)
    # The start symbol has the id of padding: hidden, it would change what follows.
    masks["decoder_padding_mask"][:, 0] = 0
    assert np.abs(logits_of(model, **padded, **masks)[:, 1:5] - before[:, 1:]).max() > 1e-3


def test_a_decoder_alone_sees_the_given_context_but_for_its_padding():
    model = made(Backbone, "decoder")
    generator = np.random.default_rng(0)
    inputs = {
        "context": generator.normal(size=(2, 6, 12)).astype("float32"),
        "decoder_token_ids": sample()["decoder_token_ids"],
    }
    whole = numpy(model(inputs)["sequence_output"])
    part = numpy(model({**inputs, "context": inputs["context"][:, :4]})["sequence_output"])
    assert np.abs(whole - part).max() > 1e-3
    mask = np.array([[1, 1, 1, 1, 0, 0]] * 2, "int32")
    masked = numpy(model({**inputs, "context_padding_mask": mask})["sequence_output"])
    np.testing.assert_allclose(masked, part, atol=1e-5)


def test_long_texts_are_read_and_rows_of_padding_are_finite():
    model = made(num_hidden_layers=1)
    inputs = sample(source=300, target=2, rows=1)
    assert np.isfinite(logits_of(model, **inputs)).all()
    nothing = {"padding_mask": np.zeros((1, 300), "int32"), "decoder_padding_mask": np.zeros((1, 2), "int32")}
    assert np.isfinite(logits_of(model, **inputs, **nothing)).all()


def test_the_logits_are_those_of_the_tables():
    inputs = sample()
    for options, scaled in (({}, True), ({"scale_decoder_output": False}, False), (GATED, False)):
        model = made(**options)
        arrays = model.weight_arrays()
        table = arrays["lm_head/kernel"] if "lm_head/kernel" in arrays else arrays["token_embedding/embeddings"].T
        hidden = numpy(model.backbone(inputs)["sequence_output"]) * (12**-0.5 if scaled else 1.0)
        np.testing.assert_allclose(logits_of(model, **inputs), hidden @ table, atol=1e-4)


# --- training and Keras -----------------------------------------------------------------------------------------------


def trained(model) -> list[float]:
    """The losses of a few steps on one batch."""
    inputs = {name: ops.convert_to_numpy(x) for name, x in model.complete_inputs(sample(rows=4)).items()}
    targets = np.roll(inputs["decoder_token_ids"], -1, 1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=backend.name() == "jax")
    return [float(model.train_on_batch(inputs, targets)) for _ in range(3)]


def test_training_moves_every_weight_and_lowers_the_loss_with_and_without_checkpointing():
    options = {"num_hidden_layers": 1, **GATED, "scale_decoder_output": True}
    model = made(**options)
    before = {path: array.copy() for path, array in model.weight_arrays().items()}
    plain = trained(model)
    assert plain[-1] < plain[0]
    for path, array in model.weight_arrays().items():
        assert np.abs(array - before[path]).max() > 0, path
    checkpointed = made(**options)
    checkpointed.enable_gradient_checkpointing()
    assert checkpointed.get_layer("decoder_block_0").checkpointing
    np.testing.assert_allclose(trained(checkpointed), plain, rtol=1e-4)


@pytest.mark.parametrize("part", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_dropout_acts_in_training_alone(part):
    model = made(Backbone, num_hidden_layers=1, **{part: 0.5})
    inputs = model.complete_inputs(sample())
    first, second = (model(inputs, training=True) for _ in range(2))
    still = [model(inputs) for _ in range(2)]
    for name in ("encoder_sequence_output", "sequence_output"):
        assert np.isfinite(numpy(first[name])).all()
        assert np.abs(numpy(first[name]) - numpy(second[name])).max() > 1e-3
        np.testing.assert_array_equal(numpy(still[0][name]), numpy(still[1][name]))


def test_bfloat16_is_finite_and_near(tmp_path):
    model, inputs = made(**GATED), sample()
    model.save_pretrained(tmp_path / "model")
    half = Seq2SeqLM.from_pretrained(tmp_path / "model", dtype="mixed_bfloat16")
    logits = half(inputs)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert keras.backend.standardize_dtype(half.backbone(inputs)["sequence_output"].dtype) == "bfloat16"
    wanted = logits_of(model, **inputs)
    assert np.isfinite(numpy(logits)).all()
    assert np.abs(numpy(logits) - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("application", ["seq2seq", "encoder", "decoder"])
def test_keras_files_keep_the_model(application, tmp_path):
    model = made(Backbone if application == "encoder" else Seq2SeqLM, application, num_decoder_layers=1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.config == model.config
    same_weights(model, again)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = type(model)(model.config)
    fresh.load_weights(tmp_path / "model.weights.h5")
    same_weights(model, fresh)


def test_conditional_norms_of_both_stacks_see_the_condition():
    model = made(Backbone, num_hidden_layers=1, condition_size=3)
    inputs = sample()
    there = [model({**inputs, "condition": np.full((2, 3), value, "float32")}) for value in (0.0, 1.0)]
    for name in ("encoder_sequence_output", "sequence_output"):
        assert np.abs(numpy(there[0][name]) - numpy(there[1][name])).max() > 1e-3


def test_an_encoder_classifies(tmp_path):
    options = {"attention_head_size": 8, "family": "t5", "application": "encoder"}
    classifier = qf.TextClassifier(helpers.backbone(**options), helpers.tokenizer(), max_length=16)
    classifier.fit(helpers.rows(), **helpers.FIT)
    assert classifier.evaluate(helpers.rows(48, start=96)).accuracy > 0.6
    classifier.save(tmp_path / "model")
    texts = [text for text, _ in helpers.rows(6)]
    assert qf.load(tmp_path / "model").predict(texts) == classifier.predict(texts)
    whole = helpers.backbone(attention_head_size=8, family="t5")
    with pytest.raises(ConfigError, match="has application 'seq2seq'; load it with application='encoder'"):
        qf.TextClassifier(whole, helpers.tokenizer(), ["a", "b"], max_length=16)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_missing_and_unknown_inputs_are_named():
    model, inputs = made(num_hidden_layers=1), sample()
    with pytest.raises(ConfigError, match="input decoder_token_ids, decoder_padding_mask is missing; its inputs are"):
        model({"token_ids": inputs["token_ids"]})
    with pytest.raises(ConfigError, match="input segment_ids is none of this model's; its inputs are token_ids"):
        model({**inputs, "segment_ids": inputs["token_ids"]})


def test_heads_of_other_families_say_which_is_right():
    config = BackboneConfig(family="t5", **random_models.SIZES)
    for kind in (MaskedLM, CausalLM):
        with pytest.raises(ConfigError, match="the family t5 generates behind its encoder; use Seq2SeqLM"):
            kind(config)
    bert = BackboneConfig(**random_models.SIZES)
    with pytest.raises(ConfigError, match="Seq2SeqLM needs the application 'seq2seq', which the family bert does not"):
        Seq2SeqLM(bert)
    with pytest.raises(ConfigError, match="the family bert has no decoder beside an encoder; use CausalLM"):
        Seq2SeqLM(bert.replace(application="lm"))
    with pytest.raises(ConfigError, match="application is 'lm': the family t5 has seq2seq, encoder, decoder"):
        config.replace(application="lm")


def test_wrong_checkpoints_are_named(tmp_path):
    made(Backbone, "encoder").save_pretrained(tmp_path / "encoder", format="huggingface")
    with pytest.raises(CheckpointError, match=r"28 weights are missing \(decoder_position_bias/embeddings"):
        Seq2SeqLM.from_pretrained(tmp_path / "encoder")
    made(Backbone, **GATED).save_pretrained(tmp_path / "body", format="tensorflow")
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(lm_head/kernel\)"):
        Seq2SeqLM.from_pretrained(tmp_path / "body")
    source = FIXTURES / "t5_1_0" / "model.ckpt"
    with pytest.raises(CheckpointError, match=r"shared/embedding has shape \(97, 32\), but .* needs \(97, 40\)"):
        Seq2SeqLM.from_pretrained(source, hidden_size=40)
    with pytest.raises(CheckpointError, match=r"weights are missing \(encoder_block_0/feed_forward/intermediate_0"):
        Seq2SeqLM.from_pretrained(source, hidden_act=["gelu", "linear"])
    with pytest.raises(CheckpointError, match="none of the model's weights is there"):
        Seq2SeqLM.from_pretrained(FIXTURES / "bert" / "model.ckpt", family="t5", type_vocab_size=0)


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["tied", "untied", "tied_unscaled", "encoder"])
def test_transformers_reads_what_we_write(kind, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    cls, options = KINDS[kind]
    model = made(cls, **options)
    model.save_pretrained(tmp_path / "model", format="huggingface")
    name = json.loads((tmp_path / "model" / "config.json").read_text())["architectures"][0]
    peer, info = getattr(transformers, name).from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = sample()
    peer_inputs = {"input_ids": torch.tensor(inputs["token_ids"]).long()}
    if cls is Seq2SeqLM:
        peer_inputs["decoder_input_ids"] = torch.tensor(inputs["decoder_token_ids"]).long()
    else:
        inputs = {"token_ids": inputs["token_ids"]}
    with torch.no_grad():
        result = peer.eval()(**peer_inputs)
    wanted = (result.logits if cls is Seq2SeqLM else result.last_hidden_state).numpy()
    there = numpy(model(inputs) if cls is Seq2SeqLM else model(inputs)["sequence_output"])
    np.testing.assert_allclose(there, wanted, rtol=0, atol=1e-5 * max(1.0, np.abs(wanted).max()))
