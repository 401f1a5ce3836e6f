"""T5 1.0 and 1.1, mT5 and T5-PEGASUS: encoder and decoder of pre-norm blocks with a learned bias of bucketed distances.

RMS norms, no biases, attention without 1 / sqrt(key size), one table of distances a stack. 1.0 has a ReLU feed-forward
part and multiplies the decoder's output by H^-1/2 before the token table gives the logits; 1.1, mT5 and T5-PEGASUS
have a gated one and an output table of their own. The decoder starts with the id of padding.
Sources: Raffel et al. 2019, arXiv 1910.10683; Shazeer 2020 (the gate of 1.1), arXiv 2002.05202; Xue et al. 2020 (mT5),
arXiv 2010.11934; 科学空间 archives/8209 (T5-PEGASUS).
"""

from collections.abc import Sequence
from typing import ClassVar

import keras

from qingformer import layers
from qingformer.checkpoints.weight_map import TRANSPOSE, Row, WeightMap, dense
from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.bert import TRAINING_STATE
from qingformer.models.config import BackboneConfig
from qingformer.models.family import FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.types import Config, Tensor, Tensors

SIDES = ("encoder", "decoder")
# Options of other families that would be ignored here.
FIXED = """position_embedding_type norm_position embedding_norm embedding_size type_vocab_size pooler share_blocks
    residual_attention_scores mask_diagonal custom_position_ids hierarchical_position project_tokens
    embedding_projection""".split()


@register_family("t5", huggingface_class="T5ForConditionalGeneration")
@keras.saving.register_keras_serializable("qingformer")
class T5(Backbone):
    """Encoder and decoder, or one of them, by the application.

    - "seq2seq": inputs `token_ids` (B, S), `padding_mask` (B, S), `decoder_token_ids` (B, T), `decoder_padding_mask`
      (B, T), int32; outputs `encoder_sequence_output` (B, S, H), `sequence_output` (B, T, H), the decoder's, float.
    - "encoder": inputs `token_ids`, `padding_mask`; output `sequence_output` (B, S, H).
    - "decoder": inputs `context` (B, S, H) float, an encoder's output, `context_padding_mask` (B, S),
      `decoder_token_ids`, `decoder_padding_mask`; output `sequence_output` (B, T, H).

    Masks have 1 = keep; called directly, a missing one keeps what is not padding and always position 0, a missing
    `context_padding_mask` everything. Outputs are those of the stacks' last norms.
    """

    spec: ClassVar[FamilySpec] = FamilySpec(
        defaults={
            "application": "seq2seq",
            "position_embedding_type": "bucketed",
            "norm_type": "rms_norm",
            "norm_position": "pre",
            "layer_norm_eps": 1e-6,
            "embedding_norm": False,
            "hidden_act": "relu",
            "use_bias": False,
            "attention_scale": False,
            "type_vocab_size": 0,
            "pooler": False,
        },
        applications=("seq2seq", "encoder", "decoder"),
        heads=("Seq2SeqLM",),
        model_types=("mt5",),
        weight_signatures=(r"^(en|de)coder[/.]block([/.]|_00)0[/.]layer([/.]|_00)0[/.]SelfAttention[/.]",),
        huggingface_keys={
            "vocab_size": "vocab_size",
            "hidden_size": "d_model",
            "attention_head_size": "d_kv",
            "intermediate_size": "d_ff",
            "num_hidden_layers": "num_layers",
            "num_decoder_layers": "num_decoder_layers",
            "num_attention_heads": "num_heads",
            "hidden_act": "feed_forward_proj",
            "hidden_dropout_prob": "dropout_rate",
            "attention_probs_dropout_prob": "attention_probs_dropout_prob",
            "layer_norm_eps": "layer_norm_epsilon",
            "relative_attention_num_buckets": "relative_attention_num_buckets",
            "relative_attention_max_distance": "relative_attention_max_distance",
            "max_position_embeddings": "n_positions",
            "initializer_range": "initializer_range",
            "tie_word_embeddings": "tie_word_embeddings",
            "scale_decoder_output": "scale_decoder_outputs",
            "pad_token_id": "pad_token_id",
        },
        ignored_keys=("decoder_start_token_id", "initializer_factor"),
        can_untie_embeddings=True,
    )

    @classmethod
    def read_config(cls, values: Config, source: str) -> Config:
        """`transformers`' keys of T5 and mT5; files with our own names stay as they are."""
        if "d_model" not in values:
            return values
        if values.pop("is_encoder_decoder", True) is False:
            values.setdefault("application", "encoder")
        values["feed_forward_proj"] = read_activations(values, source)
        values.setdefault("attention_probs_dropout_prob", values.get("dropout_rate", 0.1))
        # The decoder starts with the id of padding, so there must be one.
        values["pad_token_id"] = values.get("pad_token_id") or 0
        # Release 5 of `transformers` writes "tied" whatever the weights are, and never scales mT5.
        if values.get("model_type") == "mt5" and values.get("tie_word_embeddings") is not False:
            values.setdefault("scale_decoder_outputs", False)
        return super().read_config(values, source)

    @classmethod
    def write_config(cls, values: Config) -> Config:
        """The reverse; a decoder without its encoder has no place there."""
        if values["application"] == "decoder":
            raise ConfigError(
                "application 'decoder' has no place in the huggingface format; save with format='qingformer'"
            )
        written = super().write_config(values) | write_activations(values["hidden_act"])
        written["d_kv"] = values["attention_head_size"] or values["hidden_size"] // values["num_attention_heads"]
        for key in ("num_decoder_layers", "scale_decoder_outputs"):
            if written[key] is None:
                del written[key]
        whole = values["application"] == "seq2seq"
        return written | {"is_encoder_decoder": whole, "decoder_start_token_id": values["pad_token_id"]}

    @classmethod
    def adapt_config(cls, config: BackboneConfig, layout: str, names: Sequence[str]) -> BackboneConfig:
        """The stored names tell whether there is an output table, and whether one of the stacks is missing."""
        if layout == "qingformer" or not names:
            return config
        tables = {"shared.weight", *(f"{side}.embed_tokens.weight" for side in SIDES)}
        # Where the output table is the only one, it is the tied table under its other name.
        unscaled = config.scale_decoder_output is False and "lm_head.weight" in names and bool(tables & set(names))
        if config.tie_word_embeddings and (unscaled or "decoder/logits/kernel" in names):
            config = config.replace(tie_word_embeddings=False)
        there = [side for side in SIDES if any(name.startswith(f"{side}{layout_mark(layout)}block") for name in names)]
        return config.replace(application=there[0]) if len(there) == 1 else config

    @classmethod
    def huggingface_class_of(cls, config: BackboneConfig) -> str | None:
        """The class that reads such a model."""
        return "T5EncoderModel" if config.application == "encoder" else cls.spec.huggingface_class

    def build_graph(self, factory: LayerFactory) -> tuple[Tensors, Tensors]:
        """Inputs and outputs by name, of one stack or of both."""
        config = factory.config
        check_arrangement(config)
        inputs = self.make_inputs(factory)
        token_embedding = self.make_token_embedding(factory)
        outputs = {}
        if config.application == "decoder":
            context = inputs["context"]
            mask = layers.AttentionMask("encoder", name="context_attention_mask")(inputs["context_padding_mask"])
        else:
            mask = layers.AttentionMask("encoder", name="encoder_attention_mask")(inputs["padding_mask"])
            x = token_embedding(inputs["token_ids"])
            given = layers.AttentionContext(mask, condition=inputs.get("condition"))
            context = self.run_stack(factory, "encoder", x, given)
            outputs["encoder_sequence_output" if config.application == "seq2seq" else "sequence_output"] = context
        if config.application != "encoder":
            own = layers.AttentionMask("lm", name="decoder_attention_mask")(inputs["decoder_padding_mask"])
            condition = inputs.get("condition")
            given = layers.AttentionContext(own, condition=condition, context=context, context_mask=mask)
            x = token_embedding(inputs["decoder_token_ids"])
            outputs["sequence_output"] = self.run_stack(factory, "decoder", x, given)
        return inputs, outputs

    def make_inputs(self, factory: LayerFactory) -> Tensors:
        """The inputs by name."""
        config = factory.config
        names = {
            "seq2seq": ["token_ids", "padding_mask", "decoder_token_ids", "decoder_padding_mask"],
            "encoder": ["token_ids", "padding_mask"],
            "decoder": ["context_padding_mask", "decoder_token_ids", "decoder_padding_mask"],
        }[config.application]
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
        if config.application == "decoder":
            inputs["context"] = keras.Input((None, config.hidden_size), dtype="float32", name="context")
        if config.condition_size is not None:
            inputs["condition"] = keras.Input((config.condition_size,), dtype="float32", name="condition")
        return inputs

    def run_stack(self, factory: LayerFactory, side: str, x: Tensor, given: layers.AttentionContext) -> Tensor:
        """Dropout, position bias, the blocks of one side, its last norm, dropout: (B, T, H)."""
        config = factory.config
        x = layers.Dropout(config.hidden_dropout_prob, name=f"{side}_embeddings_dropout", dtype=factory.dtype)(x)
        position_bias = factory.position_bias(f"{side}_position_bias", bidirectional=side == "encoder")
        given = given._replace(bias=position_bias(x))  # one table a stack, made once for all its blocks
        if side == "decoder" and config.cross_position_bias:
            given = given._replace(context_bias=position_bias(x, given.context))
        for index in range(config.num_hidden_layers if side == "encoder" else config.decoder_layers):
            x = self.make_stack_block(factory, side, index)(x, **given.given())
        x = factory.norm(f"{side}_final_norm")(x, *factory.condition(given.given()))
        return layers.Dropout(config.hidden_dropout_prob, name=f"{side}_final_dropout", dtype=factory.dtype)(x)

    def make_stack_block(self, factory: LayerFactory, side: str, index: int) -> keras.layers.Layer:
        """Block number `index` of a side; the decoder's look at the encoder as well."""
        parts: Config = {}
        # The cross attention first: random starts follow the order of creation, and this has been theirs.
        if side == "decoder":
            parts["cross_attention"] = factory.attention("cross_attention", positions=False)
            parts["cross_attention_norm"] = factory.norm("cross_attention_norm")
        parts["attention"] = factory.attention("attention")
        parts["feed_forward"] = factory.feed_forward("feed_forward", dropout=factory.config.hidden_dropout_prob)
        return factory.block(f"{side}_block_{index}", **parts)

    def decoder_logits(self, factory: LayerFactory) -> Tensor:
        """The transposed token table or a table of its own, behind the scale: (B, T, H) to (B, T, V) float32."""
        config = factory.config
        x = self.output["sequence_output"]
        scaled = config.tie_word_embeddings if config.scale_decoder_output is None else config.scale_decoder_output
        # A tied table has vectors of length sqrt(H), too long for logits; files can say otherwise.
        if scaled:
            x = keras.layers.Rescaling(config.hidden_size**-0.5, name="decoder_output_scale", dtype=factory.dtype)(x)
        if config.tie_word_embeddings:
            return self.tied_logits(x)
        x = factory.dense(config.vocab_size, "lm_head", use_bias=False)(x)
        return keras.layers.Identity(name="logits", dtype="float32")(x)

    def language_logits(self, factory: LayerFactory) -> Tensor:
        """There is no such head: the decoder's is `decoder_logits`."""
        raise ConfigError("the family t5 generates behind its encoder; use Seq2SeqLM")

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """Mesh-TensorFlow's names, old and new, and Hugging Face's."""
        rows = [Row("token_embedding/embeddings", "shared/embedding", "shared.weight")]
        for side, count in zip(SIDES, (config.num_hidden_layers, config.decoder_layers)):
            rows += stack_rows(config, side, count)
        copies = {f"{side}.embed_tokens.weight": "shared.weight" for side in SIDES}
        if config.tie_word_embeddings:
            copies["lm_head.weight"] = "shared.weight"
        else:
            rows += dense("lm_head", "decoder/logits", "lm_head", bias=False)
        return WeightMap(
            tuple(rows),
            spellings={
                "tensorflow": ((r"/(final_)?layer_norm/scale$", "/rms_norm/scale"),),
                "huggingface": tuple((r"^shared\.", f"{side}.embed_tokens.") for side in SIDES),
            },
            copies={"huggingface": copies},
            ignored={
                # Adafactor's states.
                "tensorflow": (*TRAINING_STATE, r"_slot_(vr|vc|v|m)$"),
                "huggingface": (r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$",),
            },
        )


def check_arrangement(config: BackboneConfig) -> None:
    """Refuse options of other families."""
    default = BackboneConfig(vocab_size=1, family="t5")
    for key in FIXED:
        if getattr(config, key) != getattr(default, key):
            raise ConfigError(f"{key} is {getattr(config, key)!r}, which the family t5 does not have")


def layout_mark(layout: str) -> str:
    """The separator of the parts of a stored name."""
    return "/" if layout == "tensorflow" else "."


def read_activations(values: Config, source: str) -> str | tuple[str, str]:
    """ "relu", "gated-gelu" and the like as activations; "gated-gelu" means the tanh form unless more is said."""
    written = str(values.get("feed_forward_proj", "gated-gelu" if values.get("model_type") == "mt5" else "relu"))
    parts = written.split("-")
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "gated"):
        raise ConfigError(f"{source}: feed_forward_proj is {written!r}: expected 'relu', 'gated-gelu' or the like")
    gated = values.pop("is_gated_act", None)
    name = values.pop("dense_act_fn", None) or ("gelu_new" if written == "gated-gelu" else parts[-1])
    return (name, "linear") if (len(parts) == 2 if gated is None else gated) else name


def write_activations(hidden_act: str | tuple[str, ...]) -> Config:
    """The reverse; gates other than "act, linear" have no place there."""
    if isinstance(hidden_act, str):
        return {"feed_forward_proj": hidden_act, "dense_act_fn": hidden_act, "is_gated_act": False}
    if len(hidden_act) != 2 or hidden_act[1] != "linear":
        raise ConfigError(
            f"hidden_act={hidden_act!r} has no place in the huggingface format; save with format='qingformer'"
        )
    # "gated-gelu" is how T5 1.1 names the tanh form.
    name = "gelu" if hidden_act[0] == "gelu_new" else hidden_act[0]
    return {"feed_forward_proj": f"gated-{name}", "dense_act_fn": hidden_act[0], "is_gated_act": True}


def stack_rows(config: BackboneConfig, side: str, count: int) -> list[Row]:
    """The table of distances, the blocks and the last norm of one side."""
    first = ("block_000/layer_000/SelfAttention", "block.0.layer.0.SelfAttention")
    rows = [
        Row(
            f"{side}_position_bias/embeddings",
            f"{side}/{first[0]}/relative_attention_bias",
            f"{side}.{first[1]}.relative_attention_bias.weight",
            tensorflow_steps=(TRANSPOSE,),
        ),
        gain(f"{side}_final_norm", f"{side}/final_layer_norm", f"{side}.final_layer_norm"),
    ]
    parts = [("attention", "SelfAttention"), ("cross_attention", "EncDecAttention"), ("feed_forward", "DenseReluDense")]
    if side == "encoder":
        del parts[1]
    for index in range(count):
        for place, (part, stored) in enumerate(parts):
            tensorflow, huggingface = f"{side}/block_{index:03}/layer_{place:03}", f"{side}.block.{index}.layer.{place}"
            ours = f"{side}_block_{index}/{part}"
            rows.append(gain(f"{ours}_norm", f"{tensorflow}/layer_norm", f"{huggingface}.layer_norm"))
            make_rows = feed_forward_rows if part == "feed_forward" else attention_rows
            rows += make_rows(config, ours, f"{tensorflow}/{stored}", f"{huggingface}.{stored}")
    return rows


def gain(ours: str, tensorflow: str, huggingface: str) -> Row:
    """A norm's one variable."""
    return Row(f"{ours}/gamma", f"{tensorflow}/scale", f"{huggingface}.weight")


def attention_rows(config: BackboneConfig, ours: str, tensorflow: str, huggingface: str) -> list[Row]:
    """The four matrices of an attention."""
    return [
        Row(
            f"{ours}/{part}/kernel",
            f"{tensorflow}/{part[0]}",
            f"{huggingface}.{part[0]}.weight",
            huggingface_steps=(TRANSPOSE,),
        )
        for part in ("query", "key", "value", "output")
    ]


def feed_forward_rows(config: BackboneConfig, ours: str, tensorflow: str, huggingface: str) -> list[Row]:
    """The matrix or, with a gate, the matrices inwards, and the one outwards."""
    count = len(config.activations)
    inner = [("intermediate", "wi")] if count == 1 else [(f"intermediate_{i}", f"wi_{i}") for i in range(count)]
    rows = []
    for part, stored in (*inner, ("output", "wo")):
        rows += dense(f"{ours}/{part}", f"{tensorflow}/{stored}", f"{huggingface}.{stored}", bias=False)
    return rows
