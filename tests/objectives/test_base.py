"""What every model of ours does when it is trained with Keras: loss scale, dense gradients, indices that are there."""

import keras
import numpy as np
import pytest

import qingformer as qf
from qingformer.data import PaddedBatches
from qingformer.errors import DataError, QingFormerError
from qingformer.losses import FocalLoss
from qingformer.objectives import FGM, TrainableModel

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CONFIG = qf.BackboneConfig(
    vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip


def embedded(dtype="float32"):
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    x = keras.layers.Embedding(12, 4, name="token_embedding", dtype=dtype)(ids)
    x = keras.layers.GlobalAveragePooling1D(dtype=dtype)(x)
    return TrainableModel({"token_ids": ids}, keras.layers.Dense(3, dtype="float32")(x))


# --- loss scale -------------------------------------------------------------------------------------------------------


def scaled(model, optimizer="adam", **options):
    model.compile(optimizer, SPARSE, **options)
    return isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_float16_anywhere_in_a_model_gets_a_loss_scale():
    assert scaled(embedded("mixed_float16"))
    assert scaled(embedded("mixed_float16"), transforms=[FGM()])
    assert scaled(qf.NextSentencePrediction(CONFIG, dtype="mixed_float16"))
    assert scaled(qf.NextSentencePrediction(qf.Backbone(CONFIG, dtype="mixed_float16")))
    assert scaled(TrainableModel.from_model(qf.MaskedLM(CONFIG, dtype="mixed_float16")))
    assert not scaled(embedded())
    assert not scaled(embedded("mixed_bfloat16"))
    assert not scaled(embedded("mixed_float16"), auto_scale_loss=False)


def test_a_loss_scale_that_is_there_is_not_doubled():
    model = embedded("mixed_float16")
    inside = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model.compile(qf.optimizers.ExponentialMovingAverage(inside), SPARSE)
    assert isinstance(model.optimizer, qf.optimizers.ExponentialMovingAverage)


@pytest.mark.parametrize("transforms", [[], [FGM(0.0)]], ids=["plain", "fgm"])
def test_small_gradients_arrive_under_float16(transforms):
    """The loss is 1e-7 of its size, so unscaled gradients of activations in float16 are 0."""
    x, y = {"token_ids": np.arange(8)[:, None] % 4 + 1}, np.arange(8) % 3
    weights = np.full(8, 1e-7, "float32")
    moved = []
    for dtype in ("float32", "mixed_float16"):
        model = embedded(dtype)
        model.compile(keras.optimizers.SGD(1e6), SPARSE, transforms=transforms)
        before = keras.ops.convert_to_numpy(model.trainable_variables[0])
        model.fit(x, y, sample_weight=weights, batch_size=8, verbose=0)
        moved.append(keras.ops.convert_to_numpy(model.trainable_variables[0]) - before)
    assert (moved[0] != 0).any()
    assert ((moved[1] == 0) & (moved[0] != 0)).mean() < 0.02


# --- repeated tokens --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transforms", [[], [FGM(0.0)]], ids=["plain", "fgm"])
def test_a_repeated_token_moves_as_its_summed_gradient_says(transforms):
    """Adam steps by the sum of its gradients, clipped together: g / (|g| + epsilon)."""
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    table = keras.layers.Embedding(4, 1, name="token_embedding", embeddings_initializer="ones")
    model = TrainableModel({"token_ids": ids}, keras.layers.GlobalAveragePooling1D()(table(ids)))
    model.compile(keras.optimizers.Adam(0.1, epsilon=0.5, global_clipnorm=0.4), "mse", transforms=transforms)
    model.fit({"token_ids": np.array([[1, 1, 1, 2]])}, np.array([[0.0]]), verbose=0)
    gradient = np.array([0.0, 1.5, 0.5, 0.0])  # of (mean - 0)^2 at 1
    gradient *= 0.4 / np.linalg.norm(gradient)
    small = np.sqrt(1 - 0.999)  # what Keras has before its epsilon
    expected = 1 - 0.1 * small * gradient / (small * np.abs(gradient) + 0.5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(table.embeddings)[:, 0], expected, rtol=1e-6)


# --- indices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"token_ids": np.array([[5, 12]])}, "token_ids: index 12, but the table token_embedding has 12 rows"),
        ({"token_ids": np.array([[5, -1]])}, "token_ids: index -1"),
        ({"token_ids": np.ones((1, 3), int), "segment_ids": np.full((1, 3), 2)}, "segment_ids: index 2"),
        ({"token_ids": np.ones((1, 9), int)}, "9 tokens, but position_embedding serves 8"),
    ],
)
def test_indices_beyond_a_table_are_refused_in_direct_calls(inputs, said):
    backbone = qf.Backbone(CONFIG)
    with pytest.raises(QingFormerError, match=said) as caught:
        backbone({name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_indices_and_labels_of_arrays_and_batches_are_refused_before_the_first_step():
    model = embedded()
    x, y = {"token_ids": np.array([[1, 2], [3, 12]])}, np.array([0, 1])
    model.compile("sgd", SPARSE)
    for call in (lambda: model.fit(x, y, verbose=0), lambda: model.predict(x, verbose=0)):
        with pytest.raises(DataError, match="index 12"):
            call()
    options = {"batch_size": 2, "buckets": (4,), "inputs": ("token_ids",)}
    with pytest.raises(DataError, match="index 14"):
        model.evaluate(PaddedBatches([([1, 14], [0, 0])], [0], **options), verbose=0)
    good = {"token_ids": np.array([[1, 2], [3, 4]])}
    for loss in (SPARSE, FocalLoss(), "sparse_categorical_crossentropy"):
        model.compile("sgd", loss)
        with pytest.raises(DataError, match="label 3, but the model has 3 classes"):
            model.fit(good, np.array([0, 3]), verbose=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=9))
    model.fit(good, np.array([0, 9]), verbose=0)


def test_one_token_type_reads_every_segment_as_0():
    features, options = [([1, 2, 3], [0, 1, 1])], {"buckets": (4,), "shuffle": False}
    inputs, *_ = PaddedBatches(features, [0], token_types=1, **options)[0]
    assert not inputs["segment_ids"].any()
    with pytest.raises(DataError, match="segment id 3, but the encoder has 2"):
        PaddedBatches([([1, 2], [0, 3])], [0], token_types=2, **options)
