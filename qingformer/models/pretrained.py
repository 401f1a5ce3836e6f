"""What every model has in common: it loads from and saves to the checkpoint formats, and knows its configuration."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import keras
import numpy as np
from keras import ops

from qingformer.adapters import adapter_files, enabling, merging
from qingformer.adapters.adapted_layers import low_rank_config, restore_low_rank
from qingformer.checkpoints.loading_report import LoadingReport
from qingformer.checkpoints.weight_map import WeightMap
from qingformer.errors import ConfigError
from qingformer.layers.quantization import quantization_config, restore_quantization
from qingformer.models import loading, saving
from qingformer.models.config import BackboneConfig
from qingformer.models.family_registry import family_class
from qingformer.models.surgery import CompoundToken, VocabularySurgery
from qingformer.objectives.transform import BaseModel
from qingformer.ops.masking import padding_mask_from_ids
from qingformer.types import Config, DtypeLike

Self = TypeVar("Self", bound="PretrainedModel")


def kept(token_ids: object, config: BackboneConfig) -> Any:
    """The mask of what is not padding, (B, T) int32."""
    return padding_mask_from_ids(token_ids, config.pad_token_id)


# Inputs that may be left out: the input that each is made of, and how.
DERIVED_INPUTS: dict[str, tuple[str, Callable[[Any, BackboneConfig], Any]]] = {
    "padding_mask": ("token_ids", kept),
    "segment_ids": ("token_ids", lambda token_ids, config: ops.zeros_like(token_ids, dtype="int32")),
    "decoder_padding_mask": ("decoder_token_ids", kept),
    "context_padding_mask": ("context", lambda context, config: ops.ones(ops.shape(context)[:2], dtype="int32")),
}


class PretrainedModel(BaseModel):
    """Base of backbones and of backbones with heads: a functional model with a configuration and a weight map."""

    default_application: ClassVar[str] = "encoder"
    needs_pooler: ClassVar[bool] = False
    config: BackboneConfig
    loading_report: LoadingReport | None = None

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """The table of all variables the family has; a family file gives it."""
        return family_class(config.family).weight_map(config)

    @classmethod
    def from_pretrained(
        cls: type[Self],
        source: str | os.PathLike[str],
        *,
        family: str | None = None,
        application: str | None = None,
        revision: str | None = None,
        strict: bool = True,
        verify: bool = True,
        dtype: DtypeLike = None,
        keep_tokens: Sequence[int] | None = None,
        compound_tokens: Sequence[CompoundToken] = (),
        autoresize: bool = False,
        gradient_checkpointing: bool = False,
        **changes: object,
    ) -> Self:
        """Load a model from a directory, a `.ckpt` prefix, a weights file or "hf://org/name".

        `application` is "encoder", "lm" or "unilm"; `keep_tokens` and `compound_tokens` change the vocabulary (see
        `VocabularySurgery`), `autoresize` stretches weights of another size, `changes` replace values of the
        configuration. Strict: missing, unknown or wrongly shaped weights are errors; with `strict=False` missing ones
        start anew. `verify` compares the weights with the checksums that the file holds and refuses numbers that are
        not finite. What happened is in `model.loading_report`. Errors: `CheckpointError`, `ConfigError`.

        Example: `Backbone.from_pretrained("chinese_L-12_H-768_A-12", application="unilm")`
        """
        request = loading.Request(
            kind=cls.__name__,
            needs_pooler=cls.needs_pooler,
            application=application or cls.default_application,
            application_given=application is not None,
            family=family,
            surgery=VocabularySurgery(keep_tokens, compound_tokens),
            autoresize=autoresize,
            strict=strict,
            verify=verify,
            changes=changes,
        )
        plan = loading.plan(source, revision, request)
        with loading.opened(plan) as stored:
            # Zeros are overwritten at once; drawing a hundred million random numbers would take longer than loading.
            model = cls(plan.config, initializer="zeros", dtype=dtype)
            model.loading_report = loading.load(model, plan, stored)
        if gradient_checkpointing:
            model.enable_gradient_checkpointing()
        return model

    def save_pretrained(
        self,
        directory: str | os.PathLike[str],
        format: str = "qingformer",
        tokenizer: object = None,
        *,
        check_finite: bool = True,
    ) -> Path:
        """Write configuration, weights and, if a tokenizer is given, its vocabulary; returns the directory.

        `format` is "qingformer" (config.json, model.safetensors), "huggingface" (the same names, as `transformers`
        reads them) or "tensorflow" (bert_config.json, bert_model.ckpt.*). The directory is whole or as it was before.
        Errors: `CheckpointError` for a variable that the format cannot hold, and for weights that are not finite
        (NaN, infinite) unless `check_finite=False`.

        Example: `backbone.save_pretrained("my-bert", format="huggingface")`
        """
        return saving.save(self, directory, format, tokenizer, check_finite)

    def named_variables(self) -> dict[str, keras.Variable]:
        """The weights by path: what checkpoints hold, without the states of random generators and adapters."""
        return merging.named_variables(self)

    def weight_arrays(self) -> dict[str, np.ndarray]:
        """The weights as arrays by path, low-rank adapters merged in."""
        return merging.weight_arrays(self)

    def enable_gradient_checkpointing(self) -> None:
        """Compute the blocks' activations again in the backward pass instead of storing them; compile afterwards."""
        for layer in self._flatten_layers():
            if hasattr(layer, "checkpointing"):
                layer.checkpointing = True

    def enable_lora(
        self,
        rank: int,
        targets: str | Sequence[str] = enabling.DEFAULT_TARGETS,
        *,
        alpha: float | None = None,
        symmetric: bool = False,
        also_train: Sequence[str] = (),
        seed: int = 0,
    ) -> list[str]:
        """Freeze the model and train low-rank updates of some of its dense layers; returns their paths.

            W = W_0 + (alpha / r) A B,   A (in, r) random, B (r, out) zero at first,   computed as x W_0 + (x A) B

        so that neither A B nor the gradient of W is ever formed. Compile afterwards. Layers put on top of this model
        stay trainable. Sources: Hu et al. 2021, arXiv 2106.09685; 科学空间, archives/9590.

        Args:
            rank: r, from 1 to the smaller side of the matrices.
            targets: regular expressions for the paths of dense layers, by default the projections to queries and values
                (of a gated attention unit its joint one), or "all-linear" for all outside of the heads.
            alpha: the update has scale alpha / r; by default `rank`, which is scale 1.
            symmetric: both factors start at random and their product is taken off W_0, so that both learn at once.
            also_train: regular expressions for the paths of layers that stay trainable as they are; they are saved with
                the adapters.
            seed: of the starting values.

        Raises:
            ConfigError: a pattern without a layer, a rank that cannot be, adapters already there.

        Example: `backbone.enable_lora(8, targets="all-linear", alpha=16)`
        """
        return enabling.enable_lora(self, rank, targets, alpha, symmetric, also_train, seed)

    def merge_lora(self) -> None:
        """Add the low-rank updates to the kernels, so that the model predicts as fast as without; compile afterwards.

        Errors: `ConfigError` without adapters, or with quantised kernels.
        """
        enabling.merge(self)

    def unmerge_lora(self) -> None:
        """Take them off again (exact up to rounding) and go on training; compile afterwards."""
        enabling.unmerge(self)

    def save_adapters(
        self, directory: str | os.PathLike[str], format: str = "qingformer", *, check_finite: bool = True
    ) -> Path:
        """Write the adapters alone, and what else is trainable: a small folder that belongs to this base model.

        `format` is "qingformer" (adapters.json, adapters.safetensors) or "peft" (adapter_config.json,
        adapter_model.safetensors, as the library `peft` reads them for models of `transformers`).
        Errors: `ConfigError` without adapters, `CheckpointError` for what the format cannot hold, and for values that
        are not finite unless `check_finite=False`.

        Example: `backbone.save_adapters("sentiment-adapters")`
        """
        return adapter_files.save(self, self, directory, format, check_finite)

    def load_adapters(self, directory: str | os.PathLike[str], strict: bool = True) -> list[str]:
        """Read what `save_adapters` or `peft` wrote into this model, with or without adapters; returns their paths.

        A model without adapters gets those of the file and is frozen as by `enable_lora`; one that has the same ones
        gets their values. With `strict=False` the weights of the base may be others than those of the training, and
        weights in a file of `peft` that are not adapters are passed over.
        Errors: `CheckpointError` names what does not fit: family, sizes, base weights, rank, missing or further layers.

        Example: `backbone.load_adapters("sentiment-adapters")`
        """
        return adapter_files.load(self, self, directory, strict)

    def freeze(self, pattern: str = "") -> list[str]:
        """Make the layers whose path matches the regular expression untrainable; returns their paths.

        Errors: `ConfigError` lists the layers if none matches. Compile afterwards.

        Example: `backbone.freeze(r"embedding|block_[0-5]$")`
        """
        return merging.freeze(self, pattern)

    def complete_inputs(self, inputs: object) -> Any:
        """Fill in what a direct call may leave out: zeros for segment ids, masks that keep what is not padding.

        Errors: `ConfigError` names the inputs that are missing or none of the model's.
        """
        if not isinstance(inputs, dict):
            return inputs
        wanted = self._inputs_struct
        # None is what a caller passes on who has not been given the input himself.
        inputs = {name: ops.convert_to_tensor(value) for name, value in inputs.items() if value is not None}
        for name, (source, fill) in DERIVED_INPUTS.items():
            if name in wanted and name not in inputs and source in inputs:
                inputs[name] = fill(inputs[source], self.config)
        missing = [name for name in wanted if name not in inputs]
        unknown = [name for name in inputs if name not in wanted]
        if missing or unknown:
            what = f"{', '.join(missing)} is missing" if missing else f"{', '.join(unknown)} is none of this model's"
            raise ConfigError(f"input {what}; its inputs are {', '.join(wanted)}")
        self._check_length(inputs)
        return inputs

    def _check_length(self, inputs: Config) -> None:
        """Refuse more positions than the table has; the layer's own error comes wrapped in Keras' lines."""
        config, ids = self.config, inputs.get("token_ids")
        length = None if ids is None or len(ids.shape) < 2 else ids.shape[1]
        learned = config.position_embedding_type == "absolute" and not config.hierarchical_position
        if learned and "position_ids" not in inputs and length and length > config.max_position_embeddings:
            raise ConfigError(
                f"sequence of {length} tokens, but position_embedding serves {config.max_position_embeddings}; shorten "
                "with max_length, or load with hierarchical_position=0.4"
            )

    def __call__(self, inputs: object, *args: object, **kwargs: object) -> Any:
        return super().__call__(self.complete_inputs(inputs), *args, **kwargs)

    def get_config(self) -> Config:
        low_rank, quantized = low_rank_config(self), quantization_config(self)
        return {
            "config": self.config.to_dict(),
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "name": self.name,
            "trainable": self.trainable,
            **({} if quantized is None else {"quantized": quantized}),
            **({} if low_rank is None else {"low_rank": low_rank}),
        }

    @classmethod
    def from_config(cls: type[Self], config: Config, custom_objects: object = None) -> Self:
        config = {**config, "dtype": keras.saving.deserialize_keras_object(config["dtype"])}
        low_rank, quantized = config.pop("low_rank", None), config.pop("quantized", None)
        model = cls(**config)
        if quantized is not None:
            restore_quantization(model, quantized)
        if low_rank is not None:
            restore_low_rank(model, low_rank)
        return model
