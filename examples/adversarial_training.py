"""Fine-tune a small pre-trained encoder on few labels as usual, with FGM and with PGD.

    python -m examples.adversarial_training [--pretrain FILE --train FILE --test FILE] [--epsilon 0.02 0.1 0.5]

The encoder is first trained to classify the texts of `--pretrain` (without it: those of one half of the labels). Then
every seed draws `--train-size` texts. The size of a perturbation counts in comparison with the embeddings: a row of
BERT's has a length of about 1.4, one of the tiny encoder here about a sixth of that.

FGM costs two gradients a step, PGD with three steps four; so the comparison also has plain training for twice the
epochs, which costs what FGM does.
"""

from functools import partial

from examples.common import FineTuning, compare, pretrained_arguments
from qingformer.objectives import FGM, PGD


def options():
    """The command line."""
    parser = pretrained_arguments(__doc__.splitlines()[0], seeds=5)
    parser.add_argument(
        "--epsilon", type=float, nargs="+", default=[0.02, 0.1, 0.5], help="lengths of the perturbation of the matrix"
    )
    parser.add_argument(
        "--sample-epsilon", type=float, nargs="+", default=[0.02, 0.1], help="the same for the embedding of one text"
    )
    parser.add_argument("--steps", type=int, default=3, help="of PGD")
    return parser.parse_args()


def main():
    """Pre-train once, fine-tune with every setting and seed, and print the table."""
    given = options()
    tuning = FineTuning(given)
    settings = (
        [(f"FGM({epsilon:g})", partial(FGM, epsilon)) for epsilon in given.epsilon]
        + [
            (f"FGM({epsilon:g}, norm='sample')", partial(FGM, epsilon, norm="sample"))
            for epsilon in given.sample_epsilon
        ]
        + [
            (f"PGD({epsilon:g}, steps={given.steps})", partial(PGD, epsilon, steps=given.steps))
            for epsilon in given.epsilon
        ]
    )
    methods = {
        "none": lambda seed: tuning.score(seed, []),
        "none, twice the epochs": lambda seed: tuning.score(seed, [], passes=2),
    } | {name: lambda seed, make=make: tuning.score(seed, [make()]) for name, make in settings}
    compare(tuning.title, methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
