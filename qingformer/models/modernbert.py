"""ModernBERT: an encoder whose blocks see the whole text or a window of it, with rotary positions of two bases.

Every n-th block, the first among them, attends to the whole text, the others to half a window on either side. Pre-norm
without a norm before the first attention, whose input the norm of the embeddings has just left; gated feed-forward
(GeGLU); no biases; norms without offset. Source: Warner et al. 2024, arXiv 2412.13663.
"""

from typing import Any, ClassVar, cast

import keras
from keras import ops

from qingformer import layers
from qingformer.checkpoints.weight_map import TRANSPOSE, Row, WeightMap, dense, norm
from qingformer.models import modernbert_config
from qingformer.models.backbone import Backbone, Contexts
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.models.modernbert_config import ModernBertConfig
from qingformer.ops.relative_distances import relative_positions
from qingformer.types import Config, Tensor, Tensors


@keras.saving.register_keras_serializable("qingformer")
class WindowMask(keras.layers.Layer):
    """Hide keys farther than `reach` from the query: a mask (B, 1, 1 or T, T) bool to (B, 1, T, T) bool."""

    def __init__(self, reach: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.reach = reach
        self.built = True

    def call(self, mask: Tensor) -> Tensor:
        """The mask of the window, True = keep."""
        length = ops.shape(mask)[-1]
        return ops.logical_and(mask, ops.abs(relative_positions(length, length)) <= self.reach)

    def get_config(self) -> Config:
        return {**super().get_config(), "reach": self.reach}


@keras.saving.register_keras_serializable("qingformer")
class ModernBertBlock(layers.TransformerBlock):
    """A block that drops out after its attention alone; its feed-forward part drops out inside."""

    def residual(self, x: Tensor, branch: Any, norm: Any, inputs: Any, seed: Any, stream: Any) -> Tensor:
        """One branch with its norm and its residual connection."""
        seed = None if stream == layers.DropoutStream.FEED_FORWARD_OUTPUT else seed
        return super().residual(x, branch, norm, inputs, seed, stream)


class ModernBertLayers(LayerFactory):
    """The layers of the family: those of every family, but for the norms."""

    def norm(self, name: str) -> keras.layers.Layer:
        """A layer norm, without offset unless `norm_bias`."""
        config = cast(ModernBertConfig, self.config)
        settings: Config = {"epsilon": config.layer_norm_eps, "center": config.norm_bias}
        return self.remember(keras.layers.LayerNormalization(**settings, name=name, dtype=self.dtype))


@register_family("modernbert", huggingface_class="ModernBertForMaskedLM")
@keras.saving.register_keras_serializable("qingformer")
class ModernBert(Backbone):
    """The ModernBERT encoder; see `Backbone` for inputs and outputs, `ModernBertConfig` for its values."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        config_class=ModernBertConfig,
        defaults=modernbert_config.DEFAULTS,
        applications=("encoder",),
        heads=("MaskedLM",),
        weight_signatures=(r"(^|\.)layers\.0\.attn\.Wqkv\.",),
        huggingface_keys=modernbert_config.KEYS,
        classifier_problem="it normalises between its two layers (head.norm), which no task here does",
        implied_keys=("attention_output_bias",),
        ignored_keys=tuple(modernbert_config.IGNORED),
        supported_values={
            "position_embedding_type": ("rotary",),
            "norm_type": ("layer_norm",),
            "norm_position": ("pre",),
            "condition_size": (None,),
            "share_blocks": (False,),  # the first block has a norm less than the others
        },
    )
    layer_factory = ModernBertLayers
    read_config, write_config = staticmethod(modernbert_config.read), staticmethod(modernbert_config.write)

    def make_contexts(self, factory: LayerFactory, inputs: Tensors, x: Tensor) -> Contexts:
        """Mask and positions of the blocks that see the whole text ("all"), and of those with a window ("window")."""
        config = cast(ModernBertConfig, factory.config)
        whole = super().make_contexts(factory, inputs, x)["all"]
        # A window of 128 is 64 keys on either side, and the query's own: 129.
        mask = WindowMask(config.local_attention // 2, name="window_mask")(whole.attention_mask)
        rotary = factory.rotary("local_rotary_positions", config.local_rotary_base)(x, **factory.position_ids(inputs))
        return {"all": whole, "window": whole._replace(attention_mask=mask, rotary=rotary)}

    def block_inputs(self, factory: LayerFactory, index: int, contexts: Contexts) -> layers.AttentionContext:
        """The whole text for every n-th block, the window for the others."""
        every = cast(ModernBertConfig, factory.config).global_attn_every_n_layers
        return contexts["window" if index % every else "all"]

    def make_block(self, factory: LayerFactory, index: int) -> keras.layers.Layer:
        """Block number `index`, the first without a norm before its attention."""
        config = factory.config
        # None, and not a missing key, which would mean the usual norm.
        parts: Config = {} if index else {"attention_norm": None}
        parts["feed_forward"] = factory.feed_forward("feed_forward", dropout=config.hidden_dropout_prob)
        dropout = config.attention_probs_dropout_prob
        return factory.block(f"block_{index}", ModernBertBlock, dropout=dropout, **parts)

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """Dense, activation, norm, the transposed token table, bias: (B, T, H) to (B, T, V) float32."""
        config = cast(ModernBertConfig, factory.config)
        x = factory.dense(
            config.width_of_embeddings, "mlm_dense", config.classifier_activation, config.classifier_bias
        )(self.output["sequence_output"])
        logits = self.tied_logits(factory.norm("mlm_norm")(x))
        return layers.OutputBias(name="mlm_bias", dtype="float32")(logits) if config.decoder_bias else logits

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """Hugging Face's names; queries, keys and values are one matrix there, and so are the two of the gate."""
        rows = [Row("token_embedding/embeddings", None, "model.embeddings.tok_embeddings.weight")]
        rows += [*norm("embeddings_norm", None, "model.embeddings.norm"), *norm("final_norm", None, "model.final_norm")]
        rows += [*dense("mlm_dense", None, "head.dense"), *norm("mlm_norm", None, "head.norm")]
        rows.append(Row("mlm_bias/bias", None, "decoder.bias"))
        # Rows for norms and biases that a configuration leaves out are never asked for.
        for index in range(config.num_hidden_layers):
            ours, stored = f"block_{index}", f"model.layers.{index}"
            for number, part in enumerate(("query", "key", "value")):
                rows += joined(f"{ours}/attention/{part}", f"{stored}.attn.Wqkv", (number, 3))
            for number in range(2):
                rows += joined(f"{ours}/feed_forward/intermediate_{number}", f"{stored}.mlp.Wi", (number, 2))
            rows += dense(f"{ours}/attention/output", None, f"{stored}.attn.Wo")
            rows += dense(f"{ours}/feed_forward/output", None, f"{stored}.mlp.Wo")
            rows += norm(f"{ours}/attention_norm", None, f"{stored}.attn_norm")
            rows += norm(f"{ours}/feed_forward_norm", None, f"{stored}.mlp_norm")
        copies = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
        return WeightMap(tuple(rows), {"huggingface": ((r"^model\.", ""),)}, {"huggingface": copies})


def joined(ours: str, stored: str, part: tuple[int, int]) -> list[Row]:
    """A dense layer whose matrix and bias are one part of stored ones."""
    kernel = Row(f"{ours}/kernel", None, f"{stored}.weight", huggingface_steps=(TRANSPOSE,), part=part)
    return [kernel, Row(f"{ours}/bias", None, f"{stored}.bias", part=part)]
