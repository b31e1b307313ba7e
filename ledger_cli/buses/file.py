"""A bus that is a file: JSON Lines, appended. A reader that takes whole lines alone reads what was published."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ledger_cli.errors import Unavailable, UsageError
from ledger_cli.ports import BusEvent

_BLOCK = 1 << 16
_BEGIN = b'{"ledger":'
"""How every line begins."""
LOCK_SECONDS = 5.0
"""So long another may hold the file."""
_PAUSE_SECONDS = 0.01


class FileBus:
    """A file on this machine; several processes may append to it at once. See `ports.Bus`."""

    def __init__(self, url: str) -> None:
        """`url`: a path, or `file://` and one. It is opened anew for each batch, so that it may be moved away."""
        self.name = url
        self._path = Path(url.removeprefix("file://"))

    def publish(self, events: Sequence[BusEvent]) -> None:
        """Append them. Where that fails they are taken back.

        Killed within, the first ones may be there as whole lines, and come twice. A line that was only begun is taken
        away with the next batch.
        """
        lines = b"".join([each.value + b"\n" for each in events])
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UsageError(
                f"{self._path} cannot be written ({error.strerror}): let `bus` name a file in a directory that is there"
            ) from error
        try:
            self._lock(file)
            size = self._mended(file)
            try:
                self._append(file, lines)
                os.fsync(file)
                if not size:
                    self._make_known()
            except OSError:
                os.ftruncate(file, size)
                raise
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
        finally:
            os.close(file)

    def _lock(self, file: int) -> None:
        """It is held until the file is closed, also by a process that is killed. Unavailable where others keep it."""
        patience = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= patience:
                    raise Unavailable(
                        f"{self._path} is locked by another process: find it with fuser, or let `bus` name another file"
                    ) from error
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def _mended(self, file: int) -> int:
        """Take away the beginning of a line that a killed process has left; the bytes that there are then.

        Its events were not acknowledged: they come again.
        """
        size = end = os.fstat(file).st_size
        tail = b""
        while end > 0 and b"\n" not in tail:
            begin = max(0, end - _BLOCK)
            tail = os.pread(file, end - begin, begin) + tail
            end = begin
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return size
        if not _BEGIN.startswith(torn[: len(_BEGIN)]):
            raise UsageError(f"{self._path} ends with a line that is no event: let `bus` name a file of its own")
        os.ftruncate(file, size - len(torn))
        return size - len(torn)

    @staticmethod
    def _append(file: int, lines: bytes) -> None:
        left = memoryview(lines)
        while left:
            left = left[os.write(file, left) :]

    def _make_known(self) -> None:
        """A new file lasts once its directory is on the disk too."""
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
