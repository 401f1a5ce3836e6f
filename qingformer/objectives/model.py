"""The model that trains with transformed objectives."""

from collections.abc import Iterable
from typing import Any, Self

import keras

from qingformer.adapters.adapted_layers import low_rank_config, restore_low_rank
from qingformer.backend.keras_internals import train_validation_split
from qingformer.errors import ConfigError
from qingformer.layers.linear_chain import ChainLoss
from qingformer.layers.quantization import quantization_config, restore_quantization
from qingformer.objectives.objective import ModelObjective, Objective, Transform, apply_transforms
from qingformer.objectives.transform import BaseModel, weigh_batch
from qingformer.objectives.transformed_steps import train_step
from qingformer.types import Config, Nest


@keras.saving.register_keras_serializable("qingformer")
class TrainableModel(BaseModel):
    """A functional `keras.Model` whose `compile` takes `transforms`: training tricks from objective to objective.

    Everything else is Keras: `fit`, callbacks, metrics, sample and class weights, mixed precision, clipping and
    gradient accumulation of the optimizer, `.keras` files. Without transforms the step is Keras' own.

    Example:
        >>> inputs = keras.Input((8,), dtype="int32")
        >>> x = keras.layers.Embedding(100, 16, name="token_embedding")(inputs)
        >>> outputs = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(x))
        >>> model = TrainableModel(inputs, outputs)
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss, transforms=[FGM(0.5)])
    """

    _transforms: tuple[Transform, ...] = ()

    @classmethod
    def from_model(cls, model: keras.Model, inputs: Nest = None, name: str | None = None) -> Self:
        """Wrap any model; the layers and weights are shared, not copied.

        `inputs` (a nest of `keras.Input`) is needed only for a subclassed model that was not made functionally.

        Raises:
            ConfigError: the model is not functional and no `inputs` are given.
        """
        if inputs is not None:
            return cls(inputs, model(inputs), name=name or model.name)
        try:
            if isinstance(model, keras.Sequential):  # knows its tensors, but not as `input` and `output`
                return cls(model.inputs[0], model.outputs[0], name=name or model.name)
            return cls(model.input, model.output, name=name or model.name)
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(
                f"model {model.name!r} is not functional: pass inputs=keras.Input(...) of the shapes that it takes"
            ) from None

    def compile(self, *args: Any, transforms: Iterable[Transform] = (), **kwargs: Any) -> None:
        """`keras.Model.compile`, and `transforms`, applied in the order given (the first one innermost).

        Raises:
            ConfigError: a transform does not fit this model.
        """
        super().compile(*args, **kwargs)
        self._transforms = tuple(transforms)
        for transform in self._transforms:
            transform.build(self)
        self.objective()  # a transform that does not fit is reported here, not in the middle of the first step

    @property
    def variables(self) -> list[keras.Variable]:
        """Keras' list, and behind it what the transforms keep: so all of it is in the state that a step carries."""
        kept = [v for transform in self._transforms for v in transform.variables]
        return [*super().variables, *kept]

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """`keras.Model.fit`, before which the transforms may measure what they need on the same data."""
        rows = (x, y, kwargs.get("sample_weight"))
        if self._transforms and kwargs.get("validation_split"):  # what Keras will hold out is not to be looked at
            rows, _ = train_validation_split(rows, kwargs["validation_split"])
        for transform in self._transforms:
            transform.prepare(self, (*rows, batch_size))
        return super().fit(x, y, batch_size, *args, **kwargs)

    def objective(self) -> Objective:
        """What a training step minimises: the compiled losses, transformed."""
        return apply_transforms(ModelObjective(self), self._transforms)

    def train_step(self, *arguments: Any) -> Any:
        """One step in the form of the backend: `(state, data)` on JAX, `(data)` elsewhere."""
        weighed = self._only_weighted and weigh_batch(self.optimizer, 1.0)
        if not self._transforms and not weighed:
            return super().train_step(*arguments)
        return train_step(self, self.objective(), *arguments)

    def get_config(self) -> Config:
        """Keras' configuration and, where there are low-rank adapters or quantised layers, which: inner layers do not
        tell."""
        more = {"low_rank": low_rank_config(self), "quantized": quantization_config(self)}
        return super().get_config() | {key: value for key, value in more.items() if value is not None}

    @classmethod
    def from_config(cls, config: Config, custom_objects: Any = None) -> Self:
        """The inverse of `get_config`."""
        config = dict(config)
        low_rank, quantized = config.pop("low_rank", None), config.pop("quantized", None)
        model = super().from_config(config, custom_objects)
        if quantized is not None:
            restore_quantization(model, quantized)
        if low_rank is not None:
            restore_low_rank(model, low_rank)
        return model

    def get_compile_config(self) -> Config:
        """Keras' compile settings and the transforms."""
        config = super().get_compile_config()
        if config and self._transforms:
            config["transforms"] = [keras.saving.serialize_keras_object(t) for t in self._transforms]
        return config

    def compile_from_config(self, config: Config) -> None:
        """Compile as the saved model was, its transforms included."""
        config = dict(config)
        transforms = [keras.saving.deserialize_keras_object(t) for t in config.pop("transforms", [])]
        loss = self._stored_loss(config.pop("loss", None))
        self.compile(loss=loss, **keras.saving.deserialize_keras_object(config), transforms=transforms)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def _stored_loss(self, stored: Any) -> Any:
        """A loss of a file, or losses by output; the loss of a chain of tags is that of the layer in this model."""
        if isinstance(stored, dict) and "class_name" not in stored:
            return {name: self._stored_loss(loss) for name, loss in stored.items()}
        if isinstance(stored, list):
            return [self._stored_loss(loss) for loss in stored]
        settings = stored.get("config") if isinstance(stored, dict) else None
        if isinstance(settings, dict) and "layer" in settings and stored["class_name"] == ChainLoss.__name__:
            return self.get_layer(settings["layer"]).loss
        return keras.saving.deserialize_keras_object(stored)
