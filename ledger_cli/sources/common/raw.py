"""Opens what a name stands for, as stored: a local file, standard input, or anything fsspec can read.

Each way to fail becomes one line that says what to do.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from ledger_cli.errors import LedgerError, MissingExtra, NotFound, SourceError, UsageError
from ledger_cli.sources.common.names import STDIN, is_url

_EXTRA_OF = {"s3": ("s3", "s3fs"), "s3a": ("s3", "s3fs"), "http": ("http", "aiohttp"), "https": ("http", "aiohttp")}


@dataclass
class RawInput:
    """An open input: its file, its size where known, and whether it can be opened again from the start."""

    file: IO[bytes] | Any
    size: int | None
    again: bool
    path: Path | None = None
    """Where it lies on this machine, if it is a file."""
    file_system: Any = None
    """What it was opened by: an archive is closed with the last who holds it."""


def open_raw(name: str) -> RawInput:
    """Open `name`. NotFound, UsageError, MissingExtra or SourceError say why it cannot be."""
    if name == STDIN:
        # Unbuffered: a thread that waits in a buffered read would hold a lock the interpreter wants at exit.
        return RawInput(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), None, False)
    return _open_remote(name) if is_url(name) else _open_local(name)


def refuse(name: str, error: Exception) -> NoReturn:
    """Raise what the user is told about a failure of the operating system or of a file system's driver."""
    if isinstance(error, LedgerError):
        raise error
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        # fsspec calls a web server that does not answer a missing file.
        error = cause
    if isinstance(error, FileNotFoundError):
        raise NotFound(f"{name}: no such file. Check the path.") from error
    if isinstance(error, PermissionError):
        raise SourceError(f"{name}: not allowed to read it. Check its permissions.") from error
    if isinstance(error, IsADirectoryError):
        raise SourceError(f"{name}: is a directory, where a file is needed.") from error
    text = " ".join(str(error).split()) or type(error).__name__
    raise SourceError(f"{name}: cannot be read: {text}") from error


def _open_local(name: str) -> RawInput:
    path = Path(name)
    try:
        file = path.open("rb", buffering=0)
        status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        refuse(name, error)
    if stat.S_ISDIR(status.st_mode):
        file.close()
        refuse(name, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name))
    regular = stat.S_ISREG(status.st_mode)
    return RawInput(file, status.st_size if regular else None, regular, path if regular else None)


def file_system_of(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it."""
    import fsspec

    protocol = url.split("://", 1)[0]
    try:
        return fsspec.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as error:
        if protocol in _EXTRA_OF:
            raise MissingExtra(*_EXTRA_OF[protocol]) from error
        raise SourceError(f"{url}: {error}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}. Give a path or a URL that fsspec knows.") from error
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own
        refuse(url, error)


def _open_remote(url: str) -> RawInput:
    file_system, path = file_system_of(url)
    if "local" in getattr(file_system, "protocol", ()):
        return _open_local(path)
    try:
        file = file_system.open(path, "rb")
        return RawInput(file, getattr(file, "size", None), True, file_system=file_system)
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own
        refuse(url, error)
