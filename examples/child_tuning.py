"""Fine-tune a small pre-trained encoder on few labels as usual, and with the two forms of ChildTuning.

    python -m examples.child_tuning [--pretrain FILE --train FILE --test FILE] [--p 0.2] [--seeds 5]

The encoder is first trained to classify the texts of `--pretrain`. Without that file, one half of the labels of the
training data serves for that, and the fine-tuning learns the other half. Then every seed draws `--train-size` texts.

Under Adam the masks of ChildTuningF make the steps sqrt(p) times as long, so a run without masks and with a rate of
sqrt(p) times the usual one belongs to the comparison: what it gives too is not due to the masks.
"""

import numpy as np

import qingformer as qf
from examples.common import arguments, compare, read
from qingformer.objectives import ChildTuningD, ChildTuningF


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=10, train_size=200, max_length=48, batch_size=16)
    parser.add_argument("--pretrain", help="labelled texts for the first training; its labels may be others")
    parser.add_argument("--pretrain-size", type=int, default=8000)
    parser.add_argument("--pretrain-epochs", type=int, default=3)
    parser.add_argument("--p", type=float, default=0.2, help="fraction of the elements that ChildTuning trains")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of the fine-tuning")
    parser.set_defaults(seeds=5)
    return parser.parse_args()


def data(given):
    """Texts for the first training, for the second one, and for the test, without texts of the test in the others."""
    train, test = read(given.train), read(given.test)
    if given.pretrain:
        first = read(given.pretrain)
    else:
        labels = sorted({row["label"] for row in train})[::2]
        first = [row for row in train if row["label"] in labels]
        train, test = ([row for row in rows if row["label"] not in labels] for rows in (train, test))
    seen = {row["text"] for row in test}
    first, train = ([row for row in rows if row["text"] not in seen] for rows in (first, train))
    return first[: given.pretrain_size], train, test


def main():
    """Pre-train once, fine-tune with every setting and seed, and print the table."""
    given = options()
    first, train, test = data(given)
    labels = sorted({row["label"] for row in train})
    pretrained = qf.TextClassifier.from_scratch("tiny", max_length=given.max_length)
    curve = pretrained.fit(first, epochs=given.pretrain_epochs, batch_size=32, verbose=0)
    print(f"pre-trained on {len(first)} texts; accuracy in the last epoch {curve['accuracy'][-1]:.3f}")
    weights = pretrained.backbone.get_weights()

    def run(seed, transforms, factor=1.0):
        """Accuracy on the test data after fine-tuning on the texts that this seed draws."""
        rows = [train[i] for i in np.random.default_rng(seed).permutation(len(train))[: given.train_size]]
        settings = {"labels": labels, "max_length": given.max_length, "seed": seed}
        classifier = qf.TextClassifier.from_scratch("tiny", pretrained.tokenizer, **settings)
        classifier.backbone.set_weights(weights)
        classifier.fit(
            rows, epochs=given.epochs, batch_size=given.batch_size, learning_rate=factor * given.learning_rate,
            transforms=transforms, seed=seed, verbose=0,
        )  # fmt: skip
        report = classifier.evaluate(test)
        return {"accuracy": report.accuracy, "macro F1": report.macro.f1}

    methods = {
        "none": lambda seed: run(seed, []),
        "none, rate * sqrt(p)": lambda seed: run(seed, [], given.p**0.5),
        f"ChildTuningF({given.p:g})": lambda seed: run(seed, [ChildTuningF(given.p)]),
        f"ChildTuningD({given.p:g})": lambda seed: run(seed, [ChildTuningD(given.p)]),
    }
    title = f"{given.train_size} of {len(train)} texts, {len(labels)} classes, test {len(test)}"
    compare(title, methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
