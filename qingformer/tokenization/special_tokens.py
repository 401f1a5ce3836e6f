"""Special tokens by name: `cls_token` -> "[CLS]"."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from qingformer.errors import TokenizerError
from qingformer.types import Values

BERT_SPECIAL_TOKENS: dict[str, str] = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
STANDARD_NAMES = (*BERT_SPECIAL_TOKENS, "bos_token", "eos_token")
_REQUIRED = {"unk_token": "an unknown word", "cls_token": "the start of a text", "sep_token": "the end of a text"}


def resolve_special_tokens(
    vocabulary: Collection[str], chosen: Mapping[str, str | None] | None, where: str
) -> dict[str, str]:
    """The special tokens of a BERT vocabulary: `chosen` over BERT's own names, None in `chosen` to have none.

    A vocabulary may lack [PAD] and [MASK] (then the tokenizer has none); it may not lack a token that encoding needs
    or that was chosen. Raises TokenizerError, naming `where` the vocabulary comes from.
    """
    chosen = check_names(chosen)
    result = {}
    for name, token in {**BERT_SPECIAL_TOKENS, **chosen}.items():
        if token is None:
            if name == "unk_token":
                raise TokenizerError("special_tokens: unk_token cannot be None: WordPiece needs one for unknown words")
        elif token in vocabulary:
            result[name] = token
        elif name in _REQUIRED:
            remedy = "" if name == "unk_token" else ", or None to add none"
            raise TokenizerError(
                f"{where}: the vocabulary has no {token!r} for {_REQUIRED[name]}; name the token "
                f"that it has with special_tokens={{{name!r}: ...}}{remedy}"
            )
        elif name in chosen:
            raise TokenizerError(
                f"{where}: special token {name}={token!r} is not in the vocabulary; add it to the "
                f"vocabulary or choose one of its tokens"
            )
    return result


def check_names(chosen: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """The mapping as a dict, or a TokenizerError that names the first key or value that cannot be."""
    for name, token in (chosen or {}).items():
        if not isinstance(name, str) or not name.endswith("_token") or not name.isidentifier():
            raise TokenizerError(f"special_tokens: the name {name!r} must be of the form 'something_token'")
        if token is not None and (not isinstance(token, str) or not token):
            raise TokenizerError(f"special_tokens: {name} must be a token or None, not {token!r}")
    return dict(chosen or {})


def read_special_tokens(settings: Values) -> dict[str, str | None]:
    """The special tokens named in a Hugging Face `tokenizer_config.json` or `special_tokens_map.json`.

    There a token is written as a string, as an object with a field `content`, or as null: there is none.
    """
    found: dict[str, str | None] = {}
    extra = settings.get("extra_special_tokens")
    entries = {**settings, **(extra if isinstance(extra, dict) else {})}
    for name, value in entries.items():
        token = value.get("content") if isinstance(value, dict) else value
        # Settings such as "add_bos_token": true share the ending of the names.
        if name.endswith("_token") and isinstance(token, str) and token:
            found[name] = token
        elif value is None and name in BERT_SPECIAL_TOKENS and name != "unk_token":
            found[name] = None
    return found


class NamedSpecialTokens(ABC):
    """The attributes `cls_token`, `cls_token_id` and so on, for every name in `special_tokens`."""

    special_tokens: dict[str, str]

    @abstractmethod
    def token_to_id(self, token: str) -> int:
        """The id of a token of the vocabulary."""

    @property
    def pad_token_id(self) -> int:
        """The id of the padding token."""
        return self._special_id("pad_token")

    @property
    def unk_token_id(self) -> int:
        """The id of the token for unknown words."""
        return self._special_id("unk_token")

    @property
    def cls_token_id(self) -> int:
        """The id of the token that starts a text."""
        return self._special_id("cls_token")

    @property
    def sep_token_id(self) -> int:
        """The id of the token that ends a text."""
        return self._special_id("sep_token")

    @property
    def mask_token_id(self) -> int:
        """The id of the mask token."""
        return self._special_id("mask_token")

    def _special_id(self, name: str) -> int:
        if name not in self.special_tokens:
            raise TokenizerError(
                f"this vocabulary has no {name}; it has {', '.join(self.special_tokens)}: add the "
                f"token to the vocabulary or name one with special_tokens={{{name!r}: ...}}"
            )
        return self.token_to_id(self.special_tokens[name])

    def __getattr__(self, name: str) -> Any:
        special = self.__dict__.get("special_tokens", {})
        if name in special:
            return special[name]
        if name.removesuffix("_id") in special:
            return self._special_id(name.removesuffix("_id"))
        if name in BERT_SPECIAL_TOKENS and special:
            self._special_id(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
