"""Fine-tune a small pre-trained encoder on few labels as usual, with FGM and with PGD.

    python -m experiments.adversarial_training [--pretrain FILE --train FILE --test FILE] [--epsilon 0.02 0.1 0.5]

The encoder is first trained to classify the texts of `--pretrain` (without it: those of one half of the labels). Then
every seed draws `--train-size` texts. The size of a perturbation counts in comparison with the embeddings: a row of
BERT's has a length of about 1.4, one of the tiny encoder here about a sixth of that.

With `--from-scratch` new models learn all training texts instead, with lengths in units of a token's vector:

    python -m experiments.adversarial_training --from-scratch --relative 0.05 --epsilon 0.5

FGM costs two gradients a step, PGD with three steps four; so the comparison also has plain training for twice the
epochs, which costs what FGM does.
"""

from functools import partial

from experiments.common import SAMPLE, FineTuning, compare, pretrained_arguments, read
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
    parser.add_argument(
        "--relative", type=float, nargs="+", default=[], help="the same in units of a token's vector, for FGM alone"
    )
    parser.add_argument("--steps", type=int, default=3, help="of PGD")
    parser.add_argument(
        "--from-scratch", action="store_true", help="3 epochs over all of `--train`, from random weights; only FGM"
    )
    return parser.parse_args()


def compare_from_scratch(given):
    """Plain training and FGM on new models, as `make demo` trains them."""
    import qingformer as qf

    def score(seed, transforms):
        classifier = qf.TextClassifier.from_scratch("tiny", vocabulary, max_length=64, seed=seed)
        classifier.fit(given.train, epochs=3, transforms=transforms, seed=seed, verbose=0)
        return classifier.evaluate(given.test).accuracy

    vocabulary = SAMPLE.parent / "vocab.txt"
    methods = {"none": lambda seed: score(seed, [])}
    methods |= {f"FGM(relative={r:g})": lambda seed, r=r: score(seed, [FGM(relative=r)]) for r in given.relative}
    methods |= {f"FGM({epsilon:g})": lambda seed, e=epsilon: score(seed, [FGM(e)]) for epsilon in given.epsilon}
    compare(f"{len(read(given.train))} texts, test {len(read(given.test))}", methods, given.seeds, given.output)


def main():
    """Pre-train once, fine-tune with every setting and seed, and print the table."""
    given = options()
    if given.from_scratch:
        compare_from_scratch(given)
        return
    tuning = FineTuning(given)
    settings = (
        [(f"FGM({epsilon:g})", partial(FGM, epsilon)) for epsilon in given.epsilon]
        + [
            (f"FGM({epsilon:g}, norm='sample')", partial(FGM, epsilon, norm="sample"))
            for epsilon in given.sample_epsilon
        ]
        + [(f"FGM(relative={length:g})", partial(FGM, relative=length)) for length in given.relative]
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
