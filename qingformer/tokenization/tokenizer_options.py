"""What a user chooses over what the files of a tokenizer say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qingformer.errors import TokenizerError
from qingformer.tokenization.published import NORMALIZATIONS
from qingformer.tokenization.words import WordSplitter


@dataclass(frozen=True)
class Options:
    """None takes the files' word, or else the family's default."""

    lowercase: bool | None = None
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool | None = None
    max_word_length: int | None = None
    special_tokens: Mapping[str, str | None] = field(default_factory=dict)
    pre_tokenize: str | WordSplitter | None = None
    split_special_tokens: bool | None = None
    normalization: str | None = None

    def __post_init__(self) -> None:
        if self.normalization not in (None, *NORMALIZATIONS):
            raise TokenizerError(f"normalization is {self.normalization!r}; choose one of {', '.join(NORMALIZATIONS)}")

    def refuse(self, names: Iterable[str], where: str, kind: str) -> None:
        """Raise TokenizerError if one of the options is set that a tokenizer of this kind has no place for."""
        for name in names:
            if getattr(self, name) is not None:
                raise TokenizerError(f"{where}: the option {name} is for WordPiece vocabularies, this is {kind}")


def first(*values: object) -> Any:
    """The first value that is not None, or None."""
    return next((value for value in values if value is not None), None)
