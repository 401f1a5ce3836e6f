"""What `fit` is given: tricks, optimizers, losses, callbacks; each error is one line that names what to write."""

import keras
import numpy as np
import pytest

import qingformer as qf
from qingformer.errors import ConfigError
from qingformer.losses import FocalLoss, LabelSmoothedCrossentropy, named_loss
from qingformer.tasks.fit_arguments import check_arguments

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好看的电影难书姚明生于上海"]
ROWS = [("好看的电影", "p"), ("难看的书", "n"), ("好书", "p"), ("难看", "n"), ("好电影", "p")]


def backbone(**changes):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes |= {"vocab_size": len(VOCABULARY), "max_position_embeddings": 32}
    keras.utils.set_random_seed(0)
    return qf.Backbone(qf.BackboneConfig(**sizes, **rates | changes))


def over(kind, dropout=0.0, dtype=None, **options):
    """A task over one small encoder that drops nothing out."""
    encoder = backbone() if dtype is None else qf.Backbone(backbone().config, dtype=dtype)
    return kind(encoder, qf.Tokenizer.from_vocabulary(VOCABULARY), **{"max_length": 16} | options, dropout=dropout)


def classifier(**options):
    return over(qf.TextClassifier, labels=["n", "p"], **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transforms": qf.FGM(0.5)}, r"transforms is a single FGM; give a list: transforms=\[FGM\(...\)\]"),
        ({"transforms": ["fgm=0.5"]}, r"transforms=\[qf.FGM\(0.5\)\]"),
        ({"transforms": "r_drop"}, r"give a list: transforms=\[qf.RDrop\(\)\]"),
        ({"transforms": [qf.FGM]}, r"the class FGM; give an object: transforms=\[qf.FGM\(\)\]"),
        ({"transforms": None}, r"transforms is None; give a list"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; give an optimizer"),
        ({"batch_size": 1.5}, "batch_size is 1.5; expected a whole number, 1 or more"),
        ({"batch_size": "32"}, "batch_size is '32'; expected a whole number"),
        ({"save_every": -1}, "save_every is -1; expected a whole number, 0 or more"),
        ({"save_every": "a"}, "save_every is 'a'; expected a whole number"),
        ({"patience": 1.5}, "patience is 1.5; expected a whole number, 1 or more"),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 or more"),
        ({"seed": None}, "seed is None; expected a whole number"),
        ({"optimizer": keras.optimizers.AdamW(), "learning_rate": 0.1}, r"write the rate into .* AdamW\(0.1"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line_before_anything_is_read(options, said):
    for task in (classifier(), over(qf.SequenceTagger, labels=["PER"])):
        with pytest.raises(ConfigError, match=said) as caught:
            task.fit("no-such-file.jsonl", **options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


def test_numbers_of_numpy_are_counts_and_a_list_is_no_weight_by_label(tmp_path):
    one = np.int64(1)
    classifier().fit(ROWS, ROWS, epochs=one, batch_size=np.int32(4), seed=one, save_every=one, patience=one,
                     directory=tmp_path, verbose=0)  # fmt: skip
    with pytest.raises(ConfigError, match=r"class_weights is .*expected a weight by label, such as {'n': 2.0}"):
        classifier().fit(ROWS, class_weights=[1, 2])


def test_a_rate_that_is_text_and_a_loss_that_is_none():
    with pytest.raises(ConfigError, match="learning_rate is 'fast'"):
        classifier().fit(ROWS, learning_rate="fast")
    for loss, said in (("focall", "one of crossentropy"), (FocalLoss, "the class FocalLoss"), (3, "loss is 3")):
        with pytest.raises(ConfigError, match=said):
            classifier().fit("no-such-file.jsonl", loss=loss)


def test_callbacks_that_set_a_rate_beside_a_schedule_are_refused_before_the_first_step():
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss")
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, 100)
    with pytest.raises(ConfigError, match="ReduceLROnPlateau sets the learning rate"):
        check_arguments([], keras.optimizers.Adam(schedule), None, [plateau])
    check_arguments([], keras.optimizers.Adam(1e-3), None, [plateau])
    check_arguments([], qf.optimizers.adamw(qf.optimizers.AdjustableRate(schedule)), None, [plateau])


def test_what_is_no_list_of_callbacks_is_refused_before_the_first_step():
    averages, average = keras.callbacks.SwapEMAWeights(), keras.optimizers.Adam(1e-3, use_ema=True)
    wrong = (
        (keras.callbacks.TerminateOnNaN(), "callbacks is a single TerminateOnNaN; give a list"),
        ([keras.callbacks.TerminateOnNaN], "callbacks holds the class TerminateOnNaN; give objects"),
        ([3], "callbacks holds 3"),
        (3, "callbacks is 3; give a list"),
        ([averages], "SwapEMAWeights needs an optimizer that averages"),
    )
    for callbacks, said in wrong:
        for optimizer in (None, keras.optimizers.Adam(1e-3)):
            with pytest.raises(ConfigError, match=said):
                check_arguments([], optimizer, None, callbacks)
    check_arguments([], None, None, None)
    check_arguments([], average, None, (averages,))
    assert classifier().fit(ROWS, epochs=1, verbose=0, callbacks=None)


def test_the_default_optimizer_takes_callbacks_that_set_the_rate():
    task, seen = classifier(), []
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=10.0)
    read = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append(float(task.model.optimizer.learning_rate))
    )
    task.fit(ROWS, ROWS, epochs=4, batch_size=2, learning_rate=0.01, verbose=0, callbacks=[plateau, read])
    whole = qf.optimizers.warmup_linear(0.01, 12)
    np.testing.assert_allclose(seen, [float(whole(3 * n)) * 0.5 ** (n - 1) for n in range(1, 5)], rtol=1e-5, atol=1e-9)


def test_float16_tasks_train_with_a_loss_scale():
    task = classifier(dtype="mixed_float16")
    task.fit(ROWS, epochs=1, batch_size=8, verbose=0)
    assert isinstance(task.model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_plain_function_is_a_loss():
    def by_hand(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

    found = [
        classifier().fit(ROWS, epochs=1, batch_size=size, loss=loss, optimizer=keras.optimizers.SGD(0.0), verbose=0)
        for loss, size in ((by_hand, 8), (None, 5))
    ]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-6)
    assert named_loss(by_hand).name == "by_hand"
    with pytest.raises(ConfigError, match="gives one number for a batch"):
        classifier().fit(ROWS, loss=lambda y, p: keras.ops.mean(by_hand(y, p)), verbose=0)


def later(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("loss", [LabelSmoothedCrossentropy(0.1), *map(later, ("focal", "dice", "logit_adjustment"))])
def test_r_drop_knows_how_each_loss_compares_predictions(loss):
    curve = classifier(dropout=0.1).fit(ROWS, epochs=1, batch_size=8, transforms=[qf.RDrop(4.0)], loss=loss, verbose=0)
    assert np.isfinite(curve["loss"][0])


@pytest.mark.parametrize("loss", ["dice", *map(later, ("focal", "multilabel_crossentropy", "smooth_f1"))])
def test_r_drop_with_several_labels(loss):
    rows = [(text, [label]) for text, label in ROWS]
    curve = classifier(multi_label=True, dropout=0.1).fit(
        rows, epochs=1, batch_size=8, transforms=[qf.RDrop()], loss=loss, verbose=0
    )
    assert np.isfinite(curve["loss"][0])


PAIRS = [("好看", "电影", "p"), ("难看", "书", "n")] * 2


def test_encoders_with_one_token_type_read_pairs():
    encoder, tokenizer = backbone(type_vocab_size=1), qf.Tokenizer.from_vocabulary(VOCABULARY)
    task = qf.TextClassifier(encoder, tokenizer, max_length=16)
    assert np.isfinite(task.fit(PAIRS, epochs=1, batch_size=4, verbose=0)["loss"][0])
    assert 0 < task.predict([("好", "书")])[0].probability < 1
    for kind, name in ((qf.ReadingComprehension, "reading"), (qf.MultipleChoice, "choice")):
        task = kind(encoder, tokenizer, max_length=24)
        assert np.isfinite(task.fit(DATA[name], epochs=1, batch_size=4, verbose=0)["loss"][0])
        assert len(task.predict(DATA[name][:1])) == 1


TASKS = {
    "classes": (qf.TextClassifier, {"labels": ["n", "p"]}),
    "crf": (qf.SequenceTagger, {"labels": ["PER"], "head": "crf"}),
    "memm": (qf.SequenceTagger, {"labels": ["PER"], "head": "memm"}),
    "softmax": (qf.SequenceTagger, {"labels": ["PER"], "head": "softmax"}),
    "pointers": (qf.SequenceTagger, {"labels": ["PER"], "head": "global_pointer"}),
    "linker": (qf.RelationExtractor, {}),
    "cascade": (qf.RelationExtractor, {"design": "cascade"}),
    "reading": (qf.ReadingComprehension, {"max_length": 24, "stride": 2}),
    "choice": (qf.MultipleChoice, {"max_length": 24}),
}
SPANS = [("姚明生于上海", [(0, 2, "PER")]), ("姚明", [(0, 2, "PER")]), ("上海的书", [])]
TRIPLES = [{"text": "姚明生于上海", "triples": [["姚明", "生于", "上海"]]}, {"text": "姚明的书", "triples": []},
           {"text": "上海姚明", "triples": [["姚明", "生于", "上海"]]}]  # fmt: skip
DATA = {
    "classes": ROWS,
    "linker": TRIPLES, "cascade": TRIPLES,
    "reading": [("好看的电影", "书", "电影"), ("姚明生于上海", "于", "上海"), ("好书", "书", "好")],
    "choice": [{"context": "好看", "question": "书", "choices": ["电", "影"], "answer": n} for n in (0, 1, 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", [each if each in ("crf", "choice") else later(each) for each in TASKS])
def test_the_loss_of_a_task_is_that_of_its_examples(name):
    """Padded, in batches of two, and in parts: to the same loss, and one step to the same weights."""
    kind, options = TASKS[name]
    data = DATA.get(name, SPANS)

    def fitted(size, rate=0.0, **more):
        task = over(kind, **options)
        optimizer = keras.optimizers.SGD(rate)
        loss = task.fit(data, epochs=1, batch_size=size, optimizer=optimizer, verbose=0, **more)["loss"][0]
        return loss, [keras.ops.convert_to_numpy(v) for v in task.model.trainable_variables]

    losses = [fitted(size)[0] for size in (len(data), 2, 16)]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=2e-6)
    whole = fitted(len(data), 1.0)[1]
    for weights in (fitted(16, 1.0)[1], fitted(16, 1.0, transforms=[qf.GradientAccumulation(4)])[1]):
        for one, other in zip(whole, weights, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_r_drop_knows_how_each_task_compares_predictions(name):
    kind, options = TASKS[name]
    curve = over(kind, dropout=0.1, **options).fit(
        DATA.get(name, SPANS), epochs=1, batch_size=4, transforms=[qf.RDrop(4.0)], verbose=0
    )
    assert np.isfinite(curve["loss"][0])
