"""Train a small classifier as usual, with FGM and with PGD, on the same texts in the same order.

    python -m examples.adversarial_training [--train FILE --test FILE] [--epsilon 0.5] [--seeds 3]

FGM costs two gradients a step, PGD with three steps four; so the comparison also has plain training for twice the
epochs, which costs what FGM does.
"""

from examples.common import arguments, compare, fit_and_score, read
from qingformer.objectives import FGM, PGD


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=5, max_length=32, batch_size=32)
    parser.add_argument("--epsilon", type=float, default=0.5, help="length of the perturbation of the embedding matrix")
    parser.add_argument("--sample-epsilon", type=float, default=0.5, help="the same for the embedding of one text")
    parser.add_argument("--steps", type=int, default=3, help="of PGD")
    return parser.parse_args()


def main():
    """Train with every setting and seed, and print the table."""
    given = options()
    train, test = read(given.train, given.train_size), read(given.test)

    def run(seed, transforms, epochs=given.epochs):
        return fit_and_score(given, train, test, seed, transforms=transforms, epochs=epochs)

    epsilon, each = given.epsilon, given.sample_epsilon
    methods = {
        "none": lambda seed: run(seed, []),
        "none, twice the epochs": lambda seed: run(seed, [], 2 * given.epochs),
        f"FGM({epsilon:g})": lambda seed: run(seed, [FGM(epsilon)]),
        f"FGM({each:g}, norm='sample')": lambda seed: run(seed, [FGM(each, norm="sample")]),
        f"PGD({epsilon:g}, steps={given.steps})": lambda seed: run(seed, [PGD(epsilon, steps=given.steps)]),
    }
    compare(f"{len(train)} texts", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
