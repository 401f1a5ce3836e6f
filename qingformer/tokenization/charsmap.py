"""The compiled normalisation table of a SentencePiece model: whether every step of a search in it stays inside."""


def check_charsmap(charsmap: bytes) -> None:
    """Raise ValueError for a damaged table, which the Rust library would only notice in the middle of a text.

    The size of a double array in bytes, the array of 32-bit units, then the replacements, each ended by a zero byte. Of
    a unit bit 31 says that it is a value, bit 8 that a value follows, and bits 10-30, shifted by 8 if bit 9 is set, are
    the offset (xor) to its children, of which there may be one for each byte.
    """
    if not charsmap:
        return
    import numpy as np  # only here: most tokenizers need no arrays

    size = int.from_bytes(charsmap[:4], "little")
    if size % 4 or not 0 < size <= len(charsmap) - 4:
        raise ValueError(f"a normalisation table of {len(charsmap)} bytes that claims {size}")
    replacements = charsmap[4 + size :]
    replacements.decode()
    units = np.frombuffer(charsmap[4 : 4 + size], "<u4").astype(np.int64)
    children = np.arange(len(units)) ^ ((units >> 10) << ((units & 512) >> 6))
    inner = units >> 31 == 0
    if np.any((children | 255)[inner] >= len(units)):
        raise ValueError("a normalisation table that leads outside itself")
    values = units[children[inner & (units >> 8 & 1 == 1)]] & 0x7FFFFFFF
    ends = np.frombuffer(b"\0" + replacements, np.uint8)  # ends[k] is what stands before the replacement at k
    if np.any(values >= len(replacements)) or np.any(ends[values] != 0):
        raise ValueError("a normalisation table whose replacements are not where it says")
