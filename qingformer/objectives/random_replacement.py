"""Random replacement of decoder inputs: a cure for exposure bias."""

import zlib
from collections.abc import Iterable

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.decoder_inputs import DecoderInputs
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.types import Config, Nest, Tensor

_SOURCES = ("target", "example", "vocabulary")
_SALT = zlib.crc32(b"RandomReplacement")


@keras.saving.register_keras_serializable("qingformer")
class RandomReplacement(Transform):
    """Train a decoder to go on after wrong words: replace some of the target tokens that it reads, not those it says.

    A row is left alone with probability 1 - `probability`; otherwise each of its target tokens is replaced with
    `token_probability` by a token drawn uniformly from `source`. Labels, source and padding stay. So of all target
    inputs a share of probability * token_probability is drawn anew (which may give the same token again).

    Works on models with a decoder of their own (input `decoder_token_ids`; the first position holds the start token
    and stays) and on models that read source and target one after the other (`token_ids`, the target being where
    `segment_ids` is 1). The labels must be `y`: a loss that the model itself computes from its inputs would be given
    the replaced tokens. The numbers drawn depend on `seed` and the step alone.

    Args:
        probability: of a row to be touched at all.
        token_probability: of a target token in such a row to be replaced.
        source: where the new tokens come from: "target" (the row's own target), "example" (its source and target), or
            "vocabulary". "target" is the article's text; its script draws from the example.
        spared: token ids that are neither replaced nor drawn (separators, for instance); by default there are none
            and, as in that script, the final separator is a target token like any other.
        vocabulary_size: number of ids, for source="vocabulary".
        token_input: name of the input with the decoder's tokens, if it is another.
        segment_input: name of the input whose 1 means target; "" if the whole sequence is target (a causal model).
        seed: makes two transforms of this kind draw differently.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, an input that the model does not have; in training,
            data without `y`.

    Source: 科学空间, archives/7259; related: Zhang et al. 2019, arXiv 1906.02448.

    Example:
        >>> model.compile("adam", loss, transforms=[RandomReplacement(0.5, 0.3)])
    """

    def __init__(
        self,
        probability: float = 0.5,
        token_probability: float = 0.3,
        source: str = "target",
        spared: Iterable[int] = (),
        vocabulary_size: int | None = None,
        token_input: str | None = None,
        segment_input: str | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("probability", probability), ("token_probability", token_probability)):
            if not 0 <= value <= 1:
                raise ConfigError(f"RandomReplacement: {name} is {value}; it must be in [0, 1]")
        if source not in _SOURCES:
            raise ConfigError(f"RandomReplacement: source is {source!r}; it must be one of {', '.join(_SOURCES)}")
        self.spared = tuple(sorted({int(token) for token in spared}))
        if source == "vocabulary" and not len(self.spared) < (vocabulary_size or 0):
            raise ConfigError(
                f"RandomReplacement: vocabulary_size is {vocabulary_size}; source='vocabulary' needs the number of ids"
            )
        self.probability, self.token_probability, self.source = float(probability), float(token_probability), source
        self.vocabulary_size = vocabulary_size
        self.token_input, self.segment_input, self.seed = token_input, segment_input, seed

    def __call__(self, objective: Objective) -> Objective:
        """The objective on batches with replaced tokens."""
        return _Replaced(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        names = ("probability", "token_probability", "source", "vocabulary_size", "token_input", "segment_input")
        return {name: getattr(self, name) for name in names} | {"spared": list(self.spared), "seed": self.seed}


class _Replaced(TransformedObjective):
    def __init__(self, objective: Objective, settings: RandomReplacement) -> None:
        super().__init__(objective)
        self.settings = settings
        self.inputs = DecoderInputs(self.model, "RandomReplacement", settings.token_input, settings.segment_input)

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        return self.objective(trainable, state, self.replaced(state, batch))

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        return self.objective.value_and_grad(trainable, state, self.replaced(state, batch))

    def replaced(self, state: State, batch: Batch) -> Batch:
        """The batch with some of the target tokens drawn anew."""
        if batch.y is None:
            raise ConfigError("RandomReplacement: the data has no y; with labels made of the inputs they would change")
        ids = self.inputs.read(batch.x, self.inputs.tokens)
        shape = ops.shape(ids)
        row, token, choice = (
            keras.random.uniform(size, seed=state.seed(_SALT + 3 * self.settings.seed + number))
            for number, size in enumerate([(shape[0], 1), shape, shape])
        )
        target = self.inputs.target(batch.x) & self._allowed(ids)
        chosen = target & (row < self.settings.probability) & (token < self.settings.token_probability)
        drawn = self._drawn(batch.x, ids, target, choice)
        return batch._replace(x=self.inputs.replace(batch.x, ops.where(chosen, drawn, ids)))

    def _allowed(self, ids: Tensor) -> Tensor:
        allowed = ids == ids
        for token in self.settings.spared:
            allowed = allowed & (ids != token)
        return allowed

    def _drawn(self, x: Nest, ids: Tensor, target: Tensor, choice: Tensor) -> Tensor:
        if self.settings.source == "vocabulary":
            size = (self.settings.vocabulary_size or 0) - len(self.settings.spared)
            drawn = ops.minimum(ops.cast(ops.floor(choice * size), ids.dtype), size - 1)
            for token in self.settings.spared:  # in rising order: what is at or above a spared id moves up by one
                drawn = drawn + ops.cast(drawn >= token, ids.dtype)
            return drawn
        if self.settings.source == "example":
            given = self.inputs.source_tokens(x)
            target = self.inputs.not_padding(x) & self._allowed(ids)
            if given is not None:
                ids = ops.concatenate([ids, ops.cast(given[0], ids.dtype)], axis=1)
                target = ops.concatenate([target, given[1] & self._allowed(given[0])], axis=1)
        return _pick(ids, target, choice)


def _pick(ids: Tensor, eligible: Tensor, choice: Tensor) -> Tensor:
    """For each number in [0, 1) of `choice` (B, T) one of the eligible tokens of `ids` (B, S) of its row."""
    length = ops.shape(ids)[1]
    places = ops.arange(length)[None]
    order = ops.argsort(ops.where(eligible, places, places + length), axis=1)
    first = ops.take_along_axis(ids, order, axis=1)  # the eligible ones in front
    count = ops.sum(ops.cast(eligible, "int32"), axis=1, keepdims=True)
    picked = ops.cast(ops.floor(choice * ops.cast(count, choice.dtype)), "int32")
    return ops.take_along_axis(first, ops.clip(picked, 0, ops.maximum(count - 1, 0)), axis=1)
