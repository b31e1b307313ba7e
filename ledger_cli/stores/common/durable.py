"""Directories that the loss of power leaves: to sync a file does not keep the name that it has."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """Make a directory, and what is above it, and sync each directory that has got a new name in it.

    NotADirectoryError where a file has that name.
    """
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Keep the names that are in a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
