"""Characters with a part to play: SentencePiece's mark of a space, and what BERT's algorithm takes for a word."""

import unicodedata

SPACE = "\u2581"  # how SentencePiece writes the space before a word

# Unified ideographs with extensions A to E and the compatibility blocks: the ranges of Google's release, nothing newer.
_CJK_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


def is_cjk(character: str) -> bool:
    """Whether the character is a CJK ideograph by the ranges of Google's BERT (kana and hangul are not)."""
    code = ord(character)
    return any(first <= code <= last for first, last in _CJK_RANGES)


def is_punctuation(character: str) -> bool:
    """Whether BERT splits at the character: Unicode category P, or any ASCII sign that is not a letter or digit."""
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(character).startswith("P")
