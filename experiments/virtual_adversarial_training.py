"""Learn from few labels and many texts without: virtual adversarial training.

    python -m experiments.virtual_adversarial_training [--train FILE --test FILE --unlabelled FILE] [--labelled 100]

The first `--labelled` rows of the training data keep their labels; the others, and the rows of `--unlabelled`, do not.
All methods have the same vocabulary, counted from all texts, and make the same number of steps with the same number of
labelled rows in each.
"""

import qingformer as qf
from experiments.common import arguments, compare, read
from qingformer.objectives import VirtualAdversarialTraining
from qingformer.tasks.classification.text_examples import read_examples
from qingformer.tasks.scratch import count_vocabulary


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=30, batch_size=16, max_length=32)
    parser.add_argument("--unlabelled", help="a file of texts; its labels, if any, are not read")
    parser.add_argument("--labelled", type=int, default=100, help="how many training rows keep their label")
    parser.add_argument("--epsilon", type=float, default=1.0, help="length of the perturbation")
    parser.add_argument("--weight", type=float, default=1.0, help="of the smoothness term")
    parser.add_argument("--norm", default="matrix", help="'matrix' as in the article, 'sample' as in the paper")
    return parser.parse_args()


def main():
    """Train with every setting and seed, and print the table."""
    given = options()
    rows, test = read(given.train, given.train_size), read(given.test)
    train, others = rows[: given.labelled], [row["text"] for row in rows[given.labelled :]]
    if given.unlabelled:
        others += [example.text for example in read_examples(given.unlabelled, labelled=False)]
    labels = sorted({row["label"] for row in train})
    vocabulary = count_vocabulary([*(row["text"] for row in train), *others], min_count=2)

    def run(seed, transforms=(), **settings):
        """Accuracy on the test data after training from random weights."""
        options = {"labels": labels, "max_length": given.max_length, "seed": seed}
        classifier = qf.TextClassifier.from_scratch("tiny", vocabulary, **options)
        settings = {"batch_size": given.batch_size, "epochs": given.epochs, "seed": seed} | settings
        classifier.fit(train, transforms=transforms, verbose=0, **settings)
        report = classifier.evaluate(test)
        return {"accuracy": report.accuracy, "macro F1": report.macro.f1}

    smooth = VirtualAdversarialTraining(given.weight, given.epsilon, norm=given.norm)
    methods = {
        "labelled texts": run,
        "labelled texts, VAT": lambda seed: run(seed, [smooth]),
        "and unlabelled texts, VAT": lambda seed: run(
            seed, [smooth], unlabelled=others, batch_size=2 * given.batch_size, unlabelled_share=0.5
        ),
    }
    title = f"{len(train)} labelled and {len(others)} unlabelled texts, {len(labels)} classes"
    compare(title, methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
