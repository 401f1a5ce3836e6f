"""Fine-tune a small pre-trained encoder on few labels as usual, and with the two forms of ChildTuning.

    python -m experiments.child_tuning [--pretrain FILE --train FILE --test FILE] [--p 0.2] [--seeds 5]

The encoder is first trained to classify the texts of `--pretrain` (without it: those of one half of the labels). Then
every seed draws `--train-size` texts.

Under Adam the masks of ChildTuningF make the steps sqrt(p) times as long, so a run without masks and with a rate of
sqrt(p) times the usual one belongs to the comparison: what it gives too is not due to the masks.
"""

from experiments.common import FineTuning, compare, pretrained_arguments
from qingformer.objectives import ChildTuningD, ChildTuningF


def options():
    """The command line."""
    parser = pretrained_arguments(__doc__.splitlines()[0], seeds=5)
    parser.add_argument("--p", type=float, default=0.2, help="fraction of the elements that ChildTuning trains")
    return parser.parse_args()


def main():
    """Pre-train once, fine-tune with every setting and seed, and print the table."""
    given = options()
    tuning = FineTuning(given)
    methods = {
        "none": lambda seed: tuning.score(seed, []),
        "none, rate * sqrt(p)": lambda seed: tuning.score(seed, [], factor=given.p**0.5),
        f"ChildTuningF({given.p:g})": lambda seed: tuning.score(seed, [ChildTuningF(given.p)]),
        f"ChildTuningD({given.p:g})": lambda seed: tuning.score(seed, [ChildTuningD(given.p)]),
    }
    compare(tuning.title, methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
