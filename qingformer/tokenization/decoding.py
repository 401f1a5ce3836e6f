"""From tokens to readable text: spaces between words, none between ideographs or around Chinese punctuation."""

from collections.abc import Iterable

from qingformer.tokenization.characters import is_cjk, is_punctuation

# Signs after which no space is set: Chinese punctuation; operators and opening brackets, as formulas have them.
_TIGHT_AFTER = frozenset(
    "。，、；：？！…—～·《》〈〉「」『』【】〔〕〖〗（）［］｛｝“”‘’．﹏＿－＋＝／＜＞％＃＆＊＠＄＾｀｜＼+-/={(<["
)
_CONTRACTIONS = frozenset(("re", "m", "s", "t", "ve", "d", "ll"))


def join_tokens(tokens: Iterable[str]) -> str:
    """Join WordPiece tokens to a text that reads well; it equals the original up to what the vocabulary has lost.

    Pieces with "##" are glued on; ideographs stand without spaces; after punctuation comes a space, but not after
    Chinese signs, operators and opening brackets, and not inside "it's" or "3.14". Spaces of the original are not
    known: when the text must be exact, slice it by `Encoding.offsets` instead.
    """
    pieces: list[str] = []
    words: list[str] = []  # the words so far, with the continued ones completed
    for token in tokens:
        if token.startswith("##") and words:
            piece = token[2:]
            pieces.append(piece)
            words[-1] += piece
            continue
        piece = token.removeprefix("##")
        if not piece:
            continue
        if words and _needs_space(words, piece):
            pieces.append(" ")
        pieces.append(piece)
        words.append(piece)
    return "".join(pieces)


def _needs_space(words: list[str], piece: str) -> bool:
    last = words[-1]
    if len(piece) == 1 and (is_cjk(piece) or is_punctuation(piece)):
        # An ideograph or a sign stands close to what is before it, unless that is a sign with its space.
        return _is_sign(last) and last not in _TIGHT_AFTER
    if is_cjk(last[-1]) or last in _TIGHT_AFTER:
        return False
    if last == "'" and piece in _CONTRACTIONS:
        return False
    # 3.14, but "end. 14".
    return not (last == "." and piece[0].isdigit() and len(words) > 1 and words[-2][-1].isdigit())


def _is_sign(word: str) -> bool:
    return len(word) == 1 and is_punctuation(word)
