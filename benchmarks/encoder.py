"""Prediction and training step of an encoder: ours, `transformers` on torch, plain Keras on TensorFlow, side by side.

    python benchmarks/encoder.py [--quick] [--sizes base small] [--rounds 6]

All sides get the same weights and the same batch (lengths as in short texts, padded to 128), and must agree within 1e-4
before anything is timed. Each side is a process of its own and they take turns; the least time of each counts. A
training step is forward, backward and Adam, with dropout 0.1 as BERT trains. The floor is the number of floating
point operations of the matrix products divided by the best rate at which any side multiplies large matrices here.
Processor time (all threads) is printed too: it says how much work a side does even when other programs run beside it.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import Worker, least, median, serve

SIZES: dict[str, dict[str, int]] = {
    "base": {"layers": 12, "hidden": 768, "heads": 12, "inner": 3072, "batch": 8},
    "small": {"layers": 4, "hidden": 312, "heads": 12, "inner": 1248, "batch": 32},
}
VOCABULARY, LENGTH, LABELS = 21128, 128, 15
SIDES = {"qingformer (JAX)": "jax", "transformers (torch)": "torch", "Keras (TensorFlow)": "tensorflow"}
ADAM = {"learning_rate": 1e-5, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}


# --- weights and batch, the same for every side -----------------------------------------------------------------------


def make_weights(size: dict[str, int]) -> dict[str, np.ndarray]:
    """Random weights under the names of the Hugging Face layout (kernels as (out, in))."""
    random = np.random.default_rng(0)
    hidden, inner = size["hidden"], size["inner"]
    weights: dict[str, np.ndarray] = {}

    def dense(name: str, outputs: int, inputs: int) -> None:
        weights[f"{name}.weight"] = random.normal(0, 0.02, (outputs, inputs)).astype("float32")
        weights[f"{name}.bias"] = random.normal(0, 0.02, outputs).astype("float32")

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = random.normal(1, 0.02, hidden).astype("float32")
        weights[f"{name}.bias"] = random.normal(0, 0.02, hidden).astype("float32")

    for table, rows in (("word", VOCABULARY), ("position", 512), ("token_type", 2)):
        name = f"bert.embeddings.{table}_embeddings.weight"
        weights[name] = random.normal(0, 0.02, (rows, hidden)).astype("float32")
    norm("bert.embeddings.LayerNorm")
    for layer in range(size["layers"]):
        prefix = f"bert.encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            dense(f"{prefix}.attention.self.{name}", hidden, hidden)
        dense(f"{prefix}.attention.output.dense", hidden, hidden)
        norm(f"{prefix}.attention.output.LayerNorm")
        dense(f"{prefix}.intermediate.dense", inner, hidden)
        dense(f"{prefix}.output.dense", hidden, inner)
        norm(f"{prefix}.output.LayerNorm")
    dense("bert.pooler.dense", hidden, hidden)
    dense("classifier", LABELS, hidden)
    return weights


def make_batch(size: dict[str, int]) -> dict[str, np.ndarray]:
    """Token ids, segments, mask and labels; lengths spread over 1/4 .. 1 of the longest, as in bucketed short texts."""
    random = np.random.default_rng(1)
    shape = (size["batch"], LENGTH)
    lengths = random.integers(LENGTH // 4, LENGTH + 1, size["batch"])
    lengths[0] = LENGTH
    mask = (np.arange(LENGTH) < lengths[:, None]).astype("int32")
    ids = random.integers(1, VOCABULARY, shape).astype("int32") * mask
    segments = (np.arange(LENGTH) > lengths[:, None] // 2).astype("int32") * mask
    labels = random.integers(0, LABELS, size["batch"]).astype("int32")
    return {"token_ids": ids, "segment_ids": segments, "padding_mask": mask, "labels": labels}


def model_config(size: dict[str, int]) -> dict[str, Any]:
    """The configuration in the words of Hugging Face."""
    return {
        "model_type": "bert",
        "vocab_size": VOCABULARY,
        "hidden_size": size["hidden"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "intermediate_size": size["inner"],
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
    }


def forward_flops(size: dict[str, int]) -> float:
    """Floating point operations of the matrix products of one forward pass."""
    tokens, hidden = size["batch"] * LENGTH, size["hidden"]
    dense = 4 * hidden**2 + 2 * hidden * size["inner"]
    attention = 2 * LENGTH * hidden
    return 2.0 * tokens * size["layers"] * (dense + attention)


# --- the three sides --------------------------------------------------------------------------------------------------


def ours(size: dict[str, int], directory: Path) -> tuple[Any, Any, Any]:
    """Our backbone with a classification head, trained by our model class."""
    import keras

    from qingformer import Backbone, TrainableModel, backend
    from qingformer.layers import Dropout

    backend.keep_freed_memory()
    backbone = Backbone.from_pretrained(directory)
    head = keras.layers.Dense(LABELS)
    model = TrainableModel(backbone.input, head(Dropout(0.1)(backbone.output["pooled_output"])))
    weights = make_weights(size)
    head.set_weights([weights["classifier.weight"].T, weights["classifier.bias"]])
    return keras_actions(model, make_batch(size))


def keras_actions(model: Any, batch: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
    """Compile with Adam; return logits, prediction and training step."""
    import keras

    model.compile(keras.optimizers.Adam(**ADAM), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    inputs = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    predict = lambda: model.predict_on_batch(inputs)  # noqa: E731
    return predict(), predict, lambda: float(model.train_on_batch(inputs, batch["labels"]))


def transformers_side(size: dict[str, int], directory: Path) -> tuple[Any, Any, Any]:
    """`BertForSequenceClassification` as users train it, with its default attention."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(BertConfig(**model_config(size), num_labels=LABELS))
    state = {name: torch.from_numpy(value) for name, value in make_weights(size).items()}
    left_out = model.load_state_dict(state, strict=False)
    assert not left_out.unexpected_keys, left_out
    assert all("position_ids" in key for key in left_out.missing_keys), left_out
    batch = {name: torch.from_numpy(value).long() for name, value in make_batch(size).items()}
    inputs = {
        "input_ids": batch["token_ids"],
        "token_type_ids": batch["segment_ids"],
        "attention_mask": batch["padding_mask"],
    }
    optimizer = torch.optim.Adam(
        model.parameters(), ADAM["learning_rate"], (ADAM["beta_1"], ADAM["beta_2"]), ADAM["epsilon"]
    )

    def predict() -> Any:
        model.eval()
        with torch.no_grad():
            return model(**inputs).logits.numpy()

    def train() -> float:
        model.train()
        optimizer.zero_grad()
        loss = model(**inputs, labels=batch["labels"]).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return predict(), predict, train


def plain_keras(size: dict[str, int], directory: Path) -> tuple[Any, Any, Any]:
    """BERT from stock Keras layers and operations, compiled as Keras does by default."""
    import keras
    from keras import layers, ops

    weights, heads = make_weights(size), size["heads"]
    loads: list[tuple[Any, list[np.ndarray]]] = []

    def dense(name: str, activation: str | None = None) -> Any:
        kernel = weights[f"{name}.weight"].T
        layer = layers.Dense(kernel.shape[1], activation=activation)
        loads.append((layer, [kernel, weights[f"{name}.bias"]]))
        return layer

    def norm(name: str) -> Any:
        layer = layers.LayerNormalization(epsilon=1e-12)
        loads.append((layer, [weights[f"{name}.weight"], weights[f"{name}.bias"]]))
        return layer

    def embedding(name: str) -> Any:
        table = weights[f"bert.embeddings.{name}_embeddings.weight"]
        layer = layers.Embedding(*table.shape)
        loads.append((layer, [table]))
        return layer

    def split(x: Any) -> Any:
        return ops.transpose(ops.reshape(x, (-1, LENGTH, heads, size["hidden"] // heads)), (0, 2, 1, 3))

    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((LENGTH,), dtype="int32", name=name) for name in names}
    x = embedding("word")(inputs["token_ids"]) + embedding("token_type")(inputs["segment_ids"])
    positions = ops.cumsum(ops.max(ops.ones_like(inputs["token_ids"]), axis=0, keepdims=True), axis=1) - 1
    x = x + embedding("position")(positions)
    x = layers.Dropout(0.1)(norm("bert.embeddings.LayerNorm")(x))
    bias = (1.0 - ops.cast(inputs["padding_mask"], "float32"))[:, None, None, :] * -1e9
    for index in range(size["layers"]):
        prefix = f"bert.encoder.layer.{index}"
        query, key, value = (split(dense(f"{prefix}.attention.self.{n}")(x)) for n in ("query", "key", "value"))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / (size["hidden"] // heads) ** 0.5 + bias
        mixed = ops.matmul(layers.Dropout(0.1)(ops.softmax(scores)), value)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, LENGTH, size["hidden"]))
        attended = layers.Dropout(0.1)(dense(f"{prefix}.attention.output.dense")(mixed))
        x = norm(f"{prefix}.attention.output.LayerNorm")(x + attended)
        inner = dense(f"{prefix}.intermediate.dense", "gelu")(x)
        x = norm(f"{prefix}.output.LayerNorm")(x + layers.Dropout(0.1)(dense(f"{prefix}.output.dense")(inner)))
    pooled = layers.Dropout(0.1)(dense("bert.pooler.dense", "tanh")(x[:, 0]))
    model = keras.Model(inputs, dense("classifier")(pooled))
    for layer, values in loads:
        layer.set_weights(values)
    return keras_actions(model, make_batch(size))


def peak_action(side: str) -> Any:
    """A product of two 2048 x 2048 float32 matrices in the side's own library."""
    left, right = np.random.default_rng(2).normal(size=(2, 2048, 2048)).astype("float32")
    if side == "torch":
        import torch

        a, b = torch.from_numpy(left), torch.from_numpy(right)
        return lambda: a @ b
    if side == "jax":
        import jax

        x, y = jax.device_put(left), jax.device_put(right)
        product = jax.jit(lambda p, q: p @ q)
        return lambda: product(x, y).block_until_ready()
    import tensorflow as tf

    s, t = tf.constant(left), tf.constant(right)
    return lambda: (s @ t)[0, 0].numpy()


def work(side: str, size_name: str, directory: Path) -> None:
    """The life of a worker process."""
    make = {"jax": ours, "torch": transformers_side, "tensorflow": plain_keras}[side]
    logits, predict, train = make(SIZES[size_name], directory)
    predict()
    train()
    train()
    peak = peak_action(side)
    peak()
    serve({"predict": predict, "train": train, "peak": peak}, np.asarray(logits).tolist())


# --- the comparison ---------------------------------------------------------------------------------------------------


def write_model(size: dict[str, int], directory: Path) -> None:
    """The backbone as a Hugging Face directory, which our side loads."""
    from qingformer.checkpoints import write_safetensors

    weights = {name: value for name, value in make_weights(size).items() if not name.startswith("classifier")}
    write_safetensors(directory / "model.safetensors", weights, metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(model_config(size)))


def compare(size_name: str, rounds: int, repeats: int, python: str) -> None:
    """Run the three sides in turn and print the table of one size."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_model(SIZES[size_name], directory)
        workers = {}
        for name, side in SIDES.items():
            command = [python, __file__, "--side", side, "--sizes", size_name, "--directory", folder]
            workers[name] = Worker(name, command, {"KERAS_BACKEND": side}, directory / f"{side}.log")
        logits = {name: np.array(worker.answer()) for name, worker in workers.items()}
        reference = logits["transformers (torch)"]
        difference = max(float(np.abs(value - reference).max()) for value in logits.values())
        if not difference < 1e-4:
            raise SystemExit(f"{size_name}: the sides disagree by {difference:.2e}; nothing was timed")
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for action in ("peak", "predict", "train"):
                for name, worker in workers.items():
                    times.setdefault((action, name), []).extend(worker.ask(action, repeats))
        for worker in workers.values():
            worker.close()
    print_table(size_name, difference, times)


def print_table(size_name: str, difference: float, times: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    """Times, ratios and the distance to the floor."""
    size = SIZES[size_name]
    peaks = [least(times["peak", name]) for name in SIDES]
    # Operations a millisecond of wall time (all cores), and of processor time (one core), at best.
    rate, core_rate = (2 * 2048**3 / min(column) for column in zip(*peaks))
    print(f"\n{size_name}: {size}, length {LENGTH}; equal within {difference:.1e}; load {os.getloadavg()[0]:.1f}")
    print(f"matrix-product peak {rate / 1e6:.0f} GFlop/s, {core_rate / 1e6:.0f} a core")
    for action, passes in (("predict", 1), ("train", 3)):
        operations = passes * forward_flops(size)
        floor, processor_floor = operations / rate, operations / core_rate
        own = least(times[action, "qingformer (JAX)"])
        print(f"  {action:8s} floor {floor:.0f} ms, processor {processor_floor:.0f} ms")
        for name in SIDES:
            wall, processor = least(times[action, name])
            middle = median(times[action, name])
            print(
                f"    {name:22s} least {wall:6.0f} ms, median {middle:6.0f}, {wall / floor:4.2f} x floor, "
                f"{wall / own[0]:4.2f} x ours | processor {processor:6.0f} ms, "
                f"{processor / processor_floor:4.2f} x floor, {processor / own[1]:4.2f} x ours"
            )


def main() -> None:
    """Read the command line; run as the comparison or as one of its workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2, help="calls per turn")
    parser.add_argument("--quick", action="store_true", help="the small model only, two rounds")
    parser.add_argument("--side", choices=list(SIDES.values()), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options.side, options.sizes[0], options.directory)
        return
    for size_name in ["small"] if options.quick else options.sizes:
        compare(size_name, 2 if options.quick else options.rounds, options.repeats, sys.executable)


if __name__ == "__main__":
    main()
