"""One step of an optimizer on the variables of BERT-base: ours, Keras', optax and torch, with the bytes of their state.

    python benchmarks/optimizers.py [--layers 12] [--rounds 5] [--methods adam adafactor lamb lion others]

Needs torch, transformers and optax beside JAX. For each method one process with JAX and one with torch take turns, and
so do the sides within a process. All start at the same weights with the same gradients; how far their weights are
apart after three steps is printed (Keras puts epsilon elsewhere, and has another AdaFactor). On JAX a step is one
compiled function whose arguments are donated. `triad` is x <- x + 0.5 y on as many floats as there are weights: its
bytes in its least time are the memory rate of that process. The floor of a method is the bytes that it cannot avoid to
move (see `STREAMS`) at that rate.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Worker, serve

HIDDEN, INNER, VOCABULARY = 768, 3072, 21128
RATE = 1e-3
# Passes over arrays of the size of the weights: what is read and what is written, nothing twice that could be kept.
STREAMS = {
    "adam": 7,  # weights, gradient, two means; weights and means written
    "lion": 5,
    "lamb": 10,  # a second pass after the norm of the step is known: weights and means read, weights written
    "adafactor": 6,  # gradient for the means, for the size of the update, and for the update; weights for their size
    "tiger": 6,
    "adax": 7,
    "lazy": 7,
}


def shapes(layers: int) -> list[tuple[int, ...]]:
    """The shapes of the variables of BERT-base with that many layers."""
    norm: list[tuple[int, ...]] = [(HIDDEN,), (HIDDEN,)]
    square: list[tuple[int, ...]] = [(HIDDEN, HIDDEN), (HIDDEN,)]
    block = square * 4 + norm + [(HIDDEN, INNER), (INNER,), (INNER, HIDDEN), (HIDDEN,)] + norm
    return [(VOCABULARY, HIDDEN), (512, HIDDEN), (2, HIDDEN), *norm, *block * layers, *square]


def arrays(layers: int, seed: int, deviation: float) -> list[np.ndarray]:
    """Normal float32 arrays of these shapes."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(s, dtype="float32") * np.float32(deviation) for s in shapes(layers)]


# --- the sides --------------------------------------------------------------------------------------------------------


def keras_optimizers(method: str) -> dict[str, Any]:
    """Ours and Keras' for a method."""
    import keras

    import qingformer.optimizers as ours

    theirs = keras.optimizers
    decay = {"weight_decay": 0.01}
    bare = {"exclude_from_weight_decay": [], "exclude_from_layer_adaptation": []}
    return {
        "adam": lambda: {"ours": ours.Adam(RATE, epsilon=1e-8), "Keras": theirs.Adam(RATE, epsilon=1e-8)},
        "lion": lambda: {"ours": ours.Lion(RATE, 0.9, 0.99), "Keras": theirs.Lion(RATE, 0.9, 0.99)},
        "lamb": lambda: {"ours": ours.LAMB(RATE, **decay, **bare), "Keras": theirs.Lamb(RATE, **decay)},
        "adafactor": lambda: {"ours": ours.AdaFactor(RATE), "Keras": theirs.Adafactor(RATE)},
        "tiger": lambda: {"ours": ours.Tiger(RATE)},
        "adax": lambda: {"ours": ours.AdaX(RATE)},
        "lazy": lambda: {"ours": ours.LazyAdam(RATE, lazy=["variable$"])},
    }[method]()


def jax_sides(method: str, layers: int) -> dict[str, tuple[Callable[[], Any], Callable[[], np.ndarray], int]]:
    """By name: a step, some of the weights, and the bytes of the state."""
    import jax
    import keras
    import optax

    from qingformer import backend

    backend.keep_freed_memory()
    gradients = [jax.numpy.asarray(g) for g in arrays(layers, 1, 0.01)]
    sides: dict[str, Any] = {}

    def add(name: str, update: Callable[..., Any], state: Any, weights: list[Any]) -> None:
        kept = [state, weights]
        compiled = jax.jit(update, donate_argnums=(0, 2))

        def step() -> None:
            kept[0], kept[1] = jax.block_until_ready(compiled(kept[0], gradients, kept[1]))

        sides[name] = (step, lambda: np.asarray(kept[1][-2]), sum(x.nbytes for x in jax.tree.leaves(state)))

    for name, optimizer in keras_optimizers(method).items():
        variables = [keras.Variable(w, name="variable") for w in arrays(layers, 0, 0.02)]
        optimizer.build(variables)
        update = lambda o, g, w, optimizer=optimizer: optimizer.stateless_apply(o, g, w)[::-1]  # noqa: E731
        add(name, update, [v.value for v in optimizer.variables], [v.value for v in variables])
        for variable in [*variables, *optimizer.variables]:
            variable._value = None  # the arrays are donated; nothing else may hold them
    peers = {
        "adam": lambda: optax.adam(RATE),
        "lion": lambda: optax.lion(RATE, weight_decay=0.0),
        "lamb": lambda: optax.lamb(RATE, weight_decay=0.01, eps=1e-6),
        "adafactor": lambda: optax.adafactor(RATE),
    }
    if method in peers:
        peer = peers[method]()

        def update(state: Any, gradients: Any, weights: Any) -> Any:
            updates, state = peer.update(gradients, state, weights)
            return state, optax.apply_updates(weights, updates)

        weights = [jax.numpy.asarray(w) for w in arrays(layers, 0, 0.02)]
        add("optax", update, peer.init(weights), weights)
    x = [jax.numpy.zeros(sum(map(int, (np.prod(s) for s in shapes(layers)))), "float32") for _ in range(2)]
    triad = jax.jit(lambda a, b: a + 0.5 * b, donate_argnums=0)

    def run_triad() -> None:
        x[0] = triad(x[0], x[1]).block_until_ready()

    sides["triad"] = (run_triad, lambda: np.zeros(0), 0)
    return sides


def torch_sides(method: str, layers: int) -> dict[str, tuple[Callable[[], Any], Callable[[], np.ndarray], int]]:
    """By name: a step, some of the weights, and the bytes of the state."""
    import keras
    import torch
    from transformers.optimization import Adafactor

    from qingformer import backend

    backend.keep_freed_memory()
    gradients = [torch.from_numpy(g) for g in arrays(layers, 1, 0.01)]
    sides: dict[str, Any] = {}
    for name, optimizer in keras_optimizers(method).items():
        variables = [keras.Variable(w, name="variable") for w in arrays(layers, 0, 0.02)]
        optimizer.build(variables)

        def step(optimizer: Any = optimizer) -> None:
            with torch.no_grad():
                optimizer.apply(gradients)

        state = sum(v.value.numel() * v.value.element_size() for v in optimizer.variables)
        sides[name] = (step, lambda v=variables: v[-2].value.detach().numpy(), state)
    peers = {
        "adam": {
            "torch": lambda w: torch.optim.Adam(w, RATE),
            "torch fused": lambda w: torch.optim.Adam(w, RATE, fused=True),
        },
        "adafactor": {
            "torch": lambda w: torch.optim.Adafactor(w, RATE, weight_decay=0.0),
            "transformers": lambda w: Adafactor(w, RATE, scale_parameter=True, relative_step=False),
        },
    }
    for name, make in peers.get(method, {}).items():
        weights = [torch.nn.Parameter(torch.from_numpy(w)) for w in arrays(layers, 0, 0.02)]
        for weight, gradient in zip(weights, gradients):
            weight.grad = gradient
        peer = make(weights)
        peer.step()
        state = sum(v.numel() * v.element_size() for s in peer.state.values() for v in s.values() if torch.is_tensor(v))
        sides[name] = (peer.step, lambda w=weights: w[-2].detach().numpy(), state)
    x, y = (torch.zeros(sum(int(np.prod(s)) for s in shapes(layers))) for _ in range(2))
    sides["triad"] = (lambda: x.add_(y, alpha=0.5), lambda: np.zeros(0), 0)
    return sides


def work(library: str, method: str, layers: int) -> None:
    """A worker: three steps of each side, then whatever is asked."""
    sides = (jax_sides if library == "jax" else torch_sides)(method, layers)
    first = {}
    for name, (step, weights, state) in sides.items():
        done = 1 if library == "torch" and name in ("torch", "torch fused", "transformers") else 0
        for _ in range(3 - done):
            step()
        first[name] = {"state": state, "weights": weights().ravel()[:1000].tolist()}
    serve({name.replace(" ", "_"): step for name, (step, _, _) in sides.items()}, first)


# --- the table --------------------------------------------------------------------------------------------------------


def measure(method: str, options: argparse.Namespace, folder: Path) -> None:
    """Time all sides of a method in turns and print a line for each."""
    workers, answers = {}, {}
    for library in options.libraries:
        command = [sys.executable, __file__, "--worker", library, method, "--layers", str(options.layers)]
        workers[library] = Worker(library, command, {"KERAS_BACKEND": library}, folder / f"{library}.log")
        answers[library] = workers[library].answer()
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for library, worker in workers.items():
            for name in answers[library]:
                times.setdefault((library, name), []).extend(worker.ask(name.replace(" ", "_"), 2))
    for worker in workers.values():
        worker.close()
    count = sum(int(np.prod(s)) for s in shapes(options.layers))
    mine = np.array(answers[options.libraries[0]]["ours"]["weights"])
    for (library, name), found in times.items():
        wall = [w for w, _ in found]
        rate = 3 * 4 * count / min(w for w, _ in times[library, "triad"]) / 1e6  # GB/s, from ms
        if name == "triad":
            print(
                f"{method:10} {library:6} {name:14} {min(wall):8.0f} {statistics.median(wall):8.0f}   {rate:.1f} GB/s"
            )
            continue
        ours = min(w for w, _ in times[library, "ours"])
        floor = STREAMS[method] * 4 * count / rate / 1e6
        apart = np.abs(np.array(answers[library][name]["weights"]) - mine).max()
        state = answers[library][name]["state"]
        print(
            f"{method:10} {library:6} {name:14} {min(wall):8.0f} {statistics.median(wall):8.0f} "
            f"{min(p for _, p in found):8.0f} {ours / min(wall):7.2f} {min(wall) / floor:7.2f} {state / 1e6:10.3f} "
            f"{state / (8 * count):9.4f} {apart:9.1e}",
            flush=True,
        )


def main() -> None:
    """Parse, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=list(STREAMS), choices=list(STREAMS))
    parser.add_argument("--libraries", nargs="+", default=["jax", "torch"], choices=["jax", "torch"])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker, options.layers)
        return
    count = sum(int(np.prod(s)) for s in shapes(options.layers))
    print(f"{count / 1e6:.1f} million weights; state beside Adam's two means ({8 * count / 1e6:.0f} MB)")
    print(
        f"{'method':10} {'on':6} {'side':14} {'least ms':>8} {'median':>8} {'cpu ms':>8} {'ours/it':>7} {'/floor':>7} "
        f"{'state MB':>10} {'of Adam':>9} {'apart':>9}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for method in options.methods:
            measure(method, options, Path(folder))


if __name__ == "__main__":
    main()
