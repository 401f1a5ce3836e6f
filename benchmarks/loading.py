"""Time from a TensorFlow checkpoint to a ready model: python benchmarks/loading.py [--layers 12] [--rounds 5]

Writes a BERT checkpoint with random weights to a temporary folder and compares loading it with the unavoidable part:
reading the same bytes with NumPy and building the model with zeros (using the mapped bytes once is shown beside it).
Every weight is used once on both sides. They take turns in one process, after one round that is not counted; the least
time of each counts. The files are in the system's cache.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT as ROOT  # puts the checkout on the path

from qingformer import Backbone, BackboneConfig

BOUND = 1.5


def bert_config(layers: int) -> dict[str, Any]:
    """BERT-base with that many layers, in the words of `bert_config.json`."""
    return {
        "vocab_size": 21128,
        "hidden_size": 768,
        "num_hidden_layers": layers,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
    }


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def read_bytes(path: Path) -> float:
    """Read all bytes of a file as float32, and use each once."""
    return float(np.fromfile(path, dtype="float32").sum())


def map_bytes(path: Path) -> float:
    """Use each float32 of a mapped file once: what reading would cost if nothing had to be kept."""
    return float(np.memmap(path, dtype="float32", mode="r").sum())


def load(directory: Path, verify: bool = True) -> float:
    """Load the model and use each weight once, so that nothing can be left in the file for later."""
    model = Backbone.from_pretrained(directory, verify=verify)
    return sum(float(np.asarray(variable.value).sum()) for variable in model.weights)


def main() -> None:
    """Measure and print; exit code 1 if loading takes 1.5 times the unavoidable or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = bert_config(options.layers)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        made = Backbone(BackboneConfig.from_dict({**config, "family": "bert"}))
        made.save_pretrained(directory, format="tensorflow")
        del made
        data = max(directory.iterdir(), key=lambda path: path.stat().st_size)
        sides = {
            "NumPy reads the bytes": lambda: read_bytes(data),
            "NumPy maps the bytes": lambda: map_bytes(data),
            "building the model": lambda: Backbone(
                BackboneConfig.from_dict({**config, "family": "bert"}), initializer="zeros"
            ),
            "from_pretrained": lambda: load(directory),
            "without checksums": lambda: load(directory, verify=False),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(options.rounds + 1):
            for name, action in sides.items():
                spent = seconds(action)
                if turn:
                    times[name].append(spent)
        size = data.stat().st_size / 1e6
    best = {name: min(spent) for name, spent in times.items()}
    floor = best["NumPy reads the bytes"] + best["building the model"]
    ratio = best["from_pretrained"] / floor
    pairs = zip(times["from_pretrained"], times["without checksums"])
    cost = statistics.median(checked / plain for checked, plain in pairs)
    print(f"{options.layers} layers, {size:.0f} MB in {data.name}")
    for name, spent in best.items():
        print(f"  {name:24s} {spent:6.2f} s")
    print(f"  checksums and finite numbers: {cost:.3f} times the loading without them (median of pairs)")
    print(f"  ratio to reading and building: {ratio:.2f} (bound {BOUND})")
    raise SystemExit(ratio >= BOUND)


if __name__ == "__main__":
    main()
