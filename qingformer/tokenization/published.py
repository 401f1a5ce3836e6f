"""Where Google's algorithm and the Rust library's normaliser differ, and how the difference is taken away.

Google's `tokenization.py` (Devlin et al. 2018, arXiv 1810.04805) asks Python for the case and the category of a
character. The library has older tables: it lower-cases every capital sigma to "σ", also at the end of a word, takes out
characters of private use, leaves 256 ideographs of extension E unseparated, and does not know punctuation, marks and
format characters that came into Unicode after its tables were made. Such a character is replaced, before the library
sees the text, by one of the same part that it knows: every text keeps its length, so that offsets stay exact.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

NORMALIZATIONS = ("google", "transformers")
# As of Unicode 14, in hexadecimal; found by comparing all code points, which a test repeats.
_PUNCTUATION = """61D 9FD A76 C77 C84 1B7D-1B7E 2E43-2E4F 2E52-2E5D 10EAD 10F55-10F59 10F86-10F89 1144B-1144F
    1145A-1145B 1145D 11660-1166C 116B9 1183B 11944-11946 119E2 11A3F-11A46 11A9A-11A9C 11A9E-11AA2 11C41-11C45
    11C70-11C71 11EF7-11EF8 11FFF 12FF1-12FF2 16E97-16E9A 16FE2 1E95E-1E95F"""
_IDEOGRAPHS = "2B820-2B91F"
_FORMAT = "890-891 8E2 110CD 13430-13438"
_MARKS = """7FD 898-89F 8CA-8E1 9FE AFA-AFF B55 C04 C3C D00 D3B-D3C D81 EBA 180F 1885-1886 1ABF-1ACE 1DF6-1DFB A82C
    A8C5 A8FF A9BD 10D24-10D27 10EAB-10EAC 10F46-10F50 10F82-10F85 11070 11073-11074 110C2 111C9 111CF 1123E 1133B
    11438-1143F 11442-11444 11446 1145E 1182F-11837 11839-1183A 1193B-1193C 1193E 11943 119D4-119D7 119DA-119DB 119E0
    11A01-11A0A 11A33-11A38 11A3B-11A3E 11A47 11A51-11A56 11A59-11A5B 11A8A-11A96 11A98-11A99 11C30-11C36 11C38-11C3D
    11C3F 11C92-11CA7 11CAA-11CB0 11CB2-11CB3 11CB5-11CB6 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47 11D90-11D91
    11D95 11D97 11EF3-11EF4 16F4F 16FE4 1CF00-1CF2D 1CF30-1CF46 1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024
    1E026-1E02A 1E130-1E136 1E2AE 1E2EC-1E2EF 1E944-1E94A"""
_LETTERS = "166D E000-F8FF F0000-FFFFD 100000-10FFFD"  # no letters, but kept as parts of words: private use, a sign
_LETTERS_WITHOUT_MARKS = "1734"  # a sign that the library strips as a mark
_LETTERS_WITH_MARKS = "111C9"  # a mark that the library takes for punctuation
# What stands for them: characters that no vocabulary has, of which the first that this one has not is taken.
_AS_PUNCTUATION = "\u2e42\u2e41\u2e40\u2e3f\u2e3e"
_AS_IDEOGRAPH = "\U0002ceaf\U0002ceae\U0002cead\U0002ceac"
_AS_LETTER = "\uffff\ufffe\ufdd0\ufdd1"
_AS_FORMAT, _AS_MARK = "\u200b", "\u0301"
_SIGMA, _FINAL_SIGMA = "\u03a3", "\u03c2"


class PublishedForm:
    """A text as the library must see it to give Google's tokens, at the same length.

    A character that stands in a token of the vocabulary is left as it is, since only the library can find that token.
    """

    def __init__(self, vocabulary: Sequence[str], lowercase: bool, strip_accents: bool) -> None:
        # A character that the vocabulary has is never replaced: it has an id of its own.
        used = {character for token in vocabulary if not token.isascii() for character in token}
        letters = f"{_LETTERS} {_LETTERS_WITHOUT_MARKS if strip_accents else _LETTERS_WITH_MARKS}"
        parts = [
            (_PUNCTUATION, _AS_PUNCTUATION),
            (_IDEOGRAPHS, _AS_IDEOGRAPH),
            (_FORMAT, _AS_FORMAT),
            (letters, _AS_LETTER),
            *[(_MARKS, _AS_MARK)] * strip_accents,
        ]
        self._lowercase = lowercase
        self._replaced = []
        sets = [_SIGMA] if lowercase else []
        for ranges, candidates in parts:
            members = _character_set(ranges, used)
            stand_in = next((char for char in candidates if char not in used), candidates[0])
            self._replaced.append((re.compile(f"[{members}]"), stand_in))
            sets.append(members)
        self._exact = re.compile(f"[{''.join(sets)}]")
        # Python looks a character of the basic plane up in a table, and tries ranges beyond it one by one.
        basic = "".join(part for part in re.findall(r"\\U\w{8}-\\U\w{8}|.", "".join(sets)) if not _is_beyond(part))
        self._any = re.compile(f"[{basic}\U00010000-\U0010ffff]")

    def __call__(self, text: str) -> str:
        """The text itself, unless one of the characters is in it."""
        # Nearly all texts hold none of them, and are given back as they are.
        if self._any.search(text) is None or self._exact.search(text) is None:
            return text
        if self._lowercase and _SIGMA in text:
            text = _with_final_sigmas(text)
        for pattern, stand_in in self._replaced:
            text = pattern.sub(stand_in, text)
        return text

    def batch(self, texts: list[str]) -> list[str]:
        """Each of many texts."""
        return texts if self._any.search("".join(texts)) is None else [self(text) for text in texts]


def _ranges(written: str) -> Iterator[tuple[int, int]]:
    for part in written.split():
        first, _, last = part.partition("-")
        yield int(first, 16), int(last or first, 16)


def _character_set(written: str, without: Iterable[str]) -> str:
    """The inside of a regular expression's character set: the ranges but for some characters."""
    cuts = sorted(map(ord, without))
    pieces = []
    for first, last in _ranges(written):
        for cut in (code for code in cuts if first <= code <= last):
            if cut > first:
                pieces.append((first, cut - 1))
            first = cut + 1
        if first <= last:
            pieces.append((first, last))
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in pieces)


def _is_beyond(written: str) -> bool:
    """Whether a part of a character set lies beyond the basic plane."""
    return written.startswith("\\U") and int(written[2:10], 16) > 0xFFFF


def _with_final_sigmas(text: str) -> str:
    """Capital sigmas that lower-case to the final form are written in it; Python knows the rule of Unicode.

    Characters that cleaning takes out do not count, and the one character that becomes two is written as another.
    """
    kept = [place for place, char in enumerate(text) if not _is_removed(char)]
    cleaned = "".join(text[place] for place in kept)
    lowered = cleaned.replace("\u0130", "I").lower()
    characters = list(text)
    for place, before, after in zip(kept, cleaned, lowered):
        if before == _SIGMA and after == _FINAL_SIGMA:
            characters[place] = _FINAL_SIGMA
    return "".join(characters)


def _is_removed(char: str) -> bool:
    return char == "\ufffd" or (char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf"))
