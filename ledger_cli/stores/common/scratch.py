"""Local directories for unfinished files, which outlive no process, and the errors of a disk."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger_cli.errors import NotWritten

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""What a full or failing disk says, to whoever writes into the scratch directory."""
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def scratch_in(parent: Path) -> Iterator[Path]:
    """A directory in `parent`, gone afterwards. One that nobody holds the lock of was left by a killed process."""
    with disk_errors(), alone_in(parent):
        _sweep(parent)
        mine = parent / uuid.uuid4().hex
        mine.mkdir()
        held = _locked(mine / "lock")
        held.__enter__()
    try:
        with disk_errors(_NO_ROOM):
            yield mine
    except NotWritten as error:
        # Which of the unfinished files it was says nothing, and is told otherwise each time.
        raise NotWritten(
            re.sub(re.escape(str(mine)) + "[^:]*", lambda _: str(parent), error.what), error.remedy
        ) from error
    finally:
        shutil.rmtree(mine, ignore_errors=True)
        held.__exit__(None, None, None)


@contextmanager
def alone_in(parent: Path) -> Iterator[None]:
    """While no other process is here, which it must be for a moment only."""
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(parent / "lock"):
        yield


@contextmanager
def disk_errors(only: frozenset[int] | None = None) -> Iterator[None]:
    """The operating system's errors in the ledger's words; `only` those with a number of these."""
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise NotWritten(what, "make it writable" if error.errno in _NOT_ALLOWED else "free space") from error


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock that ends with the process. BlockingIOError where it is taken and `wait` is false."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    for left in parent.iterdir():
        if left.is_dir():
            # Its owner may be removing it at this moment.
            with suppress(BlockingIOError, FileNotFoundError), _locked(left / "lock", wait=False):
                shutil.rmtree(left, ignore_errors=True)
