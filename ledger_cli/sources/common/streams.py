"""A source's bytes, unpacked, while those stored are counted and digested.

* SHA-256 is computed in the pass that reads (the hash runs outside the interpreter's lock).
* Memory is bounded also where a few bytes unpack to gigabytes.
* A compressed stream that ends early or is damaged raises; it never looks like a shorter file.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger_cli.errors import LedgerError, SourceError
from ledger_cli.sources.common.names import STDIN, compression_of, is_url, magic_of
from ledger_cli.sources.common.raw import RawInput, open_raw, refuse

HEAD = 1 << 16
"""How much of the beginning `ByteStream.head` looks at."""


class ByteStream:
    """The unpacked bytes of one source, opened when first needed, read once and in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pass: _Pass | None = None
        self._head: bytes | None = None
        self._pushed_back = b""

    def read(self, size: int) -> bytes:
        """The next `size` unpacked bytes; fewer at the end alone, none after it.

        SourceError where the stream is truncated or damaged, and what `open_raw` raises.
        """
        if self._pass is None:
            self._pass = _Pass(self.name)
        before, self._pushed_back = self._pushed_back[:size], self._pushed_back[size:]
        return before + self._pass.read(size - len(before)) if before else self._pass.read(size)

    def head(self) -> bytes:
        """The first bytes, at most `HEAD`, which stay to be read.

        Files and URLs are closed again: many sources may be looked at before the first is read.
        """
        if self._head is None:
            first = _Pass(self.name)
            self._head = first.read(HEAD)
            if first.stored.raw.again:
                first.close()
            else:
                self._pass, self._pushed_back = first, self._head
        return self._head

    def digest(self) -> str:
        """SHA-256 of the bytes as stored, once `read` came to their end."""
        if self._pass is None or not self._pass.ended:
            raise ValueError(f"{self.name} was not read to its end")
        return self._pass.stored.sha256.hexdigest()

    @property
    def position(self) -> tuple[int, int | None]:
        """Stored bytes read, and in all where known."""
        return (0, self._size) if self._pass is None else (self._pass.stored.count, self._pass.stored.raw.size)

    @cached_property
    def _size(self) -> int | None:
        """How many bytes are stored, as far as can be told without opening anything."""
        if self.name == STDIN or is_url(self.name):
            return None
        path = Path(self.name)
        return path.stat().st_size if path.is_file() else None

    def path(self) -> Path | None:
        """Where the bytes lie on this machine just as `read` gives them, if they do."""
        if self.name == STDIN or is_url(self.name) or compression_of(self.name):
            return None
        path = Path(self.name)
        return path if path.is_file() else None

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        if self._pass is not None:
            self._pass.close()


def open_stream(name: str) -> ByteStream:
    """The bytes of `name`: a file, a URL, or `-`; unpacked by suffix, standard input by its first bytes."""
    return ByteStream(name)


class _Pass:
    """One reading of an input from its beginning."""

    def __init__(self, name: str) -> None:
        self.stored = _Stored(name, open_raw(name))
        self.ended = False
        self._name = name
        self._compression = self._compression_here()
        self._source: Any = self.stored
        if self._compression is not None:
            self._source = pa.CompressedInputStream(pa.PythonFile(self.stored, "r"), self._compression)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes where that many are left: a pipe gives less at a time."""
        parts: list[bytes] = []
        while size > 0:
            part = self._read_some(size)
            if not part:
                self.ended = True
                break
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        self.stored.close()

    def _compression_here(self) -> str | None:
        if self._name != STDIN:
            return compression_of(self._name)
        magic = magic_of(self.stored.peek(4))
        return magic if magic in ("gzip", "zstd") else None

    def _read_some(self, size: int) -> bytes:
        try:
            return self._source.read(size)  # type: ignore[no-any-return]
        except LedgerError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise SourceError(self._damage(str(error))) from error

    def _damage(self, text: str) -> str:
        where = f"{self._name}: the {self._compression} stream"
        if "Truncated" in text:
            return f"{where} ends early, after {self.stored.count:,} bytes: fetch the file again."
        if magic_of(self.stored.begin) != self._compression:
            return f"{self._name}: is not {self._compression}-compressed, as its name says: rename it."
        return f"{where} is damaged, within its first {self.stored.count:,} bytes: fetch the file again."


class _Stored:
    """The bytes as stored: counted and digested."""

    closed = False
    """Part of what Arrow asks of a file, as `readable` and `close`."""

    def __init__(self, name: str, raw: RawInput) -> None:
        self.name = name
        self.raw = raw
        self.begin = b""
        self.count = 0
        self.sha256 = hashlib.sha256()
        self._waiting = b""

    def read(self, size: int) -> bytes:
        if self._waiting:
            data, self._waiting = self._waiting[:size], self._waiting[size:]
            return data
        try:
            data = self.raw.file.read(size) or b""
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own
            refuse(self.name, error)
        self.begin = self.begin or data[:8]
        self.sha256.update(data)
        self.count += len(data)
        return bytes(data)

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        held = b""
        while len(held) < size and (more := self.read(size - len(held))):
            held += more
        self._waiting = held
        return held

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if self.name != STDIN:
            self.raw.file.close()
