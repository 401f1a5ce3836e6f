"""Fine-tune a small pre-trained encoder on few labels without and with a penalty of the squared gradient.

    python -m experiments.gradient_penalty [--pretrain FILE --train FILE --test FILE] [--epsilon 0.1 1] [--seeds 5]

The encoder is first trained to classify the texts of `--pretrain` (without it: those of one half of the labels). Then
every seed draws `--train-size` texts. The penalty is on the gradient of the embedding matrix, by row of the matrix or
by place in the text, or on that of all parameters. FGM is shown beside it: to first order it minimises the length of
the same gradient, not its square.
"""

from functools import partial

from experiments.common import FineTuning, compare, pretrained_arguments
from qingformer.objectives import FGM, GradientPenalty


def options():
    """The command line."""
    parser = pretrained_arguments(__doc__.splitlines()[0], seeds=5)
    parser.add_argument(
        "--epsilon", type=float, nargs="+", default=[0.1, 1.0], help="weights of the penalty on the embeddings"
    )
    parser.add_argument("--parameters-epsilon", type=float, default=0.01, help="weight of that on all parameters")
    parser.add_argument("--fgm", type=float, default=0.1, help="epsilon of FGM")
    return parser.parse_args()


def main():
    """Pre-train once, fine-tune with every setting and seed, and print the table."""
    given = options()
    tuning = FineTuning(given)
    least = given.parameters_epsilon
    settings = [
        (f"penalty {epsilon:g}, by {name}", partial(GradientPenalty, epsilon, per=per))
        for name, per in (("row", "row"), ("place", "occurrence"))
        for epsilon in given.epsilon
    ] + [
        (f"penalty {least:g}, parameters", partial(GradientPenalty, least, on="parameters")),
        (f"FGM({given.fgm:g})", partial(FGM, given.fgm)),
    ]
    methods = {"none": lambda seed: tuning.score(seed, [])} | {
        name: lambda seed, make=make: tuning.score(seed, [make()]) for name, make in settings
    }
    compare(tuning.title, methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
