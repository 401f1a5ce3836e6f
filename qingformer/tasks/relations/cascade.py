"""The cascade of pointers: subjects first, then for each subject the objects of every relation."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer.data import PaddedBatches
from qingformer.data.padded_labels import JointLabels, StartEndLabels
from qingformer.layers import ConditionalLayerNormalization, StartEndPointers
from qingformer.losses import PowerBinaryCrossentropy
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.networks import HeadBuilder
from qingformer.tasks.relations.relation_examples import Place, TokenTriple
from qingformer.types import Config

SUBJECT_POWER, OBJECT_POWER = 2.0, 4.0
START, END = 0.6, 0.5  # probabilities above which a token starts and ends a name


@keras.saving.register_keras_serializable("qingformer")
class PlaceVectors(keras.layers.Layer):
    """The vectors of two tokens of each text, one behind the other: x (B, T, d) and places (B, 2) int32 to (B, 2d).

    Example: `PlaceVectors()(ops.ones((2, 7, 16)), ops.array([[1, 2], [3, 3]]))`
    """

    def call(self, x: Any, places: Any) -> Any:
        """Take and join."""
        found = ops.take_along_axis(x, ops.expand_dims(ops.cast(places, "int32"), -1), axis=1)
        return ops.reshape(found, (ops.shape(found)[0], 2 * x.shape[-1]))

    def compute_output_spec(self, x: Any, places: Any) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0], 2 * x.shape[-1]), x.dtype)

    def get_config(self) -> Config:
        """Keras' own settings; without this Keras would keep the arguments as they came, a policy object among them."""
        return dict(super().get_config())


class Cascade:
    """The network of the cascade: the model that is trained, and its two halves for extraction.

    p = sigmoid(s)^n with n = 2 for subjects and 4 for objects. The objects are read off the vectors of the tokens after
    layer normalisation under the condition of the subject, the vectors of its first and last token; the projections of
    the condition start at 0.

    Attributes: `model`, from the encoder's inputs and "subject" (B, 2) to "subjects" (B, T, 1, 2) and "objects"
    (B, T, relations, 2), float32 scores; `first`, from the encoder's inputs to "subjects" and "vectors" (B, T, d);
    `second`, from "vectors", "mask" and "subject" to the scores of the objects.

    Source: 科学空间 archives/7161; Wei et al. 2020, arXiv 1909.03227.
    """

    def __init__(self, backbone: Backbone, relations: int, dropout: float, seed: int) -> None:
        top = HeadBuilder(backbone, dropout, seed, "a relation extractor")
        dtype = backbone.dtype_policy
        width = top.vectors.shape[-1]
        place = keras.Input((2,), dtype="int32", name="subject")
        subject_pointers = StartEndPointers(1, top.initializer, name="subjects", dtype=dtype)
        join = PlaceVectors(name="subject_vectors", dtype=dtype)
        norm = ConditionalLayerNormalization(name="subject_norm", dtype=dtype)
        object_pointers = StartEndPointers(relations, top.initializer, name="objects", dtype=dtype)

        def objects(vectors: object, mask: object, subject: object) -> Any:
            return object_pointers(norm(vectors, join(vectors, subject)), mask)

        subjects = subject_pointers(top.vectors, top.mask)
        outputs = {"subjects": subjects, "objects": objects(top.vectors, top.mask, place)}
        self.model: TrainableModel = top.model(outputs, "relation_extractor", {"subject": place})
        self.first = keras.Model(backbone.input, {"subjects": subjects, "vectors": top.vectors})
        vectors = keras.Input((None, width), dtype="float32", name="vectors")
        mask = keras.Input((None,), dtype="int32", name="mask")
        self.second = keras.Model({"vectors": vectors, "mask": mask, "subject": place}, objects(vectors, mask, place))


def cascade_losses() -> dict[str, PowerBinaryCrossentropy]:
    """The loss of each output, summed over tokens and types: the mean over the texts."""
    return {
        "subjects": PowerBinaryCrossentropy(SUBJECT_POWER, class_axes=3),
        "objects": PowerBinaryCrossentropy(OBJECT_POWER, class_axes=3),
    }


class CascadeBatches(PaddedBatches):
    """Batches in which every text comes with one subject, drawn anew in every epoch, and with its objects.

    The start is that of any true subject, the end that of any true subject from there on; where the two are no subject
    together there are no objects, from which the network learns that as well. What is drawn depends on seed, epoch and
    example alone, so a run can be resumed. `triples` are those of each example, by the places of its tokens.
    """

    def __init__(self, features: Any, triples: Sequence[Sequence[TokenTriple]], weights: Any, **options: Any) -> None:
        self._triples, self._relations = triples, options.pop("relations")
        subjects = StartEndLabels([[(0, *t.subject) for t in each] for each in triples], 1)
        super().__init__(features, subjects, weights, **options)

    def _item(self, index: int) -> tuple[Any, ...]:
        inputs, subjects, weights = super()._item(index)
        plan = self._plan_of(self.epoch)
        rows, length = plan.rows[self._first + index], int(plan.lengths[self._first + index])
        drawn = [self._draw(int(row)) for row in rows]
        objects = StartEndLabels(
            [
                [(t.relation, *t.object) for t in (self._triples[row] if row >= 0 else ()) if t.subject == subject]
                for row, subject in zip(rows, drawn)
            ],
            self._relations,
        )
        inputs["subject"] = np.array(drawn, np.int32)
        labels = JointLabels({"subjects": _Ready(subjects), "objects": objects})
        return inputs, labels.gather(np.arange(len(rows)), length), weights

    def _draw(self, row: int) -> Place:
        subjects = sorted({t.subject for t in self._triples[row]}) if row >= 0 else []
        if not subjects:
            return 0, 0
        epoch = self.epoch if self.shuffle else 0
        first, second = np.random.PCG64(np.random.SeedSequence((self.seed, epoch, row, 2))).random_raw(2)
        start = subjects[int(first % len(subjects))][0]
        ends = sorted({end for _, end in subjects if end >= start})
        return start, ends[int(second % len(ends))]


class _Ready:
    """Labels that were gathered already."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def gather(self, rows: np.ndarray, length: int) -> np.ndarray:
        return self.values


def spans_of(scores: np.ndarray, power: float, first: int, last: int) -> list[tuple[int, Place]]:
    """(type, place) of the names that scores (T, types, 2) of one text point at, among the tokens `first` to `last`.

    A start goes with the next end of its type.

    >>> scores = np.full((5, 1, 2), -9.0)
    >>> scores[1, 0, 0] = scores[2, 0, 1] = 9.0
    >>> spans_of(scores, 2.0, 1, 3)
    [(0, (1, 2))]
    """
    starts, ends = (scores[first : last + 1, :, side] > _least(bound, power) for side, bound in enumerate((START, END)))
    tokens = np.arange(len(ends))[:, None]
    following = np.where(ends, tokens, len(ends))
    following = np.minimum.accumulate(following[::-1], axis=0)[::-1]  # the next end of each type, from each token on
    found = []
    for start, kind in zip(*(axis.tolist() for axis in np.nonzero(starts & (following < len(ends))))):
        found.append((kind, (start + first, int(following[start, kind]) + first)))
    return found


def _least(probability: float, power: float) -> float:
    """The score s with sigmoid(s)^power = probability."""
    root = probability ** (1 / power)
    return float(np.log(root / (1 - root)))
