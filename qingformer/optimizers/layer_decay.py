"""Learning rates that fall from the top of a model to its embeddings."""

import re

import keras

from qingformer.errors import ConfigError

_NUMBER = r"(\d+)"


def layer_decay(
    model: keras.Model, rate: float, block: str = r"block_(\d+)/", embedding: str = "embedding"
) -> dict[str, float]:
    """The factors of `LayerwiseLearningRate` for discriminative fine-tuning: lower layers learn slower.

        factor = 1           of what stands above the blocks: pooler, head
        factor = rate^(n-i)  of block i of n (i from 0, so the top block has `rate`)
        factor = rate^(n+1)  of the embeddings and their norm

    Source: Howard, Ruder 2018, arXiv 1801.06146 (there each layer has 1/2.6 of the rate above it); Clark et al. 2020,
    arXiv 2003.10555 (0.8 for ELECTRA base, 0.9 for large).

    Args:
        model: a model with a backbone in it, or a backbone.
        rate: the factor from one layer to the next below, in (0, 1].
        block: regular expression, searched in the paths, whose one group is the number of the block.
        embedding: regular expression for what is beneath the blocks.

    Returns:
        Patterns that match no variable twice, to their factors.

    Raises:
        ConfigError: a rate that cannot be, or no variable that belongs to a block (names the paths there are).

    Example:
        >>> model.compile(LayerwiseLearningRate(adamw(2e-5), layer_decay(model, 0.8)))
    """
    if not 0 < rate <= 1:
        raise ConfigError(f"layer_decay: rate is {rate}; it must be more than 0 and at most 1")
    if _NUMBER not in block:
        raise ConfigError(f"layer_decay: block is {block!r}; it must have the group {_NUMBER} for the number")
    paths = [variable.path for variable in model.trainable_variables]
    numbers = {int(match.group(1)) for path in paths if (match := re.search(block, path))}
    if not numbers:
        raise ConfigError(f"layer_decay: no trainable variable matches {block!r}; their paths are: {', '.join(paths)}")
    top = max(numbers) + 1
    factors = {block.replace(_NUMBER, str(number)): rate ** (top - number) for number in sorted(numbers)}
    beneath = f"^(?!.*{block}).*{embedding}"  # what a block calls embedding belongs to the block
    if any(re.search(beneath, path) for path in paths):
        factors[beneath] = rate ** (top + 1)
    return factors
