"""Conditional random field and Markov model beside pytorch-crf: a step of training, and decoding.

    python benchmarks/structured.py [--sizes 32,128,9 32,512,37] [--rounds 5]

Needs torch and pytorch-crf beside JAX. A step is the loss of a batch with its gradients by emissions and transitions;
all texts have the full length, all scores are normal. The sides live in processes of their own and take turns; the
losses of the random fields are compared before. `exp` is the time of as many exponentials as the recursion takes terms
(B T L^2): what a form that adds up exponentials of all pairs cannot beat on one core.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from common import in_turns, least, serve

SIDES = {
    "pytorch-crf": ("torch", ("train", "decode")),
    "ours on torch": ("torch", ("train", "decode", "memm")),
    "ours on JAX": ("jax", ("train", "decode", "memm", "exp")),
}


def data(size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Emissions (B, T, L), labels (B, T), transitions (L, L)."""
    batch, length, tags = size
    random = np.random.default_rng(0)
    emissions = random.normal(size=size).astype("float32")
    return emissions, random.integers(0, tags, (batch, length)), random.normal(size=(tags, tags)).astype("float32")


def peer(size: tuple[int, int, int]) -> tuple[dict[str, Callable[[], Any]], float]:
    """pytorch-crf: its actions and its loss."""
    import torch
    from torchcrf import CRF

    emissions, labels, transitions = (torch.tensor(array) for array in data(size))
    emissions.requires_grad_(True)
    field = CRF(size[2], batch_first=True)
    with torch.no_grad():
        field.transitions.copy_(transitions)
        field.start_transitions.zero_()
        field.end_transitions.zero_()

    def train() -> float:
        emissions.grad = None
        field.zero_grad()
        loss = -field(emissions, labels, reduction="mean")
        loss.backward()
        return float(loss.detach())

    def decode() -> None:
        with torch.no_grad():
            field.decode(emissions)

    return {"train": train, "decode": decode}, train()


def ours(size: tuple[int, int, int]) -> tuple[dict[str, Callable[[], Any]], float]:
    """Both layers on the backend of the process."""
    import keras
    from keras import ops

    from qingformer import backend
    from qingformer.layers import ConditionalRandomField, MaximumEntropyMarkovModel

    backend.keep_freed_memory()
    emissions, labels, transitions = data(size)
    given = ops.convert_to_tensor(emissions)
    labels = ops.convert_to_tensor(labels.astype("int32"))

    def step_of(layer: Any) -> Callable[[], float]:
        layer.build(size)
        layer.transitions.assign(transitions)
        variables = layer.trainable_variables

        def loss(arrays: list[Any]) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, arrays[1:]))):
                return layer.loss(labels, arrays[0])

        compiled = backend.compile(backend.value_and_grad(loss))

        def run() -> float:
            value, gradients = compiled([given, *(v.value for v in variables)])
            ops.convert_to_numpy(gradients[1])
            return float(value)

        return run

    field = ConditionalRandomField()
    train, memm = step_of(field), step_of(MaximumEntropyMarkovModel())
    actions: dict[str, Callable[[], Any]] = {"train": train, "memm": memm, "decode": lambda: field.decode(given)}
    if backend.name() == "jax":
        terms = ops.zeros((size[1], size[0], size[2] * size[2]))
        exponentials = backend.compile(lambda x: ops.sum(ops.exp(x)))
        actions["exp"] = lambda: float(exponentials(terms))
    for action in actions.values():
        action()
    return actions, train()


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["32,128,9", "32,512,37"], help="texts, tokens, tags")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, text = options.worker
        serve(*(peer if name == "pytorch-crf" else ours)(tuple(map(int, text.split(",")))))
        return
    for text in options.sizes:
        losses, times = in_turns(__file__, SIDES, text, options.rounds)
        print(f"texts, tokens, tags: {text}; losses {', '.join(f'{n} {v:.4f}' for n, v in losses.items())}")
        print(f"{'':14} {'action':8} {'least ms':>9} {'cpu ms':>8} {'pytorch-crf / it':>17}")
        for (name, action), found in times.items():
            wall, processor = least(found)
            base = times.get(("pytorch-crf", "train" if action == "memm" else action))
            ratio = f"{least(base)[0] / wall:17.2f}" if base else ""
            print(f"{name:14} {action:8} {wall:9.2f} {processor:8.2f} {ratio}", flush=True)


if __name__ == "__main__":
    main()
