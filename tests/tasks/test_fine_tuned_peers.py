"""Fine-tuned heads of `transformers`: the classes' logits, labels and answers are the task's."""

import json
import warnings

import keras
import numpy as np
import pytest

from qingformer.models import Backbone
from qingformer.tasks import MultipleChoice, ReadingComprehension, SequenceTagger, TextClassifier, storage

pytestmark = pytest.mark.peers
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好看难书在北京你"]
SIZES = {
    "vocab_size": len(VOCABULARY), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 48,
}  # fmt: skip
FAMILIES = {
    "Bert": {}, "Albert": {"embedding_size": 8}, "Electra": {"embedding_size": 8}, "RoFormer": {"embedding_size": 16},
}  # fmt: skip
TAGS = ["B-LOC", "I-LOC", "B-PER", "I-PER", "O"]


def stored(directory, family, kind, **options):
    """A random model of that class in `directory`, with a tokenizer's vocabulary."""
    import torch
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**SIZES, **FAMILIES[family], **options)
    model = getattr(transformers, f"{family}For{kind}")(config).eval()
    with torch.no_grad():
        for parameter in filter(lambda one: one.requires_grad, model.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(directory)
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return model


def batch(length=7, rows=3):
    generator = np.random.default_rng(0)
    mask = np.array([[1] * n + [0] * (length - n) for n in range(length, length - rows, -1)], "int32")
    ids = generator.integers(5, len(VOCABULARY), (rows, length)).astype("int32") * mask
    segments = np.sort(generator.integers(0, 2, (rows, length)), axis=1).astype("int32") * mask
    return {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}


def theirs(model, inputs):
    import torch

    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    with torch.no_grad():
        return model(**{names[key]: torch.tensor(value).long() for key, value in inputs.items()})


def ours(task, inputs):
    return keras.ops.convert_to_numpy(task.model(inputs, training=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_classifier(tmp_path, family):
    names = {0: "neg", 1: "pos", 2: "mixed"}
    model = stored(
        tmp_path, family, "SequenceClassification", id2label=names, label2id={v: k for k, v in names.items()}
    )
    task, inputs = TextClassifier.from_pretrained(tmp_path, max_length=16), batch()
    wanted = theirs(model, inputs).logits.numpy()
    assert task.labels == ["neg", "pos", "mixed"]
    np.testing.assert_allclose(ours(task, inputs), wanted, atol=1e-5)
    other = TextClassifier.from_pretrained(tmp_path, labels=["pos", "mixed", "neg"], max_length=16)
    np.testing.assert_allclose(ours(other, inputs), wanted[:, [1, 2, 0]], atol=1e-5)
    assert "taken" in task.backbone.loading_report.summary()
    assert "left out" in Backbone.from_pretrained(tmp_path).loading_report.summary()


@pytest.mark.parametrize("family", FAMILIES)
def test_tagger(tmp_path, family):
    model = stored(tmp_path, family, "TokenClassification", id2label=dict(enumerate(TAGS)))
    task, inputs = SequenceTagger.from_pretrained(tmp_path, max_length=16), batch()
    assert (task.head, task.scheme, task.labels) == ("softmax", "bio", ["LOC", "PER"])
    wanted = theirs(model, inputs).logits.numpy()[:, :, [4, 0, 1, 2, 3]]
    kept = inputs["padding_mask"].astype(bool)
    np.testing.assert_allclose(ours(task, inputs)[kept], wanted[kept], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_reader(tmp_path, family):
    model = stored(tmp_path, family, "QuestionAnswering")
    task, inputs = ReadingComprehension.from_pretrained(tmp_path, max_length=40, stride=4), batch()
    found = theirs(model, inputs)
    wanted = np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=-1)
    kept = inputs["padding_mask"].astype(bool)
    scores = ours(task, {**inputs, "answer_mask": inputs["padding_mask"]})
    np.testing.assert_allclose(scores[kept], wanted[kept], atol=1e-5)
    assert task.predict([("在北京你好", "难书")])[0].answer


CHOICES = [
    ("Bert", {}), ("Albert", {}), ("Electra", {}), ("Electra", {"summary_activation": "tanh"}),
    ("Electra", {"summary_use_proj": False, "summary_activation": ""}),
    ("RoFormer", {"summary_type": "first", "summary_use_proj": True}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "options"), CHOICES)
def test_choice(tmp_path, family, options):
    model = stored(tmp_path, family, "MultipleChoice", **options)
    task, inputs = MultipleChoice.from_pretrained(tmp_path, max_length=16), batch(rows=2)
    wanted = theirs(model, {key: value[None] for key, value in inputs.items()}).logits.numpy()
    np.testing.assert_allclose(ours(task, inputs).reshape(1, 2), wanted, atol=1e-5)


def test_a_choice_from_the_last_position_is_left_out(tmp_path):
    stored(tmp_path, "RoFormer", "MultipleChoice")
    with pytest.warns(UserWarning, match="left out: it reads the last position"):
        MultipleChoice.from_pretrained(tmp_path, max_length=16)


def test_several_labels(tmp_path):
    stored(tmp_path, "Bert", "SequenceClassification", problem_type="multi_label_classification", num_labels=3)
    task = TextClassifier.from_pretrained(tmp_path, max_length=16)
    assert task.multi_label
    assert task.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == 3


# --- and back ---------------------------------------------------------------------------------------------------------

KINDS = {
    "SequenceClassification": (TextClassifier, {"labels": ["no", "yes", "?"]}),
    "TokenClassification": (SequenceTagger, {"labels": ["LOC", "PER"], "head": "softmax", "scheme": "bioes"}),
    "QuestionAnswering": (ReadingComprehension, {"no_answer": True, "stride": 2}),
    "MultipleChoice": (MultipleChoice, {}),
}


def disturbed(task):
    for number, variable in enumerate(task.model.variables):
        if not variable.path.endswith("seed_generator_state"):
            noise = np.random.default_rng(number).normal(size=variable.shape) * 0.2
            variable.assign(keras.ops.convert_to_numpy(variable.value) + noise.astype("float32"))
    return task


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_what_a_task_saves(tmp_path, family, kind):
    import transformers

    stored(tmp_path / "start", family, kind)
    make, options = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the head that is there has other labels, or none
        made = make.from_pretrained(tmp_path / "start", max_length=16, **options)
    task, inputs = disturbed(made), batch()
    task.save(tmp_path / "saved", format="huggingface")
    model, notes = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert type(model).__name__ == f"{family}For{kind}"
    assert not any(notes[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    many = kind == "MultipleChoice"
    found = theirs(model.eval(), {key: value[None] for key, value in inputs.items()} if many else inputs)
    kept = inputs["padding_mask"].astype(bool)
    if kind == "QuestionAnswering":
        wanted = np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=-1)[kept]
        got = ours(task, {**inputs, "answer_mask": inputs["padding_mask"]})[kept]
    else:
        wanted, got = found.logits.numpy(), ours(task, inputs)
        wanted, got = (wanted.T, got) if many else (wanted, got)
        wanted, got = (wanted[kept], got[kept]) if kind == "TokenClassification" else (wanted, got)
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = make.from_pretrained(tmp_path / "saved")
    assert storage.settings_of(again) == storage.settings_of(task)
    for one, other in zip(task.model.weights, again.model.weights, strict=True):
        if "pooler" not in one.path and "seed" not in one.path:
            np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_pipeline_says_the_same(tmp_path):
    import transformers

    stored(tmp_path / "start", "Bert", "SequenceClassification", id2label={0: "no", 1: "yes"})
    task = disturbed(TextClassifier.from_pretrained(tmp_path / "start", max_length=16))
    task.save(tmp_path / "saved", format="huggingface")
    ask = transformers.pipeline("text-classification", str(tmp_path / "saved"), top_k=None)
    for text in ("好看在北京", "难书"):
        found = {each["label"]: each["score"] for each in ask([text])[0]}
        wanted = task.predict([text])[0].probabilities
        assert found == pytest.approx(wanted, abs=1e-5)


def test_a_body_alone_has_the_name_of_its_class(tmp_path):
    import transformers

    for family in FAMILIES:
        stored(tmp_path / family, family, "SequenceClassification")
        body = Backbone.from_pretrained(tmp_path / family)
        body.save_pretrained(tmp_path / f"{family}-body", format="huggingface")
        model, notes = transformers.AutoModel.from_pretrained(tmp_path / f"{family}-body", output_loading_info=True)
        assert type(model).__name__ == f"{family}Model"
        assert json.loads((tmp_path / f"{family}-body" / "config.json").read_text())["architectures"] == [
            f"{family}Model"
        ]
        assert not notes["missing_keys"]
        assert not notes["unexpected_keys"]
        wanted = theirs(model.eval(), batch()).last_hidden_state.numpy()
        kept = batch()["padding_mask"].astype(bool)
        got = keras.ops.convert_to_numpy(body(batch())["sequence_output"])
        np.testing.assert_allclose(got[kept], wanted[kept], atol=1e-5)
