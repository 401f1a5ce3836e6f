"""SentencePiece models (`spiece.model`): what is in the file, read without the sentencepiece package."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from qingformer.errors import TokenizerError
from qingformer.files import check_not_pointer
from qingformer.tokenization.charsmap import check_charsmap
from qingformer.tokenization.protobuf import BYTES, FIXED32, VARINT, Field, fields
from qingformer.tokenization.vocabulary import check_tokens

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
_ALGORITHMS = {3: "WORD", 4: "CHAR"}


class Piece(NamedTuple):
    """One entry of the vocabulary; its place is its id."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """A SentencePiece model (Kudo and Richardson 2018, arXiv 1808.06226): pieces, how to choose them, normalisation.

    `charsmap` is the compiled table of the normalisation, named `normalization` ("nmt_nfkc", "identity", ...); -1 as an
    id says that there is no such token.
    """

    pieces: list[Piece]
    algorithm: int = UNIGRAM
    byte_fallback: bool = False
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int = -1
    normalization: str = ""
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True

    @property
    def unk_id(self) -> int:
        """The id for what no piece covers."""
        return next(index for index, piece in enumerate(self.pieces) if piece.kind == UNKNOWN)

    def piece_at(self, index: int) -> str | None:
        """The text of the piece, None where the id says that there is none."""
        return self.pieces[index].text if 0 <= index < len(self.pieces) else None


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a `.model` file; TokenizerError in one line if it is damaged, something else, or of an unusual kind.

    The file is a protocol buffer: pieces (field 1: text, score, kind), the trainer's settings (2: algorithm, byte
    fallback, ids of the special tokens) and the normaliser (3: name, compiled table, treatment of spaces).
    """
    content = _read(path)
    try:
        model = _parse(content, path)
    except (ValueError, UnicodeDecodeError, struct.error) as problem:
        reason = "text that is not UTF-8" if isinstance(problem, UnicodeDecodeError) else problem
        raise TokenizerError(f"{path}: not a SentencePiece model, or cut off: {reason}; fetch it again") from None
    check_tokens([piece.text for piece in model.pieces], f"{path}, piece ")
    return model


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise TokenizerError(f"{path}: cannot be read ({problem.strerror}); expected a SentencePiece model") from None
    check_not_pointer(content, path, TokenizerError)
    return content


def _parse(content: bytes, path: Path) -> SentencePieceModel:
    pieces, trainer, normalizer = [], b"", b""
    for field in fields(content):
        if field.number == 1:
            pieces.append(_piece(_bytes(field)))
        elif field.number == 2:
            trainer = _bytes(field)
        elif field.number == 3:
            normalizer = _bytes(field)
    unknown = sum(piece.kind == UNKNOWN for piece in pieces)
    if unknown != 1:
        raise ValueError(f"{len(pieces)} pieces, {unknown} of them for the unknown, expected one")
    train, normalize = _last(fields(trainer)), _last(fields(normalizer))
    charsmap = _bytes(normalize[2]) if 2 in normalize else b""
    check_charsmap(charsmap)
    algorithm = _int(train, 3, UNIGRAM)
    if algorithm not in (UNIGRAM, BPE):
        name = _ALGORITHMS.get(algorithm, str(algorithm))
        raise TokenizerError(f"{path}: a SentencePiece model of type {name}; expected UNIGRAM or BPE")
    for field_of, number, default, expected in ((train, 24, 0, 0), (normalize, 5, 1, 1)):
        if _int(field_of, number, default) != expected:
            setting = "treat_whitespace_as_suffix" if number == 24 else "escape_whitespaces=false"
            raise TokenizerError(f"{path}: made with {setting}, which is not supported")
    return SentencePieceModel(
        pieces=pieces,
        algorithm=algorithm,
        byte_fallback=bool(_int(train, 35, 0)),
        bos_id=_int(train, 41, 1),
        eos_id=_int(train, 42, 2),
        pad_id=_int(train, 43, -1),
        normalization=_bytes(normalize[1]).decode() if 1 in normalize else "",
        charsmap=charsmap,
        add_dummy_prefix=bool(_int(normalize, 3, 1)),
        remove_extra_whitespaces=bool(_int(normalize, 4, 1)),
    )


def _piece(message: bytes) -> Piece:
    found = _last(fields(message))
    score = 0.0
    if 2 in found:
        if found[2].wire_type != FIXED32:
            raise ValueError("a score that is not a float")
        score = struct.unpack("<f", found[2].value)[0]  # type: ignore[arg-type]
    return Piece(_bytes(found[1]).decode() if 1 in found else "", score, _int(found, 3, NORMAL))


def _last(found: Iterable[Field]) -> dict[int, Field]:
    return {field.number: field for field in found}


def _bytes(field: Field) -> bytes:
    if field.wire_type != BYTES or not isinstance(field.value, bytes):
        raise ValueError(f"field {field.number} is not a string or message")
    return field.value


def _int(found: dict[int, Field], number: int, default: int) -> int:
    if number not in found:
        return default
    field = found[number]
    if field.wire_type != VARINT or not isinstance(field.value, int):
        raise ValueError(f"field {number} is not a number")
    return field.value - (1 << 64) if field.value >= 1 << 63 else field.value  # negative numbers in two's complement
