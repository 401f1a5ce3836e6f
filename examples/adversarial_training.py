"""Train a small classifier as usual, with FGM and with PGD, on the same texts in the same order.

    python -m examples.adversarial_training [--train FILE --test FILE] [--epsilon 0.5] [--seeds 3]

FGM costs two gradients a step, PGD with three steps four; so the comparison also has plain training for twice the
epochs, which costs what FGM does.
"""

import qingformer as qf  # first: it chooses the backend of Keras

# isort: split
from examples.common import arguments, compare, read
from qingformer import backend
from qingformer.objectives import FGM, PGD


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=3, train_size=2000)
    parser.add_argument("--epsilon", type=float, default=0.5, help="length of the perturbation of the embedding matrix")
    parser.add_argument("--sample-epsilon", type=float, default=0.5, help="the same for the embedding of one text")
    parser.add_argument("--steps", type=int, default=3, help="of PGD")
    parser.add_argument("--max-length", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=32)
    return parser.parse_args()


def main():
    """Train with every setting and seed, and print the table."""
    given = options()
    backend.enable_compilation_cache()  # all seeds of a method run the same programs
    train, test = read(given.train, given.train_size), read(given.test)
    labels = sorted({row["label"] for row in train})

    def run(seed, transforms, epochs=given.epochs):
        """Accuracy on the test data after training from random weights."""
        classifier = qf.TextClassifier.from_scratch("tiny", labels=labels, max_length=given.max_length, seed=seed)
        classifier.fit(train, epochs=epochs, batch_size=given.batch_size, transforms=transforms, seed=seed, verbose=0)
        report = classifier.evaluate(test)
        return {"accuracy": report.accuracy, "macro F1": report.macro.f1}

    epsilon, each = given.epsilon, given.sample_epsilon
    methods = {
        "none": lambda seed: run(seed, []),
        "none, twice the epochs": lambda seed: run(seed, [], 2 * given.epochs),
        f"FGM({epsilon:g})": lambda seed: run(seed, [FGM(epsilon)]),
        f"FGM({each:g}, norm='sample')": lambda seed: run(seed, [FGM(each, norm="sample")]),
        f"PGD({epsilon:g}, steps={given.steps})": lambda seed: run(seed, [PGD(epsilon, steps=given.steps)]),
    }
    compare(f"{len(train)} texts, {len(labels)} classes", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
