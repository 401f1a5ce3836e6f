"""The losses against torch's own functions and a compiled TensorFlow graph of unknown batch size, where they exist."""

import keras
import numpy as np
import pytest

from qingformer import losses
from tests.losses.support import value_and_gradient, values

pytestmark = pytest.mark.peers

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(6, 5)) * 3
CLASSES = np.array([0, 4, 2, 2, 1, 3], "int64")
BITS = (GENERATOR.random((6, 5)) < 0.4).astype("float32")
TRIPLES = GENERATOR.normal(size=(6, 3, 4))


def peers():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    labels, bits = torch.tensor(CLASSES), torch.tensor(BITS)

    def cosine_distance(u, v):
        return 1 - functional.cosine_similarity(u, v)

    def contrast(x):
        u, v = functional.normalize(x[:, 0], dim=-1), functional.normalize(x[:, 1], dim=-1)
        return functional.cross_entropy(u @ v.T / 0.05, torch.arange(6))

    tokens = torch.tensor(CLASSES).reshape(2, 3)
    return {
        "smoothed": (
            losses.LabelSmoothedCrossentropy(0.1), CLASSES, LOGITS,
            lambda x: functional.cross_entropy(x, labels, label_smoothing=0.1),
        ),
        "focal_0": (losses.FocalLoss(0.0), CLASSES, LOGITS, lambda x: functional.cross_entropy(x, labels)),
        "focal_bits_0": (
            losses.FocalLoss(0.0, multi_label=True), BITS, LOGITS,
            lambda x: functional.binary_cross_entropy_with_logits(x, bits),
        ),
        "margin": (
            losses.AMSoftmax(5, 0.2), CLASSES, LOGITS / 10,
            lambda x: functional.cross_entropy(5 * (x - 0.2 * functional.one_hot(labels, 5)), labels),
        ),
        "info_nce": (losses.InfoNCE(layout="pairs"), np.zeros(6), TRIPLES[:, :2], contrast),
        "triplet": (
            losses.TripletLoss(0.5, layout="triplets"), np.zeros(6), TRIPLES,
            lambda x: functional.triplet_margin_with_distance_loss(
                x[:, 0], x[:, 1], x[:, 2], distance_function=cosine_distance, margin=0.5
            ),
        ),
        "triplet_euclidean": (
            losses.TripletLoss(1.0, "euclidean", "triplets"), np.zeros(6), TRIPLES,
            lambda x: functional.triplet_margin_loss(x[:, 0], x[:, 1], x[:, 2], margin=1.0),
        ),
        "sequence": (
            losses.SequenceCrossentropy(1, 0.1, ignore_index=2), CLASSES.reshape(2, 3), LOGITS.reshape(2, 3, 5),
            lambda x: functional.cross_entropy(
                x[:, :-1].reshape(4, 5), tokens[:, 1:].reshape(4), ignore_index=2, label_smoothing=0.1
            ),
        ),
    }  # fmt: skip


NAMES = ("smoothed focal_0 focal_bits_0 margin info_nce triplet triplet_euclidean sequence").split()


@pytest.mark.parametrize("name", NAMES)
def test_equals_torch(name):
    torch = pytest.importorskip("torch")
    loss, labels, predictions, peer = peers()[name]
    x = torch.tensor(predictions, dtype=torch.float64, requires_grad=True)
    wanted = peer(x)
    wanted.backward()
    value, gradient = value_and_gradient(loss, labels, predictions)
    assert value == pytest.approx(float(wanted), rel=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-5)


def test_categorical_focal_equals_keras():
    """Keras' binary focal loss is another one at alpha; the categorical one has a factor for all classes."""
    peer = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    wanted = values(peer, np.eye(5)[CLASSES], LOGITS)
    assert values(losses.FocalLoss(), CLASSES, LOGITS) == pytest.approx(wanted, rel=1e-4)
    peer = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.25, gamma=2.0, from_logits=True)
    wanted = values(peer, BITS, LOGITS)
    assert values(losses.FocalLoss(2.0, 0.25, True), BITS, LOGITS) == pytest.approx(wanted, rel=1e-4)


def test_smooth_f1_of_hard_probabilities_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    hard = (GENERATOR.random((6, 5)) < 0.5).astype("float32")
    from keras import ops

    from qingformer.losses.smooth_f1 import smooth_f1

    ones = ops.ones((6, 1))
    found = float(smooth_f1(ops.convert_to_tensor(BITS), ops.convert_to_tensor(hard), ones))
    assert found == pytest.approx(metrics.f1_score(BITS, hard, average="micro"), rel=1e-6)
    found = keras.ops.convert_to_numpy(
        smooth_f1(ops.convert_to_tensor(BITS), ops.convert_to_tensor(hard), ones, "macro")
    )
    np.testing.assert_allclose(found, metrics.f1_score(BITS, hard, average=None), rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a graph of unknown batch size is TensorFlow's")
def test_graphs_of_unknown_size():
    import tensorflow as tf

    vectors = GENERATOR.normal(size=(6, 4)).astype("float32")
    for loss, labels, predictions in (
        (losses.FocalLoss(), CLASSES, LOGITS),
        (losses.MultilabelCategoricalCrossentropy(), BITS, LOGITS),
        (losses.SparseMultilabelCategoricalCrossentropy(True), CLASSES[:, None], LOGITS),
        (losses.AMSoftmax(), CLASSES, LOGITS / 10),
        (losses.DiceLoss(level="batch"), CLASSES, LOGITS),
        (losses.SmoothF1Crossentropy(), BITS, LOGITS),
        (losses.CoSENT(), np.repeat([0.0, 1.0, 2.0], 2), vectors),
        (losses.InfoNCE(negatives="all"), np.zeros(6), vectors),
        (losses.TripletLoss(), np.array([0, 0, 1, 1, 2, 2]), vectors),
        (losses.SequenceCrossentropy(), CLASSES.reshape(2, 3), LOGITS.reshape(2, 3, 5)),
    ):
        labels, predictions = np.asarray(labels, "float32"), np.asarray(predictions, "float32")
        signature = [tf.TensorSpec([None, *a.shape[1:]]) for a in (labels, predictions)]
        graph = tf.function(lambda y, x, loss=loss: loss(y, x), input_signature=signature)
        assert float(graph(labels, predictions)) == pytest.approx(float(values(loss, labels, predictions)), rel=1e-5)
