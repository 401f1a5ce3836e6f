"""Heads of a tagger for equal time, and what the learning rate of a CRF's transitions does to its matrix.

    python -m experiments.tagging_heads --train FILE --test FILE [--format words] [--seconds 30] [--epochs 3]

The files hold a token and its tag a line, JSON spans, or with `--format words` words between spaces. First
a small encoder from random weights is trained with each head for so many seconds, steps in which something is compiled
not counted; the rate falls to 0 with the time that has passed, so that all heads end alike. Then one Transformer block
with a CRF is trained for so many epochs at several `lr_multiplier`: F1 with and without the constraints of the scheme,
and the matrix of transitions, where impossible ones should score far below possible ones.

Source: 科学空间, archives/7196.
"""

import json
import time
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

import qingformer as qf
from experiments.common import arguments, compare
from qingformer.data.schemes import TagScheme
from qingformer.data.tagging import read_tagging
from qingformer.tasks import count_vocabulary
from qingformer.training import seed_everything

HEADS = ("crf", "memm", "softmax", "global_pointer")
CHANGES = 100  # of the learning rate while the time runs


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=3, max_length=64, batch_size=16)
    parser.add_argument("--format", help="of the files, as `qingformer train --format` takes it")
    parser.add_argument("--test-size", type=int, help="use only so many held-out texts")
    parser.add_argument("--part", choices=("both", "heads", "multipliers"), default="both", help="what to run")
    parser.add_argument("--seconds", type=float, default=30, help="training time of each head")
    parser.add_argument("--multipliers", type=float, nargs="+", default=[1, 10, 100, 1000], help="of the transitions")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="at the start")
    parser.set_defaults(train=None, test=None, seeds=1)
    given = parser.parse_args()
    if not given.train or not given.test:
        parser.error("give --train and --test: files of words, of tagged tokens or of JSON spans")
    if given.seconds <= 0:
        parser.error("--seconds must be above 0; --part multipliers leaves the heads out")
    return given


class Tagger(qf.SequenceTagger):
    """A tagger that keeps its training batches, whose widths the clock asks for."""

    def training_batches(self, examples, batch_size, seed):
        self.batches = super().training_batches(examples, batch_size, seed)
        return self.batches


class Clock(keras.callbacks.Callback):
    """Stop after `seconds` of training; the rate falls with them from `rate` to 0.

    The first step of each width of batch, in which the program is compiled, does not count.
    """

    def __init__(self, tagger, seconds, rate):
        super().__init__()
        self.tagger, self.seconds, self.rate = tagger, seconds, rate
        self.passed, self.steps, self.changes, self.epoch, self.seen = 0.0, 0, 0, 0, set()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # waits for the step
        spent = time.perf_counter() - self.began
        width = int(self.tagger.batches._plan_of(self.epoch).lengths[batch])
        if width in self.seen:
            self.passed, self.steps = self.passed + spent, self.steps + 1
        self.seen.add(width)
        share = self.passed / self.seconds
        if share >= 1:
            self.model.stop_training = True
        elif int(share * CHANGES) > self.changes:
            self.changes = int(share * CHANGES)
            self.model.optimizer.learning_rate = self.rate * (1 - share)


def heads(given, train, test, scheme, labels, tokenizer):
    """F1 of each head after equal time."""

    def run(head, seed):
        settings = {"head": head, "scheme": scheme, "max_length": given.max_length, "seed": seed}
        tagger = Tagger.from_scratch("tiny", tokenizer, labels=labels, **settings)
        clock = Clock(tagger, given.seconds, given.learning_rate)
        optimizer = qf.optimizers.adamw(given.learning_rate)
        tagger.fit(
            train, epochs=10**6, batch_size=given.batch_size, optimizer=optimizer, seed=seed, callbacks=[clock],
            verbose=0,
        )  # fmt: skip
        report = tagger.evaluate(test)
        return {"F1": report.f1, "steps": clock.steps, "ms a step": 1000 * clock.passed / clock.steps}

    methods = {head: lambda seed, head=head: run(head, seed) for head in HEADS}
    return compare(f"{len(train)} texts, {given.seconds:g} s of training", methods, given.seeds)


def multipliers(given, train, test, scheme, labels, tokenizer):
    """F1 of a weak encoder with a CRF at each multiplier, and the transitions that the last seed learnt."""
    tags = TagScheme(scheme, labels)
    possible = tags.allowed()[0]
    learnt = {}

    def run(multiplier, seed):
        seed_everything(seed)
        config = qf.BackboneConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=256, max_position_embeddings=given.max_length, type_vocab_size=0, pooler=False,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        encoder = qf.Backbone(config, initializer=keras.initializers.RandomNormal(stddev=0.1, seed=seed))
        tagger = qf.SequenceTagger(
            encoder, tokenizer, labels, scheme=scheme, lr_multiplier=multiplier, max_length=given.max_length, seed=seed
        )
        tagger.fit(
            train, epochs=given.epochs, batch_size=given.batch_size, learning_rate=given.learning_rate, seed=seed,
            verbose=0,
        )  # fmt: skip
        scores = {"F1": tagger.evaluate(test).f1}
        tagger.constrained = False
        scores["F1 unconstrained"] = tagger.evaluate(test).f1
        matrix = keras.ops.convert_to_numpy(tagger.model.get_layer("crf").transition_scores())
        learnt[f"x {multiplier:g}"] = matrix.tolist()
        scores["impossible - possible"] = matrix[~possible].mean() - matrix[possible].mean()
        return scores

    methods = {f"x {each:g}": lambda seed, each=each: run(each, seed) for each in given.multipliers}
    found = compare(f"A CRF on one block, {given.epochs} epochs", methods, given.seeds)
    for name, matrix in learnt.items():
        show(f"transitions, {name} (row: the tag before; in brackets: impossible)", tags.tags, matrix, possible)
    return {"scores": found, "tags": tags.tags, "transitions": learnt}


def show(title, tags, matrix, possible):
    """Print a matrix of transitions."""
    table = Table(title=title)
    table.add_column("")
    for tag in tags:
        table.add_column(tag, justify="right")
    for tag, row, may in zip(tags, matrix, possible):
        table.add_row(tag, *(f"{score:.2f}" if good else f"({score:.2f})" for score, good in zip(row, may)))
    Console().print(table)


def main():
    """Read the files, run both parts, and write what was found."""
    given = options()
    files = [read_tagging(path, given.format) for path in (given.train, given.test)]
    train, test = files[0].items[: given.train_size], files[1].items[: given.test_size]
    labels = sorted({span.label for text in train for span in text.spans})
    tokenizer = qf.Tokenizer.from_vocabulary(count_vocabulary(text.text for text in train), lowercase=True)
    data = (train, test, files[0].scheme or "bio", labels, tokenizer)
    found = {}
    if given.part != "multipliers":
        found["heads"] = heads(given, *data)
    if given.part != "heads":
        found["multipliers"] = multipliers(given, *data)
    if given.output:
        Path(given.output).write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
