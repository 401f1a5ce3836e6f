"""Train a small classifier on classes of very different sizes with the usual remedies, on the same texts.

    python -m experiments.class_imbalance [--train FILE --test FILE] [--tau 1] [--seeds 3]

Cross-entropy; cross-entropy with class weights; losses that look at hard examples; logit adjustment, whose model
predicts in two ways: by its logits (for balanced accuracy and macro F1) and with the log-frequencies of the classes put
back (for accuracy). All settings are the usual ones of their papers and not tuned.
"""

import numpy as np

import qingformer as qf
from experiments.common import arguments, compare, read
from qingformer.evaluation import evaluate_classification
from qingformer.losses import DiceLoss, FocalLoss, LogitAdjustedCrossentropy


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=6, train_size=5000, max_length=32, batch_size=32)
    parser.add_argument("--tau", type=float, default=1.0, help="strength of the logit adjustment")
    parser.add_argument("--gamma", type=float, default=2.0, help="of the focal loss")
    parser.add_argument("--alpha", type=float, default=1.0, help="of the dice loss")
    return parser.parse_args()


def scores(targets, chosen, labels):
    """Accuracy, macro F1, and the mean recall over the classes that the test data has."""
    report = evaluate_classification(targets, chosen, len(labels))
    recalls = [np.mean(chosen[targets == c] == c) for c in np.unique(targets)]
    return {"accuracy": report.accuracy, "macro F1": report.macro.f1, "balanced accuracy": float(np.mean(recalls))}


def main():
    """Train with every remedy and seed, and print the table."""
    given = options()
    train, test = read(given.train, given.train_size), read(given.test)
    labels = sorted({row["label"] for row in train})
    index = {label: place for place, label in enumerate(labels)}
    test = [row for row in test if row["label"] in index]
    targets = np.array([index[row["label"]] for row in test])
    counts = np.bincount([index[row["label"]] for row in train])
    adjustment = LogitAdjustedCrossentropy(counts.tolist(), given.tau)
    adjusted = {}

    def log_probabilities(seed, **remedy):
        """Of the test data, (n, classes), after training from random weights."""
        classifier = qf.TextClassifier.from_scratch("tiny", labels=labels, max_length=given.max_length, seed=seed)
        classifier.fit(train, epochs=given.epochs, batch_size=given.batch_size, seed=seed, verbose=0, **remedy)
        found = classifier.predict([row["text"] for row in test], batch_size=64)
        probabilities = np.array([[p.probabilities[label] for label in labels] for p in found])
        return np.log(np.maximum(probabilities, 1e-30))

    def run(seed, **remedy):
        return scores(targets, log_probabilities(seed, **remedy).argmax(-1), labels)

    def without_prior(seed):
        adjusted[seed] = log_probabilities(seed, loss=adjustment)
        return scores(targets, adjusted[seed].argmax(-1), labels)

    def with_prior(seed):  # the same model; log-probabilities are logits up to a constant
        shift = given.tau * np.log(adjustment.prior)
        return scores(targets, (adjusted[seed] + shift).argmax(-1), labels)

    methods = {
        "cross-entropy": lambda seed: run(seed),
        "weights: balanced": lambda seed: run(seed, class_weights="balanced"),
        "weights: sqrt": lambda seed: run(seed, class_weights="sqrt"),
        "weights: effective": lambda seed: run(seed, class_weights="effective"),
        f"focal, gamma {given.gamma:g}": lambda seed: run(seed, loss=FocalLoss(given.gamma)),
        f"dice, alpha {given.alpha:g}": lambda seed: run(seed, loss=DiceLoss(given.alpha)),
        f"logit adjustment, tau {given.tau:g}: without prior": without_prior,
        f"logit adjustment, tau {given.tau:g}: with prior": with_prior,
    }
    title = f"{len(train)} texts, {len(labels)} classes of {counts.min()} to {counts.max()} examples"
    compare(title, methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
