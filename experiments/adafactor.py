"""AdaFactor beside AdamW: what the memory of an optimizer buys.

    python -m experiments.adafactor
    python -m experiments.adafactor --epochs 5 --train FILE --test FILE

A tiny encoder learns to classify short texts from random weights. The same seed stands for the same start, order and
dropout in every row. Rates are the published ones, not tuned here: 1e-3 for AdamW (the rate of this size), 1e-2 of the
size of the weights for AdaFactor (its paper's), all with the same warm-up and linear decay, but for the last row, which
has the paper's own schedule min(0.01, 1/sqrt(t)). Beside the accuracy on held-out texts stand the bytes that the
optimizer keeps beside the weights; on a model this small the short dimensions weigh most.
"""

import math
from collections.abc import Callable
from typing import Any

from experiments.common import arguments, compare, read
from qingformer import TextClassifier
from qingformer.optimizers import AdaFactor, AdamW, warmup_linear

BATCH, LENGTH = 32, 32


def optimizers(steps: int) -> dict[str, Callable[[], Any]]:
    """What is compared, by name; a new object for every run."""
    clipped = {"global_clipnorm": 1.0}
    return {
        "AdamW": lambda: AdamW(warmup_linear(1e-3, steps), **clipped),
        "AdaFactor": lambda: AdaFactor(warmup_linear(1e-2, steps)),
        "AdaFactor, beta_1 = 0.9": lambda: AdaFactor(warmup_linear(1e-2, steps), beta_1=0.9),
        "AdaFactor, own schedule": lambda: AdaFactor(None),
    }


def state_bytes(classifier: TextClassifier) -> int:
    """Bytes of the optimizer's variables."""
    assert classifier.model is not None
    return sum(4 * math.prod(variable.shape) for variable in classifier.model.optimizer.variables)


def main() -> None:
    """Train with every optimizer and seed, and print the table."""
    options = arguments(__doc__ or "", epochs=10, train_size=6000).parse_args()
    train, test = read(options.train, options.train_size), read(options.test)
    steps = options.epochs * math.ceil(len(train) / BATCH)

    def run(make: Callable[[], Any], seed: int) -> dict[str, float]:
        classifier = TextClassifier.from_scratch("tiny", max_length=LENGTH, seed=seed)
        rows = [(row["text"], row["label"]) for row in train]
        classifier.fit(rows, epochs=options.epochs, batch_size=BATCH, optimizer=make(), seed=seed, verbose=0)
        report = classifier.evaluate([(row["text"], row["label"]) for row in test])
        return {"accuracy": report.accuracy, "state in MB": state_bytes(classifier) / 1e6}

    methods = {name: lambda seed, make=make: run(make, seed) for name, make in optimizers(steps).items()}
    compare("AdaFactor", methods, options.seeds, options.output)


if __name__ == "__main__":
    main()
