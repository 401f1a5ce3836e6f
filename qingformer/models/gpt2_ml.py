"""GPT2_ML: the Chinese 1.5-billion-parameter language model of imcaspar, with the blocks of Grover.

x_1 = x + attention(x); x = norm_1(x_1 + feed_forward(norm_0(x_1))): no norm before the attention, the second residual
taken before norm_0. Sources: Zellers et al. 2019 (Grover), arXiv 1905.12616; 科学空间 archives/7292.
"""

from dataclasses import replace
from typing import ClassVar

import keras

from qingformer import layers
from qingformer.checkpoints.weight_map import Row, WeightMap, dense, norm
from qingformer.models.bert import TRAINING_STATE
from qingformer.models.config import BackboneConfig
from qingformer.models.family import COMMON_KEYS, FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.gpt import GPT
from qingformer.models.layer_factory import LayerFactory
from qingformer.ops.seeded_dropout import dropout
from qingformer.types import Config, Tensor


@keras.saving.register_keras_serializable("qingformer")
class GroverBlock(layers.TransformerBlock):
    """The block of Grover: `attention_norm` stands before the feed-forward, `feed_forward_norm` after both branches."""

    def compute(
        self, x: Tensor, inputs: layers.AttentionContext, seed: Tensor | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The block as a pure function of its inputs and the seed of its dropout."""
        conditions = () if inputs.condition is None else (inputs.condition,)
        attended = self.attention(x, seed=seed, **inputs.of_attention())
        if self.residual_scores:
            attended, scores = attended
        # The sum before the norm is what the second branch is added to, not the norm's output.
        x = x + dropout(attended, self.dropout, seed, layers.DropoutStream.ATTENTION_OUTPUT)
        inner = self.feed_forward(self.attention_norm(x, *conditions))  # type: ignore[misc]
        inner = dropout(inner, self.dropout, seed, layers.DropoutStream.FEED_FORWARD_OUTPUT)
        x = self.feed_forward_norm(x + inner, *conditions)  # type: ignore[misc]
        return (x, scores) if self.residual_scores else x


@register_family("gpt2_ml")
@keras.saving.register_keras_serializable("qingformer")
class GPT2ML(GPT):
    """The GPT2_ML decoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = replace(
        GPT.spec,
        defaults={
            "application": "lm",
            "pooler": False,
            "type_vocab_size": 0,
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": 1024,
        },
        applications=("lm", "encoder"),
        model_types=(),
        supported_values={"norm_position": ("post",)},
        weight_signatures=(r"^newslm/",),
        huggingface_keys={key: key for key in COMMON_KEYS},
    )

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """BERT's keys, without the segments that the files name and the family does not have."""
        return {**values, "type_vocab_size": 0}

    def make_block(self, factory: LayerFactory, index: int) -> keras.layers.Layer:
        """Block number `index`."""
        # Its norms stand where the block has them: there is no other place, so `norm_position` says nothing.
        return factory.block(f"block_{index}", GroverBlock)

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """The original's names, whose layers have two digits."""
        rows = [
            Row("token_embedding/embeddings", "newslm/embeddings/word_embed", None),
            Row("position_embedding/embeddings", "newslm/embeddings/pos_embed", None),
            *norm("embeddings_norm", "newslm/embeddings/LayerNorm_embed_norm", None),
        ]
        for index in range(config.num_hidden_layers):
            ours, stored = f"block_{index}", f"newslm/layer{index:02d}"
            for part, name in (
                ("attention/query", "query_layer"),
                ("attention/key", "key_layer"),
                ("attention/value", "value_layer"),
                ("attention/output", "context_projection_layer"),
                ("feed_forward/intermediate", "intermediate"),
                ("feed_forward/output", "output"),
            ):
                rows += dense(f"{ours}/{part}", f"{stored}/{name}", None)
            rows += norm(f"{ours}/attention_norm", f"{stored}/LayerNorm_mlp_ln0", None)
            rows += norm(f"{ours}/feed_forward_norm", f"{stored}/LayerNorm_mlp_ln1", None)
        return WeightMap(tuple(rows), ignored={"tensorflow": (*TRAINING_STATE, r"/Adafactor|/adafactor")})
