"""Loading and saving: three formats, bit for bit; surgery; strictness."""

import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.errors import CheckpointError, ConfigError, QingFormerError
from qingformer.models import Backbone, BackboneConfig, CausalLM, MaskedLM, PreTraining
from qingformer.models.surgery import orthogonal_resize

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
BERT = FIXTURES / "bert4keras" / "bert" / "model.ckpt"
SMALL = BackboneConfig(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=32,
    max_position_embeddings=20,
)
FORMATS = ["qingformer", "huggingface", "tensorflow"]


def same(model, other) -> None:
    there, wanted = other.weight_arrays(), model.weight_arrays()
    assert set(there) == set(wanted)
    for path in wanted:
        np.testing.assert_array_equal(there[path], wanted[path], err_msg=path)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_saved_is_loaded_bit_for_bit(format, tmp_path):
    model = PreTraining(SMALL)
    model.save_pretrained(tmp_path / "model", format=format)
    again = PreTraining.from_pretrained(tmp_path / "model")
    same(model, again)
    assert again.config == model.config
    assert not again.loading_report.missing
    assert not again.loading_report.left_over


def test_formats_chain_without_loss(tmp_path):
    original = PreTraining.from_pretrained(BERT)
    model = original
    for format in [*FORMATS, "tensorflow"]:
        model.save_pretrained(tmp_path / format, format=format)
        model = PreTraining.from_pretrained(tmp_path / format)
    same(original, model)
    with open_checkpoint(BERT) as first, open_checkpoint(tmp_path / "tensorflow" / "bert_model.ckpt") as last:
        assert sorted(first.names()) == sorted(last.names())
        for name in first.names():
            np.testing.assert_array_equal(first.read(name), last.read(name), err_msg=name)


def test_a_backbone_leaves_the_heads_over_and_says_so():
    report = Backbone.from_pretrained(BERT).loading_report
    assert "cls/predictions/output_bias" in report.left_over
    assert "left over" in report.summary()


def test_masked_lm_files_have_no_pooler_and_neither_has_the_model(tmp_path):
    MaskedLM(SMALL.replace(pooler=False)).save_pretrained(tmp_path / "model", format="huggingface")
    assert not MaskedLM.from_pretrained(tmp_path / "model").config.pooler
    with pytest.raises(CheckpointError, match=r"2 weights are missing \(pooler/kernel, pooler/bias\)"):
        Backbone.from_pretrained(tmp_path / "model", pooler=True)


@pytest.mark.parametrize("format", FORMATS)
def test_weights_do_not_follow_the_file_after_loading(format, tmp_path):
    MaskedLM(SMALL.replace(hidden_size=96, intermediate_size=512)).save_pretrained(tmp_path / "model", format=format)
    model = MaskedLM.from_pretrained(tmp_path / "model")
    before = {path: array.copy() for path, array in model.weight_arrays().items()}
    for file in (tmp_path / "model").iterdir():
        with open(file, "r+b") as handle:
            handle.write(b"\xff" * file.stat().st_size)
    for path, array in model.weight_arrays().items():
        np.testing.assert_array_equal(array, before[path], err_msg=path)


def test_roles_are_saved_and_come_back(tmp_path):
    CausalLM(SMALL.replace(application="unilm")).save_pretrained(tmp_path / "unilm")
    assert CausalLM.from_pretrained(tmp_path / "unilm").config.application == "unilm"
    assert CausalLM.from_pretrained(BERT).config.application == "lm"
    CausalLM(SMALL).save_pretrained(tmp_path / "lm", format="huggingface")
    assert json.loads((tmp_path / "lm" / "config.json").read_text())["is_decoder"] is True
    assert Backbone.from_pretrained(tmp_path / "lm").config.application == "lm"


def rewrite(tmp_path, change) -> Path:
    """A copy of a saved model whose tensors went through `change`."""
    MaskedLM(SMALL).save_pretrained(tmp_path / "model", format="huggingface")
    file = tmp_path / "model" / "model.safetensors"
    with open_checkpoint(file) as checkpoint:
        arrays = {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}
    write_safetensors(file, change(arrays), metadata={"format": "pt"})
    return tmp_path / "model"


def test_old_spellings_and_missing_prefix_are_read(tmp_path):
    def old(arrays):
        renamed = {}
        for name, array in arrays.items():
            name = name.removeprefix("bert.")
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            renamed[name] = array
        return renamed

    directory = rewrite(tmp_path, old)
    assert len(MaskedLM.from_pretrained(directory).loading_report.loaded) == 44


def test_a_copy_of_a_tied_weight_is_accepted_if_equal_and_refused_if_not(tmp_path):
    def tied(arrays):
        return {**arrays, "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"]}

    def untied(arrays):
        return {**arrays, "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"] + 1}

    MaskedLM.from_pretrained(rewrite(tmp_path, tied))
    with pytest.raises(
        CheckpointError, match=r"decoder\.weight should be a copy of .*word_embeddings\.weight but differs"
    ):
        MaskedLM.from_pretrained(rewrite(tmp_path, untied))


def test_a_missing_an_unknown_and_a_misshapen_weight_are_named(tmp_path):
    name = "bert.encoder.layer.1.output.dense.bias"
    with pytest.raises(CheckpointError, match=r"1 weights are missing \(block_1/feed_forward/output/bias\)"):
        MaskedLM.from_pretrained(rewrite(tmp_path, lambda a: {k: v for k, v in a.items() if k != name}))
    with pytest.raises(CheckpointError, match=r"1 weights belong to nothing in this model \(bert\.extra\)"):
        MaskedLM.from_pretrained(rewrite(tmp_path, lambda a: {**a, "bert.extra": a[name]}))
    with pytest.raises(
        CheckpointError, match=r"has shape \(7,\), but block_1/feed_forward/output/bias .* needs \(24,\)"
    ):
        MaskedLM.from_pretrained(rewrite(tmp_path, lambda a: {**a, name: np.ones(7, "float32")}))
    with pytest.raises(CheckpointError, match="none of the model's weights is there"):
        MaskedLM.from_pretrained(rewrite(tmp_path, lambda a: {"other": a[name]}))


def test_not_strict_starts_missing_weights_anew(tmp_path):
    name = "bert.encoder.layer.1.output.dense.weight"
    directory = rewrite(tmp_path, lambda a: {**{k: v for k, v in a.items() if k != name}, "extra": a[name]})
    model = MaskedLM.from_pretrained(directory, strict=False)
    assert model.loading_report.missing == ["block_1/feed_forward/output/kernel"]
    assert model.loading_report.unknown == ["extra"]
    started = model.weight_arrays()["block_1/feed_forward/output/kernel"]
    assert 0.005 < started.std() < 0.03


def test_extra_layers_are_refused_unless_fewer_were_asked_for(tmp_path):
    MaskedLM(SMALL).save_pretrained(tmp_path / "model", format="huggingface")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match="belong to nothing in this model"):
        MaskedLM.from_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    shorter = MaskedLM.from_pretrained(tmp_path / "model", num_hidden_layers=1)
    assert len(shorter.loading_report.left_over) == 16


def test_vocabulary_surgery_selects_rows_and_appends_means():
    whole = MaskedLM.from_pretrained(BERT).weight_arrays()
    keep, compound = [0, 5, 9, 3], [[1, 2], ([0, 3], [1.0, 3.0])]
    cut = MaskedLM.from_pretrained(BERT, keep_tokens=keep, compound_tokens=compound)
    assert cut.config.vocab_size == 6
    for path in ("token_embedding/embeddings", "mlm_bias/bias"):
        kept = whole[path][keep]
        new = [kept[[1, 2]].mean(0), (kept[0] + 3 * kept[3]) / 4]
        np.testing.assert_allclose(cut.weight_arrays()[path], [*kept, *new], rtol=1e-6)
    with pytest.raises(ConfigError, match="keep_tokens: id 97 is outside the vocabulary of 97 tokens"):
        MaskedLM.from_pretrained(BERT, keep_tokens=[97])


def test_a_configuration_that_another_format_cannot_express_is_refused(tmp_path):
    model = Backbone(SMALL.replace(residual_attention_scores=True))
    with pytest.raises(ConfigError, match="residual_attention_scores=True has no place in the huggingface format"):
        model.save_pretrained(tmp_path / "model", format="huggingface")
    assert not (tmp_path / "model").exists()
    with pytest.raises(CheckpointError, match="unknown format 'onnx'; use one of"):
        model.save_pretrained(tmp_path / "model", format="onnx")


def test_failed_saving_leaves_the_old_directory(tmp_path, monkeypatch):
    model = Backbone(SMALL)
    model.save_pretrained(tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qingformer.models.saving.write_safetensors", full)
    with pytest.raises((OSError, QingFormerError), match="No space left"):
        Backbone(SMALL).save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_orthogonal_resize_equals_the_original():
    arrays = np.load(FIXTURES / "bert4keras" / "layers" / "orthogonally_resize.npz")
    for index, case in enumerate(json.loads(str(arrays["config"]))):
        there = orthogonal_resize(arrays[f"input_{index}"], tuple(case["new_shape"]), case["window"])
        np.testing.assert_allclose(there, arrays[f"output_{index}"], rtol=1e-6)
    with pytest.raises(ConfigError, match="does not divide into blocks of 2"):
        orthogonal_resize(np.ones((3, 3)), (4, 4))


def test_toy_checkpoint_of_another_project(shared):
    model = PreTraining.from_pretrained(shared / "weights" / "toy_keras_bert_ckpt")
    assert len(model.loading_report.loaded) == len(model.named_variables())
    assert sum(array.size for array in model.weight_arrays().values()) == 701
    result = model({"token_ids": np.array([[2, 5, 6, 3]])})
    assert np.isfinite(ops.convert_to_numpy(result["mlm_logits"])).all()


@pytest.mark.peers
@pytest.mark.parametrize("kind", [PreTraining, MaskedLM])
def test_transformers_reads_what_we_write(kind, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = kind(SMALL.replace(pooler=kind is PreTraining))
    model.save_pretrained(tmp_path / "model", format="huggingface")
    name = "BertForPreTraining" if kind is PreTraining else "BertForMaskedLM"
    peer, info = getattr(transformers, name).from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids = np.random.default_rng(0).integers(1, 50, (2, 9))
    with torch.no_grad():
        result = peer.eval()(torch.tensor(ids))
    logits = result.prediction_logits if kind is PreTraining else result.logits
    ours = model({"token_ids": ids})
    ours = ours["mlm_logits"] if kind is PreTraining else ours
    np.testing.assert_allclose(ops.convert_to_numpy(ours), logits.numpy(), atol=1e-5)


@pytest.mark.peers
def test_ckpt_safetensors_and_bin_of_the_same_weights_give_the_same_outputs(tmp_path):
    torch = pytest.importorskip("torch")
    model = PreTraining(SMALL)
    for format in ("tensorflow", "huggingface"):
        model.save_pretrained(tmp_path / format, format=format)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "config.json").write_text((tmp_path / "huggingface" / "config.json").read_text())
    with open_checkpoint(tmp_path / "huggingface" / "model.safetensors") as checkpoint:
        tensors = {name: torch.tensor(np.array(checkpoint.read(name))) for name in checkpoint.names()}
    torch.save(tensors, tmp_path / "bin" / "pytorch_model.bin")
    inputs = {"token_ids": np.random.default_rng(0).integers(1, 50, (2, 9))}
    wanted = ops.convert_to_numpy(model(inputs)["mlm_logits"])
    for format in ("tensorflow", "huggingface", "bin"):
        there = PreTraining.from_pretrained(tmp_path / format)(inputs)["mlm_logits"]
        np.testing.assert_array_equal(ops.convert_to_numpy(there), wanted)


@pytest.mark.peers
def test_tensorflow_reads_what_we_write_bit_for_bit(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    model = PreTraining(SMALL)
    model.save_pretrained(tmp_path / "model", format="tensorflow")
    reader = tensorflow.train.load_checkpoint(str(tmp_path / "model" / "bert_model.ckpt"))
    with open_checkpoint(tmp_path / "model" / "bert_model.ckpt") as checkpoint:
        assert sorted(reader.get_variable_to_shape_map()) == sorted(checkpoint.names())
        for name in checkpoint.names():
            np.testing.assert_array_equal(reader.get_tensor(name), checkpoint.read(name))
