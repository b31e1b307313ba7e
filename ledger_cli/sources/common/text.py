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
_CONTROL_PERCENT, _CONTROL_FEW = 2, 4
"""Up to either, control characters (NUL too) are those of a broken row or two, which are refused alone."""
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
    if begin.startswith(_UTF_16_OR_32) or _looks_like_utf_16(begin):
        raise SourceError(f"{name}: is not in UTF-8, but in UTF-16 or UTF-32: convert it first.")
    if _is_binary(begin, magic):
        what = "a binary file" if magic is None else magic
        hint = f"use --format {_READABLE[magic]}" if magic in _READABLE else "check the file"
        raise SourceError(f"{name}: is not {claim}, but {what}: {hint}.")
    return head.removeprefix(BOM)


def _is_binary(begin: bytes, magic: str | None) -> bool:
    if magic is not None and b"\0" in begin:  # a header may well begin with PARENT
        return True
    controls = _controls(begin)
    return controls > (_CONTROL_FEW if magic is None else 0) and controls * 100 > _CONTROL_PERCENT * len(begin)


def _looks_like_utf_16(begin: bytes) -> bool:
    """ASCII text in UTF-16 without its mark: every other byte is zero, and no other."""
    pairs = begin[: len(begin) // 2 * 2]
    for zeros, letters in ((pairs[::2], pairs[1::2]), (pairs[1::2], pairs[::2])):
        if len(zeros) > 1 and not any(zeros) and not _controls(letters):
            return True
    return False


def _controls(text: bytes) -> int:
    return len(text) - len(text.translate(None, _CONTROL))
