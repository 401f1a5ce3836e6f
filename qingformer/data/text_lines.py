"""Lines of a text file, decoded one by one: plain or compressed, from disk or from standard input."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path as _Path
from typing import Any, BinaryIO, TypeVar

from qingformer.errors import DataError

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_MARKS = {  # the longer ones first
    b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
_BINARY = {
    b"PK\x03\x04": "a zip archive, such as a workbook of Excel; save the sheet as CSV (UTF-8), or unpack the archive",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel; save the sheet as CSV (UTF-8)",
    b"PAR1\x15": "a Parquet table; write it as CSV or JSONL: pandas.read_parquet(...).to_csv(..., index=False)",
    b"\x1f\x8b": "compressed; add .gz to its name, or unpack it",
    b"\xfd7zXZ\0": "compressed; add .xz to its name, or unpack it",
    b"BZh91AY&SY": "compressed; add .bz2 to its name, or unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
}
_WIDE = ("utf16", "utf32")
_STANDARD_INPUT = "-"

Path = str | os.PathLike[str]
T = TypeVar("T")


def bare_suffix(path: Path) -> str:
    """The suffix that tells the format, without that of the compression: ".jsonl" for "train.jsonl.gz".

    >>> bare_suffix("train.JSONL.gz")
    '.jsonl'
    """
    name = _Path(path)
    return _Path(name.stem if name.suffix.lower() in _OPENERS else name.name).suffix.lower()


def check_file(path: Path) -> None:
    """Raise `DataError` unless `path` is a file that can be opened (or "-", standard input)."""
    if str(path) == _STANDARD_INPUT:
        return
    if str(path) == "":
        raise DataError("the path of the data is empty; name a file")
    if not _Path(path).exists():
        raise DataError(f"{path}: no such file; check the path (it is looked for from {_Path.cwd()})")
    if _Path(path).is_dir():
        raise DataError(f"{path}: is a folder; name the data file in it")


@contextmanager
def open_lines(path: Path, encoding: str = "utf-8") -> Iterator[Iterator[tuple[int, str]]]:
    """Yield an iterator of `(line number from 1, text with its line end)`; only one line is in memory at a time.

    A byte-order mark is dropped. Raises `DataError` naming file and line for a missing, damaged or truncated file and
    for bytes that are not of the encoding.
    """
    check_file(path)
    try:
        wide = codecs.lookup(encoding).name.replace("-", "").startswith(_WIDE)
    except LookupError:
        raise DataError(f"encoding={encoding!r}: no such encoding; try utf-8, gb18030, big5 or utf-16") from None
    try:
        with _binary(path) as stream:
            yield _wide_lines(stream, path, encoding) if wide else _lines(stream, path, encoding)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from None


def _binary(path: Path) -> AbstractContextManager[BinaryIO]:
    if str(path) == _STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    stream: BinaryIO = _OPENERS.get(_Path(path).suffix.lower(), open)(path, "rb")
    return stream


def _undamaged(lines: Iterable[T], path: Path) -> Iterator[T]:
    """The `lines`; what a damaged compressed file raises becomes one error."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):  # noqa: B007
            yield line
    except EOFError:
        raise DataError(
            f"{path}, after line {number}: the compressed file ends too early; copy or download it again"
        ) from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, OSError) as problem:
        raise DataError(
            f"{path}, after line {number}: damaged, or not compressed as its suffix says ({problem}); "
            "copy it again or correct the suffix"
        ) from None


def _lines(stream: BinaryIO, path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_undamaged(stream, path), 1):
        if number == 1:
            _check_first(path, line)
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError as problem:
            raise _wrong_byte(path, number, problem, encoding) from None


def _check_first(path: Path, line: bytes) -> None:
    """Refuse what is no text of an encoding with line ends of one byte, by its first line."""
    for mark, name in _MARKS.items():
        if line.startswith(mark):
            raise DataError(
                f'{path}, line 1: begins with a {name.upper()} mark; pass encoding="{name}" or save it as UTF-8'
            )
    for magic, what in _BINARY.items():
        if line.startswith(magic):
            raise DataError(f"{path}: is {what}")
    if line.count(b"\0") > len(line) // 4 > 0:
        raise DataError(
            f"{path}, line 1: every other byte is zero, as in UTF-16; pass its encoding, such as utf-16-le, or save it "
            "as UTF-8"
        )
    if b"\r" in line.rstrip(b"\r\n") and not line.endswith(b"\n"):
        raise DataError(
            f"{path}, line 1: its lines end in carriage returns (\\r) alone; save it with those of Unix or Windows"
        )


def _wrong_byte(path: Path, line: int, problem: UnicodeDecodeError, encoding: str) -> DataError:
    other = "gb18030" if encoding.lower().replace("-", "") == "utf8" else "utf-8"
    byte = problem.object[problem.start]
    return DataError(
        f"{path}, line {line}, byte {problem.start + 1}: 0x{byte:02x} is not {encoding}; if the whole "
        f'file is in another encoding pass it (encoding="{other}"), if only this line is, correct it'
    )


def _wide_lines(stream: BinaryIO, path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Lines of an encoding whose line end is more than one byte."""
    text, number = io.TextIOWrapper(stream, encoding, newline="\n"), 0
    try:
        for number, line in enumerate(_undamaged(text, path), 1):
            yield number, line.removeprefix("\ufeff")
    except UnicodeError:
        raise DataError(f"{path}, after line {number}: not {encoding}; pass the encoding the file is in") from None
    finally:
        text.detach()
