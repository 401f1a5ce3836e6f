"""Global pointers against the recorded numbers and against loops; which spans can be; nested entities are learned."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.layers import EfficientGlobalPointer, GlobalPointer
from qingformer.losses import MultilabelCategoricalCrossentropy, SparseMultilabelCategoricalCrossentropy
from tests.conftest import slow_on_jax
from tests.layers.bricks import fixture, numpy

CASES = ["global_pointer", "global_pointer_no_mask", "global_pointer_no_rope"]
BOTH = [GlobalPointer, EfficientGlobalPointer]


@pytest.mark.parametrize("name", [*CASES, *(f"efficient_{name}" for name in CASES)])
def test_scores_and_loss_equal_the_recorded_numbers(name):
    case = fixture(name)
    heads = case["scores"].shape[1]
    efficient = name.startswith("efficient")
    size = case["p_dense_kernel"].shape[1] // 2 if efficient else case["dense_kernel"].shape[1] // 2 // heads
    settings = case["config"]
    options = {"use_rotary": settings.get("RoPE", True), "upper_triangle": settings.get("tril_mask", True)}
    layer = (EfficientGlobalPointer if efficient else GlobalPointer)(heads, size, **options)
    mask = case.get("mask")
    layer(case["x"], mask)
    parts = ("p_dense", "q_dense") if efficient else ("dense",)
    layer.set_weights([case[f"{part}_{kind}"] for part in parts for kind in ("kernel", "bias")])
    scores = layer(case["x"], mask)
    possible = np.isfinite(case["scores"])
    np.testing.assert_allclose(numpy(scores)[possible], case["scores"][possible], rtol=1e-4, atol=1e-5)
    assert (numpy(scores)[~possible] == -1e12).all()
    loss = MultilabelCategoricalCrossentropy(class_axes=2, reduction="none")
    values = numpy(loss(case["span_labels"].astype("float32"), scores))
    np.testing.assert_allclose(values.ravel(), case["multilabel_loss_per_sample_and_head"], rtol=1e-4)


@pytest.mark.parametrize("kind", BOTH)
def test_scores_equal_loops(kind):
    layer = kind(heads=2, head_size=4)
    x = np.random.default_rng(0).normal(size=(1, 5, 6)).astype("float32")
    scores = numpy(layer(x))[0]
    kernel, bias = (numpy(w).astype("float64") for w in layer.dense.weights)
    joined = x[0] @ kernel + bias

    def turned(vector, index):
        angles = index * 10000.0 ** (-2 * np.arange(2) / 4)
        pairs = vector[0::2] + 1j * vector[1::2]
        pairs = pairs * np.exp(1j * angles)
        return np.stack([pairs.real, pairs.imag], -1).ravel()

    for head in range(2):
        for start in range(5):
            for end in range(start, 5):
                if kind is GlobalPointer:
                    query, key = joined[start].reshape(2, 2, 4)[head, 0], joined[end].reshape(2, 2, 4)[head, 1]
                    expected = turned(query, start) @ turned(key, end) / 2
                else:
                    query, key = joined[start, 0::2], joined[end, 1::2]
                    kernel, bias = (numpy(w).astype("float64") for w in layer.type_dense.weights)
                    of_start, of_end = (joined[at] @ kernel + bias for at in (start, end))
                    expected = turned(query, start) @ turned(key, end) / 2
                    expected += (of_end[2 * head] + of_start[2 * head + 1]) / 2
                assert scores[head, start, end] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (scores[:, *np.tril_indices(5, -1)] == -1e12).all()


@pytest.mark.parametrize("kind", BOTH)
def test_scores_know_distances_and_not_places(kind):
    layer = kind(heads=2, head_size=4)
    x = np.random.default_rng(0).normal(size=(1, 4, 6)).astype("float32")
    moved = np.concatenate([np.zeros((1, 3, 6), "float32"), x], 1)
    np.testing.assert_allclose(numpy(layer(moved))[:, :, 3:, 3:], numpy(layer(x)), rtol=1e-4, atol=1e-5)
    plain = kind(heads=2, head_size=4, use_rotary=False)
    repeated = np.repeat(x[:, :1], 4, 1)
    assert np.ptp(numpy(plain(repeated))[0, 0][np.triu_indices(4)]) < 1e-6
    assert np.ptp(numpy(layer(repeated))[0, 0][np.triu_indices(4)]) > 1e-3


@slow_on_jax
@pytest.mark.parametrize("kind", BOTH)
def test_nested_entities_are_learned_in_both_forms_of_the_loss(kind, tmp_path):
    """Type 0 is every run of 1s, type 1 every run of 1s and 2s: the first lies inside of the second."""
    random = np.random.default_rng(1)
    x = random.integers(0, 3, (64, 8))
    mask = np.arange(8) < random.integers(4, 9, 64)[:, None]
    labels, pairs = np.zeros((64, 2, 8, 8), "float32"), np.full((64, 2, 8, 2), -1)
    for row in range(64):
        for head, tokens in enumerate(({1}, {1, 2})):
            inside = [mask[row, t] and x[row, t] in tokens for t in range(8)] + [False]
            starts = [t for t in range(8) if inside[t] and (t == 0 or not inside[t - 1])]
            for index, start in enumerate(starts):
                end = next(t for t in range(start, 8) if not inside[t + 1])
                labels[row, head, start, end] = 1
                pairs[row, head, index] = start, end
    sparse = SparseMultilabelCategoricalCrossentropy(class_axes=2)
    dense = MultilabelCategoricalCrossentropy(class_axes=2)
    ids, tokens = keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="bool")
    hidden = keras.layers.Conv1D(32, 3, padding="same", activation="relu")(keras.layers.Embedding(3, 16)(ids))
    model = keras.Model([ids, tokens], kind(2, 16, name="spans")(hidden, tokens))
    scores = model([x, mask])
    assert float(sparse(pairs, scores)) == pytest.approx(float(dense(labels, scores)), rel=1e-5)
    model.compile(keras.optimizers.Adam(0.02), loss=sparse)
    model.fit([x, mask], pairs, epochs=60, batch_size=32, verbose=0)
    found = model.predict([x, mask], verbose=0) > 0
    assert 2 * (found * labels).sum() / (found.sum() + labels.sum()) > 0.9
    model.save(tmp_path / "spans.keras")
    again = keras.saving.load_model(tmp_path / "spans.keras", compile=False)
    np.testing.assert_array_equal(again.predict([x, mask], verbose=0) > 0, found)


@slow_on_jax
@pytest.mark.parametrize("kind", BOTH)
def test_mixed_precision_scores_in_float32_and_padding_changes_nothing(kind):
    layer = kind(heads=2, head_size=4, dtype="mixed_bfloat16")
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    scores = layer(x, mask)
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    other = layer(np.where(mask[..., None], x, 7), mask)
    np.testing.assert_array_equal(numpy(scores), numpy(other))
    assert layer.compute_output_spec(keras.KerasTensor((None, None, 6))).shape == (None, 2, None, None)


def test_sizes_that_cannot_be():
    with pytest.raises(ConfigError, match="0 heads of size 64"):
        GlobalPointer(0)
    with pytest.raises(ConfigError, match="head_size is 5; rotary positions need an even one"):
        EfficientGlobalPointer(2, 5)
