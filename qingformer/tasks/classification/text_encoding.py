"""Examples to token ids, and what had to be cut on the way."""

from dataclasses import dataclass
from typing import Any

from qingformer.tasks.classification.text_examples import Examples
from qingformer.tokenization import Tokenizer


@dataclass(frozen=True)
class Encoded:
    """Encodings in the order of the examples; `cut` is a sentence about texts that were too long, or None."""

    features: list[Any]
    cut: str | None


def encode(tokenizer: Tokenizer, examples: Examples, max_length: int) -> Encoded:
    """Encode all examples to at most `max_length` tokens; of a pair the longer text is cut first.

    Example: `encode(tokenizer, examples, 128).features[0].token_ids`
    """
    texts = [example.text for example in examples]
    pairs = [example.pair or "" for example in examples] if any(example.pair for example in examples) else None
    features = list(tokenizer.encode_batch(texts, pairs, max_length=max_length))
    # Only texts that fill their row can have been cut; encoding these again tells by how much.
    full = [row for row, feature in enumerate(features) if len(feature.token_ids) >= max_length]
    whole = tokenizer.encode_batch([texts[row] for row in full], pairs and [pairs[row] for row in full]) if full else []
    long = [(row, len(feature.token_ids)) for row, feature in zip(full, whole) if len(feature.token_ids) > max_length]
    if not long:
        return Encoded(features, None)
    first, length = long[0]
    cut = (
        f"{examples.where(examples[first])}: the text has {length} tokens and was cut to {max_length}; "
        f"{len(long)} of {len(examples)} texts are too long, raise max_length= to keep more"
    )
    return Encoded(features, cut)
