"""Memory and time of one training step: whole batch, in parts, and with Keras' accumulation over batches (JAX).

    KERAS_BACKEND=jax python -m benchmarks.accumulation [--size small] [--batch 64] [--length 128] [--parts 4]

Memory is what XLA's own analysis of the compiled step says: state (weights, optimizer, accumulators) and, beside it,
the temporary arrays. Time is the median of a few steps for the same number of examples.
"""

import argparse
import time

import jax
import numpy as np

import qingformer as qf

# isort: split
import keras

from qingformer.objectives import GradientAccumulation


def classifier(size, length, vocabulary=8000):
    """A BERT of this size with a linear head, without dropout."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"t{i}" for i in range(vocabulary - 4))]
    return qf.TextClassifier.from_scratch(size, tokens, ["a", "b"], max_length=length, dropout=0.0).model


def measure(model, batch, length, steps, calls=1):
    """Bytes of state and of temporary arrays of a step, and seconds for `calls` of them."""
    generator = np.random.default_rng(0)
    ids = generator.integers(4, 8000, (batch, length)).astype("int32")
    x = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}
    data = (x, generator.integers(0, 2, batch).astype("int32"), np.ones(batch, "float32"))
    model._symbolic_build(data_batch=data)
    model.optimizer.build(model.trainable_variables)
    groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    state = tuple([v.value for v in group] for group in (*groups, model.metrics_variables))
    compiled = jax.jit(model.train_step, donate_argnums=0).lower(state, data).compile()
    memory = compiled.memory_analysis()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        for _ in range(calls):
            _, state = compiled(state, data)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - began)
    return memory.argument_size_in_bytes, memory.temp_size_in_bytes, float(np.median(times))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    part = given.batch // given.parts
    cases = {
        f"batch {given.batch}": (given.batch, [], {}, 1),
        f"batch {given.batch}, GradientAccumulation({given.parts})": (
            given.batch, [GradientAccumulation(given.parts)], {}, 1,
        ),
        f"{given.parts} x batch {part}, gradient_accumulation_steps={given.parts}": (
            part, [], {"gradient_accumulation_steps": given.parts}, given.parts,
        ),
        f"batch {part} (the floor)": (part, [], {}, given.parts),
    }  # fmt: skip
    print(f"{'':52}{'state MiB':>10}{'temporary MiB':>15}{'s for ' + str(given.batch):>10}")
    for name, (batch, transforms, settings, calls) in cases.items():
        model = classifier(given.size, given.length)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(1e-4, **settings), loss, transforms=transforms)
        state, temporary, seconds = measure(model, batch, given.length, given.steps, calls)
        print(f"{name:52}{state / 2**20:10.1f}{temporary / 2**20:15.1f}{seconds:10.2f}")


if __name__ == "__main__":
    main()
