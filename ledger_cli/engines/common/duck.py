"""What every use of DuckDB here shares: the connection, quoting, and the one place that maps its errors."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from ledger_cli.errors import Corrupt, LedgerError, MomentOverflow, NotWritten, UsageError
from ledger_cli.ports import PackPart, Reading, Store

_T = TypeVar("_T")
_MANY_RUNS = 64

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_UNWRITTEN = re.compile(r'file \\?"([^"]+?)\\?": (' + "|".join(map(os.strerror, _NO_ROOM)) + ")")
"""What a full or failing disk says, also where a message quotes the one of the thread that wrote."""


_NO_ENTRIES = re.compile(r'column "(entries|regions|events)" .*not found', re.IGNORECASE)
"""What is said of a batch that was archived, or put back, a moment ago."""


def connect(threads: int | None, memory: str, spill: Path | None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with our limits; nothing is fetched from outside."""
    config: dict[str, Any] = {
        "memory_limit": memory,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    if spill is not None:
        config["temp_directory"] = str(spill)
    try:
        connection = duckdb.connect(config=config)
        # It would be drawn on stdout, into the result of --json, by any query of some seconds.
        connection.execute("SET enable_progress_bar = false")
        return connection
    except duckdb.Error as error:
        raise UsageError(
            f"the setting threads or memory is wrong (LEDGER_THREADS, LEDGER_MEMORY, ledger.toml): {first_line(error)}"
        ) from error


class translated:
    """The one place where DuckDB's errors become the ledger's."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, duckdb.Error):
            return
        line = first_line(error)
        refuse_full_disk(error)
        if isinstance(error, (duckdb.OutOfRangeException, duckdb.ConversionException)) and self._files:
            raise MomentOverflow from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise LedgerError(f"out of memory or temporary space: raise LEDGER_MEMORY or free disk ({line})") from error
        unreadable = isinstance(error, (duckdb.IOException, duckdb.InvalidInputException))
        if self._files and (unreadable or lacks_entries(error)):
            named = [file for file in self._files if file in str(error)] or list(self._files[:1])
            raise Corrupt(f"{named[0]} cannot be read: run `ledger verify` ({line})") from error
        raise LedgerError(line) from error


def lacks_entries(error: duckdb.Error) -> bool:
    """Whether DuckDB failed since a batch was archived, or put back, after it was looked where its entries are."""
    return isinstance(error, duckdb.BinderException) and _NO_ENTRIES.search(first_line(error)) is not None


def refuse_full_disk(error: duckdb.Error) -> None:
    """Raise NotWritten where DuckDB failed since the disk takes no more."""
    found = _UNWRITTEN.search(str(error))
    if found is not None and isinstance(error, duckdb.IOException):
        raise NotWritten(f"{found[1]}: {found[2]}") from error


def source_sql(reading: Reading, place: Callable[[str], str], headers: bool = False) -> str:
    """What stands behind FROM for the rows of files: themselves, and the packs that others are in.

    `place`: what a file is called in SQL. `headers`: of commits no entries are asked for.
    """
    plain = f"read_parquet({sql_list([place(file) for file in reading.plain])})"
    if not reading.packs:
        return plain
    whole = [place(part.file) for part in reading.packs if part.runs is None]
    parts = [(sql_list([place(part.file)]), _members(part)) for part in reading.packs if part.runs is not None]
    # A batch that was archived a moment ago has no entries: it is to fail, and not to be united with others by null.
    whole_rows = "* REPLACE (entries AS entries)" if _are_commits(reading.plain) and not headers else "*"
    found = [f"SELECT {whole_rows} FROM {plain}"] if reading.plain else []
    found += [f"{_FROM_PACKS}({sql_list(whole)})"] if whole else []
    found += [f"{_FROM_PACKS}({pack}) WHERE {members}" for pack, members in parts]
    return f"({' UNION ALL BY NAME '.join(found)})"


def _are_commits(files: Sequence[str]) -> bool:
    return bool(files) and files[0].startswith("commits/")


_FROM_PACKS = "SELECT * EXCLUDE (_file, _name, _bytes) FROM read_parquet"


def _members(part: PackPart) -> str:
    """The condition on the rows of a part of a pack, by which row groups without any are left out."""
    assert part.runs, "of a pack something is read"
    hull = f"_file BETWEEN {part.runs[0][0]} AND {part.runs[-1][1]}"
    if len(part.runs) == 1:
        return hull
    if len(part.runs) <= _MANY_RUNS:
        return " OR ".join(f"_file BETWEEN {first} AND {last}" for first, last in part.runs)
    listed = ", ".join(str(number) for first, last in part.runs for number in range(first, last + 1))
    return f"{hull} AND _file IN ({listed})"


def anew(store: Store, work: Callable[[], _T]) -> _T:
    """The work on files of a ledger, done again where one of them went into a pack meanwhile."""
    while True:
        before = store.packings
        try:
            return work()
        except Corrupt:
            store.look_again()
            if store.packings == before:
                raise


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def ident(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_list(values: Sequence[str]) -> str:
    """An SQL list of string literals."""
    return "[" + ", ".join(quoted(value) for value in values) + "]"


def first_line(error: Exception) -> str:
    """What DuckDB says, in one line."""
    return re.sub(r"^[A-Za-z ]*Error: ", "", str(error).strip().split("\n")[0])
