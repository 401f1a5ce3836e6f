"""The signal and the gradients of a real encoder by depth, at its present weights, and what its norms have learnt."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from qingformer import backend
from qingformer.analysis.initialization import cosine, root_mean_square
from qingformer.errors import ConfigError
from qingformer.layers import TransformerBlock

GAINS = ("gamma", "scale")


@dataclass(frozen=True)
class DepthSignal:
    """What one batch shows of every depth; root mean squares, and cosines of the vectors of single positions.

    `size`, `cosine` `(L + 1,)`: of the input of block l (the last: of the output of the last block), and its cosine
    with the input of the first one. `carried` `(L,)`: the cosine of a block's output with its own input, the weight of
    its residual connections. `gradient` `(L,)`: of the gradient of the block's matrices. `update` `(L,)`: of their
    change in the first step of Adam, in units of its rate.
    """

    size: np.ndarray
    cosine: np.ndarray
    carried: np.ndarray
    gradient: np.ndarray
    update: np.ndarray

    def format_table(self) -> str:
        """One line a block."""
        lines = ["block    size  with x0  carried   gradient  Adam's step"]
        for block in range(len(self.carried)):
            lines.append(
                f"{block:5d} {self.size[block + 1]:7.3f} {self.cosine[block + 1]:8.3f} {self.carried[block]:8.3f} "
                f"{self.gradient[block]:10.3e} {self.update[block]:12.3f}"
            )
        return "\n".join(lines)


def depth_signal(
    backbone: keras.Model, token_ids: Any = None, *, rows: int = 8, length: int = 32, seed: int = 0
) -> DepthSignal:
    """Run one batch through an encoder and back, with a random linear loss of its last hidden states, without dropout.

        loss = mean over positions of <h, r> / sqrt(H),   r standard normal and fixed

    Post-norm models lose the input by 2^(-1/2) a sublayer where branches are as large as what they are added to; small
    initial weights make branches small. Adam's first step moves every weight by about its rate, whatever the size
    of the gradient. Nothing in the model changes.

    Args:
        backbone: an encoder such as `Backbone`, whose blocks do not share weights; new or loaded.
        token_ids: `(B, T)` int32 of real text; random ones of shape `(rows, length)` if None.
        seed: of what is random.

    Raises:
        ConfigError: no blocks, or blocks that share weights.

    Source: 科学空间 archives/8747.

    Example: `print(depth_signal(Backbone(config)).format_table())`
    """
    blocks = [layer for layer in backbone.layers if isinstance(layer, TransformerBlock)]
    wanted = getattr(backbone.config, "num_hidden_layers", len(blocks))
    if not blocks or len(blocks) != wanted or "decoder_token_ids" in backbone.input:
        raise ConfigError(
            f"model {backbone.name!r} has {len(blocks)} blocks of its own for {wanted} layers; the signal by depth is "
            "measured of encoders whose blocks do not share weights"
        )
    generator = np.random.default_rng(seed)
    if token_ids is None:
        token_ids = generator.integers(1, backbone.config.vocab_size, (rows, length))
    inputs = _inputs(backbone, np.asarray(token_ids, "int32"))
    states = [keras.tree.flatten(blocks[0].input)[0], *(keras.tree.flatten(block.output)[0] for block in blocks)]
    probe = keras.Model(backbone.input, [*states, backbone.output["sequence_output"]])
    shape = (*np.shape(token_ids), backbone.config.hidden_size)
    readout = ops.convert_to_tensor(generator.normal(size=shape).astype("float32"))
    # Matrices alone: gains and biases do not grow with the width.
    variables = [variable for block in blocks for variable in block.trainable_variables if len(variable.shape) == 2]
    others = [v for v in probe.variables if not any(v is mine for mine in variables)]

    def loss(values: list[Any]) -> tuple[Any, list[Any]]:
        # The mapping names every variable, those that are not differentiated too: traced code must not read a variable.
        pairs = [*zip(variables, values), *((v, v.value) for v in others)]
        with keras.StatelessScope(pairs):
            *hidden, last = probe(inputs, training=False)
        # A random direction as the loss: any real one would measure its own data as well.
        along = ops.sum(ops.cast(last, "float32") * readout, axis=-1) / shape[-1] ** 0.5
        return ops.mean(along), hidden

    values = [variable.value for variable in variables]
    (_, hidden), gradients = backend.value_and_grad(loss, has_aux=True)(values)
    vectors = [np.asarray(ops.convert_to_numpy(ops.cast(h, "float32"))) for h in hidden]
    updates = _first_step(variables, gradients)
    indices = {id(v): block for block, layer in enumerate(blocks) for v in layer.trainable_variables}
    owners = [indices[id(v)] for v in variables]
    return DepthSignal(
        size=np.array([root_mean_square(v) for v in vectors]),
        cosine=np.array([cosine(v, vectors[0]) for v in vectors]),
        carried=np.array([cosine(after, before) for before, after in pairwise(vectors)]),
        gradient=_by_block([np.asarray(ops.convert_to_numpy(g)) for g in gradients], owners, len(blocks)),
        update=_by_block(updates, owners, len(blocks)),
    )


def _inputs(backbone: keras.Model, token_ids: np.ndarray) -> dict[str, np.ndarray]:
    made = {
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "padding_mask": np.ones_like(token_ids),
        "position_ids": np.broadcast_to(np.arange(token_ids.shape[1], dtype="int32"), token_ids.shape),
    }
    return {name: made[name] for name in backbone.input}


def _first_step(variables: list[keras.Variable], gradients: list[Any], rate: float = 1e-3) -> list[np.ndarray]:
    """The change of each variable in one step of Adam, divided by the rate; the variables are copies."""
    # By way of NumPy: on torch a variable made from a tensor shares its memory.
    copies = [keras.Variable(np.array(ops.convert_to_numpy(v.value), "float32"), dtype="float32") for v in variables]
    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8)
    optimizer.build(copies)
    before = [np.array(ops.convert_to_numpy(copy), "float64") for copy in copies]
    with backend.without_gradients():
        optimizer.apply([ops.cast(g, "float32") for g in gradients], copies)
    return [(np.asarray(ops.convert_to_numpy(copy)) - old) / rate for copy, old in zip(copies, before)]


def _by_block(arrays: list[np.ndarray], owners: list[int], blocks: int) -> np.ndarray:
    """The root mean square over all entries of each block's arrays."""
    sums, counts = np.zeros(blocks), np.zeros(blocks)
    for array, owner in zip(arrays, owners):
        sums[owner] += (array.astype("float64") ** 2).sum()
        counts[owner] += array.size
    return np.sqrt(sums / np.maximum(counts, 1))


@dataclass(frozen=True)
class NormGain:
    """The gains of one norm: a new one has 1 everywhere."""

    path: str
    mean: float
    deviation: float
    least: float
    largest: float


def norm_gains(model: keras.Model) -> list[NormGain]:
    """The gains (gamma) of every norm of a model, in its order: what training has made of the residual balance.

    A gain above 1 in a post-norm block strengthens what the block adds against what later blocks add; the norm before
    tied logits grows far above 1, because embeddings start small. Models normalised without gain give an empty list.

    Source: 科学空间 archives/8747.

    Example: `print(format_norm_gains(norm_gains(Backbone.from_pretrained(source))))`
    """
    rows = []
    for variable in model.variables:
        if variable.path.split("/")[-1] in GAINS and len(variable.shape) == 1:
            values = np.asarray(ops.convert_to_numpy(variable.value), "float64")
            rows.append(NormGain(variable.path, values.mean(), values.std(), values.min(), values.max()))
    return rows


def format_norm_gains(rows: list[NormGain]) -> str:
    """A table with one line a norm."""
    width = max([len(row.path) for row in rows] + [4])
    lines = [f"{'norm':{width}s}    mean     std     min     max"]
    lines += [
        f"{row.path:{width}s} {row.mean:7.3f} {row.deviation:7.3f} {row.least:7.3f} {row.largest:7.3f}" for row in rows
    ]
    return "\n".join(lines)
