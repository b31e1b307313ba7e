"""From what the user typed to the names of sources: files, globs, directories, URLs, `-`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ledger_cli.config.settings import FILE_NAME, FOLDERS
from ledger_cli.errors import NotFound
from ledger_cli.sources.common.names import DATA_SUFFIXES, STDIN, TEXT_SUFFIXES, data_suffix_of, is_url
from ledger_cli.sources.common.raw import file_system_of, refuse
from ledger_cli.sources.common.streams import ByteStream, open_stream

__all__ = ["ByteStream", "expand", "open_stream"]

_WEB = ("http://", "https://")
"""A web server lists nothing, and `?` is part of its addresses."""


def expand(patterns: Sequence[str], format_name: str | None) -> list[str]:
    """The sources that the patterns name, each once, in the order given; what a pattern finds is sorted.

    A directory stands for the files below it whose names say that they are data (with a `format_name` also
    `.txt` and the like); hidden files, markers such as `_SUCCESS` and what a ledger below it holds are left out, as
    in a glob. NotFound where a pattern finds nothing.
    """
    suffixes = DATA_SUFFIXES + (TEXT_SUFFIXES if format_name is not None else ())
    found: dict[str, str] = {}
    for pattern in patterns:
        for name in _expanded(pattern, suffixes):
            found.setdefault(name if name == STDIN or is_url(name) else os.path.realpath(name), name)
    return list(found.values())


def _expanded(pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    if pattern == STDIN or pattern.startswith(_WEB):
        return [pattern]
    return _expanded_url(pattern, suffixes) if is_url(pattern) else _expanded_path(pattern, suffixes)


def _expanded_path(pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    if os.path.isdir(pattern):
        return _some(_below(pattern, suffixes), pattern, suffixes)
    if os.path.lexists(pattern):
        return [pattern]
    if not glob.has_magic(pattern):
        raise NotFound(f"{pattern}: no such file. Check the path.")
    names: set[str] = set()
    for name in glob.iglob(pattern, recursive=True):
        if os.path.isdir(name):
            # `**` finds the directories on the way too; what is below them it finds itself.
            names.update(() if "**" in pattern else _below(name, suffixes))
        elif not _is_marker(os.path.basename(name)) and not _is_of_ledger(name, pattern):
            names.add(name)
    return _matched(names, pattern)


def _is_of_ledger(name: str, pattern: str) -> bool:
    """Whether a file is one that a ledger keeps, in a folder that the pattern does not name itself."""
    named = Path(pattern).parts
    return any(
        folder.name in FOLDERS and folder.name not in named and (folder.parent / FILE_NAME).is_file()
        for folder in Path(name).parents
    )


def _below(directory: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        left_out = FOLDERS if FILE_NAME in files else ()
        folders[:] = [name for name in folders if not _is_marker(name) and name not in left_out]
        for name in files:
            if _is_data(name, suffixes):
                yield os.path.join(folder, name)


def _expanded_url(pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    file_system, path = file_system_of(pattern)
    try:
        if glob.has_magic(path):
            names = [name for name in file_system.glob(path) if not _is_marker(name.rsplit("/", 1)[-1])]
            files = {_as_url(file_system, name, pattern) for name in names if not file_system.isdir(name)}
            return _matched(files, pattern)
        if not file_system.isdir(path):
            return [pattern]
        below = (name for name in file_system.find(path) if _is_listed(name[len(path) :], suffixes))
        return _some((_as_url(file_system, name, pattern) for name in below), pattern, suffixes)
    except NotFound:
        raise
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own
        refuse(pattern, error)


def _as_url(file_system: Any, path: str, pattern: str) -> str:
    """The URL of a path found, with the rest of the chain the pattern had (`zip://*.csv::s3://…`)."""
    first, chained, rest = pattern.partition("::")
    if chained:
        return f"{first.split('://', 1)[0]}://{path}{chained}{rest}"
    return str(file_system.unstrip_protocol(path))


def _is_listed(path_below: str, suffixes: tuple[str, ...]) -> bool:
    *folders, name = path_below.strip("/").split("/")
    return _is_data(name, suffixes) and not any(map(_is_marker, folders))


def _is_data(name: str, suffixes: tuple[str, ...]) -> bool:
    return not _is_marker(name) and data_suffix_of(name) in suffixes


def _is_marker(name: str) -> bool:
    """Hidden files, and what Hadoop and Spark write beside data."""
    return name.startswith((".", "_"))


def _some(names: Iterable[str], directory: str, suffixes: tuple[str, ...]) -> list[str]:
    found = sorted(names)
    if not found:
        known = ", ".join(suffixes)
        raise NotFound(f"{directory}: no file in it has a name that ends in {known}. Name the files themselves.")
    return found


def _matched(names: Iterable[str], pattern: str) -> list[str]:
    found = sorted(names)
    if not found:
        raise NotFound(f"{pattern}: matches no file. Check the pattern; ** crosses directories.")
    return found
