"""Whole lines of what grows: files, FIFOs and standard input, taken as they come and without waiting for them.

A file is known by the bytes before the place that was reached. Where they are other ones, or are gone, the file was
truncated or is another one, and it is read from its start. One that another took the place of is read to its end first.
"""

from __future__ import annotations

import hashlib
import io
import os
import select
import stat
import sys
from collections.abc import Iterator

import numpy as np

from ledger_cli.core.chunks import LineChunk
from ledger_cli.core.history import Reached
from ledger_cli.errors import SourceError, UsageError
from ledger_cli.ports import Tail, Taken
from ledger_cli.sources.common.names import STDIN, compression_of, is_url
from ledger_cli.sources.common.raw import refuse
from ledger_cli.sources.common.text import VALUE_BYTES_LIMIT, text_of

BLOCK_BYTES = 1 << 20
TAKEN_BYTES = 64 << 20
"""No more are taken at a time, so that memory stays bounded."""
PIPE_BYTES = 1 << 16
MARK_BYTES = 1024
_CLAIM = "JSON Lines"


def tail_of(name: str, reached: Reached | None) -> Tail:
    """What follows `name`. `reached`: how far it was read already, if the file is still the same.

    UsageError for what cannot grow, NotFound or SourceError where it cannot be read.
    """
    if name == STDIN:
        return PipeTail(name)
    if is_url(name) or compression_of(name) is not None or os.path.isdir(name):
        raise UsageError(f"{name} is not a file that grows line by line: `ledger ingest` reads it as it is now")
    try:
        return PipeTail(name) if stat.S_ISFIFO(os.stat(name).st_mode) else FileTail(name, reached)
    except OSError as error:
        refuse(name, error)


class TakenSource:
    """Lines that were taken, as a source of an ingest. See `ports.Source`."""

    envelope = "none"

    def __init__(self, name: str, taken: Taken) -> None:
        self.name = name
        self._taken = taken

    def chunks(self) -> Iterator[LineChunk]:
        chunk = LineChunk(self._taken.first_line)
        chunk.add_lines(self._taken.block)
        yield chunk

    def digest(self) -> str:
        """Of what was taken alone: a file that grows has none."""
        return hashlib.sha256(self._taken.block).hexdigest()

    @property
    def position(self) -> tuple[int, int | None]:
        return len(self._taken.block), len(self._taken.block)


class FileTail:
    """A file. See `ports.Tail`."""

    ended = False

    def __init__(self, name: str, reached: Reached | None) -> None:
        self.name = name
        self.notes: list[str] = []
        self._file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self._bytes = self._lines = 0
        self._last = b""
        self._replaced = self._stopped = False
        if reached is not None and reached.bytes:
            self._go_on(reached)

    def take(self, rows: int) -> Taken | None:
        if self._stopped:
            return None
        if os.fstat(self._file).st_size < self._bytes or self._before(self._bytes, len(self._last)) != self._last:
            self._note("was truncated or written anew")
            self._begin()
        block = self._whole_lines(rows)
        if not block:
            return self._rest_of_replaced()
        first, begun = self._lines + 1, self._bytes > 0
        self._bytes += len(block)
        self._lines += block.count(b"\n")
        self._last = (self._last + block[-MARK_BYTES:])[-MARK_BYTES:]
        reached = Reached(self._bytes, self._lines, _mark(self._last))
        return Taken(block if begun else text_of(block, self.name, _CLAIM), first, reached)

    def stop(self) -> None:
        # What is in a file is there another time too.
        self._stopped = True

    def close(self) -> None:
        os.close(self._file)

    def _go_on(self, reached: Reached) -> None:
        last = self._before(reached.bytes, MARK_BYTES)
        if _mark(last) != reached.mark:
            self._note("is not the file that was followed before")
            return
        self._bytes, self._lines, self._last = reached.bytes, reached.lines, last

    def _before(self, end: int, size: int) -> bytes:
        """The bytes before a place, fewer where the file has no more."""
        begin = max(0, end - size)
        return os.pread(self._file, end - begin, begin)

    def _begin(self) -> None:
        self._bytes = self._lines = 0
        self._last = b""

    def _note(self, what: str) -> None:
        self.notes.append(f"{self.name} {what}: it is read from its start, and what is known is skipped")

    def _whole_lines(self, rows: int) -> bytes:
        held, cut, lines = bytearray(), 0, 0
        while lines < rows and len(held) < TAKEN_BYTES:
            try:
                piece = os.pread(self._file, BLOCK_BYTES, self._bytes + len(held))
            except OSError as error:
                refuse(self.name, error)
            if not piece:
                break
            begin = len(held)
            held += piece
            upto, found = _cut(piece, rows - lines)
            if found:
                cut, lines = begin + upto, lines + found
            elif not lines and len(held) > VALUE_BYTES_LIMIT:
                raise SourceError(f"{self.name}: is not {_CLAIM}: line {self._lines + 1} is too long. Check the file.")
        return bytes(held[:cut])

    def _rest_of_replaced(self) -> Taken | None:
        """Go on with the file that has the name now, where that is another one; the last line of the old one.

        Only where it was seen before: whoever writes may finish a line after the file was moved away.
        """
        try:
            other = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            refuse(self.name, error)
        if os.path.sameopenfile(other, self._file) or not self._replaced:
            self._replaced = not os.path.sameopenfile(other, self._file)
            os.close(other)
            return None
        rest, line = os.pread(self._file, VALUE_BYTES_LIMIT, self._bytes), self._lines + 1
        os.close(self._file)
        self._file, self._replaced = other, False
        self._note("was replaced by another file")
        self._begin()
        return Taken(rest + b"\n", line, Reached(0, 0, _mark(b""))) if rest.strip() else None


class PipeTail:
    """A FIFO or standard input, which give their bytes once. See `ports.Tail`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []
        self.ended = False
        self._held = b""
        self._lines = 0
        self._stopped = False
        self._file = -1
        if name != STDIN:
            # Who writes may come later, and go, and others come.
            self._file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            return
        try:
            self._file = sys.stdin.fileno()
        except (io.UnsupportedOperation, AttributeError):
            self._held = sys.stdin.buffer.read() if sys.stdin is not None else b""
            self._end()

    def take(self, rows: int) -> Taken | None:
        if not self._stopped:
            self._read(rows)
        cut, lines = _cut(self._held, rows)
        if not lines:
            return None
        block, self._held = self._held[:cut], self._held[cut:]
        first, self._lines = self._lines + 1, self._lines + lines
        return Taken(block if first > 1 else text_of(block, self.name, _CLAIM), first, None)

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        if self._file > 0 and self.name != STDIN:
            os.close(self._file)

    def _read(self, rows: int) -> None:
        """What is there already, as far as it is wanted."""
        pieces, lines, size = [self._held], self._held.count(b"\n"), len(self._held)
        while lines < rows and size < TAKEN_BYTES and not self.ended and select.select([self._file], [], [], 0)[0]:
            try:
                piece = os.read(self._file, PIPE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                refuse(self.name, error)
            pieces.append(piece)
            lines += piece.count(b"\n")
            size += len(piece)
            if not piece:
                self._held = b"".join(pieces)
                self._end()
                return
        self._held = b"".join(pieces)

    def _end(self) -> None:
        """Whoever wrote has gone: what is begun is the last line. Others may come to a FIFO."""
        self.ended = self.name == STDIN
        if self._held and not self._held.endswith(b"\n"):
            self._held += b"\n"


def _cut(piece: bytes, rows: int) -> tuple[int, int]:
    """Behind which byte at most so many whole lines end, and how many they are."""
    if piece.count(b"\n") <= rows:
        return piece.rfind(b"\n") + 1, piece.count(b"\n")
    ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n"))
    return int(ends[rows - 1]) + 1, rows


def _mark(last: bytes) -> str:
    return hashlib.sha256(last).hexdigest()
