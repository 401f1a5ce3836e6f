"""The loss of global pointers for triples: a step of scores and loss, beside the same written out in torch.

    python benchmarks/pointers.py [--sizes 8,50,128,4] [--rounds 5]

A size is texts, types, tokens and positive pairs of each type. A step is the gradient of the loss by the queries, keys
and additive scores of `EfficientGlobalPointer`: (B, types, T, T) scores, as a relation extractor has them twice. The
sides live in processes of their own and take turns; their losses are compared before.

- `torch`: the two sums as the article has them (archives/8888), log(e^a - e^b) for the negatives, in eager torch.
- `ours`: `SparseMultilabelCategoricalCrossentropy`; `dense`: `MultilabelCategoricalCrossentropy`, which is given
  labels of the size of the scores.
- `exp`: as many exponentials as there are scores, added up: what no form that looks at all of them can beat.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from common import in_turns, least, serve

SIDES = {
    "torch": ("torch", ("sparse",)),
    "ours on torch": ("torch", ("sparse", "dense")),
    "ours on JAX": ("jax", ("sparse", "dense", "exp")),
}
HEAD_SIZE = 64


def data(size: tuple[int, int, int, int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Queries and keys (B, T, D), scores by start and by end (B, types, T); positive pairs (B, types, P, 2)."""
    texts, types, tokens, positives = size
    random = np.random.default_rng(0)
    spans = [random.normal(size=(texts, tokens, HEAD_SIZE)) for _ in range(2)]
    sides = [random.normal(size=(texts, types, tokens)) for _ in range(2)]
    places = np.stack([random.permutation(tokens * tokens)[:positives] for _ in range(texts * types)])
    pairs = np.stack([places // tokens, places % tokens], -1).reshape(texts, types, positives, 2)
    return [array.astype("float32") for array in (*spans, *sides)], pairs.astype("int32")


def written_out(size: tuple[int, int, int, int]) -> tuple[dict[str, Callable[[], Any]], float]:
    """The article's sums in torch."""
    import torch

    arrays, pairs = data(size)
    query, key, starts, ends = leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    places = torch.tensor(pairs[..., 0].astype("int64") * size[2] + pairs[..., 1])

    def step() -> float:
        for leaf in leaves:
            leaf.grad = None
        scores = (query @ key.transpose(1, 2) / HEAD_SIZE**0.5)[:, None] + starts[..., None] + ends[:, :, None]
        flat = torch.nn.functional.pad(scores.flatten(2), (0, 1))  # the 1 of the formula is e^0
        positive = flat.gather(-1, places)
        all_of_them = flat.logsumexp(-1)
        share = (positive.logsumexp(-1) - all_of_them).exp()
        negative = all_of_them + (1 - share).clamp(min=1e-7).log()
        loss = (torch.nn.functional.pad(-positive, (0, 1)).logsumexp(-1) + negative).mean()
        loss.backward()
        return float(loss.detach())

    return {"sparse": step}, step()


def ours(size: tuple[int, int, int, int]) -> tuple[dict[str, Callable[[], Any]], float]:
    """Both losses on the backend of the process."""
    from keras import ops

    from qingformer import backend
    from qingformer.losses import MultilabelCategoricalCrossentropy, SparseMultilabelCategoricalCrossentropy

    backend.keep_freed_memory()
    arrays, pairs = data(size)
    labels = np.zeros((*pairs.shape[:2], size[2], size[2]), "float32")
    for text, kind, place in np.ndindex(pairs.shape[:3]):
        labels[(text, kind, *pairs[text, kind, place])] = 1

    def step_of(loss: Any, given: np.ndarray) -> Callable[[], float]:
        truth, inputs = ops.convert_to_tensor(given), [ops.convert_to_tensor(array) for array in arrays]

        def value(inputs: list[Any]) -> Any:
            query, key, starts, ends = inputs
            spans = ops.matmul(query, ops.transpose(key, (0, 2, 1))) / HEAD_SIZE**0.5
            return loss(truth, spans[:, None] + starts[..., None] + ends[:, :, None])

        compiled = backend.compile(backend.value_and_grad(value))

        def step() -> float:
            found, gradients = compiled(inputs)
            ops.convert_to_numpy(gradients[0])
            return float(found)

        return step

    actions: dict[str, Callable[[], Any]] = {
        "sparse": step_of(SparseMultilabelCategoricalCrossentropy(class_axes=2), pairs),
        "dense": step_of(MultilabelCategoricalCrossentropy(class_axes=2), labels),
    }
    if backend.name() == "jax":
        scores = ops.zeros(labels.shape)
        exponentials = backend.compile(lambda x: ops.sum(ops.exp(x)))
        actions["exp"] = lambda: float(exponentials(scores))
    for action in actions.values():
        action()
    return actions, actions["sparse"]()


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["8,50,128,4"], help="texts, types, tokens, positives")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, text = options.worker
        texts, types, tokens, positives = map(int, text.split(","))
        serve(*(written_out if name == "torch" else ours)((texts, types, tokens, positives)))
        return
    for text in options.sizes:
        losses, times = in_turns(__file__, SIDES, text, options.rounds)
        print(f"texts, types, tokens, positives: {text}; losses {', '.join(f'{n} {v:.5f}' for n, v in losses.items())}")
        print(f"{'':14} {'action':8} {'least ms':>9} {'cpu ms':>8} {'torch / it':>11}")
        base = least(times["torch", "sparse"])[0]
        for (name, action), found in times.items():
            wall, processor = least(found)
            print(f"{name:14} {action:8} {wall:9.2f} {processor:8.2f} {base / wall:11.2f}", flush=True)


if __name__ == "__main__":
    main()
