"""Vocabularies: reading `vocab.txt`, choosing tokens to keep, rewriting the ids inside a tokenizer."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qingformer.errors import TokenizerError
from qingformer.files import check_not_pointer
from qingformer.json_files import quoted
from qingformer.tokenization.characters import is_cjk, is_punctuation
from qingformer.types import Config


def read_vocabulary(path: Path) -> list[str]:
    """Read a `vocab.txt`: UTF-8, one token per line, id = line number - 1.

    Lines end with "\\n" or "\\r\\n" alone. An empty line inside is a token that no text can produce (WoBERT's file has
    one): the first is named "", further ones by spaces. Empty lines at the very end are not tokens. Raises
    TokenizerError, naming file and line, if the file is missing, empty, not UTF-8, has two columns or repeats a token.
    """
    lines = [line.removesuffix("\r") for line in _read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise TokenizerError(f"{path}: the vocabulary is empty; expected one token per line")
    for row, line in enumerate(lines, 1):
        if "\t" in line:
            raise TokenizerError(
                f"{path}, line {row}: {quoted(line)} has more than one column; expected one token per line"
            )
    lines = _with_names(lines)
    check_tokens(lines, f"{path}, line ", first=1)
    return lines


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TokenizerError(f"{path}: no such file; expected a vocabulary with one token per line") from None
    except IsADirectoryError:
        raise TokenizerError(f"{path}: is a directory; expected a vocabulary with one token per line") from None
    except OSError as problem:
        raise TokenizerError(f"{path}: cannot be read ({problem.strerror}); expected a vocabulary") from None
    check_not_pointer(content, path, TokenizerError)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        number = content[: problem.start].count(b"\n") + 1
        raise TokenizerError(f"{path}, line {number}: not UTF-8; save the file as UTF-8") from None


def _with_names(lines: list[str]) -> list[str]:
    """The lines, where every empty one after the first is as many spaces as no other line is."""
    if lines.count("") < 2:
        return lines
    names = _unused_spaces(lines)
    first = lines.index("")
    return [line or ("" if place == first else next(names)) for place, line in enumerate(lines)]


def _unused_spaces(tokens: Iterable[str]) -> Iterator[str]:
    taken = set(tokens)
    return (" " * length for length in itertools.count(1) if " " * length not in taken)


def vocabulary_lines(vocabulary: Sequence[str]) -> str:
    """The text of a `vocab.txt`, which `read_vocabulary` reads back with the same ids.

    A last token that is empty is written as spaces, since empty lines at the end are none.
    """
    lines = list(vocabulary)
    if lines and not lines[-1]:
        lines[-1] = next(_unused_spaces(lines))
    return "".join(f"{line}\n" for line in lines)


def check_line(token: str, where: str) -> None:
    """Raise TokenizerError for a token that no line of a `vocab.txt` can be."""
    if "\n" in token or "\r" in token:
        raise TokenizerError(f"{where}: the token {quoted(token)} holds a line break: no line of vocab.txt can be that")


def check_tokens(tokens: Sequence[str], where: str, first: int = 0) -> None:
    """Raise TokenizerError if a token is not a string or comes twice; `where` and the number name the place."""
    if not tokens:
        raise TokenizerError("the vocabulary is empty; expected a list of tokens")
    seen: dict[str, int] = {}
    for number, token in enumerate(tokens, first):
        if not isinstance(token, str):
            raise TokenizerError(f"{where}{number}: {quoted(token)} is not a string")
        if token in seen:
            raise TokenizerError(
                f"{where}{number}: the token {quoted(token)} is already at {seen[token]}; every token must have one "
                f"id: rename one of the two (without its line all later ids would change)"
            )
        seen[token] = number


def is_redundant(token: str) -> bool:
    """Whether BERT's algorithm can never produce the token: more than one character, with an ideograph or punctuation.

    Such signs are always words of their own, so "##好" and "[unused1]" are never matched in a text.
    """
    piece = token.removeprefix("##")
    return len(token) > 1 and any(is_cjk(character) or is_punctuation(character) for character in piece)


def simplified_ids(vocabulary: Sequence[str], first_tokens: Sequence[str]) -> list[int]:
    """The ids that a simplified vocabulary keeps: `first_tokens` in that order, then all not redundant."""
    place = {token: index for index, token in enumerate(vocabulary)}
    for token in first_tokens:
        if token not in place:
            raise TokenizerError(f"first_tokens: {token!r} is not in the vocabulary")
    first = set(first_tokens)
    rest = [index for index, token in enumerate(vocabulary) if token not in first and not is_redundant(token)]
    return [place[token] for token in first_tokens] + rest


def renumber(state: Config, vocabulary: Sequence[str], keep: Sequence[int]) -> Config:
    """A tokenizer's JSON with only the tokens `keep`, whose new ids are their places in it; not for BPE."""
    kind = state["model"].get("type")
    if kind not in ("WordPiece", "WordLevel", "Unigram"):
        raise TokenizerError(
            f"tokens can only be chosen in a WordPiece or Unigram vocabulary, not in {kind}: its merges depend on all"
        )
    new_ids = {vocabulary[old]: new for new, old in enumerate(keep)}
    kept = [entry for entry in state["added_tokens"] if entry["content"] in new_ids]
    added = [{**entry, "id": new_ids[entry["content"]]} for entry in kept]
    added.sort(key=lambda entry: entry["id"])
    processor = _renumber_processor(state.get("post_processor"), new_ids)
    model = _renumber_unigram(state["model"], new_ids) if kind == "Unigram" else {**state["model"], "vocab": new_ids}
    return {**state, "model": model, "added_tokens": added, "post_processor": processor}


def _renumber_unigram(model: Config, new_ids: Mapping[str, int]) -> Config:
    unknown = model["vocab"][model["unk_id"]][0]
    if unknown not in new_ids:
        raise TokenizerError(f"keep_tokens: {unknown!r} stands for what no piece covers and must be kept")
    scores = dict(model["vocab"])
    lowest = min(scores.values())  # for tokens added behind the model, which are found before it sees the text
    table = [[token, scores.get(token, lowest)] for token in new_ids]
    return {**model, "vocab": table, "unk_id": new_ids[unknown]}


def _renumber_processor(processor: object, new_ids: Mapping[str, int]) -> Any:
    if not isinstance(processor, dict):
        return processor
    result = dict(processor)
    if "processors" in processor:
        result["processors"] = [_renumber_processor(part, new_ids) for part in processor["processors"]]
    if isinstance(processor.get("special_tokens"), dict):
        result["special_tokens"] = {
            name: {**entry, "ids": [_new_id(token, new_ids) for token in entry["tokens"]]}
            for name, entry in processor["special_tokens"].items()
        }
    for end in ("sep", "cls"):
        if end in processor:
            token = processor[end][0]
            result[end] = [token, _new_id(token, new_ids)]
    return result


def _new_id(token: str, new_ids: Mapping[str, int]) -> int:
    if token not in new_ids:
        raise TokenizerError(f"keep_tokens: {token!r} is put around every text and must be kept")
    return new_ids[token]


def check_keep(keep: Iterable[int], vocabulary: Sequence[str], needed: Iterable[str]) -> list[int]:
    """The ids as a list, or a TokenizerError: out of range, repeated, or without a special token that is needed."""
    ids = [int(index) for index in keep]
    seen = set()
    for index in ids:
        if not 0 <= index < len(vocabulary):
            raise TokenizerError(f"keep_tokens: id {index} is not in 0..{len(vocabulary) - 1}")
        if index in seen:
            raise TokenizerError(f"keep_tokens: id {index} ({vocabulary[index]!r}) comes twice")
        seen.add(index)
    kept = {vocabulary[index] for index in ids}
    for token in needed:
        if token not in kept:
            raise TokenizerError(f"keep_tokens: {token!r} stands around every text or for unknown words: keep it")
    return ids
