"""Measure the gradient noise scale during training, then train at other batch sizes with rates scaled by four laws.

    python -m experiments.noise_scale [--train FILE --test FILE] [--batch-sizes 8 256] [--seeds 3]

All runs see the same number of examples, with the same share of warm-up. The rate of each run follows from the one at
`--batch-size` by a law; "noise scale" is `suggest_learning_rate(law="adam")` with the noise scale that was measured
after the first epoch. The loss is compared beside the accuracy: it is the finer measure.
"""

import keras
import numpy as np

import qingformer as qf
from experiments.common import arguments, compare, read
from qingformer import backend
from qingformer.analysis import suggest_learning_rate
from qingformer.tasks.classification.gradient_noise import classifier_gradients

LAWS = {"constant": "constant", "square root": "sqrt", "linear": "linear", "noise scale": "adam"}


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=3, train_size=3000, max_length=32, batch_size=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="that rate")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 256], help="the others")
    parser.add_argument("--texts", type=int, default=1024, help="drawn for a measurement")
    return parser.parse_args()


def new_classifier(given, train, seed):
    """A tiny encoder with random weights and a vocabulary counted from the texts."""
    labels = sorted({row["label"] for row in train})
    classifier = qf.TextClassifier.from_scratch("tiny", labels=labels, max_length=given.max_length, seed=seed)
    classifier.check_labels(train)
    return classifier


class Measure(keras.callbacks.Callback):
    """The noise scale at the start and after some epochs, by stage."""

    def __init__(self, classifier, train, texts, stages):
        super().__init__()
        self.classifier, self.train, self.texts, self.stages, self.found = classifier, train, texts, stages, {}

    def measure(self, stage):
        """Draw texts with a new seed each time, so that stages do not share their chance."""
        moments = classifier_gradients(self.classifier, self.train, texts=self.texts, rows=8, seed=len(self.found) + 1)
        self.found[stage] = moments.noise_scale()

    def on_epoch_end(self, epoch, logs=None):
        """Keras has put the weights back into the model by now."""
        _ = self.model  # on JAX this is what puts them there
        if epoch + 1 in self.stages:
            self.measure(self.stages[epoch + 1])


def train_once(given, train, test, size, rate, seed, measure=False):
    """One run; test accuracy and loss, and what was measured on the way."""
    classifier = new_classifier(given, train, seed)
    stages = {1: "after 1 epoch", given.epochs: "at the end"}
    watch = Measure(classifier, train, given.texts, stages)
    if measure:
        watch.measure("at the start")
    classifier.fit(
        train, epochs=given.epochs, batch_size=size, learning_rate=rate, seed=seed, verbose=0,
        callbacks=[watch] if measure else [],
    )  # fmt: skip
    rows = classifier.predict([row["text"] for row in test], batch_size=128)
    chosen = np.array([found.probabilities[row["label"]] for found, row in zip(rows, test)])
    right = np.mean([found.label == row["label"] for found, row in zip(rows, test)])
    return {"accuracy": float(right), "loss": float(-np.log(chosen + 1e-12).mean())}, watch.found


def main():
    """Measure, derive the rates, compare."""
    given = options()
    backend.keep_freed_memory()
    train, test = read(given.train, given.train_size), read(given.test, given.train_size)
    scores, stages = train_once(given, train, test, given.batch_size, given.learning_rate, seed=1000, measure=True)
    print(f"batch size {given.batch_size}, rate {given.learning_rate:g}: {scores}")
    for stage, scale in stages.items():
        low, high = scale.interval
        print(f"noise scale {stage}: {scale.value:.0f} ({scale.confidence:.0%}: {low:.0f} to {high:.0f})", flush=True)
    noise = stages["after 1 epoch"].value

    def method(size, rate):
        return lambda seed: train_once(given, train, test, size, rate, seed)[0]

    methods = {f"{given.batch_size}, in use, {given.learning_rate:.2g}": method(given.batch_size, given.learning_rate)}
    for size in given.batch_sizes:
        for name, law in LAWS.items():
            rate = suggest_learning_rate(given.learning_rate, given.batch_size, size, noise, law).rate
            methods[f"{size}, {name}, {rate:.2g}"] = method(size, rate)
    compare("batch size, law, rate", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
