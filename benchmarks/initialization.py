"""Why 0.02 and why warm-up: signal, gradients and Adam's first step by depth, in encoders at initialisation.

    python benchmarks/initialization.py [--quick] [--output docs/images]

Draws `initialization.png` and prints the numbers behind it: the weight of a stack's input against its law (random
layers), then encoders of base size (12 blocks of 768; `--quick` takes 128) with initial deviations from 0.001 to 0.1,
norms behind or before the sublayers, on 64 random tokens, with a random linear loss and without dropout.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from qingformer import Backbone, BackboneConfig
from qingformer.analysis import depth_signal, input_weight, simulate_stack
from qingformer.analysis.rate_plot import figure_and_canvas

DEPTH = 12
DEVIATIONS = (0.001, 0.005, 0.02, 0.041, 0.1)
RAMP = tuple(np.linspace(0, 1, DEPTH))
STACKS: dict[str, dict[str, Any]] = {
    "post-norm": {"norm": "post"},
    "pre-norm": {"norm": "pre"},
    "post-norm, branches x 0.3": {"norm": "post", "branch": 0.3},
    "DeepNet's skip (2L)^(1/4)": {"norm": "post", "skip": (2 * DEPTH) ** 0.25},
}


def encoder(deviation: float, norm: str, quick: bool) -> Backbone:
    """An encoder of base depth whose matrices start with that deviation (before the cut at two)."""
    width = 128 if quick else 768
    keras.utils.set_random_seed(0)
    config = BackboneConfig(
        vocab_size=1000, hidden_size=width, num_hidden_layers=DEPTH, num_attention_heads=width // 64,
        intermediate_size=4 * width, max_position_embeddings=64, initializer_range=deviation, norm_position=norm,
        pooler=False,
    )  # fmt: skip
    return Backbone(config)


def measure(quick: bool) -> dict[str, Any]:
    """All numbers of the picture."""
    stacks = {}
    for name, options in STACKS.items():
        found = np.mean([simulate_stack(DEPTH, 256, seed=seed, **options).cosine for seed in range(16)], axis=0)
        stacks[name] = {"measured": found.tolist(), "law": input_weight(DEPTH, **options).tolist()}
    rows = []
    for norm in ("post", "pre"):
        for deviation in DEVIATIONS:
            signal = depth_signal(encoder(deviation, norm, quick), rows=4, length=16)
            rows.append({"norm": norm, "deviation": deviation, **{k: v.tolist() for k, v in vars(signal).items()}})
            print(f"{norm}-norm, deviation {deviation}\n{signal.format_table()}\n", flush=True)
    return {"quick": quick, "stacks": stacks, "encoders": rows}


def draw(found: dict[str, Any], path: Path) -> None:
    """Four panels; colours are deviations, dashes are pre-norm."""
    figure = figure_and_canvas(12, 8.4)
    (laws, weight), (gradient, update) = figure.subplots(2, 2)
    colours = dict(zip(DEVIATIONS, ("#440154", "#3b528b", "#21918c", "#5ec962", "#d8b100")))  # from dark to light
    depths = np.arange(DEPTH + 1)
    for index, (name, stack) in enumerate(found["stacks"].items()):
        laws.plot(depths, stack["law"], color=f"C{index}", linewidth=1)
        laws.plot(depths, stack["measured"], "os^D"[index], color=f"C{index}", markersize=5, label=name)
    laws.set(title="Weight of the input in random layers (lines: laws)", ylabel="cosine with the input")
    laws.set(xlabel="layers", yscale="log", ylim=(5e-3, 1.3))
    blocks = np.arange(1, DEPTH + 1)
    for row in found["encoders"]:
        post = row["norm"] == "post"
        style: dict[str, Any] = {"color": colours[row["deviation"]], "linestyle": "-" if post else "--"}
        weight.plot(depths, row["cosine"], **style)
        gradient.plot(blocks, row["gradient"], **style)
        update.plot(row["gradient"], row["update"], "o" if post else "x", color=style["color"], markersize=6)
    weight.set(title="Weight of the embeddings in real blocks", xlabel="blocks", ylabel="cosine with the embeddings")
    gradient.set(title="Gradient of each block's matrices", xlabel="block", ylabel="root mean square", yscale="log")
    update.set(title="Adam's first step against the gradient", xlabel="gradient, root mean square", xscale="log")
    update.set(ylabel="step, in units of the rate", ylim=(0, 1.15))
    laws.legend(fontsize=9, loc="lower left")
    handles = [gradient.plot([], [], color=colour, label=f"{each:g}")[0] for each, colour in colours.items()]
    handles += [gradient.plot([], [], "k-", marker="o", label="post-norm")[0]]
    handles += [gradient.plot([], [], "k--", marker="x", label="pre-norm")[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=7, title="other panels: deviation at the start")
    for axes in (laws, weight, gradient, update):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="width 128 instead of 768")
    parser.add_argument("--output", default="docs/images", help="folder of the picture")
    options = parser.parse_args()
    found = measure(options.quick)
    for name, stack in found["stacks"].items():
        print(f"{name:28s} weight of the input after 12 layers {stack['measured'][-1]:.4f}, law {stack['law'][-1]:.4f}")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "initialization.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, folder / "initialization.png")
    print(folder / "initialization.png")


if __name__ == "__main__":
    main()
