"""Positions that a model computes once for all its blocks: rotary tables and bucketed biases."""

import keras
from keras import ops

from qingformer.ops.relative_distances import relative_buckets
from qingformer.ops.rotary import rotary_table
from qingformer.types import Config, InitializerLike, Shape, Tensor


@keras.saving.register_keras_serializable("qingformer")
class RotaryPositions(keras.layers.Layer):
    """The table of cosines and sines that turns queries and keys; see `ops.rotary.rotary_table`.

    Input `x` (B, T, ...) gives the length, `position_ids` (B, T) other positions than 0 ... T - 1. Output (1 or B, T,
    2, size/2) float32. `scaling` divides the positions, `limit` clips them at `limit - 1`: for texts longer than those
    of training. Sources: Su et al. 2021, arXiv 2104.09864; Chen et al. 2023 (interpolation), arXiv 2306.15595.

    Example: `RotaryPositions(8)(ops.ones((2, 5, 16)))`
    """

    def __init__(
        self, size: int, base: float = 10000.0, scaling: float = 1.0, limit: int | None = None, **kwargs: object
    ) -> None:
        # float32 whatever the policy: in bfloat16 the angles of positions beyond 256 are off by a radian and more.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size
        self.base = base
        self.scaling = scaling
        self.limit = limit
        self.built = True

    def call(self, x: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """The table for the positions of `x`."""
        if position_ids is None:
            position_ids = ops.arange(ops.shape(x)[1], dtype="int32")[None]
        return rotary_table(position_ids, self.size, self.base, self.scaling, self.limit)

    def compute_output_spec(self, x: Tensor, position_ids: Tensor | None = None) -> keras.KerasTensor:
        # One table serves the whole batch unless each text has positions of its own.
        batch = 1 if position_ids is None else position_ids.shape[0]
        return keras.KerasTensor((batch, x.shape[1], 2, self.size // 2), "float32")

    def get_config(self) -> Config:
        settings = {"size": self.size, "base": self.base, "scaling": self.scaling, "limit": self.limit}
        return {**super().get_config(), **settings}


@keras.saving.register_keras_serializable("qingformer")
class RelativePositionBias(keras.layers.Layer):
    """A learned bias for each head and bucket of distances, added to the attention scores of every block (T5).

    Inputs `x` (B, Tq, ...) and, where the keys are another sequence, `context` (B, Tk, ...), for their lengths alone.
    Output (1, N, Tq, Tk) float. Source: Raffel et al. 2019, arXiv 1910.10683, section 2.1.

    Example: `RelativePositionBias(num_heads=2)(ops.ones((1, 5, 8)))`
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        embeddings_initializer: InitializerLike = "uniform",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, *shapes: Shape, **others: Shape) -> None:
        self.embeddings = self.add_weight(
            shape=(self.num_buckets, self.num_heads), initializer=self.embeddings_initializer, name="embeddings"
        )

    def call(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The biases of all pairs of positions."""
        keys = x if context is None else context
        buckets = relative_buckets(
            ops.shape(x)[1], ops.shape(keys)[1], self.num_buckets, self.max_distance, self.bidirectional
        )
        # (Tq, Tk, N) to (1, N, Tq, Tk), the shape of the scores of any batch.
        table = ops.cast(self.embeddings, self.compute_dtype)
        return ops.transpose(ops.take(table, buckets, axis=0), (2, 0, 1))[None]

    def compute_output_spec(self, x: Tensor, context: Tensor | None = None) -> keras.KerasTensor:
        keys = x if context is None else context
        return keras.KerasTensor((1, self.num_heads, x.shape[1], keys.shape[1]), self.compute_dtype)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }
