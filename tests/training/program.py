"""A small training with dropout, FGM, metrics and a schedule; run as a program it can be killed and resumed.

python program.py DIRECTORY [--resume] [--kill STEP] [--cache DIRECTORY]
"""

import argparse
import os
import signal
from pathlib import Path

import keras
import numpy as np

from qingformer import backend
from qingformer.data import PaddedBatches
from qingformer.objectives import FGM, TrainableModel
from qingformer.optimizers import adamw, warmup_linear
from qingformer.training import run, seed_everything

VOCABULARY, CLASSES, EXAMPLES, EPOCHS, BATCH = 30, 4, 52, 3, 8


def examples(seed=0, count=EXAMPLES):
    generator = np.random.default_rng(seed)
    rows = [generator.integers(1, VOCABULARY, generator.integers(3, 14)) for _ in range(count)]
    labels = np.array([row.sum() % CLASSES for row in rows], "int32")
    return [(row.tolist(), [0] * len(row)) for row in rows], labels


def batches(seed=7):
    return PaddedBatches(*examples(), batch_size=BATCH, buckets=(8, 16), seed=seed)


def make_model(transforms=(), width=6, dtype=None, optimizer=None):
    seed_everything(3)
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    x = keras.layers.Embedding(VOCABULARY, width, name="token_embedding", dtype=dtype)(inputs["token_ids"])
    mask = keras.ops.cast(inputs["padding_mask"], x.dtype)[..., None]
    x = keras.ops.sum(x * mask, axis=1) / keras.ops.sum(mask, axis=1)
    x = keras.layers.Dropout(0.3, dtype=dtype)(x)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    outputs = keras.layers.Dense(CLASSES, name="logits", dtype="float32")(x)
    model = TrainableModel(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = EPOCHS * len(batches())
    model.compile(optimizer or adamw(warmup_linear(0.05, steps)), loss, metrics=["accuracy"], transforms=transforms)
    return model


class AtStep(keras.callbacks.Callback):
    """Does something at the beginning of the step of this number, counted over the process."""

    def __init__(self, step, action):
        super().__init__()
        self.left, self.action = step, action

    def on_train_batch_begin(self, batch, logs=None):
        if self.left == 0:
            self.action()
        self.left -= 1


def train(directory, resume=False, callbacks=(), transforms=(), **options):
    model = make_model(transforms=transforms)
    held_out, labels = examples(seed=1, count=16)
    validation = PaddedBatches(held_out, labels, batch_size=BATCH, buckets=(16,), shuffle=False)
    settings = {"epochs": EPOCHS, "save_every_steps": 3, "curve_every_steps": 1, "monitor": "val_loss"} | options
    settings |= {"directory": directory, "resume": resume, "validation_data": validation, "callbacks": callbacks}
    return model, run(model, batches(), **settings)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", type=int)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    if options.cache is not None:
        backend.enable_compilation_cache(options.cache)
    callbacks = []
    if options.kill is not None:
        callbacks = [AtStep(options.kill, lambda: os.kill(os.getpid(), signal.SIGKILL))]
    model, result = train(options.directory, options.resume, callbacks, transforms=[FGM(0.2)])
    values = [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    np.savez(options.directory / "final.npz", *values)
    print(result.resumed_from)


if __name__ == "__main__":
    main()
