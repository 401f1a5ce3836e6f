"""Half pointers, half tags: scores by hand, padding, half precision, training with its loss, files, errors."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.layers import StartEndPointers
from qingformer.losses import PowerBinaryCrossentropy
from tests.conftest import slow_on_jax
from tests.layers.bricks import numpy

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 5, 6)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)


def test_scores_by_hand_with_starts_and_ends_side_by_side():
    layer = StartEndPointers(heads=3)
    assert layer(X).shape == (2, 5, 3, 2)
    kernel, bias = RANDOM.normal(size=(6, 6)), RANDOM.normal(size=6)
    layer.set_weights([kernel, bias])
    scores = numpy(layer(X, MASK))
    for row, index, head, side in np.ndindex(scores.shape):
        column = 2 * head + side
        wanted = X[row, index] @ kernel[:, column] + bias[column] if MASK[row, index] else -1e12
        assert scores[row, index, head, side] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_half_precision_gives_float32_and_padding_changes_nothing():
    layer = StartEndPointers(heads=2, dtype="mixed_bfloat16")
    scores = layer(keras.ops.cast(X, "bfloat16"), MASK.astype("int32"))
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    other = layer(keras.ops.cast(np.where(MASK[..., None], X, 7), "bfloat16"), MASK)
    np.testing.assert_array_equal(numpy(scores), numpy(other))
    assert (numpy(scores)[~MASK] == np.float32(-1e12)).all()
    assert layer.compute_output_spec(keras.KerasTensor((None, None, 6))).shape == (None, None, 2, 2)


def test_files_keep_layer_and_loss(tmp_path):
    x, tokens = keras.Input((None, 6)), keras.Input((None,), dtype="bool")
    model = keras.Model([x, tokens], StartEndPointers(2, "he_normal", name="pointers")(x, tokens))
    model.compile("sgd", PowerBinaryCrossentropy(3, class_axes=3))
    scores = numpy(model([X, MASK]))
    model.save(tmp_path / "pointers.keras")
    again = keras.saving.load_model(tmp_path / "pointers.keras")
    np.testing.assert_array_equal(numpy(again([X, MASK])), scores)
    assert again.get_layer("pointers").get_config() == model.get_layer("pointers").get_config()
    assert again.loss.get_config() == model.loss.get_config()


@slow_on_jax
def test_spans_are_learned():
    """Type 0 is a run of 1s, type 1 a run of 2s."""
    x = RANDOM.integers(0, 3, (64, 8))
    mask = np.arange(8) < RANDOM.integers(4, 9, 64)[:, None]
    seen = np.where(mask, x, 0)
    labels = np.zeros((64, 8, 2, 2), "float32")
    for head in range(2):
        inside = np.pad(seen == head + 1, ((0, 0), (1, 1)))
        labels[:, :, head, 0] = inside[:, 1:-1] & ~inside[:, :-2]
        labels[:, :, head, 1] = inside[:, 1:-1] & ~inside[:, 2:]
    ids, tokens = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="bool")
    hidden = keras.layers.Embedding(3, 8)(ids)
    hidden = keras.layers.Conv1D(16, 3, padding="same", activation="relu")(hidden)
    model = keras.Model([ids, tokens], StartEndPointers(2)(hidden, tokens))
    model.compile(keras.optimizers.Adam(0.02), loss=PowerBinaryCrossentropy(2, class_axes=3))
    curve = model.fit([seen, mask], labels, epochs=25, batch_size=64, verbose=0).history["loss"]
    assert curve[-1] < curve[0] / 5
    scores = model.predict([seen, mask], verbose=0)
    found = 1 / (1 + np.exp(-np.maximum(scores, -20))) ** 2 > 0.5
    assert 2 * (found * labels).sum() / (found.sum() + labels.sum()) > 0.9


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match="none: 0 heads; expected at least 1"):
        StartEndPointers(0, name="none")
    layer = StartEndPointers(2, name="pointers")
    with pytest.raises(ConfigError, match=r"pointers: x has shape \(2, 6\); expected \(texts, tokens, size\)"):
        layer(X[:, 0])
    with pytest.raises(ConfigError, match=r"the padding mask has shape \(2, 4\); expected \(2, 5\)"):
        layer(X, MASK[:, :4])
    with pytest.raises(ConfigError, match=r"the padding mask has shape \(2, 5, 1\); expected \(2, 5\)"):
        StartEndPointers(2)(X, MASK[..., None])
