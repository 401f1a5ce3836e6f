"""Train a small classifier without and with a penalty of the squared gradient, on the same texts in the same order.

    python -m examples.gradient_penalty [--train FILE --test FILE] [--epsilon 1] [--seeds 3]

The penalty is on the gradient of the embedding matrix, by row of the matrix or by place in the text, or on that of all
parameters. FGM is shown beside it: to first order it minimises the length of the same gradient, not its square.
"""

import qingformer as qf  # first: it chooses the backend of Keras

# isort: split
from examples.common import arguments, compare, read
from qingformer import backend
from qingformer.objectives import FGM, GradientPenalty


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=3, train_size=2000)
    parser.add_argument("--epsilon", type=float, default=1.0, help="weight of the penalty on the embeddings")
    parser.add_argument("--parameters-epsilon", type=float, default=0.01, help="weight of that on all parameters")
    parser.add_argument("--max-length", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    return parser.parse_args()


def main():
    """Train with every setting and seed, and print the table."""
    given = options()
    backend.enable_compilation_cache()  # all seeds of a method run the same programs
    train, test = read(given.train, given.train_size), read(given.test)
    labels = sorted({row["label"] for row in train})

    def run(seed, transforms):
        """Accuracy on the test data after training from random weights."""
        classifier = qf.TextClassifier.from_scratch("tiny", labels=labels, max_length=given.max_length, seed=seed)
        settings = {"epochs": given.epochs, "batch_size": given.batch_size, "seed": seed, "verbose": 0}
        classifier.fit(train, transforms=transforms, **settings)
        report = classifier.evaluate(test)
        return {"accuracy": report.accuracy, "macro F1": report.macro.f1}

    epsilon, least = given.epsilon, given.parameters_epsilon
    methods = {
        "none": lambda seed: run(seed, []),
        f"penalty {epsilon:g}, by row": lambda seed: run(seed, [GradientPenalty(epsilon)]),
        f"penalty {epsilon:g}, by place": lambda seed: run(seed, [GradientPenalty(epsilon, per="occurrence")]),
        f"penalty {least:g}, parameters": lambda seed: run(seed, [GradientPenalty(least, on="parameters")]),
        "FGM(0.5)": lambda seed: run(seed, [FGM(0.5)]),
    }
    compare(f"{len(train)} texts, {len(labels)} classes", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
