"""Arrow tables as files and streams: CSV, Parquet and JSON. A file is there whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ledger_cli.errors import LedgerError, NotFound, UsageError
from ledger_cli.render.common.words import json_value

Sink = str | os.PathLike[str] | IO[bytes]
_ROWS = 10_000
_SAFE = 2**53
"""Up to here every reader of JSON and CSV gets the integer that was written."""


def write_table(table: pa.Table, sink: Sink, format: str) -> None:
    """Write a table to a path or a binary stream, as `csv`, `json` (a list of rows) or `parquet`."""
    writer = WRITERS.get(format)
    if writer is None:
        raise UsageError(f"{format!r} is no format: use one of {', '.join(WRITERS)}")
    if hasattr(sink, "write"):
        # A file-like object of Python's own: Arrow would close the one that it is given.
        held = io.BytesIO()
        writer(table, held)
        sink.write(held.getbuffer())
        return
    with whole_file(sink) as path, open(path, "wb") as file:
        writer(table, file)


def write_csv(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table to a path."""
    with open(path, "wb") as file:
        _csv(table, file)


def write_parquet(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table to a path."""
    with open(path, "wb") as file:
        _parquet(table, file)


def write_stdout(table: pa.Table, format: str) -> None:
    """Write a table to stdout, where nobody may be reading any more."""
    try:
        write_table(table, sys.stdout.buffer, format)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_directory(path: str | os.PathLike[str]) -> None:
    """NotFound where a file could not be made, before any work is done for it."""
    parent = Path(path).absolute().parent
    if not parent.is_dir():
        raise NotFound(f"there is no directory {parent}: make it, or give another path to --out")
    if Path(path).is_dir():
        raise UsageError(f"{path} is a directory: give the path of a file to --out")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end. LedgerError where that cannot be."""
    target = Path(path)
    check_directory(target)
    if not target.exists() or target.is_file():
        draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    else:
        draft = target  # a device or a pipe
    try:
        yield draft
        if draft != target:
            os.replace(draft, target)
    except OSError as error:
        raise LedgerError(f"{target} cannot be written ({error.strerror or error}): give another path") from error
    finally:
        if draft != target:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _csv(table: pa.Table, file: IO[bytes]) -> None:
    pa_csv.write_csv(_flat(table), file)


def _parquet(table: pa.Table, file: IO[bytes]) -> None:
    pq.write_table(table, file, compression="zstd")


def _whole_numbers(table: pa.Table) -> pa.Table:
    """Sums of integers are decimals in Arrow: integers again, where all of a column can be one anywhere."""
    for place, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            values = table[place].to_pylist()
            if all(value is None or abs(value) <= _SAFE for value in values):
                made = pa.array([None if value is None else int(value) for value in values], pa.int64())
                table = table.set_column(place, field.name, made)
    return table


def _json(table: pa.Table, file: IO[bytes]) -> None:
    """A list, one row a line, so that it can be read by people and by line tools."""
    file.write(b"[")
    separator = b"\n"
    for batch in _whole_numbers(table).to_batches(_ROWS):
        for row in batch.to_pylist():
            file.write(separator + orjson.dumps(row, json_value, orjson.OPT_NON_STR_KEYS))
            separator = b",\n"
    file.write(b"\n]\n" if table.num_rows else b"]\n")


def _flat(table: pa.Table) -> pa.Table:
    """Nested values as JSON text: a CSV has no other way."""
    table = _whole_numbers(table)
    for place, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else _text(value) for value in table[place].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_decimal(field.type) or pa.types.is_interval(field.type):
            texts = [None if value is None else str(value) for value in table[place].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table


def _text(value: object) -> str:
    return orjson.dumps(value, json_value, orjson.OPT_NON_STR_KEYS).decode()


WRITERS: dict[str, Callable[[pa.Table, IO[bytes]], None]] = {"csv": _csv, "json": _json, "parquet": _parquet}
