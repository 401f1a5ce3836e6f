"""Tokens that the files beside a vocabulary name: found whole in a text, in the vocabulary or behind it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer

from qingformer.errors import TokenizerError
from qingformer.json_files import check_kinds, quoted, read_object
from qingformer.types import Values

ADDED_FILE = "added_tokens.json"
MAXIMUM_ID = 10**8
_FLAGS = dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized", "special"), bool)
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_T5_EXTRA = "<extra_id_{}>"


class Named(NamedTuple):
    """A token that a folder names: how it is found, its id where the files say one, the place that names it."""

    token: AddedToken
    id: int | None
    where: str
    appended: bool = True  # behind the vocabulary if that has no such token


def named_tokens(settings: Values, directory: Path) -> list[Named]:
    """All tokens that the settings and `added_tokens.json` name, each once, with the flags of the first that has any.

    `added_tokens_decoder` says most of a token; then come special tokens written as objects, special tokens written as
    strings (they stand for themselves, whatever the normaliser does), and `added_tokens.json`, whose tokens are looked
    for in the normalised text unless they are special.
    """
    found: dict[str, Named] = {}
    special = list(_special(settings, directory))
    for entry in (*_decoder(settings, directory), *special, *_added_file(directory)):
        content = entry.token.content
        before = found.get(content)
        if before is None:
            found[content] = entry
        elif before.id is None:
            found[content] = before._replace(id=entry.id)
        elif entry.id is not None and entry.id != before.id:
            raise TokenizerError(
                f"{entry.where}: the token {quoted(content)} has the id {entry.id}, in {before.where} {before.id}"
            )
    names = {entry.token.content for entry in special}
    for content in names & found.keys():
        found[content].token.special = True
    return list(found.values())


def _decoder(settings: Values, directory: Path) -> Iterator[Named]:
    where = f"{directory}: added_tokens_decoder"
    for index, value in (settings.get("added_tokens_decoder") or {}).items():
        if not (index.isascii() and index.isdigit() and len(index) < 10 and int(index) <= MAXIMUM_ID):
            raise TokenizerError(f"{where}: the key {quoted(index)} is not the id of a token")
        yield Named(_token(value, f"{where}: {index}"), int(index), where)


def _special(settings: Values, directory: Path) -> Iterator[Named]:
    named = [(key, value) for key, value in settings.items() if key.endswith("_token")]
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, dict):
        named += list(extra.items())
    for key, value in sorted(named, key=lambda item: isinstance(item[1], str)):
        # Settings such as "add_bos_token": true share the ending; null says that there is no such token.
        if isinstance(value, (str, dict)) and value:
            where = f"{directory}: {key}"
            yield Named(_token(value, where, special=True), None, where, appended=False)
    for key in _LISTS:
        values = settings.get(key)
        for value in values if isinstance(values, list) else ():
            where = f"{directory}: {key}"
            yield Named(_token(value, where, special=True), None, where)


def _added_file(directory: Path) -> Iterator[Named]:
    path = directory / ADDED_FILE
    for content, index in read_object(path, TokenizerError).items() if path.is_file() else ():
        if type(index) is not int or not 0 <= index <= MAXIMUM_ID:
            raise TokenizerError(f"{path}: the id of {quoted(content)} is {quoted(index)}, expected an integer from 0")
        yield Named(_token(content, str(path)), index, str(path))


def _token(value: object, where: str, special: bool = False) -> AddedToken:
    entry = {"content": value} if isinstance(value, str) else value
    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str) or not entry["content"]:
        raise TokenizerError(f"{where} is {quoted(value)}, expected a token: a string, or an object with its content")
    check_kinds(entry, _FLAGS, where, TokenizerError)
    flags = {name: entry[name] for name in _FLAGS if name in entry}
    if special:
        flags["special"] = True
    flags.setdefault("normalized", not flags.get("special", False))
    return AddedToken(entry["content"], **flags)


def add_named(rust: RustTokenizer, named: Sequence[Named], extra_ids: int, where: str) -> None:
    """Let `rust` find the named tokens whole; those that its vocabulary lacks get the ids behind it.

    `extra_ids` is T5's number of sentinels, which follow the vocabulary where no file names another token there; the
    last id is that of <extra_id_0>.

    Raises:
        TokenizerError: an id is another token's, or would leave a gap behind the vocabulary.
    """
    size, present = rust.get_vocab_size(), []
    behind: dict[int, AddedToken] = {}
    without_id = []
    for entry in named:
        own = rust.token_to_id(entry.token.content)
        if own is not None and entry.id not in (None, own):
            raise TokenizerError(
                f"{entry.where}: {quoted(entry.token.content)} has the id {entry.id}, but {own} in {where}"
            )
        if own is not None:
            present.append(entry.token)
        elif entry.id is not None and entry.id < size:
            taken = rust.id_to_token(entry.id)
            raise TokenizerError(
                f"{entry.where}: {quoted(entry.token.content)} has the id {entry.id}, where {where} has {quoted(taken)}"
            )
        elif entry.id is not None:
            if entry.id in behind:
                raise TokenizerError(f"{entry.where}: two added tokens have the id {entry.id}")
            behind[entry.id] = entry.token
        elif entry.appended:
            without_id.append(entry.token)
    if not behind:
        sentinels = (_T5_EXTRA.format(extra_ids - 1 - place) for place in range(extra_ids))
        behind = {size + place: AddedToken(text, normalized=False) for place, text in enumerate(sentinels)}
    ids = sorted(behind)
    if ids != list(range(size, size + len(ids))):
        raise TokenizerError(
            f"{named[0].where}: the added tokens have the ids {quoted(ids[:8])}; expected ids that follow the {size} "
            f"tokens of {where}"
        )
    rust.add_tokens([*present, *(behind[index] for index in ids)])
    rust.add_tokens(without_id)  # sentinels with a new name among them get its flags
