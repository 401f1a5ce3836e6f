"""From text to token ids and back, with the exact place of every token in the text."""

from qingformer.tokenization.encoding import Encoding, Encodings
from qingformer.tokenization.tokenizer import Tokenizer

__all__ = ["Encoding", "Encodings", "Tokenizer"]
