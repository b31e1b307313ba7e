"""Is this text at all? Asked of a source's beginning, before any of it is taken for rows."""

from __future__ import annotations

from ledger_cli.errors import SourceError
from ledger_cli.sources.common.names import magic_of

BOM = b"\xef\xbb\xbf"
BLOCK_BYTES = 2 << 20
SHORTEST_HEAD = 4
"""A first block has at least these bytes, where there are any: one with a mark has more than the mark."""
VALUE_BYTES_LIMIT = 1 << 30
"""A single value longer than this is taken for a file of another kind, not read into memory."""

_LOOKED_AT = 8192
_UTF_16_OR_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_CONTROL = bytes(byte for byte in range(32) if byte not in b"\t\n\v\f\r\b\x1b")
_CONTROL_PERCENT = 2
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}
_READABLE = {"Parquet": "parquet", "Arrow": "arrow"}


def text_of(head: bytes, name: str, claim: str) -> bytes:
    """`head`, the first bytes of a source, without a byte order mark.

    SourceError where they are not text in UTF-8 or a superset of ASCII; `claim` is what the source should be.
    """
    begin = head[:_LOOKED_AT]
    magic = magic_of(begin)
    if magic in _SUFFIXES:
        raise SourceError(f"{name}: is {magic}-compressed: give it a name that ends in {_SUFFIXES[magic]}.")
    if magic is not None:
        hint = f": use --format {_READABLE[magic]}" if magic in _READABLE else ""
        raise SourceError(f"{name}: is not {claim}, but {magic}{hint}.")
    if begin.startswith(_UTF_16_OR_32) or _looks_like_utf_16(begin):
        raise SourceError(f"{name}: is not in UTF-8, but in UTF-16 or UTF-32: convert it first.")
    control = len(begin) - len(begin.translate(None, _CONTROL))
    if b"\0" in begin or control * 100 > _CONTROL_PERCENT * len(begin):
        raise SourceError(f"{name}: is not {claim}, but a binary file. Check the file, or give its --format.")
    return head.removeprefix(BOM)


def _looks_like_utf_16(begin: bytes) -> bool:
    """ASCII text in UTF-16 without its mark: every other byte is zero, and no other."""
    pairs = begin[: len(begin) // 2 * 2]
    even, odd = pairs[::2].count(0), pairs[1::2].count(0)
    return len(pairs) > 2 and len(pairs) // 2 in (even, odd) and 0 in (even, odd)
