"""T-TA: a text autoencoder that predicts every token in one pass, without [MASK].

The stream of queries begins as the positions alone; keys and values of every layer are the embeddings (tokens,
segments, positions), and no position attends to itself: output i depends on every token but token i. Fine-tuning may
let positions see themselves again (`mask_diagonal=False`).
Source: Shin et al. 2020, arXiv 2004.08097; 科学空间 archives/7661.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import keras

from qingformer import layers
from qingformer.models.backbone import Contexts
from qingformer.models.bert import Bert
from qingformer.models.family import FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.types import Tensor, Tensors


@register_family("tta")
@keras.saving.register_keras_serializable("qingformer")
class TTA(Bert):
    """The T-TA encoder, whose weights have BERT's names; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = replace(
        Bert.spec,
        defaults={"mask_diagonal": True, "pooler": False},
        applications=("encoder",),
        heads=("MaskedLM",),
        supported_values={"position_embedding_type": ("absolute",)},
    )

    def embed(self, factory: LayerFactory, token_embedding: Callable[[Tensor], Tensor], inputs: Tensors) -> Tensor:
        """What runs through the blocks is made of positions alone; BERT's embeddings become the memory they look at."""
        factory.notes["memory"] = super().embed(factory, token_embedding, inputs)
        # The layers of positions, norm and projection are those of the memory: one table, two streams.
        nothing = layers.ZerosLike(name="no_tokens", dtype=factory.dtype)(token_embedding(inputs["token_ids"]))
        x = factory.made["position_embedding"](nothing, **factory.position_ids(inputs))
        x = factory.made["embeddings_norm"](x, *factory.condition(inputs))
        x = layers.Dropout(factory.config.hidden_dropout_prob, name="query_dropout", dtype=factory.dtype)(x)
        projection = factory.made.get("embedding_projection")
        # Both streams must be as wide as the blocks.
        return x if projection is None else projection(x)

    def block_inputs(self, factory: LayerFactory, index: int, contexts: Contexts) -> layers.AttentionContext:
        """Every block takes its keys and values from the embeddings."""
        return contexts["all"]._replace(context=factory.notes["memory"])
