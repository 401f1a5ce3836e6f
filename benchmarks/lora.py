"""Training step and memory of full fine-tuning and of low-rank training, side by side on JAX.

    python benchmarks/lora.py [--sizes tiny base] [--rounds 8] [--rank 8] [--targets query-value | all-linear]

Sides: full fine-tuning; adapters as Keras' own `Dense.enable_lora` computes them, W + A B first (in stock layers, and
in ours so that nothing else differs); our adapters, x W + (x A) B; adapters merged for the forward
pass only, that is no adapters and a frozen encoder (the floor of what frozen weights cost); and `LowRankUpdates`, which
has the full gradient. One process, one compiled step each, in turns, the order reversed every other round; the least
time of each counts. The step is forward, backward and Adam with dropout 0.1; the temporary memory is what XLA plans.
"""

import argparse
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
from common import ROOT  # noqa: F401  # puts the checkout on the path

from qingformer import BackboneConfig, TrainableModel, backend
from qingformer.adapters.adapted_layers import adapted_layers, dense_layers
from qingformer.layers import Dense, Dropout
from qingformer.models import Backbone
from qingformer.optimizers import LowRankUpdates

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden": 128, "layers": 2, "heads": 2, "inner": 512, "batch": 32, "length": 64},
    "base": {"hidden": 768, "layers": 2, "heads": 12, "inner": 3072, "batch": 8, "length": 128},
}
TARGETS = {"query-value": r"attention/(query|value)", "all-linear": "all-linear"}
VOCABULARY, LABELS = 21128, 15
FULL, STOCK, DELTA, OURS, HEAD, UPDATES = (
    "full fine-tuning",
    "Keras' enable_lora, stock layers",
    "Keras' enable_lora, in our layers",
    "our adapters",
    "frozen encoder, head alone",
    "LowRankUpdates",
)


def model_of(side: str, size: dict[str, int], rank: int, targets: str) -> TrainableModel:
    """A classifier over an encoder of that size, compiled as the side trains."""
    config = BackboneConfig(
        vocab_size=VOCABULARY,
        hidden_size=size["hidden"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=size["inner"],
    )
    keras.utils.set_random_seed(0)
    backbone = Backbone(config)
    if side in (STOCK, DELTA, OURS):
        backbone.enable_lora(rank, TARGETS[targets])
    if side == HEAD:
        backbone.freeze()
    if side in (STOCK, DELTA):
        kept = dense_layers(backbone) if side == STOCK else adapted_layers(backbone)
        for layer in kept.values():
            layer.call = as_keras(layer, stock=side == STOCK)
    logits = keras.layers.Dense(LABELS)(Dropout(0.1)(backbone.output["pooled_output"]))
    model = TrainableModel(backbone.input, logits)
    optimizer: Any = keras.optimizers.Adam(1e-4)
    if side == UPDATES:
        pattern = r"attention/(query|value)/kernel" if targets == "query-value" else r"^block_.*/kernel"
        for variable in backbone.trainable_variables:  # as with adapters, the rest of the encoder stays
            variable.trainable = bool(re.search(pattern, variable.path))
        optimizer = LowRankUpdates(optimizer, rank, select=pattern)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def as_keras(layer: Dense, stock: bool) -> Callable[..., Any]:
    """The call of a layer whose kernel is W + A B, multiplied out; stock: with Keras' product as well."""

    def call(inputs: Any, training: bool | None = None) -> Any:
        if stock:
            return keras.layers.Dense.call(layer, inputs)
        x = backend.matmul(inputs, layer.kernel)
        return x if layer.bias is None else x + layer.bias

    return call


class Side:
    """A compiled training step and the state that it carries."""

    def __init__(self, model: TrainableModel, size: dict[str, int]) -> None:
        random = np.random.default_rng(0)
        shape = (size["batch"], size["length"])
        inputs = {
            "token_ids": random.integers(1, VOCABULARY, shape).astype("int32"),
            "segment_ids": np.zeros(shape, "int32"),
            "padding_mask": np.ones(shape, "int32"),
        }
        self.data = jax.device_put((inputs, random.integers(0, LABELS, size["batch"])))
        model.optimizer.build(model.trainable_variables)
        groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
        self.state = tuple([v.value for v in group] for group in (*groups, model.metrics_variables))
        self.trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        self.optimizer_bytes = sum(int(np.prod(v.shape)) * 4 for v in model.optimizer.variables)
        self.step = jax.jit(model.train_step, donate_argnums=0).lower(self.state, self.data).compile()
        self.temporary = self.step.memory_analysis().temp_size_in_bytes
        self.least = float("inf")

    def run(self, count: int) -> None:
        """Some steps, of which the fastest is kept."""
        for _ in range(count):
            began = time.perf_counter()
            logs, self.state = self.step(self.state, self.data)
            jax.block_until_ready((logs, self.state))
            self.least = min(self.least, 1e3 * (time.perf_counter() - began))


def main() -> None:
    """Compile every side, take turns, print one table a size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="steps of a side in a round")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", choices=TARGETS, default="query-value")
    options = parser.parse_args()
    backend.keep_freed_memory()
    for name in options.sizes:
        size = SIZES[name]
        sides = {
            side: Side(model_of(side, size, options.rank, options.targets), size)
            for side in (FULL, STOCK, DELTA, OURS, HEAD, UPDATES)
        }
        for number in range(options.rounds):
            for side in list(sides.values())[:: -1 if number % 2 else 1]:
                side.run(options.steps)
        print(f"\n{name}: {size}, rank {options.rank}, {options.targets}")
        print(f"{'':36}{'ms a step':>10}{'of full':>9}{'trainable':>12}{'optimizer MB':>14}{'temporary MB':>14}")
        for label, side in sides.items():
            ratio = side.least / sides[FULL].least
            memory = f"{side.optimizer_bytes / 1e6:>14.2f}{side.temporary / 1e6:>14.1f}"
            print(f"{label:36}{side.least:>10.1f}{ratio:>9.2f}{side.trainable:>12,}{memory}")


if __name__ == "__main__":
    main()
