"""The compiled normalisation table of a SentencePiece model: from strings to their replacements.

The size of a double array in bytes, the array of 32-bit units, then the replacements, each ended by a zero byte. Of a
unit bit 31 says that it is a value, bits 0-7 are the byte that leads to it, bit 8 says that a value follows, and bits
10-30, shifted by 8 if bit 9 is set, are the offset (xor) to its children.
"""

import struct

_CONTROLS = "".join(map(chr, (*range(1, 32), *range(127, 160), 0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF)))


def check_charsmap(charsmap: bytes) -> None:
    """Raise ValueError for a damaged table, which the Rust library would only notice in the middle of a text."""
    if not charsmap:
        return
    import numpy as np  # only here: most tokenizers need no arrays

    # Four bytes of size, a double-array trie of uint32, then the replacements, each with a zero byte behind.
    size = int.from_bytes(charsmap[:4], "little")
    if size % 4 or not 0 < size <= len(charsmap) - 4:
        raise ValueError(f"a normalisation table of {len(charsmap)} bytes that claims {size}")
    replacements = charsmap[4 + size :]
    replacements.decode()
    units = np.frombuffer(charsmap[4 : 4 + size], "<u4").astype(np.int64)
    # The layout of Darts: label in bits 0 to 7, leaf in bit 8, a shift by 8 in bit 9, the offset in the rest.
    children = np.arange(len(units)) ^ ((units >> 10) << ((units & 512) >> 6))
    inner = units >> 31 == 0
    if np.any((children | 255)[inner] >= len(units)):
        raise ValueError("a normalisation table that leads outside itself")
    values = units[children[inner & (units >> 8 & 1 == 1)]] & 0x7FFFFFFF
    # A replacement begins behind the zero byte of the one before: anything else points into the middle of one.
    ends = np.frombuffer(b"\0" + replacements, np.uint8)  # ends[k] is what stands before the replacement at k
    if np.any(values >= len(replacements)) or np.any(ends[values] != 0):
        raise ValueError("a normalisation table whose replacements are not where it says")


def removed_controls(charsmap: bytes) -> str:
    """The control characters that the table takes out."""
    return "".join(char for char in _CONTROLS if replacement(charsmap, char) == "")


def replacement(charsmap: bytes, text: str) -> str | None:
    """What the table has for exactly this text, None if nothing."""
    size = int.from_bytes(charsmap[:4], "little")

    def read(place: int) -> int:
        unit: int = struct.unpack_from("<I", charsmap, 4 + 4 * place)[0]
        return unit

    place, unit = 0, read(0)
    for byte in text.encode():
        place ^= (unit >> 10) << ((unit & 512) >> 6) ^ byte
        unit = read(place)
        if unit & 0x800000FF != byte:
            return None
    if not unit >> 8 & 1:
        return None
    start = 4 + size + (read(place ^ (unit >> 10) << ((unit & 512) >> 6)) & 0x7FFFFFFF)
    return charsmap[start : charsmap.index(b"\0", start)].decode()
