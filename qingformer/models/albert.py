"""ALBERT: BERT whose blocks share their weights and whose embeddings are narrower than its hidden states.

`share_blocks=False` gives every layer a copy of its group's weights, to be trained apart from then on (科学空间
archives/7187). Read are Google's names and those of brightmart's Chinese models, which project the token vectors alone
before the other embeddings are added. Source: Lan et al. 2019, arXiv 1909.11942.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from qingformer import layers
from qingformer.checkpoints.weight_map import Row, WeightMap, dense, norm
from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.bert import OLD_NORMS, TRAINING_STATE, block_rows, embedding_rows, next_sentence_rows
from qingformer.models.config import BackboneConfig, block_group
from qingformer.models.family import COMMON_KEYS, FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.types import Config, InitializerLike, Tensor, Tensors

# The names of Google's files, which transformers kept.
SHARED_KEYS = (*COMMON_KEYS, "embedding_size", "num_hidden_groups")


@keras.saving.register_keras_serializable("qingformer")
class TokenProjection(keras.layers.Layer):
    """A matrix between narrow token vectors and hidden states, used forwards (x W) and in reverse (x W^T).

    Example: `TokenProjection(8)(ops.ones((2, 5, 4)))`
    """

    def __init__(self, size: int, kernel_initializer: InitializerLike = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        shape = (input_shape[-1], self.size)
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")

    def call(self, x: Tensor, reverse: bool = False) -> Any:
        """(..., narrow) to (..., size), or back."""
        return ops.matmul(x, ops.transpose(self.kernel) if reverse else self.kernel)

    def get_config(self) -> Config:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "size": self.size, "kernel_initializer": initializer}


@register_family("albert", huggingface_class="AlbertForPreTraining")
@keras.saving.register_keras_serializable("qingformer")
class Albert(Backbone):
    """The ALBERT encoder; see `Backbone` for inputs and outputs."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={"share_blocks": True, "embedding_size": 128, "hidden_dropout_prob": 0.0},
        config_signatures=("num_hidden_groups",),
        heads=("MaskedLM", "CausalLM", "SentenceOrderPrediction", "PreTraining"),
        weight_signatures=(r"/inner_group_0/", r"/layer_shared/", r"\.albert_layer_groups\."),
        huggingface_keys={key: key for key in SHARED_KEYS},
        implied_keys=("embedding_projection",),
        ignored_keys=(
            "down_scale_factor",
            "gap_size",
            "net_structure_type",
            "num_memory_blocks",
            "inner_group_num",
            "layers_to_keep",
        ),
    )

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """As the parent; arrangements that no published checkpoint of the family needs are refused."""
        if values.get("inner_group_num", 1) != 1:
            raise ConfigError(f"{source}: inner_group_num is {values['inner_group_num']}: only 1 is there")
        if values.pop("ln_type", "postln") != "postln":
            raise ConfigError(f"{source}: ln_type is 'preln', which this family does not have")
        return super().read_config(values, source)

    @classmethod
    def adapt_config(cls, config: BackboneConfig, layout: str, names: Sequence[str]) -> BackboneConfig:
        """See where the stored weights project the token vectors, and whether they do so between equal widths."""
        if PROJECTION in names:
            return config.replace(project_tokens=True)
        between = any(MAPPING.search(name) for name in names)
        return config.replace(embedding_projection=True) if between and not config.projects_embeddings else config

    @classmethod
    def fixed_tables(cls, config: BackboneConfig) -> dict[str, np.ndarray]:
        """`transformers` always has the projection: where the model has none, the one that changes nothing."""
        if config.projects_embeddings or config.project_tokens:
            return {}
        name, size = "albert.encoder.embedding_hidden_mapping_in", config.hidden_size
        return {f"{name}.weight": np.eye(size, dtype="float32"), f"{name}.bias": np.zeros(size, "float32")}

    def embed(self, factory: LayerFactory, token_embedding: Callable[[Tensor], Tensor], inputs: Tensors) -> Tensor:
        """As BERT; with `project_tokens` the tokens alone are narrow, and everything else is as wide as the model."""
        if not factory.config.project_tokens:
            return super().embed(factory, token_embedding, inputs)
        # All but the tokens is as wide as the model: a configuration without a narrow embedding makes it so.
        wide = LayerFactory(
            factory.config.replace(embedding_size=None, project_tokens=False), factory.initializer(), factory.dtype
        )
        projection = TokenProjection(
            factory.config.hidden_size, factory.initializer(), name="token_projection", dtype=factory.dtype
        )
        return super().embed(wide, lambda ids: projection(token_embedding(ids)), inputs)

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """As BERT, through both matrices in reverse with `project_tokens`."""
        if not factory.config.project_tokens:
            return super().language_logits(factory)
        x = factory.dense(factory.config.hidden_size, "mlm_dense", factory.config.activations[0])(
            self.output["sequence_output"]
        )
        x = factory.norm("mlm_norm")(x, *factory.condition(self.input))
        x = self.token_embedding(self.get_layer("token_projection")(x, reverse=True), reverse=True)
        return layers.OutputBias(name="mlm_bias", dtype="float32")(x)

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """Google's and Hugging Face's names; blocks that do not share their weights read those of their group."""
        rows = embedding_rows(config, huggingface="albert")
        rows.append(Row("token_projection/kernel", PROJECTION, None))
        shared = config.replace(share_blocks=True)
        blocks = range(config.num_hidden_groups if config.share_blocks else config.num_hidden_layers)
        for index in blocks:
            # Unshared blocks each start from the block of their group, so several of ours read one stored array.
            group = index if config.share_blocks else block_group(shared, index)
            rows += google_rows(index, group) + brightmart_rows(index)
        return WeightMap(
            tuple(rows + head_rows()),
            spellings={"huggingface": ((r"^albert\.", ""), *OLD_NORMS)},
            copies={
                "huggingface": {
                    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
                    "predictions.decoder.bias": "predictions.bias",
                }
            },
            ignored={
                "tensorflow": TRAINING_STATE,
                "huggingface": (r"embeddings\.(position|token_type)_ids$",),
            },
        )


MAPPING = re.compile(r"encoder[./]embedding_hidden_mapping_in[./]")
PROJECTION = "bert/embeddings/word_embeddings_2"


def google_rows(index: int, group: int) -> list[Row]:
    """The block of one group."""
    ours = f"block_{index}"
    tensorflow = f"bert/encoder/transformer/group_{group}/inner_group_0"
    huggingface = f"albert.encoder.albert_layer_groups.{group}.albert_layers.0"
    rows = []
    for part, there, elsewhere in (
        ("attention/query", "attention_1/self/query", "attention.query"),
        ("attention/key", "attention_1/self/key", "attention.key"),
        ("attention/value", "attention_1/self/value", "attention.value"),
        ("attention/output", "attention_1/output/dense", "attention.dense"),
        ("feed_forward/intermediate", "ffn_1/intermediate/dense", "ffn"),
        ("feed_forward/output", "ffn_1/intermediate/output/dense", "ffn_output"),
    ):
        rows += dense(f"{ours}/{part}", f"{tensorflow}/{there}", f"{huggingface}.{elsewhere}")
    rows += norm(f"{ours}/attention_norm", f"{tensorflow}/LayerNorm", f"{huggingface}.attention.LayerNorm")
    return rows + norm(f"{ours}/feed_forward_norm", f"{tensorflow}/LayerNorm_1", f"{huggingface}.full_layer_layer_norm")


def brightmart_rows(index: int) -> list[Row]:
    """The shared block under brightmart's names, which are BERT's; to read only."""
    rows = block_rows(index, tensorflow="bert/encoder/layer_shared")
    return [Row(row.ours, row.tensorflow, None) for row in rows]


def head_rows() -> list[Row]:
    """Pooler, masked language model and sentence order."""
    return [
        *dense("pooler", "bert/pooler/dense", "albert.pooler"),
        *dense("mlm_dense", "cls/predictions/transform/dense", "predictions.dense"),
        *norm("mlm_norm", "cls/predictions/transform/LayerNorm", "predictions.LayerNorm"),
        Row("mlm_bias/bias", "cls/predictions/output_bias", "predictions.bias"),
        *next_sentence_rows("sop_classifier.classifier"),
    ]
