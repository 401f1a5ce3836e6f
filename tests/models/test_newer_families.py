"""ModernBERT and ERNIE beside the parity with `transformers`: windows, tasks, refusals by name, tokenizers."""

import json
import warnings

import keras
import numpy as np
import pytest
import tokenizers
from keras import ops

import qingformer as qf
from qingformer import backend
from qingformer.checkpoints import open_checkpoint, write_safetensors
from qingformer.errors import ConfigError, HeadWarning
from qingformer.models import Backbone, BackboneConfig, MaskedLM
from qingformer.models.ernie import ErnieConfig
from qingformer.models.modernbert import ModernBertConfig, WindowMask
from tests.models import random_models, zoo


def published(**changes) -> dict:
    """A configuration as the first release of ModernBERT has it, with changes."""
    values = {
        "model_type": "modernbert",
        "vocab_size": 50368,
        "hidden_activation": "gelu",
        "norm_eps": 1e-5,
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "absolute",
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "classifier_pooling": "mean",
        "num_hidden_layers": 22,
        "cls_token_id": 50281,
        "pad_token_id": 50283,
        "reference_compile": None,
    }
    return values | changes


def read(**changes) -> BackboneConfig:
    return BackboneConfig.from_dict(published(**changes), "config.json", family="modernbert")


# --- configurations ---------------------------------------------------------------------------------------------------


def test_a_family_has_its_own_class_of_configuration():
    config = BackboneConfig(vocab_size=9, family="modernbert", local_attention=10)
    assert type(config) is ModernBertConfig
    assert type(config.replace(local_attention=12)) is ModernBertConfig
    assert type(BackboneConfig(vocab_size=9)) is BackboneConfig
    again = BackboneConfig.from_dict(config.to_dict(), family="modernbert")
    assert again == config
    with pytest.raises(ConfigError, match="unknown key local_attention"):
        BackboneConfig(vocab_size=9, local_attention=10)
    with pytest.raises(ConfigError, match="unknown key use_task_id"):
        BackboneConfig.from_dict({"vocab_size": 9, "use_task_id": True}, family="bert")
    assert isinstance(BackboneConfig(vocab_size=9, family="ernie"), ErnieConfig)


def test_both_ways_of_writing_a_configuration_are_read_alike():
    older = read(global_attn_every_n_layers=4)
    kinds = ["sliding_attention" if index % 4 else "full_attention" for index in range(22)]
    bases = {"full_attention": {"rope_theta": 160000.0}, "sliding_attention": {"rope_theta": 10000.0}}
    assert read(layer_types=kinds, rope_parameters=bases, global_rope_theta=1.0, local_rope_theta=1.0) == older
    assert older.global_attn_every_n_layers == 4
    assert (older.rotary_base, older.local_rotary_base, older.layer_norm_eps) == (160000.0, 10000.0, 1e-5)
    assert read(local_rope_theta=None).local_rotary_base == 160000.0


REFUSED = [
    ({"layer_types": ["sliding_attention", "full_attention"]}, "layer_types is .*: here every n-th block"),
    ({"layer_types": ["full_attention"] * 22, "global_attn_every_n_layers": 3}, "layer_types is"),
    ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_parameters of full_attention are .*only type here is"),
    ({"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}}, "rope_parameters of sliding_attention are"),
    ({"embedding_dropout": 0.1, "mlp_dropout": 0.2}, "mlp_dropout is 0.2, but embedding_dropout is 0.1"),
    ({"tie_word_embeddings": False}, "the family modernbert has no other output table"),
    ({"local_attention": 0}, "local_attention is 0: expected a positive number"),
    ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0: expected a positive number"),
]


@pytest.mark.parametrize(("changes", "match"), REFUSED, ids=[json.dumps(changes) for changes, _ in REFUSED])
def test_settings_that_modernbert_cannot_have_are_named(changes, match):
    with pytest.raises(ConfigError, match=match):
        read(**changes)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"share_blocks": True}, "share_blocks is True, which the family modernbert does not have"),
        ({"norm_position": "post"}, "norm_position is 'post', which"),
        ({"application": "lm"}, "application is 'lm': the family modernbert has encoder"),
    ],
)
def test_options_that_modernbert_cannot_have_are_named(options, match):
    with pytest.raises(ConfigError, match=match):
        BackboneConfig(vocab_size=9, family="modernbert", **options)


def test_ernie_without_a_table_of_tasks_has_no_input_of_tasks():
    with pytest.raises(ConfigError, match="custom_task_type_ids is true, but there is no table of tasks"):
        BackboneConfig(vocab_size=9, family="ernie", custom_task_type_ids=True)
    with pytest.raises(ConfigError, match="task_type_vocab_size is 0: expected 1 to 10,000"):
        BackboneConfig(vocab_size=9, family="ernie", use_task_id=True, task_type_vocab_size=0)


# --- what the blocks see ----------------------------------------------------------------------------------------------


def test_a_window_hides_keys_beyond_its_reach():
    keys = np.array([[[[True, True, True, True, False]]]])
    mask = ops.convert_to_numpy(WindowMask(1)(ops.convert_to_tensor(keys)))
    wanted = [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(mask[0, 0], np.array(wanted, bool))


def changed_positions(every: int) -> list[int]:
    """Positions after two blocks whose output changes with the last token of twelve; block 0 moves nothing about."""
    model = zoo.make("modernbert", "Backbone", local_attention=4, global_attn_every_n_layers=every)
    values = model.named_variables()["block_0/attention/value/kernel"]
    values.assign(np.zeros(values.shape, "float32"))
    texts = np.tile(np.arange(1, 13), (2, 1))
    texts[1, -1] = 13
    there, wanted = ops.convert_to_numpy(model({"token_ids": texts})["sequence_output"])
    return np.flatnonzero(np.abs(there - wanted).max(axis=-1) > 1e-6).tolist()


def test_every_nth_block_sees_the_whole_text_and_the_others_their_window():
    assert changed_positions(every=1) == list(range(12))
    assert changed_positions(every=2) == [9, 10, 11]


def test_masks_and_tables_of_positions_are_made_once():
    model = zoo.make("modernbert", "Backbone", num_hidden_layers=6, global_attn_every_n_layers=3)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert (kinds.count("AttentionMask"), kinds.count("WindowMask"), kinds.count("RotaryPositions")) == (1, 1, 2)


def test_the_first_block_has_no_norm_before_its_attention():
    paths = set(zoo.make("modernbert", "MaskedLM").named_variables())
    assert "block_1/attention_norm/gamma" in paths
    assert not any(path.startswith("block_0/attention_norm") for path in paths)
    assert not any(path.endswith(("/beta", "/bias")) for path in paths - {"mlm_bias/bias"})


def test_tasks_change_the_output_and_may_be_left_out():
    plain = zoo.make("ernie", "Backbone")
    model = zoo.make("ernie", "Backbone", custom_task_type_ids=True)
    for path, variable in model.named_variables().items():
        variable.assign(plain.named_variables()[path].value)
    ids = {"token_ids": np.arange(1, 7)[None]}
    wanted = zoo.values(plain(ids))
    zoo.same(zoo.values(model(ids)), wanted)
    zoo.same(zoo.values(model({**ids, "task_type_ids": np.zeros((1, 6), "int32")})), wanted)
    assert zoo.distance(zoo.values(model({**ids, "task_type_ids": np.ones((1, 6), "int32")})), wanted) > 1e-3


# --- files ------------------------------------------------------------------------------------------------------------


def test_dropout_trains_and_stays_out_of_prediction():
    model = zoo.make("modernbert", "MaskedLM", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    inputs = zoo.inputs_of(model)
    plain = zoo.make("modernbert", "MaskedLM")
    zoo.same(zoo.values(model(inputs)), zoo.values(plain(inputs)))
    dropped = zoo.values(model(inputs, training=True))
    assert zoo.distance(dropped, zoo.values(model(inputs))) > 1e-3


def test_gradient_checkpointing_drops_the_same_units():
    rates = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    model = zoo.make("modernbert", "Backbone", **rates)
    inputs = zoo.tensors(model)
    weights, fixed = ([v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables))

    def loss(weights):
        outputs, _ = model.stateless_call(weights, fixed, inputs, training=True)
        return ops.mean(ops.sin(3.0 * outputs["sequence_output"]))

    value, plain = backend.value_and_grad(loss)(weights)
    model.enable_gradient_checkpointing()
    again, recomputed = backend.value_and_grad(loss)(weights)
    np.testing.assert_allclose(float(again), float(value), rtol=1e-6)
    for there, wanted in zip(recomputed, plain):
        np.testing.assert_allclose(random_models.numpy(there), random_models.numpy(wanted), rtol=0, atol=1e-6)


def test_a_fine_tuned_classifier_of_modernbert_is_left_out_with_the_reason(tmp_path):
    zoo.make("modernbert", "MaskedLM", vocab_size=300).save_pretrained(tmp_path, format="huggingface")
    with open_checkpoint(tmp_path / "model.safetensors") as file:
        arrays = {name: np.array(file.read(name)) for name in file.names() if not name.startswith("decoder.")}
    arrays |= {"classifier.weight": np.ones((2, 8), "float32"), "classifier.bias": np.zeros(2, "float32")}
    write_safetensors(tmp_path / "model.safetensors", arrays, metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["ModernBertForSequenceClassification"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_tokenizer(tmp_path)
    with pytest.warns(HeadWarning, match="was left out: it normalises between its two layers"):
        qf.TextClassifier.from_pretrained(tmp_path, labels=["a", "b"], max_length=16)


def save_tokenizer(folder) -> tokenizers.Tokenizer:
    """A byte-level tokenizer with the special tokens and the template of ModernBERT's."""
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special)
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.train_from_iterator(["the weather is fine today", "今天天气不错"] * 5, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    names = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), special))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | names))
    return made


def test_the_tokenizer_of_modernbert_loads(tmp_path):
    made = save_tokenizer(tmp_path)
    ours = qf.Tokenizer.from_pretrained(tmp_path)
    assert (ours.pad_token_id, ours.mask_token_id) == (3, 4)
    for text in ("the weather is fine", "今天 天气 [MASK] 错", ""):
        assert list(ours.encode(text).token_ids) == made.encode(text).ids
    assert list(ours.encode("fine", "today").token_ids) == made.encode("fine", "today").ids


def test_the_tokenizer_of_ernie_loads(tmp_path):
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "，", "的", "天", "气", "[UNK]"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ErnieTokenizer"}))
    ours = qf.Tokenizer.from_pretrained(tmp_path)
    assert list(ours.encode("天气的，[MASK]好").token_ids) == [1, 6, 7, 5, 4, 3, 8, 2]


@pytest.mark.parametrize("name", ["modernbert", "ernie"])
def test_masked_language_models_load_from_their_own_files_and_learn(name, tmp_path):
    model = zoo.make(name, "MaskedLM")
    model.save_pretrained(tmp_path, format="huggingface")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = MaskedLM.from_pretrained(tmp_path)
    assert type(again.backbone) is type(model.backbone)
    assert type(Backbone.from_pretrained(tmp_path)) is type(model.backbone)
    inputs, targets = zoo.inputs_of(again), np.ones((zoo.ROWS, zoo.LENGTH), "int32")
    again.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = again.fit(inputs, targets, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert np.isfinite(random_models.numpy(again(inputs))).all()
