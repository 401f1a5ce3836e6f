"""Low-rank fine-tuning two ways, against full fine-tuning: adapters in the model, and an optimizer of low-rank updates.

    python -m experiments.lora
    python -m experiments.lora --pretrain online-shopping-10-cats/all.csv.xz \\
        --train chnsenticorp/train.tsv.gz --test chnsenticorp/test.tsv.gz --train-size 2000

An encoder is trained once on the texts of `--pretrain` (without it: on the training data itself, one pass) and is then
fine-tuned by every method. Reviews of books, computers and hotels are left out of the pre-training: they are those of
ChnSentiCorp, test set included; training rows that stand in the test set are left out as well. Nothing is selected on
the test set: learning rates are 1e-3 for full training and ten times that, as is usual, for the low-rank ways.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from experiments.common import arguments, compare, read
from qingformer import TextClassifier
from qingformer.optimizers import LowRankUpdates, adamw, warmup_linear
from qingformer.tasks.classification.text_examples import Columns, read_examples

LEFT_OUT = ("书籍", "计算机", "酒店")
RATE, LOW_RANK_RATE, RANK, BATCH, LENGTH = 1e-3, 1e-2, 8, 32, 64
QUERY_VALUE = r"attention/(query|value)(/kernel)?$"
EVERYWHERE = r"block_\d+/.*(query|key|value|output|intermediate)(/kernel)?$"


def pretraining_rows(path: str, size: int, held_out: set[str]) -> list[tuple[str, str]]:
    """Reviews of the other categories, in a random order, none of which is in the test set."""
    from qingformer.data import read_rows

    if not path.endswith((".csv", ".csv.xz", ".csv.gz")):
        rows = [(example.text, example.label or "") for example in read_examples(path, Columns())]
    else:
        rows = [
            (str(row.values["review"]), str(row.values["label"]))
            for row in read_rows(path)
            if row.values["cat"] not in LEFT_OUT and str(row.values["review"]).strip()
        ]
    rows = [row for row in rows if row[0].strip() not in held_out]
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:size]]


def main() -> None:
    """Pre-train, fine-tune in every way with every seed, print the table."""
    parser = arguments(__doc__.splitlines()[0], epochs=3)
    parser.add_argument("--pretrain", help="larger set for the first training (default: the training data)")
    parser.add_argument("--pretrain-size", type=int, default=12000, help="rows of it")
    options = parser.parse_args()
    test = read(options.test)
    held_out = {row["text"].strip() for row in test}
    train = [row for row in read(options.train) if row["text"].strip() not in held_out]
    train = [train[i] for i in np.random.default_rng(1).permutation(len(train))[: options.train_size]]
    first = [(row["text"], row["label"]) for row in train]
    if options.pretrain:
        first = pretraining_rows(options.pretrain, options.pretrain_size, held_out)
    steps = options.epochs * -(-len(train) // BATCH)

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        encoder = TextClassifier.from_scratch("tiny", max_length=LENGTH)
        encoder.fit(first, epochs=2 if options.pretrain else 1, batch_size=BATCH, verbose=0)
        encoder.save(base)

        def run(seed: int, prepare: Callable[[TextClassifier], object], rate: float) -> Mapping[str, float]:
            classifier = TextClassifier.from_pretrained(base, max_length=LENGTH, seed=seed)
            optimizer = prepare(classifier)
            classifier.fit(
                train, epochs=options.epochs, batch_size=BATCH, seed=seed, learning_rate=rate, verbose=0,
                optimizer=optimizer if isinstance(optimizer, LowRankUpdates) else None,
            )  # fmt: skip
            model = classifier.model
            assert model is not None
            state = sum(int(np.prod(v.shape)) * 4 for v in model.optimizer.variables)
            count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
            accuracy = classifier.evaluate(test).accuracy
            return {"accuracy": accuracy, "trainable (k)": count / 1e3, "optimizer (kB)": state / 1e3}

        def adapters(targets: str, symmetric: bool = False) -> Callable[[TextClassifier], object]:
            def prepare(classifier: TextClassifier) -> None:
                assert classifier.backbone is not None
                classifier.backbone.enable_lora(RANK, targets, symmetric=symmetric)

            return prepare

        def updates(targets: str, mode: str = "adapters") -> Callable[[TextClassifier], object]:
            def prepare(classifier: TextClassifier) -> LowRankUpdates:
                assert classifier.backbone is not None
                for variable in classifier.backbone.trainable_variables:
                    variable.trainable = bool(re.search(targets, variable.path))
                rate = RATE if mode == "random_projection" else LOW_RANK_RATE
                return LowRankUpdates(adamw(warmup_linear(rate, steps)), RANK, select=targets, mode=mode)

            return prepare

        compare(
            "Low-rank fine-tuning",
            {
                "full": lambda seed: run(seed, lambda classifier: None, RATE),
                "head alone": lambda seed: run(seed, lambda classifier: classifier.backbone.freeze(), LOW_RANK_RATE),
                "adapters, query and value": lambda seed: run(seed, adapters(QUERY_VALUE), LOW_RANK_RATE),
                "adapters, all linear": lambda seed: run(seed, adapters(EVERYWHERE), LOW_RANK_RATE),
                "adapters, all, symmetric": lambda seed: run(seed, adapters(EVERYWHERE, True), LOW_RANK_RATE),
                "updates, all linear": lambda seed: run(seed, updates(EVERYWHERE), LOW_RANK_RATE),
                "updates, additive": lambda seed: run(seed, updates(EVERYWHERE, "additive"), LOW_RANK_RATE),
                "updates, random": lambda seed: run(seed, updates(EVERYWHERE, "random_projection"), RATE),
            },
            options.seeds,
            options.output,
        )


if __name__ == "__main__":
    main()
