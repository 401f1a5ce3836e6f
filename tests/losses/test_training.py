"""Losses inside of compiled models: fit, transforms, files, half precision, and the classifier's `loss=`."""

import keras
import numpy as np
import pytest

from qingformer import losses
from qingformer.errors import ConfigError
from qingformer.models import BackboneConfig, CausalLM
from qingformer.objectives import FGM, TrainableModel
from tests.conftest import SLOW_ON_JAX
from tests.losses.support import numpy
from tests.tasks.helpers import FIT, classifier, rows

GENERATOR = np.random.default_rng(0)
IDS = GENERATOR.integers(1, 7, (8, 5)).astype("int32")
LABELS = (IDS.sum(1) % 4).astype("int32")
BITS = (GENERATOR.random((8, 4)) < 0.5).astype("float32")


def model(outputs=4, kind=TrainableModel):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 3, name="token_embedding")(inputs)
    return kind(inputs, keras.layers.Dense(outputs)(keras.layers.GlobalAveragePooling1D()(x)))


CASES = {
    "focal": (losses.FocalLoss(), LABELS),
    "dice": (losses.DiceLoss(level="batch"), LABELS),
    "smoothed": (losses.LabelSmoothedCrossentropy(), LABELS),
    "adjusted": (losses.LogitAdjustedCrossentropy.from_labels(LABELS, 4), LABELS),
    "multilabel": (losses.MultilabelCategoricalCrossentropy(), BITS),
    "sparse_multilabel": (losses.SparseMultilabelCategoricalCrossentropy(mask_zero=True), IDS[:, :2] % 4),
    "f1": (losses.SmoothF1Crossentropy(), BITS),
    "cosent": (losses.CoSENT(), np.repeat([0.0, 1.0, 2.0, 0.5], 2).astype("float32")),
    "info_nce": (losses.InfoNCE(), np.zeros(8, "float32")),
    "triplet": (losses.TripletLoss(), LABELS),
}
QUICK = {"focal", "sparse_multilabel", "cosent"}  # the others wait for the second ring on JAX, which compiles slowly


@pytest.mark.parametrize("kind", [keras.Model, TrainableModel])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else SLOW_ON_JAX) for n in CASES])
def test_training_goes_down_and_a_file_keeps_the_loss(name, kind, tmp_path):
    loss, labels = CASES[name]
    made = model(kind=kind)
    options = {"transforms": [FGM(0.01)]} if kind is TrainableModel else {}
    made.compile(keras.optimizers.SGD(0.1), loss, **options)
    weights = np.array([1.0] * 6 + [0.0] * 2)
    history = made.fit(IDS, labels, sample_weight=weights, batch_size=8, epochs=4, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    made.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.loss) is type(loss)
    assert again.loss.get_config() == loss.get_config()
    if name in QUICK:
        wanted = numpy(loss(labels, made(IDS), weights))
        assert numpy(again.loss(labels, again(IDS), weights)) == pytest.approx(wanted, rel=1e-5)


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


@pytest.mark.parametrize("loss", ["focal", losses.LabelSmoothedCrossentropy(0.3)])
def test_the_classifier_takes_a_loss(loss):
    made = classifier()
    curve = made.fit(rows(), loss=loss, **FIT)
    wanted = loss if loss != "focal" else losses.FocalLoss()
    assert made.model.loss.get_config() == wanted.get_config()
    assert curve["loss"][-1] < curve["loss"][0]
    assert curve["accuracy"][-1] > 0.9


def test_the_classifier_counts_the_labels_for_logit_adjustment():
    data = rows(60) + [row for row in rows(90) if row[1] == "music"]
    made = classifier()
    made.fit(data, loss="logit_adjustment", **FIT | {"epochs": 1})
    counts = [sum(label == name for _, label in data) for name in made.labels]
    np.testing.assert_allclose(made.model.loss.prior, np.array(counts) / len(data), rtol=1e-12)


def test_several_labels_take_their_own_losses():
    data = [(text, [label]) for text, label in rows(30)]
    made = classifier(multi_label=True)
    curve = made.fit(data, loss="multilabel_crossentropy", **FIT)
    assert curve["loss"][-1] < curve["loss"][0]
    assert made.evaluate(data).subset_accuracy > 0.8
    with pytest.raises(ConfigError, match="several labels a text give a keras.losses.Loss or one of crossentropy"):
        classifier(multi_label=True).fit(data, loss="label_smoothing", **FIT)
    with pytest.raises(ConfigError, match="one label a text give"):
        classifier().fit(rows(), loss="hinge", **FIT)
