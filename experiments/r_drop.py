"""Train a small classifier without and with R-Drop, on the same texts in the same order.

    python -m experiments.r_drop [--train FILE --test FILE] [--alphas 1 4] [--seeds 3]

R-Drop costs two passes a step, so the comparison also has plain training for twice the epochs, which costs the same.
"""

import qingformer as qf
from experiments.common import arguments, compare, read
from qingformer.objectives import RDrop


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=5, max_length=32, batch_size=32)
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.0, 4.0], help="weights of the divergence")
    parser.add_argument("--dropout", type=float, default=0.1, help="of the classifier's head; the encoder has 0.1")
    return parser.parse_args()


def main():
    """Train with every setting and seed, and print the table."""
    given = options()
    train, test = read(given.train, given.train_size), read(given.test)
    labels = sorted({row["label"] for row in train})

    def run(seed, transforms, epochs):
        """Held-out scores of a tiny classifier trained from random weights."""
        classifier = qf.TextClassifier.from_scratch(
            "tiny", labels=labels, max_length=given.max_length, dropout=given.dropout, seed=seed
        )
        classifier.fit(train, epochs=epochs, batch_size=given.batch_size, transforms=transforms, seed=seed, verbose=0)
        report = classifier.evaluate(test)
        return {"accuracy": report.accuracy, "macro F1": report.macro.f1}

    methods = {
        "plain": lambda seed: run(seed, [], given.epochs),
        "plain, twice the epochs": lambda seed: run(seed, [], 2 * given.epochs),
    }
    for alpha in given.alphas:
        methods[f"R-Drop({alpha:g})"] = lambda seed, alpha=alpha: run(seed, [RDrop(alpha)], given.epochs)
    compare(f"{len(train)} texts", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
