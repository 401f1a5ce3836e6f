"""What the readers of labelled texts hand out, and how tokens become a text."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qingformer.data.spans import Span
from qingformer.tokenization.characters import is_cjk

Places = tuple[tuple[int, int], ...]

_SHORT = 1.5


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text and its spans of characters, None if it is unlabelled.

    `line` is its first line in the file; `tokens` are the places (start, end) of the file's own tokens, None if it has
    none; `source` is the file of the text itself, where a source has a file for each; `fields` are those of an
    unlabelled object or table row.
    """

    text: str
    spans: tuple[Span, ...] | None = None
    line: int = 0
    tokens: Places | None = None
    source: str = ""
    fields: Mapping[object, object] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class TaggedTexts:
    """The texts of a file, what to tell the user about it, and its tag scheme, None if it has no tags.

    `lines` is how many lines the file has if each is a text or blank, else 0.
    """

    name: str
    items: list[TaggedText]
    notes: list[str]
    scheme: str | None
    lines: int = 0


def join_tokens(
    tokens: Sequence[str], joiner: str, pool: dict[tuple[int, int], tuple[int, int]] | None = None
) -> tuple[str, Places]:
    """The text of the tokens and the place (start, end) of each in it; equal places are one object in `pool`."""
    places: list[tuple[int, int]] = []
    position = 0
    for token in tokens:
        place = (position, position + len(token))
        places.append(place if pool is None else pool.setdefault(place, place))
        position = place[1] + len(joiner)
    return joiner.join(tokens), tuple(places)


def joiner_of(tokens: Iterable[str]) -> str:
    """Nothing if the tokens are shorter than 1.5 characters on average or mostly Chinese, else a space.

    >>> joiner_of(["中国", "合作"]), joiner_of("EU rejects German call".split())
    ('', ' ')
    """
    count = characters = letters = chinese = 0
    for token, times in Counter(tokens).items():
        count += times
        characters += times * len(token)
        letters += times * sum(map(str.isalpha, token))
        chinese += times * sum(map(is_cjk, token))
    return "" if characters < _SHORT * count or 2 * chinese > letters else " "
