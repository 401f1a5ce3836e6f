"""What `transformers` saves in unusual but valid ways is loaded with its numbers, and goes back with them."""

import json

import numpy as np
import pytest
from keras import ops

from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.models import Backbone, CausalLM, MaskedLM, Seq2SeqLM
from qingformer.ops.activations import get_activation

pytestmark = [pytest.mark.peers, pytest.mark.slow]
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
IDS = np.random.default_rng(0).integers(1, 50, (2, 9))


def made(name, **settings):
    """A random model of `transformers` whose biases and gains are random as well."""
    torch.manual_seed(0)
    config_class = getattr(transformers, name).config_class
    model = getattr(transformers, name)(config_class(**settings)).eval()
    with torch.no_grad():
        for parameter in {id(p): p for p in model.parameters() if p.requires_grad}.values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def logits_of(model, **more):
    with torch.no_grad():
        result = model(torch.tensor(IDS), **more)
    return (result.logits if "logits" in result else result.last_hidden_state).numpy()


def assert_equal(ours, theirs):
    np.testing.assert_allclose(ops.convert_to_numpy(ours), theirs, rtol=0, atol=2e-5 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("embedding_size", [32, 16])
def test_albert_of_any_embedding_size_there_and_back(embedding_size, groups, tmp_path):
    peer = made("AlbertForMaskedLM", **SIZES, embedding_size=embedding_size, num_hidden_groups=groups)
    peer.save_pretrained(tmp_path / "theirs")
    model = MaskedLM.from_pretrained(tmp_path / "theirs")
    assert_equal(model({"token_ids": IDS}), logits_of(peer))
    for format in ("huggingface", "qingformer"):
        model.save_pretrained(tmp_path / format, format=format)
        assert_equal(MaskedLM.from_pretrained(tmp_path / format)({"token_ids": IDS}), logits_of(peer))
    again, info = transformers.AlbertForMaskedLM.from_pretrained(tmp_path / "huggingface", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    np.testing.assert_allclose(logits_of(again.eval()), logits_of(peer), atol=1e-5)


def test_albert_without_a_projection_is_whole_in_transformers(tmp_path):
    from qingformer import BackboneConfig

    model = MaskedLM(BackboneConfig(**SIZES, family="albert", embedding_size=32, hidden_act="gelu_new"))
    assert not any("embedding_projection" in path for path in model.named_variables())
    model.save_pretrained(tmp_path, format="huggingface")
    peer, info = transformers.AlbertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert_equal(model({"token_ids": IDS}), logits_of(peer.eval()))


@pytest.mark.parametrize("embedding_size", [32, 16])
@pytest.mark.parametrize("name", ["ElectraForMaskedLM", "RoFormerForMaskedLM"])
def test_electra_and_roformer_of_any_embedding_size(name, embedding_size, tmp_path):
    peer = made(name, **SIZES, embedding_size=embedding_size)
    peer.save_pretrained(tmp_path)
    assert_equal(MaskedLM.from_pretrained(tmp_path)({"token_ids": IDS}), logits_of(peer))


OPENAI = {"vocab_size": 50, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 32}
OPENAI |= {"bos_token_id": 1, "eos_token_id": 1}
TIED = {
    "BertForMaskedLM": (MaskedLM, SIZES),
    "AlbertForMaskedLM": (MaskedLM, {**SIZES, "embedding_size": 16}),
    "ElectraForMaskedLM": (MaskedLM, {**SIZES, "embedding_size": 16}),
    "RoFormerForMaskedLM": (MaskedLM, SIZES),
    "GPT2LMHeadModel": (CausalLM, OPENAI),
    "OpenAIGPTLMHeadModel": (CausalLM, OPENAI),
    "LlamaForCausalLM": (CausalLM, {**SIZES, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "Qwen2ForCausalLM": (CausalLM, {**SIZES, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "Qwen3ForCausalLM": (CausalLM, {**SIZES, "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": True}),
}


@pytest.mark.parametrize("name", TIED)
def test_files_of_save_model_that_keep_one_name_of_a_tied_table(name, tmp_path):
    from safetensors.torch import save_model

    kind, settings = TIED[name]
    peer = made(name, **settings)
    peer.config.save_pretrained(tmp_path)
    save_model(peer, str(tmp_path / "model.safetensors"))
    model = kind.from_pretrained(tmp_path)
    assert model.loading_report.missing == model.loading_report.unknown == []
    assert_equal(model({"token_ids": IDS}), logits_of(peer))


@pytest.mark.parametrize("kept", ["shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head"])
@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "MT5ForConditionalGeneration"])
def test_t5_keeps_any_one_name_of_its_tied_table(name, kept, tmp_path):
    settings = {"vocab_size": 50, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    peer = made(name, **settings, tie_word_embeddings=True, decoder_start_token_id=0)
    peer.save_pretrained(tmp_path)
    with open_checkpoint(tmp_path) as checkpoint:
        arrays = {n: np.array(checkpoint.read(n)) for n in checkpoint.names()}
    arrays = {n: a for n, a in arrays.items() if "embed_tokens" not in n and "lm_head" not in n}
    arrays[f"{kept}.weight"] = arrays.pop("shared.weight")
    write_safetensors(tmp_path / "model.safetensors", arrays)
    model = Seq2SeqLM.from_pretrained(tmp_path)
    wanted = logits_of(peer, decoder_input_ids=torch.tensor(IDS[:, :5]))
    assert_equal(model({"token_ids": IDS, "decoder_token_ids": IDS[:, :5], "padding_mask": np.ones_like(IDS),
                        "decoder_padding_mask": np.ones_like(IDS[:, :5])}), wanted)  # fmt: skip


@pytest.mark.parametrize("wrap", ["data parallel", "compiled", "lightning", "own class"])
def test_wrapped_models_are_equal(wrap, tmp_path):
    peer = made("BertModel", **SIZES)
    state = {
        "data parallel": lambda: torch.nn.DataParallel(peer).state_dict(),
        "compiled": lambda: {f"_orig_mod.{name}": value for name, value in peer.state_dict().items()},
        "lightning": lambda: {"epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.5",
                              "state_dict": {f"model.{name}": value for name, value in peer.state_dict().items()}},
        "own class": lambda: {f"bert_model.{name}": value for name, value in peer.state_dict().items()}
        | {"classifier.weight": torch.ones(3, 32)},
    }[wrap]()  # fmt: skip
    peer.config.save_pretrained(tmp_path)
    torch.save(state, tmp_path / ("epoch=3.ckpt" if wrap == "lightning" else "pytorch_model.bin"))
    model = Backbone.from_pretrained(tmp_path)
    assert_equal(model({"token_ids": IDS})["sequence_output"], logits_of(peer))


ACTIVATIONS = """gelu gelu_10 gelu_fast gelu_new gelu_python gelu_pytorch_tanh gelu_python_tanh gelu_accurate hardswish
    leaky_relu linear mish quick_gelu relu relu2 relu6 sigmoid silu swish tanh""".split()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_by_their_published_names(name):
    from transformers.activations import ACT2FN

    x = np.concatenate([np.linspace(-12, 12, 2001), [0.0, -3.0, 3.0, 50.0, -50.0]]).astype("float32")
    wanted = ACT2FN[name](torch.tensor(x)).numpy()
    np.testing.assert_allclose(ops.convert_to_numpy(get_activation(name)(ops.convert_to_tensor(x))), wanted, atol=2e-6)


@pytest.mark.parametrize("act", ["gelu_python", "quick_gelu", "relu2"])
def test_a_model_of_such_an_activation(act, tmp_path):
    peer = made("BertModel", **SIZES, hidden_act=act)
    peer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_act"] == act
    assert_equal(Backbone.from_pretrained(tmp_path)({"token_ids": IDS})["sequence_output"], logits_of(peer))
