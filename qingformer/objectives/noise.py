"""Random noise on what an embedding layer gives out."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from qingformer.errors import ConfigError
from qingformer.objectives.decoder_inputs import DecoderInputs, input_names
from qingformer.objectives.objective import Array, Aux, Batch, Objective, State, Transform, TransformedObjective
from qingformer.objectives.weight_penalty import not_negative

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
        self.stddev = not_negative(stddev, "EmbeddingNoise", "stddev")
        if positions not in _POSITIONS:
            raise ConfigError(f"EmbeddingNoise: positions is {positions!r}; it must be one of {', '.join(_POSITIONS)}")
        self.positions, self.relative, self.layer = positions, bool(relative), layer
        self.token_input, self.segment_input, self.seed = token_input, segment_input, seed

    def __call__(self, objective: Objective) -> Objective:
        """The objective with noise inside."""
        return _Noisy(objective, self)

    def get_config(self) -> dict[str, Any]:
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

    def __call__(self, trainable: list[Array], state: State, batch: Batch) -> tuple[Array, Aux]:
        with self._noise(state, batch) as batch:
            return self.objective(trainable, state, batch)

    def value_and_grad(
        self, trainable: list[Array], state: State, batch: Batch
    ) -> tuple[tuple[Array, Aux], list[Array]]:
        with self._noise(state, batch) as batch:
            return self.objective.value_and_grad(trainable, state, batch)

    @contextmanager
    def _noise(self, state: State, batch: Batch) -> Iterator[Batch]:
        tokens = self.inputs.read(batch.x, self.inputs.tokens)
        where = self.inputs.target(batch.x) if self.settings.positions == "target" else None
        calls = []

        def change(output: Array) -> Array:
            calls.append(output)
            noise = keras.random.normal(ops.shape(output), seed=state.seed(_SALT + self.settings.seed))
            noise = noise * self.settings.stddev
            if self.settings.relative:
                noise = noise * ops.stop_gradient(ops.sqrt(ops.mean(ops.cast(output, "float32") ** 2)))
            if where is not None:
                noise = ops.where(where[..., None], noise, 0.0)
            return output + ops.cast(noise, output.dtype)

        with changed_output(self.layer, tokens, change):
            yield batch._replace(x=self.inputs.replace(batch.x, tokens))
        if not calls:
            raise ConfigError(
                f"EmbeddingNoise: layer {self.layer.path!r} is not applied to the input {self.inputs.tokens!r} itself; "
                "name another layer or token_input"
            )


@contextmanager
def changed_output(layer: keras.layers.Layer, given: Array, change: Callable[[Array], Array]) -> Iterator[None]:
    """Within the block, where `layer` is applied to the very tensor `given`, its output goes through `change`.

    Other calls of the layer (a shared table in another place, or in reverse) are left alone.

    Example:
        >>> with changed_output(model.get_layer("token_embedding"), ids, lambda x: 2 * x):
        ...     model(ids)
    """
    plain = layer.call
    before = layer.__dict__.get("call")

    def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        output = plain(inputs, *args, **kwargs)
        return change(output) if inputs is given else output

    layer.__dict__["call"] = call
    try:
        yield
    finally:
        if before is None:
            del layer.__dict__["call"]
        else:
            layer.__dict__["call"] = before


def find_layer(model: keras.Model, name: str, who: str) -> keras.layers.Layer:
    """The layer called `name` (or with that path), at any depth; a `ConfigError` if there is not exactly one."""
    layers = list(model._flatten_layers(include_self=False))
    found = [layer for layer in layers if name in (layer.name, layer.path)]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(layer.path for layer in found)
        raise ConfigError(f"{who}: several layers are called {name!r}: {paths}; give the path of one")
    there = ", ".join(layer.path for layer in layers if layer.variables)
    raise ConfigError(f"{who}: the model has no layer {name!r}; its layers with variables are: {there}")
