"""Google's BERT tokenization written out slowly: every rule is one obvious line of Python, no library involved.

Clean, mark ideographs, split at spaces, lower-case and strip accents word by word, split at punctuation, then take the
longest vocabulary entry again and again. Special tokens in the text are ordinary characters here.
"""

import unicodedata
from functools import cache

IDEOGRAPHS = [
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
]


@cache
def is_space(char):
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


@cache
def is_control(char):
    return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")


@cache
def is_ideograph(char):
    return any(ord(char) in block for block in IDEOGRAPHS)


@cache
def is_punctuation(char):
    printable_ascii = "!" <= char <= "~" and not char.isalnum()
    return printable_ascii or unicodedata.category(char).startswith("P")


def basic_words(text, lowercase=True):
    """The words before WordPiece, as strings."""
    cleaned = ""
    for char in text:
        if char in "\0\ufffd" or is_control(char):
            continue
        if is_space(char):
            cleaned += " "
        elif is_ideograph(char):
            cleaned += " " + char + " "
        else:
            cleaned += char
    words = []
    for word in cleaned.split():
        if lowercase:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
        words += split_at_punctuation(word)
    return words


def split_at_punctuation(word):
    pieces = [""]
    for char in word:
        if is_punctuation(char):
            pieces += [char, ""]
        else:
            pieces[-1] += char
    return [piece for piece in pieces if piece]


def wordpiece(word, vocabulary, limit=100):
    """The tokens of one word; a word that is too long or has no complete cover is unknown."""
    if len(word) > limit:
        return ["[UNK]"]
    tokens, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        tokens.append(mark + word[start:end])
        start = end
    return tokens


def tokenize(text, vocabulary, lowercase=True):
    """All tokens of a text, without special ones."""
    return [token for word in basic_words(text, lowercase) for token in wordpiece(word, vocabulary)]


def truncate_pair(first, second, budget):
    """Take tokens off the longer list until both fit; if equally long, off the one shorter at first."""
    first, second = list(first), list(second)
    tie = second if len(first) > len(second) else first
    while len(first) + len(second) > budget:
        if len(first) == len(second):
            tie.pop()
        else:
            max(first, second, key=len).pop()
    return first, second
