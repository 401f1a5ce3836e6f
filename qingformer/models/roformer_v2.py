"""RoFormerV2: RoFormer without biases, normalised by the root mean square without gain, initialised by depth.

Its kernels start as a truncated normal of standard deviation 1.13684723 / sqrt(d L) (the factor undoes the truncation),
d the width of the input, or of the output for embedding tables. Its makers trained it on masked tokens of 280 GB from
scratch with the residual branches scaled by a factor growing linearly from 0 to 1, then on 92 supervised tasks whose
gradients are each divided by their norm and added.
Source: Su et al. 2022, 科学空间 archives/8998; archives/8620 (initialisation); archives/8896 (several tasks).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import keras

from qingformer import layers
from qingformer.checkpoints.weight_map import WeightMap, dense
from qingformer.models.bert import bert_like, block_rows, embedding_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.models.roformer import RoFormer
from qingformer.types import Config, DtypeLike, Tensor, Tensors

UNDO_TRUNCATION = 1.13684723
DEPTH_FREE: Config = {
    "position_embedding_type": "rotary",
    "norm_type": "rms_norm_without_gain",
    "use_bias": False,
    "layer_norm_eps": 1e-7,
    "pooler": False,
}


@keras.saving.register_keras_serializable("qingformer")
class DepthInitializer(keras.initializers.Initializer):
    """Truncated normal of standard deviation 1.13684723 / sqrt(d) / L^(1/order), cut at two deviations.

    d is the first axis, or the second where the first is a vocabulary (above 10000) or tiny (below 10); L is `depth`,
    the number of layers. Order 2 is RoFormerV2's, 3 is GAU-α's, which needs no warm-up.
    Source: 科学空间 archives/8620; Wang et al. 2022 (DeepNet), arXiv 2203.00555.

    Example: `DepthInitializer(12)((768, 768))`
    """

    def __init__(self, depth: int, order: int = 2, seed: int | None = None) -> None:
        self.depth = depth
        self.order = order
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: DtypeLike = None) -> Any:
        """An array of that shape."""
        # Vocabularies and segments are no widths: there the width of the output decides.
        size = shape[-1] if len(shape) < 2 or shape[0] > 10000 or shape[0] < 10 else shape[0]
        return keras.initializers.TruncatedNormal(stddev=self.deviation(size), seed=self.seed)(shape, dtype)

    def deviation(self, width: int) -> float:
        """The deviation before truncation, for d = `width`."""
        return UNDO_TRUNCATION / math.sqrt(width) * self.depth ** (-1 / self.order)

    def get_config(self) -> Config:
        """The settings."""
        return {"depth": self.depth, "order": self.order, "seed": self.seed}


@register_family("roformer_v2")
@keras.saving.register_keras_serializable("qingformer")
class RoFormerV2(RoFormer):
    """The RoFormerV2 encoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = replace(
        RoFormer.spec,
        defaults=DEPTH_FREE,
        model_types=("roformer-v2",),
        heads=("MaskedLM", "CausalLM"),
        weight_signatures=(),
        supported_values={"position_embedding_type": ("rotary", "relative", "bucketed", "none")},
    )
    depth_order = 2

    @classmethod
    def default_initializer(cls, config: BackboneConfig) -> keras.initializers.Initializer:
        """By depth and width instead of `initializer_range`."""
        return DepthInitializer(max(1, config.num_hidden_layers), cls.depth_order)

    def embed(self, factory: LayerFactory, token_embedding: Callable[[Tensor], Tensor], inputs: Tensors) -> Tensor:
        """Tokens and segments, dropped out, then normalised: (B, T, H)."""
        config = factory.config
        x = self.sum_embeddings(factory, token_embedding, inputs)
        # Before the norm, as the makers have it: BERT drops out after it.
        x = layers.Dropout(config.hidden_dropout_prob, name="embeddings_dropout", dtype=factory.dtype)(x)
        x = factory.norm("embeddings_norm")(x, *factory.condition(inputs))
        if config.projects_embeddings:
            x = factory.dense(config.hidden_size, "embedding_projection")(x)
        return x

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """The transposed token table alone, after a dense layer back to its width where that differs."""
        config = factory.config
        x = self.output["sequence_output"]
        if config.width_of_embeddings != config.hidden_size:
            x = factory.dense(config.width_of_embeddings, "mlm_dense")(x)
        x = layers.Dropout(config.hidden_dropout_prob, name="mlm_dropout", dtype=factory.dtype)(x)
        return self.tied_logits(x)

    @classmethod
    def fixed_tables(cls, config: BackboneConfig) -> Config:
        """None: no class in `transformers` asks for RoFormer's."""
        return {}

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """BERT's names, kernels alone."""
        rows = [row for row in embedding_rows(config, huggingface="roformer") if row.ours.endswith("/embeddings")]
        rows = [row for row in rows if "position_embedding/" not in row.ours]
        for index in range(config.num_hidden_layers):
            blocks = block_rows(index, huggingface="roformer.encoder.layer.{}")
            rows += [row for row in blocks if row.ours.endswith("/kernel")]
        rows += dense("mlm_dense", "cls/predictions/transform/dense", "cls.predictions.transform.dense", bias=False)
        return bert_like(rows, "roformer")
