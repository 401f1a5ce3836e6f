"""Train a small classifier without and with a penalty of the squared gradient, on the same texts in the same order.

    python -m examples.gradient_penalty [--train FILE --test FILE] [--epsilon 1] [--seeds 3]

The penalty is on the gradient of the embedding matrix, by row of the matrix or by place in the text, or on that of all
parameters. FGM is shown beside it: to first order it minimises the length of the same gradient, not its square.
"""

from examples.common import arguments, compare, fit_and_score, read
from qingformer.objectives import FGM, GradientPenalty


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=5, max_length=32, batch_size=32)
    parser.add_argument("--epsilon", type=float, default=1.0, help="weight of the penalty on the embeddings")
    parser.add_argument("--parameters-epsilon", type=float, default=0.01, help="weight of that on all parameters")
    return parser.parse_args()


def main():
    """Train with every setting and seed, and print the table."""
    given = options()
    train, test = read(given.train, given.train_size), read(given.test)

    def run(seed, transforms):
        return fit_and_score(given, train, test, seed, transforms=transforms)

    epsilon, least = given.epsilon, given.parameters_epsilon
    methods = {
        "none": lambda seed: run(seed, []),
        f"penalty {epsilon:g}, by row": lambda seed: run(seed, [GradientPenalty(epsilon)]),
        f"penalty {epsilon:g}, by place": lambda seed: run(seed, [GradientPenalty(epsilon, per="occurrence")]),
        f"penalty {least:g}, parameters": lambda seed: run(seed, [GradientPenalty(least, on="parameters")]),
        "FGM(0.5)": lambda seed: run(seed, [FGM(0.5)]),
    }
    compare(f"{len(train)} texts", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
