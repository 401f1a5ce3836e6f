"""Fine-tuned heads in files: taken with their labels, or said to be left out; random heads answer nothing."""

import json
import warnings

import keras
import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint, write_safetensors, write_tensor_bundle
from qingformer.errors import ConfigError
from qingformer.models import Backbone, MaskedLM, PreTraining
from qingformer.tasks import MultipleChoice, ReadingComprehension, SequenceTagger, TextClassifier, load
from tests.tasks.helpers import VOCABULARY, backbone, classifier, rows, tokenizer

LABELS = ["weather", "music", "food"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def folder(path, arrays, architecture=None, layout="huggingface", body=None, **values):
    """A body in that layout with more arrays and more keys of the configuration."""
    (body or backbone()).save_pretrained(path, format=layout, tokenizer=tokenizer())
    weights = path / ("model.safetensors" if layout == "huggingface" else "bert_model.ckpt")
    with open_checkpoint(weights) as file:
        arrays = {name: np.array(file.read(name)) for name in file.names()} | arrays
    (write_safetensors if layout == "huggingface" else write_tensor_bundle)(weights, arrays)
    config = path / ("config.json" if layout == "huggingface" else "bert_config.json")
    values |= {"architectures": [architecture]} if architecture else {}
    config.write_text(json.dumps({**json.loads(config.read_text()), **values}))
    return path


def classified(path, outputs=3, architecture="BertForSequenceClassification", **values):
    arrays = {"classifier.weight": normal(outputs, 16), "classifier.bias": normal(outputs, seed=1)}
    return folder(path, arrays, architecture, **values)


def inputs():
    return {"token_ids": np.array([[2, 5, 6, 7, 3]]), "segment_ids": np.zeros((1, 5), "int32"),
            "padding_mask": np.ones((1, 5), "int32")}  # fmt: skip


def outputs_of(task, **more):
    return keras.ops.convert_to_numpy(task.model({**inputs(), **more}, training=False))


def pooled(name="pooled_output"):
    return keras.ops.convert_to_numpy(backbone()(inputs())[name])


def quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return make()


def test_a_classifier_is_taken_with_its_labels(tmp_path):
    names = {"0": "weather", "2": "food", "1": "music"}
    classified(tmp_path, id2label=names)
    wanted = pooled() @ normal(3, 16).T + normal(3, seed=1)
    task = quietly(lambda: TextClassifier.from_pretrained(tmp_path, max_length=16))
    assert task.labels == LABELS
    np.testing.assert_allclose(outputs_of(task), wanted, atol=1e-5)
    assert len(task.predict(["天气"])[0].probabilities) == 3
    other = TextClassifier.from_pretrained(tmp_path, ["music", "food", "weather"], max_length=16)
    np.testing.assert_allclose(outputs_of(other), wanted[:, [1, 2, 0]], atol=1e-5)
    report = task.backbone.loading_report
    assert report.left_over == []
    assert report.summary().endswith("a fine-tuned ForSequenceClassification of 3 outputs (classifier.weight) taken")
    assert Backbone.from_pretrained(tmp_path).loading_report.summary().endswith("(classifier.weight) left out")


@pytest.mark.parametrize("prefix", ["_fsdp_wrapped_module.", "text_classifier.", "module.net._orig_mod."])
def test_a_head_is_known_under_any_prefix_of_the_names(prefix, tmp_path):
    classified(tmp_path, id2label=dict(enumerate(LABELS)))
    with open_checkpoint(tmp_path) as file:
        arrays = {prefix + name: np.array(file.read(name)) for name in file.names()}
    write_safetensors(tmp_path / "model.safetensors", arrays)
    task = quietly(lambda: TextClassifier.from_pretrained(tmp_path, max_length=16))
    assert task.labels == LABELS
    np.testing.assert_allclose(outputs_of(task), pooled() @ normal(3, 16).T + normal(3, seed=1), atol=1e-5)
    assert task.backbone.loading_report.left_over == []


def test_labels_without_names_are_named_by_the_caller(tmp_path):
    classified(tmp_path)
    assert TextClassifier.from_pretrained(tmp_path, max_length=16).labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    task = quietly(lambda: TextClassifier.from_pretrained(tmp_path, LABELS, max_length=16))
    np.testing.assert_allclose(outputs_of(task), pooled() @ normal(3, 16).T + normal(3, seed=1), atol=1e-5)


def test_a_hidden_layer_reads_the_first_vector(tmp_path):
    config = {"family": "electra", "pooler": False}
    body, width = backbone(**config), 16
    arrays = {"classifier.dense.weight": normal(width, width) / 4, "classifier.dense.bias": normal(width, seed=2)}
    arrays |= {"classifier.out_proj.weight": normal(2, width), "classifier.out_proj.bias": normal(2, seed=1)}
    folder(tmp_path, arrays, "ElectraForSequenceClassification", body=body)
    task = quietly(lambda: TextClassifier.from_pretrained(tmp_path, max_length=16))
    first = keras.ops.convert_to_numpy(body(inputs())["sequence_output"])[:, 0]
    hidden = keras.ops.convert_to_numpy(
        keras.activations.gelu(first @ (normal(width, width) / 4).T + normal(width, seed=2), approximate=False)
    )
    np.testing.assert_allclose(outputs_of(task), hidden @ normal(2, width).T + normal(2, seed=1), atol=1e-5)
    again = TextClassifier.load(task.save(tmp_path / "saved"))
    assert again.hidden_activation == "gelu"
    np.testing.assert_allclose(outputs_of(again), outputs_of(task), atol=1e-6)


@pytest.mark.parametrize(("arrays", "given", "said"), [
    ({"output_weights": normal(3, 16), "output_bias": normal(3, seed=1)}, {"labels": LABELS}, None),
    ({"output_weights": normal(3, 16), "output_bias": normal(3, seed=1)}, {}, "pass labels= in their order"),
    ({"output_weights": normal(3, 16), "output_bias": normal(3, seed=1)}, {"labels": "ab"}, "3 outputs, but 2 labels"),
])  # fmt: skip
def test_googles_classifier(tmp_path, arrays, given, said):
    folder(tmp_path, arrays, layout="tensorflow")
    given = {"labels": list(given["labels"])} if given else {}
    if said is None:
        task = quietly(lambda: TextClassifier.from_pretrained(tmp_path, max_length=16, **given))
        np.testing.assert_allclose(outputs_of(task), pooled() @ normal(3, 16).T + normal(3, seed=1), atol=1e-5)
        return
    with pytest.warns(UserWarning, match=f"was left out: .*{said}.*; call fit before predict"):
        task = TextClassifier.from_pretrained(tmp_path, max_length=16, **given)
    with pytest.raises(ConfigError, match=said):
        task.predict(["天气"])


def test_googles_reader(tmp_path):
    arrays = {"cls/squad/output_weights": normal(2, 16), "cls/squad/output_bias": normal(2, seed=1)}
    folder(tmp_path, arrays, layout="tensorflow")
    reader = quietly(lambda: ReadingComprehension.from_pretrained(tmp_path, max_length=24, stride=4))
    wanted = pooled("sequence_output") @ normal(2, 16).T + normal(2, seed=1)
    np.testing.assert_allclose(outputs_of(reader, answer_mask=np.ones((1, 5), "int32")), wanted, atol=1e-5)
    assert reader.predict([("天气晴雨", "唱听")])[0].answer
    rows = [("天气", "雨", "天")] * 2 + [("歌曲", "雨", "")] * 2
    reader.fit(rows, epochs=1, batch_size=4, verbose=0)
    assert reader.no_answer  # the data knows questions without answer, which the file did not say


@pytest.mark.parametrize(("tags", "scheme", "labels", "order"), [
    (["B-LOC", "I-LOC", "O"], "bio", ["LOC"], [2, 0, 1]),
    (["O", "[PAD]", "b_X", "i_X"], "bio", ["X"], [0, 2, 3]),
    (["U-A", "L-A", "I-A", "B-A", "O"], "bioes", ["A"], [4, 3, 2, 1, 0]),
    (["B", "M", "E", "S"], "bmes", ["word"], [0, 1, 2, 3]),
])  # fmt: skip
def test_tags_become_a_scheme(tmp_path, tags, scheme, labels, order):
    classified(tmp_path, len(tags), "BertForTokenClassification", id2label=dict(enumerate(tags)))
    tagger = quietly(lambda: SequenceTagger.from_pretrained(tmp_path, max_length=16))
    assert (tagger.head, tagger.scheme, tagger.labels, tagger.constrained) == ("softmax", scheme, labels, True)
    wanted = pooled("sequence_output") @ normal(len(tags), 16).T + normal(len(tags), seed=1)
    np.testing.assert_allclose(outputs_of(tagger), wanted[:, :, order], atol=1e-5)
    tagger.predict(["天气晴雨"])


def test_tags_that_the_head_lacks_are_never_given(tmp_path):
    classified(tmp_path, 4, "BertForTokenClassification", id2label=dict(enumerate(["O", "B-A", "I-A", "S-A"])))
    tagger = SequenceTagger.from_pretrained(tmp_path, max_length=16)
    assert (tagger.scheme, tagger.constrained) == ("bioes", False)
    assert outputs_of(tagger)[0, :, 3].max() == -1e4


def test_a_choice_is_taken(tmp_path):
    classified(tmp_path, 1, "BertForMultipleChoice")
    task = quietly(lambda: MultipleChoice.from_pretrained(tmp_path, max_length=16))
    np.testing.assert_allclose(outputs_of(task), pooled() @ normal(1, 16).T + normal(1, seed=1), atol=1e-5)


@pytest.mark.parametrize(("kind", "outputs", "values", "make", "said"), [
    ("TokenClassification", 3, {}, TextClassifier, "it is for TokenClassification, not for SequenceClassification"),
    ("SequenceClassification", 1, {}, TextClassifier, "a regression of 1 output"),
    ("SequenceClassification", 3, {"id2label": {0: "a", 1: "b"}}, TextClassifier, "id2label names 2 labels"),
    ("SequenceClassification", 2, {"id2label": {0: "a", 1: "a"}}, TextClassifier, "a label twice"),
    ("TokenClassification", 2, {}, SequenceTagger, "LABEL_0, LABEL_1 are not tags"),
    ("SequenceClassification", 2, {}, ReadingComprehension, "it is for SequenceClassification"),
    ("SequenceClassification", 2, {}, MultipleChoice, "it is for SequenceClassification"),
])  # fmt: skip
def test_what_no_task_can_use_is_said_and_answers_nothing(tmp_path, kind, outputs, values, make, said):
    classified(tmp_path, outputs, f"BertFor{kind}", **values)
    with pytest.warns(UserWarning, match=f"was left out: .*{said}"):
        task = make.from_pretrained(tmp_path, max_length=24)
    data = {TextClassifier: ["天"], SequenceTagger: ["天"], ReadingComprehension: [("天", "雨")]}
    with pytest.raises(ConfigError, match="call fit") as raised:
        task.predict(data.get(make, [{"context": "天", "question": "雨", "choices": ["晴", "雨"]}]))
    assert said.split(" ")[0] in str(raised.value)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_other_labels_than_those_given_are_said(tmp_path):
    classified(tmp_path, id2label=dict(enumerate(LABELS)))
    with pytest.warns(UserWarning, match="its labels are weather, music, food, but a, b, c are given"):
        task = TextClassifier.from_pretrained(tmp_path, ["a", "b", "c"], max_length=16)
    with pytest.raises(ConfigError, match="call fit before predict"):
        task.predict(["天气"])


def test_several_labels_to_a_text(tmp_path):
    classified(tmp_path, problem_type="multi_label_classification")
    assert TextClassifier.from_pretrained(tmp_path, max_length=16).multi_label
    with pytest.warns(UserWarning, match="multi_label=False is asked for"):
        TextClassifier.from_pretrained(tmp_path, max_length=16, multi_label=False)


def test_data_with_other_labels_starts_a_new_head(tmp_path):
    classified(tmp_path, id2label={0: "a", 1: "b", 2: "c"})
    task = TextClassifier.from_pretrained(tmp_path, max_length=16)
    with pytest.warns(UserWarning, match="the stored head of the labels a, b, c is replaced"):
        task.fit(rows(12), epochs=1, batch_size=12, verbose=0)
    assert task.labels == sorted(LABELS)
    task.predict(["天气"])


def test_a_random_head_answers_nothing_until_it_has_learnt(tmp_path):
    backbone().save_pretrained(tmp_path, tokenizer=tokenizer())
    task = quietly(lambda: TextClassifier.from_pretrained(tmp_path, LABELS, max_length=16))
    with pytest.raises(ConfigError, match="on top of the encoder are random; call fit before predict"):
        task.predict(["天气"])
    task.model.get_layer("classifier").bias.assign(normal(3))  # trained by other means
    task.predict(["天气"])


def test_a_saved_task_is_a_fine_tuned_head(tmp_path):
    saved = classifier(labels=LABELS, dropout=0.3).save(tmp_path / "task")
    task = quietly(lambda: TextClassifier.from_pretrained(saved))
    assert (task.labels, task.max_length, task.dropout) == (LABELS, 16, 0.3)
    np.testing.assert_array_equal(outputs_of(task), outputs_of(TextClassifier.load(saved)))
    with pytest.warns(UserWarning, match=r"the head of a text-classifier \(head.safetensors\) was left out"):
        SequenceTagger.from_pretrained(saved, max_length=16)
    assert "left out" in Backbone.from_pretrained(saved).loading_report.summary()
    assert len(VOCABULARY) == task.backbone.config.vocab_size


# --- in Hugging Face's form -------------------------------------------------------------------------------------------


def written(path):
    with open_checkpoint(path / "model.safetensors") as file:
        return {name: np.array(file.read(name)) for name in file.names()}


def test_a_classifier_goes_out_and_comes_back(tmp_path):
    task = classifier(labels=["b", "a"], dropout=0.25, multi_label=True)
    task.model.get_layer("classifier").bias.assign([1.0, 2.0])
    task.save(tmp_path / "hf", format="huggingface")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "b", "1": "a"}
    assert config["label2id"] == {"b": 0, "a": 1}
    assert config["problem_type"] == "multi_label_classification"
    arrays = written(tmp_path / "hf")
    kernel = keras.ops.convert_to_numpy(task.model.get_layer("classifier").kernel)
    np.testing.assert_array_equal(arrays["classifier.weight"], kernel.T)
    np.testing.assert_array_equal(arrays["classifier.bias"], [1, 2])
    assert "bert.pooler.dense.weight" in arrays
    for again in (TextClassifier.from_pretrained(tmp_path / "hf"), load(tmp_path / "hf")):
        assert isinstance(again, TextClassifier)
        assert (again.labels, again.multi_label, again.dropout, again.max_length) == (["b", "a"], True, 0.25, 16)
        np.testing.assert_array_equal(outputs_of(again), outputs_of(task))


def test_a_tagger_goes_out_without_the_pooler_and_over_an_older_task(tmp_path):
    made = SequenceTagger(backbone(), tokenizer(), ["A"], head="softmax", scheme="bioes", max_length=16)
    (tmp_path / "notes.txt").write_text("mine")
    made.save(tmp_path)
    made.save(tmp_path, format="huggingface")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "config.json").read_text())["id2label"]["3"] == "E-A"
    assert not any("pooler" in name for name in written(tmp_path))
    again = load(tmp_path)
    assert (again.head, again.scheme, again.labels, again.stride) == ("softmax", "bioes", ["A"], made.stride)
    np.testing.assert_array_equal(outputs_of(again), outputs_of(made))


def test_what_transformers_cannot_compute_is_refused(tmp_path):
    tagger = SequenceTagger(backbone(), tokenizer(), ["A"], max_length=16)
    with pytest.raises(ConfigError, match="no class for a tagger with head='crf'; train one with head='softmax'"):
        tagger.save(tmp_path / "a", format="huggingface")
    with pytest.raises(ConfigError, match="reads a tanh pooler"):
        TextClassifier(backbone(pooler=False), tokenizer(), ["a", "b"], max_length=16).save(
            tmp_path / "a", "huggingface"
        )
    with pytest.raises(ConfigError, match="unknown format 'tensorflow' of a task"):
        tagger.save(tmp_path / "a", format="tensorflow")
    assert not (tmp_path / "a").exists()


def test_the_body_alone_has_its_own_class(tmp_path):
    body = backbone()
    for model, name in ((body, "BertModel"), (MaskedLM(body), "BertForMaskedLM"), (PreTraining(body), None)):
        model.save_pretrained(tmp_path, format="huggingface")
        found = json.loads((tmp_path / "config.json").read_text())["architectures"]
        assert found == [name or "BertForPreTraining"]
