"""Whatever does not fit - family, checkpoint, size, role, key - is one line that names it and says what to do."""

import functools
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models import FAMILIES, Backbone, BackboneConfig, MaskedLM, PreTraining, Similarity
from tests.models import zoo

IN_TRANSFORMERS = [name for name in zoo.PLAIN if "huggingface" in zoo.TABLE[name].formats]
BLOCKS = [name for name in IN_TRANSFORMERS if name != "albert"]  # ALBERT's layers share one block
KEYS = {
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
}


@pytest.fixture(autouse=True)
def quick_start():
    with zoo.quick_start():
        yield


FOLDER = tempfile.TemporaryDirectory(prefix="zoo-")


@functools.cache
def saved(name: str, format: str, head: str | None = None) -> Path:
    """A model of the table in a folder of that format; made once."""
    folder = Path(FOLDER.name) / f"{name}-{format}-{head}"
    return zoo.make(name, head).save_pretrained(folder, format=format)


def changed(name: str, tmp_path: Path, keep=lambda name: True, **values) -> Path:
    """A copy of the Hugging Face folder of a family with some weights taken out and some settings changed."""
    folder = saved(name, "huggingface")
    config = json.loads((folder / "config.json").read_text())
    for key, value in values.items():
        there = next((spelling for spelling in KEYS.get(key, ()) if spelling in config), key)
        config[there] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        arrays = {name: np.array(checkpoint.read(name)) for name in checkpoint.names() if keep(name)}
    write_safetensors(tmp_path / "model.safetensors", arrays, metadata={"format": "pt"})
    return tmp_path


def refused(kind: type, match: str, call, *arguments, **options) -> None:
    """The call raises that error, and its message is one line."""
    with pytest.raises(kind, match=match) as problem:
        call(*arguments, **options)
    assert len(str(problem.value).splitlines()) == 1


def load(name: str):
    """`from_pretrained` of the head that the table gives a family."""
    return zoo.class_of(zoo.TABLE[name].head).from_pretrained


# --- the wrong family -------------------------------------------------------------------------------------------------

UNLIKE_BERT = [name for name in zoo.PLAIN if name not in ("bert", "ernie", "simbert", "tta")]


@pytest.mark.parametrize("family", [name for name in UNLIKE_BERT if name != "t5"])
def test_another_familys_checkpoint_is_refused_and_the_likely_family_named(family):
    hint = rf"\(the files look like the family bert, not {family}\)$"
    what = r"(weights are missing \(|weights belong to nothing in this model \(|none of the model's weights is there)"
    refused(CheckpointError, f"{what}.*{hint}", Backbone.from_pretrained, saved("bert", "tensorflow"), family=family)


@pytest.mark.parametrize("family", UNLIKE_BERT)
def test_our_own_files_say_their_family_and_cannot_be_another(family):
    match = (
        rf"config\.json: the model was saved as family 'bert', which family='{family}' cannot change; leave family out"
    )
    refused(ConfigError, match, Backbone.from_pretrained, saved("bert", "qingformer"), family=family)


def test_t5_refuses_what_it_does_not_have_before_reading():
    source = saved("bert", "tensorflow")
    refused(
        ConfigError, "type_vocab_size is 2, which the family t5 does not", Backbone.from_pretrained, source, family="t5"
    )  # fmt: skip


def test_files_that_name_no_family_say_what_they_were_taken_for(tmp_path):
    source = changed("gpt", tmp_path)
    values = json.loads((saved("bert", "tensorflow") / "bert_config.json").read_text())
    del values["qingformer_version"]
    (source / "config.json").write_text(json.dumps(values))
    with open_checkpoint(source / "model.safetensors") as checkpoint:
        arrays = {name.replace(".", "~"): np.array(checkpoint.read(name)) for name in checkpoint.names()}
    write_safetensors(source / "model.safetensors", arrays)
    match = r"none of the model's weights is there; .*\(nothing names the family, so it is taken for BERT; family= says"
    refused(CheckpointError, match, Backbone.from_pretrained, source)


def test_an_unknown_family():
    match = f"^unknown family 'xlnet'; known are {', '.join(sorted(FAMILIES))}$"
    refused(ConfigError, match, Backbone.from_pretrained, saved("bert", "tensorflow"), family="xlnet")
    refused(ConfigError, match, BackboneConfig, vocab_size=9, family="xlnet")


# --- half a checkpoint, other sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_half_a_checkpoint_names_what_is_missing(name, tmp_path):
    with open_checkpoint(saved(name, "huggingface") / "model.safetensors") as checkpoint:
        half = set(sorted(checkpoint.names())[::2])
    source = changed(name, tmp_path, keep=lambda stored: stored in half)
    match = rf"^{re.escape(str(source))}: \d+ weights are missing \(\w+/.*, and \d+ more\); .* strict=False starts"
    refused(CheckpointError, match, load(name), source)
    report = zoo.class_of(zoo.TABLE[name].head).from_pretrained(source, strict=False).loading_report
    assert report.missing
    assert report.loaded


@pytest.mark.parametrize("name", BLOCKS)
def test_more_layers_stored_than_configured_is_an_error_and_fewer_asked_for_is_not(name, tmp_path):
    source = changed(name, tmp_path, num_hidden_layers=1)
    refused(CheckpointError, r"\d+ weights belong to nothing in this model \(.*1\..*check the conf", load(name), source)
    model = load(name)(saved(name, "huggingface"), num_hidden_layers=1)
    left = [stored for stored in model.loading_report.left_over if "embed_positions" not in stored]
    assert left
    assert all(re.search(r"[._]1\.", stored) for stored in left)
    assert not model.loading_report.missing


@pytest.mark.parametrize("name", BLOCKS)
def test_more_layers_than_stored_names_the_missing_ones(name, tmp_path):
    match = r"\d+ weights are missing \(\w*block_2/attention/query/kernel, .*is it another model's checkpoint"
    refused(CheckpointError, match, load(name), saved(name, "huggingface"), num_hidden_layers=3)
    refused(CheckpointError, match, load(name), changed(name, tmp_path, num_hidden_layers=3))


def test_albert_repeats_its_block_as_often_as_it_is_told():
    model = load("albert")(saved("albert", "huggingface"), num_hidden_layers=5)
    assert not model.loading_report.missing
    assert model.config.num_hidden_layers == 5


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_another_hidden_size_names_both_shapes(name, tmp_path):
    source = changed(name, tmp_path, hidden_size=16)
    shapes = r"\S+ has shape \([\d, ]+\), but \S+ of the model needs \([\d, ]+\); "
    shapes += "the configuration belongs to another checkpoint"
    # A stored table of positions is compared before any weight is read.
    table = r"\S+embed_positions\.weight differs from the table of positions .*; correct the configuration, .*"
    match = f"^{re.escape(str(source))}: ({shapes}|{table})$"
    refused(CheckpointError, match, load(name), source)


def test_another_vocabulary_names_both_shapes(tmp_path):
    match = r"word_embeddings\.weight has shape \(29, 8\), but token_embedding/embeddings of the model needs \(31, 8\)"
    refused(CheckpointError, match, load("bert"), changed("bert", tmp_path, vocab_size=31))


# --- roles and heads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.PLAIN)
def test_an_application_that_the_family_does_not_have(name):
    folder = saved(name, "qingformer")
    for application in {"encoder", "lm", "unilm", "seq2seq", "decoder"} - set(FAMILIES[name].spec.applications):
        match = rf"application is '{application}': the family {name} has {', '.join(FAMILIES[name].spec.applications)}"
        refused(ConfigError, match, Backbone.from_pretrained, folder, application=application)
        refused(ConfigError, match, zoo.TABLE[name].config, application=application)
    refused(ConfigError, "application is 'x': expected one of", Backbone.from_pretrained, folder, application="x")


HEADS = "CausalLM MaskedLM NextSentencePrediction PreTraining ReplacedTokenDetection Seq2SeqLM Similarity".split()
# Sentences may be compared by any pooled vector, and the head of a decoder is the same layer behind any mask.
NOT_THERE = [
    (name, head)
    for name in zoo.PLAIN
    for head in HEADS
    if head not in FAMILIES[name].spec.heads
    and not (head in ("Similarity", "NextSentencePrediction", "PreTraining") and "pooler/bias" in zoo.paths_of(name))
    and not (head == "MaskedLM" and FAMILIES[name].spec.heads == ("CausalLM",))
]


@pytest.mark.parametrize(("name", "head"), NOT_THERE)
def test_a_head_that_the_checkpoint_cannot_fill(name, head):
    match = "|".join(
        [
            rf"^{head} needs the pooler, which this model does not have; heads of the family {name} are [A-Z]",
            rf"{head} needs the application '\w+', which the family {name} does not have; its heads are [A-Z]",
            r"weights are missing \((replaced_dense/kernel|pooler/kernel), .*is it another model's checkpoint",
            rf"^the family {name} has no decoder beside an encoder; use CausalLM",
            "^ELECTRA's discriminator has no language model; use ReplacedTokenDetection, or pass generator=True",
            "^the family t5 generates behind its encoder; use Seq2SeqLM",
        ]
    )
    refused((ConfigError, CheckpointError), match, zoo.class_of(head).from_pretrained, saved(name, "qingformer"))


def test_a_head_from_scratch_says_what_the_family_has():
    match = "^CausalLM needs the application 'lm', which the family tta does not have; its heads are MaskedLM$"
    refused(ConfigError, match, zoo.class_of("CausalLM"), zoo.TABLE["tta"].config())
    refused(ConfigError, "^Similarity needs the pooler, .* heads of the family llama are CausalLM$", Similarity,
            zoo.TABLE["llama"].config())  # fmt: skip


def test_weights_of_a_head_that_are_not_there(tmp_path):
    folder = saved("bert", "huggingface", "MaskedLM")
    match = r"2 weights are missing \(next_sentence/kernel, next_sentence/bias\)"
    refused(CheckpointError, match, PreTraining.from_pretrained, folder)
    body = saved("bert", "huggingface", "Backbone")
    refused(CheckpointError, r"weights are missing \(mlm_dense/kernel, ", MaskedLM.from_pretrained, body)


# --- keys and options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_an_unknown_key_is_named_with_its_file_and_what_is_near(name, tmp_path):
    source = changed(name, tmp_path, hidden_sise=3)
    said = r"unknown key hidden_sise; did you mean hidden_size\? strict=False passes over it"
    match = rf"^{re.escape(str(source))}/config\.json: {said}$"
    refused(ConfigError, match, load(name), source)
    refused(ConfigError, "unknown key hidden_sise; did you", load(name), saved(name, "huggingface"), hidden_sise=3)


@pytest.mark.parametrize("name", [name for name in zoo.PLAIN if not FAMILIES[name].spec.can_untie_embeddings])
def test_untied_where_there_is_no_second_table(name, tmp_path):
    match = rf"tie_word_embeddings is false, but the family {name} has no other output table"
    refused(ConfigError, match, zoo.TABLE[name].config, tie_word_embeddings=False)
    if name in IN_TRANSFORMERS:
        source = changed(name, tmp_path, tie_word_embeddings=False)
        refused(ConfigError, rf"^{re.escape(str(source))}/config\.json: {match}", load(name), source)


IGNORED = [
    ("gau_alpha", {"position_embedding_type": "relative"}),
    ("gau_alpha", {"position_embedding_type": "absolute"}),
    ("gau_alpha", {"query_key_norm": True}),
    ("gau_alpha", {"num_key_value_heads": 1}),
    ("gau_alpha", {"rotary_value": True}),
    ("gpt2_ml", {"norm_position": "pre"}),
    ("roformer_v2", {"position_embedding_type": "absolute"}),
    ("tta", {"position_embedding_type": "rotary"}),
    ("t5", {"position_embedding_type": "rotary"}),
    ("t5", {"mask_diagonal": True}),
]


@pytest.mark.parametrize(("name", "options"), IGNORED)
def test_options_that_a_familys_layers_would_ignore(name, options):
    key, value = next(iter(options.items()))
    match = f"{key} is {value!r}, which the family {name} does not have"
    refused(ConfigError, match, lambda: Backbone(zoo.TABLE[name].config(**options)))


def test_a_gated_unit_has_one_activation():
    match = r"hidden_act is \('swish', 'linear'\): a gated attention unit has one activation"
    refused(ConfigError, match, zoo.make, "gau_alpha", hidden_act=("swish", "linear"))


@pytest.mark.parametrize("format", ["tensorflow", "huggingface"])
def test_unshared_albert_has_no_place_where_blocks_are_shared(format, tmp_path):
    model = zoo.make("albert, unshared")
    weights = model.weight_arrays()
    assert not np.array_equal(weights["block_0/attention/query/kernel"], weights["block_1/attention/query/kernel"])
    match = f"share_blocks=False has no place in the {format} format; save with format='qingformer'"
    refused(ConfigError, match, model.save_pretrained, tmp_path / "model", format=format)
    assert not (tmp_path / "model").exists()
