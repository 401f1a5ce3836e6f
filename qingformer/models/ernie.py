"""ERNIE 1.0 to 3.0: BERT whose embeddings may also say for which task a text is read.

The vector of the task is added to those of token, segment and position. ERNIE 3.0 (base, medium, mini, micro, nano for
Chinese) has it and four segments; ERNIE 1.0 is BERT with ReLU.
Sources: Sun et al. 2019 (ERNIE 1.0), arXiv 1904.09223; Sun et al. 2019 (2.0), arXiv 1907.12412; Sun et al. 2021 (3.0),
arXiv 2107.02137.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, cast

import keras

from qingformer import layers
from qingformer.checkpoints.weight_map import Row, WeightMap
from qingformer.errors import ConfigError
from qingformer.models.backbone import Backbone
from qingformer.models.bert import bert_like, block_rows, embedding_rows, head_rows
from qingformer.models.config import BackboneConfig
from qingformer.models.family import COMMON_KEYS, FamilySpec
from qingformer.models.family_registry import register_family
from qingformer.models.layer_factory import LayerFactory
from qingformer.models.pretrained import DERIVED_INPUTS
from qingformer.types import Tensor, Tensors

# A direct call may leave the tasks out: all tokens are read for task 0, which `transformers` takes as well.
DERIVED_INPUTS["task_type_ids"] = DERIVED_INPUTS["segment_ids"]


@dataclasses.dataclass(frozen=True, init=False)
class ErnieConfig(BackboneConfig):
    """BERT's values, and those of the tasks.

    - `use_task_id`: whether there is a table of tasks, of `task_type_vocab_size` rows.
    - `custom_task_type_ids`: whether the model has an input `task_type_ids` (B, T) int32; without it, and where a
      direct call leaves it out, the task is 0.
    """

    use_task_id: bool = False
    task_type_vocab_size: int = 3
    custom_task_type_ids: bool = False

    @property
    def further_parameters(self) -> dict[str, int]:
        """The table of tasks."""
        return {"embeddings": self.use_task_id * self.task_type_vocab_size * self.width_of_embeddings}

    def _check_values(self) -> None:
        super()._check_values()
        if not 0 < self.task_type_vocab_size <= 10_000:
            raise ConfigError(f"task_type_vocab_size is {self.task_type_vocab_size}: expected 1 to 10,000")
        if self.custom_task_type_ids and not self.use_task_id:
            raise ConfigError("custom_task_type_ids is true, but there is no table of tasks (use_task_id is false)")


@register_family("ernie", huggingface_class="ErnieForPreTraining")
@keras.saving.register_keras_serializable("qingformer")
class Ernie(Backbone):
    """The ERNIE encoder; see `Backbone` for inputs and outputs, `ErnieConfig` for the input of tasks."""

    spec: ClassVar[FamilySpec] = FamilySpec(
        config_class=ErnieConfig,
        weight_signatures=(r"^ernie\.",),
        huggingface_keys={key: key for key in (*COMMON_KEYS, "use_task_id", "task_type_vocab_size")},
        # An input that may be left out says nothing about the numbers of a file.
        implied_keys=("custom_task_type_ids",),
    )

    def make_inputs(self, factory: LayerFactory) -> Tensors:
        """BERT's, and the tasks where the configuration asks for them."""
        inputs = super().make_inputs(factory)
        if cast(ErnieConfig, factory.config).custom_task_type_ids:
            inputs["task_type_ids"] = keras.Input((None,), dtype="int32", name="task_type_ids")
        return inputs

    def sum_embeddings(
        self, factory: LayerFactory, token_embedding: Callable[[Tensor], Tensor], inputs: Tensors
    ) -> Tensor:
        """Tokens, segments and tasks: (B, T, width of the embeddings)."""
        config = cast(ErnieConfig, factory.config)
        x = super().sum_embeddings(factory, token_embedding, inputs)
        if not config.use_task_id:
            return x
        task = inputs.get("task_type_ids")
        # Task 0 has a vector of its own, trained like the others: without the input it is added, not left out.
        if task is None:
            task = layers.ZerosLike(name="task_zero", dtype="int32")(inputs["token_ids"])
        table = factory.embedding(config.task_type_vocab_size, config.width_of_embeddings, "task_type_embedding")
        return keras.layers.Add(name="with_task", dtype=factory.dtype)([x, table(task)])

    @staticmethod
    def weight_map(config: BackboneConfig) -> WeightMap:
        """BERT's names, the first word apart, and the table of tasks."""
        tasks = "ernie.embeddings.task_type_embeddings.weight"
        rows = [*embedding_rows(config, huggingface="ernie"), Row("task_type_embedding/embeddings", None, tasks)]
        for index in range(config.num_hidden_layers):
            rows += block_rows(index, huggingface="ernie.encoder.layer.{}")
        return bert_like(rows + head_rows("ernie"), "ernie")
