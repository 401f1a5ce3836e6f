"""Families that no peer library has: block by block equal to NumPy forwards written from their formulas alone.

The NumPy forwards are held against the recorded numbers of the original first, then the models against them on random
weights and random configurations, in value and in gradient.
"""

import dataclasses
import json

import numpy as np
import pytest

from qingformer.checkpoints import open_checkpoint
from qingformer.checkpoints.weight_map import save_rows
from tests.models import random_models
from tests.references import parts
from tests.references.gau_alpha import forward as gau_alpha
from tests.references.gpt2_ml import forward as gpt2_ml
from tests.references.nezha import forward as nezha
from tests.references.nezha import relative_vectors
from tests.references.roformer import forward as roformer
from tests.references.roformer_v2 import forward as roformer_v2
from tests.references.tta import forward as tta

FORWARDS = {
    "gau_alpha": gau_alpha,
    "gpt2_ml": gpt2_ml,
    "nezha": nezha,
    "roformer": roformer,
    "roformer_v2": roformer_v2,
    "tta": tta,
}
RECORDED = ["gau_alpha", "gpt2_ml", "nezha", "roformer", "roformer_v2"]  # the original has no T-TA


def read_weights(path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.names()}


def softmax(logits: np.ndarray) -> np.ndarray:
    return parts.softmax(logits, np.ones_like(logits, dtype=bool))


def recorded_config(folder, build: dict) -> dict:
    config = json.loads((folder / "bert_config.json").read_text()) | build["kwargs"]
    if config.get("hierarchical_position") is True:
        config["hierarchical_position"] = 0.4
    if isinstance(config.get("with_pool"), str):
        config["pooler_act"] = config["with_pool"]
    return config | ({"hidden_act": "gelu_new"} if build.get("gelu") == "tanh" else {})


@pytest.mark.shared
@pytest.mark.parametrize("family", RECORDED)
def test_the_numpy_forward_gives_the_recorded_numbers(family, shared):
    folder = shared / "references" / "bert4keras" / "models" / family
    weights = read_weights(folder / "model.ckpt")
    builds = json.loads((folder / "builds.json").read_text())["builds"]
    assert builds
    for build in builds:
        arrays = np.load(folder / f"{build['name']}.npz")
        inputs = {name: arrays[name] for name in build["inputs"]}
        inputs.setdefault("segment_ids", np.zeros_like(inputs["token_ids"]))
        padding_mask = inputs["token_ids"] != 0
        padding_mask[:, 0] = True  # the original never hides the first position
        application = build.get("application", "lm" if family == "gpt2_ml" else "encoder")
        config = recorded_config(folder, build)
        found = FORWARDS[family](weights, config, padding_mask=padding_mask, application=application, **inputs)
        found |= {f"layer_{index}": value for index, value in enumerate(found["layers"])}
        for key in set(arrays.files) - set(inputs) - {"valid"}:
            if key == "relative_position_table":
                size, expected = arrays[key].shape[1], arrays[key]
                value = parts.sinusoidal(np.arange(129), size)
            elif key == "nsp_probabilities":
                value, expected = softmax(found["next_sentence_logits"]), arrays[key]
            elif key.endswith("probabilities"):
                value, expected = softmax(found[key.replace("probabilities", "logits")]), arrays[key]
            else:
                value, expected = found[key], arrays[key]
            if expected.ndim == 3:
                value, expected = value[arrays["valid"]], expected[arrays["valid"]]
            np.testing.assert_allclose(value, expected, atol=2e-5, rtol=0, err_msg=f"{build['name']} {key}")


def test_relative_vectors_are_clipped():
    vectors = relative_vectors(9, 6, farthest=3)
    np.testing.assert_array_equal(vectors[0, 3], vectors[0, 8])
    np.testing.assert_array_equal(vectors[8, 0], vectors[4, 1])
    assert np.abs(vectors[0, 2] - vectors[0, 3]).max() > 1e-6


# --- the models against the NumPy forwards ----------------------------------------------------------------------------

CAUSAL = ["lm", "unilm"]
CASES = {  # family: applications, and options beyond the random sizes that the family understands
    "roformer": (["encoder", *CAUSAL], ["embedding_size", "key_size", "segments", "normalization", "residual"]),
    "roformer_v2": (["encoder", *CAUSAL], ["key_size", "segments", "normalization", "residual"]),
    "gau_alpha": (["encoder", *CAUSAL], ["key_size", "segments", "normalization"]),
    "gpt2_ml": (["lm"], ["hierarchical"]),
    "nezha": (["encoder", *CAUSAL], ["embedding_size", "segments", "clip", "normalization"]),
    "tta": (["encoder"], ["embedding_size", "segments", "seen"]),
}
LENGTHS = [20, 18, 2]  # above and below the sixteen keys at which softmax_plus begins to count
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]


def random_options(family: str, application: str, seed: int) -> dict:
    """Sizes none of which another could stand in for, and the switches of the family at random."""
    generator = np.random.default_rng([seed, *family.encode(), *application.encode()])
    heads, width = int(generator.integers(1, 4)), 2 * int(generator.integers(2, 5))
    options = {
        "vocab_size": int(generator.integers(15, 30)),
        "num_hidden_layers": int(generator.integers(1, 4)),
        "num_attention_heads": heads,
        "hidden_size": heads * width,
        "intermediate_size": int(generator.integers(9, 20)),
        "hidden_act": str(generator.choice(["gelu", "gelu_new", "swish", "relu", "tanh"])),
        "layer_norm_eps": float(generator.choice([1e-12, 1e-7, 1e-3])),
        "application": application,
    }
    choices = {
        "embedding_size": {"embedding_size": heads * width + 3},
        "key_size": {"attention_key_size": 2 * int(generator.integers(2, 6))},
        "segments": {"type_vocab_size": int(generator.choice([1, 2, 4])) if application != "unilm" else 2},
        "normalization": {"attention_normalization": str(generator.choice([*parts.NORMALIZATIONS]))},
        "residual": {"residual_attention_scores": True},
        "hierarchical": {"hierarchical_position": 0.3, "max_position_embeddings": 5},
        "clip": {"max_relative_position": int(generator.integers(2, 6))},
        "seen": {"mask_diagonal": False},
    }
    for name in CASES[family][1]:
        if generator.random() < 0.5:
            options |= choices[name]
    return options


def compare(family: str, options: dict, seed: int) -> None:
    """Blocks and logits of a random model against the NumPy forward, on rows of several lengths."""
    model = random_models.build(random_models.kind_of(options["application"]), family, seed, **options)
    generator = np.random.default_rng(seed)
    inputs = random_models.sample_inputs(generator, model.config, LENGTHS)
    valid = inputs["padding_mask"].astype(bool)
    config = dataclasses.asdict(model.config)
    arguments = inputs | {"padding_mask": valid, "application": options["application"]}
    expected = FORWARDS[family](random_models.stored_weights(model), config, **arguments)
    logits = expected["mlm_logits" if options["application"] == "encoder" else "lm_logits"]
    found = random_models.run(model, inputs)
    for index, (there, wanted) in enumerate(zip(found, [*expected["layers"], logits], strict=True)):
        difference = np.abs(there - wanted)[valid].max() / max(1.0, np.abs(wanted[valid]).max())
        assert difference < 1e-5, f"part {index} of {options} differs by {difference}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("family", "application"), [(f, a) for f, case in CASES.items() for a in case[0]])
def test_models_equal_the_numpy_forward_block_by_block(family, application, seed):
    compare(family, random_options(family, application, seed), seed)


@pytest.mark.parametrize("family", CASES)
def test_gradients_equal_finite_differences_of_the_numpy_forward(family):
    application = CASES[family][0][-1]
    # One block is enough where the next only sees the last; compiling a gradient is most of the time.
    options = {"num_hidden_layers": 2 if family == "tta" else 1, "application": application}
    model = random_models.build(random_models.kind_of(application), family, **options)
    generator = np.random.default_rng(0)
    inputs = random_models.sample_inputs(generator, model.config, [5, 3])
    valid = inputs["padding_mask"].astype(bool)
    weight = generator.normal(size=(*valid.shape, model.config.vocab_size)).astype("float32") * valid[..., None]
    gradients = random_models.gradients_of(model, inputs, weight)
    stored = save_rows(model.weight_map(model.config), "tensorflow", gradients.items())
    weights = {name: array.astype("float64") for name, array in random_models.stored_weights(model).items()}
    assert set(stored) == set(weights)
    arguments = inputs | {"padding_mask": valid, "application": application}
    config = dataclasses.asdict(model.config)

    def loss(changed):
        found = FORWARDS[family](weights | changed, config, **arguments)
        return (found["mlm_logits" if application == "encoder" else "lm_logits"] * weight).sum()

    for name, gradient in stored.items():
        for direction in directions(generator, gradient):
            step = 1e-5 * direction
            slope = (loss({name: weights[name] + step}) - loss({name: weights[name] - step})) / 2e-5
            ours = (gradient * direction).sum()
            assert abs(ours - slope) < 2e-4 * max(1.0, np.abs(gradient).max()), f"{name}: {ours}, not {slope}"


def directions(generator, gradient: np.ndarray) -> list[np.ndarray]:
    """One direction that moves everything a little, one coordinate at random, and the steepest coordinate."""
    spread = generator.normal(size=gradient.shape)
    found = [spread / np.linalg.norm(spread)]
    for index in (generator.integers(gradient.size), np.abs(gradient).argmax()):
        found.append(np.zeros(gradient.shape))
        found[-1].flat[index] = 1.0
    return found
