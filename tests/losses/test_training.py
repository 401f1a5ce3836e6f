"""Losses inside of compiled models: fit, transforms, files, half precision, and the classifier's `loss=`."""

import keras
import numpy as np
import pytest

from qingformer import losses
from qingformer.errors import ConfigError
from qingformer.models import BackboneConfig, CausalLM
from qingformer.objectives import FGM, TrainableModel
from qingformer.tasks import fitting
from qingformer.tasks.classification.classifier_training import choose_loss
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.tasks.helpers import FIT, classifier, rows

GENERATOR = np.random.default_rng(0)
IDS = GENERATOR.integers(1, 7, (8, 5)).astype("int32")
LABELS = (IDS.sum(1) % 4).astype("int32")
BITS = (GENERATOR.random((8, 4)) < 0.5).astype("float32")


def model(outputs=4, kind=TrainableModel):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="int32")
    start = keras.initializers.RandomNormal(stddev=1.0)  # long enough vectors that a small step is a small turn
    x = keras.layers.Embedding(7, 3, embeddings_initializer=start, name="token_embedding")(inputs)
    return kind(inputs, keras.layers.Dense(outputs)(keras.layers.GlobalAveragePooling1D()(x)))


CASES = {
    "focal": (losses.FocalLoss(), LABELS),
    "dice": (losses.DiceLoss(level="batch"), LABELS),
    "smoothed": (losses.LabelSmoothedCrossentropy(), LABELS),
    "adjusted": (losses.LogitAdjustedCrossentropy.from_labels(LABELS, 4), LABELS),
    "multilabel": (losses.MultilabelCategoricalCrossentropy(), BITS),
    "sparse_multilabel": (losses.SparseMultilabelCategoricalCrossentropy(mask_zero=True), IDS[:, :2] % 4),
    "f1": (losses.SmoothF1Crossentropy(), BITS),
    "cosent": (losses.CoSENT(2.0), np.repeat([0.0, 1.0, 2.0, 0.5], 2).astype("float32")),
    "info_nce": (losses.InfoNCE(), np.zeros(8, "float32")),
    "triplet": (losses.TripletLoss(), LABELS),
}
PLAIN, TRICK = keras.Model, TrainableModel
QUICK = [("cosent", TRICK)]  # the others wait for the second ring on JAX, which compiles slowly
PAIRS = [(name, kind) for name in CASES for kind in (PLAIN, TRICK)]


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param(*pair, marks=[] if pair in QUICK else SLOW_ON_JAX) for pair in PAIRS]
)
def test_training_goes_down_and_a_file_keeps_the_loss(name, kind, tmp_path):
    loss, labels = CASES[name]
    made = model(kind=kind)
    options = {"transforms": [FGM(1e-3)]} if kind is TrainableModel else {}
    made.compile(keras.optimizers.SGD(0.01), loss, **options)
    weights = np.array([1.0] * 6 + [0.0] * 2)
    history = made.fit(IDS, labels, sample_weight=weights, batch_size=8, epochs=4, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    made.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.loss) is type(loss)
    assert again.loss.get_config() == loss.get_config()


@slow_on_jax
def test_a_language_model_trains_on_its_own_tokens():
    config = BackboneConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    lm = CausalLM(config, dtype="mixed_bfloat16")
    tokens = np.array([[1, 2, 3, 4, 5, 0], [1, 2, 3, 0, 0, 0]] * 2, "int32")
    mask = (tokens > 0).astype("int32")
    inputs = {"token_ids": tokens, "segment_ids": np.zeros_like(tokens), "padding_mask": mask}
    loss = losses.SequenceCrossentropy()
    before = float(loss(tokens, lm(inputs), mask))
    ignored = losses.sequence_targets(tokens, padding_mask=mask)
    assert float(loss(ignored, lm(inputs))) == pytest.approx(before, rel=1e-6)
    lm.compile(keras.optimizers.Adam(0.05), loss)
    curve = lm.fit(inputs, tokens, sample_weight=mask, batch_size=4, epochs=8, verbose=0).history["loss"]
    assert curve[0] == pytest.approx(before, rel=0.2)
    assert curve[-1] < 0.7 * curve[0]


def test_the_classifier_hands_its_loss_on(monkeypatch):
    plans = []
    monkeypatch.setattr(fitting, "_fit", lambda _, model, batches, measure, plan, request: plans.append(plan))
    loss = losses.LabelSmoothedCrossentropy(0.3)
    classifier().fit(rows(), loss=loss)
    classifier().fit(rows(), loss="logit_adjustment")
    assert plans[0].loss is loss
    np.testing.assert_allclose(plans[1].loss.prior, [1 / 3] * 3)


@slow_on_jax
def test_the_classifier_takes_a_loss():
    made = classifier()
    curve = made.fit(rows(), loss="focal", **FIT)
    assert made.model.loss.get_config() == losses.FocalLoss().get_config()
    assert curve["loss"][-1] < curve["loss"][0] < np.log(3) * 0.9  # cross-entropy begins at log 3 or above
    assert curve["accuracy"][-1] > 0.9


def test_the_loss_of_a_plan():
    targets = np.array([0, 0, 0, 1])
    counted = choose_loss("logit_adjustment", targets, 2, multi_label=False)
    assert counted.prior == [0.75, 0.25]
    given = losses.LogitAdjustedCrossentropy([1.0, 1.0])
    assert choose_loss(given, targets, 2, multi_label=False) is given
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert choose_loss(own, targets, 2, multi_label=False) is own
    assert isinstance(choose_loss(None, targets, 2, multi_label=False), keras.losses.SparseCategoricalCrossentropy)
    assert isinstance(choose_loss(None, targets, 2, multi_label=True), keras.losses.BinaryCrossentropy)
    with pytest.raises(ConfigError, match="for several labels a text give"):
        choose_loss("label_smoothing", targets, 2, multi_label=True)
    with pytest.raises(ConfigError, match="for one label a text give"):
        choose_loss("hinge", targets, 2, multi_label=False)


@slow_on_jax
def test_the_classifier_counts_the_labels_for_logit_adjustment():
    data = rows(60) + [row for row in rows(90) if row[1] == "music"]
    made = classifier()
    made.fit(data, loss=losses.LogitAdjustedCrossentropy(tau=0.5), **FIT | {"epochs": 1})
    counts = [sum(label == name for _, label in data) for name in made.labels]
    np.testing.assert_allclose(made.model.loss.prior, np.array(counts) / len(data), rtol=1e-12)
    assert made.model.loss.tau == 0.5


@slow_on_jax
def test_several_labels_take_their_own_losses():
    data = [(text, [label]) for text, label in rows()]
    made = classifier(multi_label=True)
    curve = made.fit(data, loss="multilabel_crossentropy", **FIT)
    assert curve["loss"][-1] < 0.5 * curve["loss"][0]
    assert made.evaluate(data).subset_accuracy > 0.8
