"""The gradient noise of a classifier on labelled texts."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from qingformer.analysis import GradientMoments, measure_gradients
from qingformer.data import PaddedBatches
from qingformer.data.batches import buckets_up_to
from qingformer.errors import ConfigError, DataError
from qingformer.tasks import fitting
from qingformer.tasks.classification.class_labels import label_targets
from qingformer.tasks.classification.text_examples import Columns, Examples
from qingformer.tasks.seeded import reseed


def classifier_gradients(
    classifier: Any,
    data: Any,
    *,
    columns: Columns | None = None,
    texts: int = 512,
    rows: int = 4,
    training: bool = True,
    seed: int = 0,
    done: Callable[[int], None] | None = None,
) -> GradientMoments:
    """Measure the gradients of a `TextClassifier` at its present weights, trained or not, over texts drawn at random.

    All texts are padded to one width: batches of like length, as training has them, would differ more from each other
    than chance makes them. A classifier that is not compiled yet gets the loss of its kind.

    Args:
        classifier: a `TextClassifier`; a new one finds its labels and vocabulary in `data` first.
        data, columns: as in `fit`.
        texts: how many are drawn, without replacement; all if there are fewer.
        rows: texts per gradient.
        training: with dropout, as in training.
        seed: of the draw, and of dropout.
        done: told after each gradient how many texts it was over.

    Raises:
        DataError: what is wrong with the data; fewer than 3 gradients' worth of texts.

    Example:
        >>> classifier_gradients(classifier, "train.jsonl").noise_scale().value
    """
    if texts < 1 or rows < 1:
        raise ConfigError(f"texts is {texts} and rows {rows}; both must be 1 or more")
    examples = classifier.read(data, "data", columns=columns)
    order = np.random.default_rng(seed).permutation(len(examples))[:texts]
    drawn = Examples(examples.name, [examples[int(index)] for index in order], examples.is_file)
    if len(drawn) < 3 * rows:
        raise DataError(
            f"{examples.name}: {len(drawn)} texts are too few to measure the noise of gradients over {rows}; "
            f"give at least {3 * rows}"
        )
    classifier.prepare(examples)
    label_targets(examples, classifier.labels, multi_label=classifier.multi_label)  # a wrong label anywhere is an error
    targets = label_targets(drawn, classifier.labels, multi_label=classifier.multi_label)
    encoded = classifier.encode(drawn)
    longest = min(max(len(feature.token_ids) for feature in encoded.features), classifier.max_length)
    width = next(width for width in buckets_up_to(classifier.max_length) if width >= longest)
    batches = PaddedBatches(
        encoded.features, targets, batch_size=rows, buckets=(width,), shuffle=False,
        pad_token_id=classifier.tokenizer.pad_token_id, inputs=classifier.backbone.input,
    )  # fmt: skip
    if not classifier.model.compiled:
        metric = fitting.accuracy(multi_label=classifier.multi_label)
        plan = fitting.Plan(1, seed, 0.0, (), classifier.loss(), (metric,))
        fitting.compile_model(classifier.model, keras.optimizers.SGD(), plan)
    reseed(classifier.model, seed)
    return measure_gradients(classifier.model, batches, training=training, done=done)
