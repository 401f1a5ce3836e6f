"""Random noise on what an embedding layer gives out."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.decoder_inputs import DecoderInputs, input_names
from qingformer.objectives.layer_outputs import changed_outputs, find_layer
from qingformer.objectives.objective import Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.transform_arguments import not_negative, one_of
from qingformer.types import Config, Tensor

_POSITIONS = ("target", "all")
_SALT = zlib.crc32(b"EmbeddingNoise")


@keras.saving.register_keras_serializable("qingformer")
class EmbeddingNoise(Transform):
    """Train with normal noise on the embedded tokens that the decoder reads, or on all of them.

        e -> e + stddev * r * n,   n ~ N(0, 1),   r = root mean square of e (1 with relative=False)

    For small noise its mean effect on the loss is a penalty on the squared slope of the model at its inputs
    (half of stddev^2 times the trace of the second derivative). On the inputs of a decoder it stands for the errors
    that a decoder makes when it runs on its own output. The noise depends on `seed` and the step alone.

    Args:
        stddev: standard deviation of the noise, >= 0, in units of r.
        positions: "target" (what `RandomReplacement` calls target) or "all".
        relative: measure in units of the root mean square of the embedded batch instead of absolutely.
        layer: name or path of the embedding layer; it must be applied to the token input itself.
        token_input: name of the input with the tokens, if it is neither `decoder_token_ids` nor `token_ids`.
        segment_input: name of the input whose 1 means target; "" if the whole sequence is target.
        seed: makes two transforms of this kind draw differently.

    Raises:
        ConfigError: an argument that cannot be; in `compile`, a layer or input that the model does not have; in
            training, a layer that is not applied to that input.

    Source: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization"; 科学空间, archives/7466; on
    exposure bias: archives/7259.

    Example:
        >>> model.compile("adam", loss, transforms=[EmbeddingNoise(0.1)])
    """

    def __init__(
        self,
        stddev: float = 0.1,
        positions: str = "target",
        relative: bool = True,
        layer: str = "token_embedding",
        token_input: str | None = None,
        segment_input: str | None = None,
        seed: int = 0,
    ) -> None:
        self.stddev = not_negative("EmbeddingNoise", "stddev", stddev)
        self.positions = one_of("EmbeddingNoise", "positions", positions, _POSITIONS)
        self.relative, self.layer = bool(relative), layer
        self.token_input, self.segment_input, self.seed = token_input, segment_input, seed

    def __call__(self, objective: Objective) -> Objective:
        """The objective with noise inside."""
        return _Noisy(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        names = ("stddev", "positions", "relative", "layer", "token_input", "segment_input", "seed")
        return {name: getattr(self, name) for name in names}


class _Noisy(TransformedObjective):
    def __init__(self, objective: Objective, settings: EmbeddingNoise) -> None:
        super().__init__(objective)
        self.settings = settings
        self.layer = find_layer(self.model, settings.layer, "EmbeddingNoise")
        tokens, segments = settings.token_input, settings.segment_input
        if settings.positions == "all":
            names = input_names(self.model)
            tokens, segments = tokens or (names[0] if len(names) == 1 else None), ""
        self.inputs = DecoderInputs(self.model, "EmbeddingNoise", tokens, segments)

    def __call__(self, trainable: list[Tensor], state: State, batch: Batch) -> tuple[Tensor, Aux]:
        with self._noise(state, batch) as batch:
            return self.objective(trainable, state, batch)

    def value_and_grad(
        self, trainable: list[Tensor], state: State, batch: Batch
    ) -> tuple[tuple[Tensor, Aux], list[Tensor]]:
        with self._noise(state, batch) as batch:
            return self.objective.value_and_grad(trainable, state, batch)

    @contextmanager
    def _noise(self, state: State, batch: Batch) -> Iterator[Batch]:
        tokens = self.inputs.read(batch.x, self.inputs.tokens)
        where = self.inputs.target(batch.x) if self.settings.positions == "target" else None
        calls = []

        def change(output: Tensor) -> Tensor:
            calls.append(output)
            noise = keras.random.normal(ops.shape(output), seed=state.seed(_SALT + self.settings.seed))
            noise = noise * self.settings.stddev
            if self.settings.relative:
                noise = noise * ops.stop_gradient(ops.sqrt(ops.mean(ops.cast(output, "float32") ** 2)))
            if where is not None:
                noise = ops.where(where[..., None], noise, 0.0)
            return output + ops.cast(noise, output.dtype)

        with changed_outputs(self.layer, change, only_of=tokens):
            yield batch._replace(x=self.inputs.replace(batch.x, tokens))
        if not calls:
            raise ConfigError(
                f"EmbeddingNoise: layer {self.layer.path!r} is not applied to the input {self.inputs.tokens!r} itself; "
                "name another layer or token_input"
            )
