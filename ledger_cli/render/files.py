"""Arrow tables as files and streams: CSV, Parquet and JSON. A file is there whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ledger_cli.errors import LedgerError, NotFound, UsageError
from ledger_cli.render.common.values import column_values, in_nanoseconds, microseconds, rows_of
from ledger_cli.render.common.words import json_value

Sink = str | os.PathLike[str] | IO[bytes]
Batches = Iterable[pa.RecordBatch]
_ROWS = 10_000
_SAFE = 2**53
"""Up to here every reader of JSON and CSV gets the integer that was written."""

_KEPT_IN_MEMORY = 16_000_000
"""Bytes of an answer that are kept, until it is known what its columns hold, before they go to a file."""


def write_table(table: pa.Table, sink: Sink, format: str) -> None:
    """Write a table to a path or a binary stream (see `write_batches`)."""
    write_batches(table.schema, table.to_batches(), sink, format)


def write_batches(schema: pa.Schema, batches: Batches, sink: Sink, format: str) -> int:
    """Write rows to a path or a binary stream, as `csv`, `json` (a list of rows) or `parquet`; how many it were."""
    writer = WRITERS.get(format)
    if writer is None:
        raise UsageError(f"{format!r} is no format: use one of {', '.join(WRITERS)}")
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            yield batch

    if hasattr(sink, "write"):
        writer(schema, counted(), cast(IO[bytes], sink))
    else:
        with whole_file(sink) as path, open(path, "wb") as file:
            writer(schema, counted(), file)
    return rows


def first_rows(batches: Batches, most: int | None) -> Iterator[pa.RecordBatch]:
    """The batches as far as `most` rows; nothing more is asked for."""
    left = most
    for batch in batches if left is None or left else ():
        yield batch if left is None else batch.slice(0, left)
        if left is not None and (left := left - batch.num_rows) <= 0:
            return


def write_csv(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table to a path."""
    with open(path, "wb") as file:
        _csv(table.schema, table.to_batches(), file)


def write_parquet(path: str | os.PathLike[str], table: pa.Table) -> None:
    """Write a table to a path."""
    with open(path, "wb") as file:
        _parquet(table.schema, table.to_batches(), file)


def write_stdout(schema: pa.Schema, batches: Batches, format: str) -> None:
    """Write rows to stdout, where nobody may be reading any more."""
    try:
        write_batches(schema, batches, sys.stdout.buffer, format)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout, where nobody may be reading any more."""
    try:
        sys.stdout.buffer.write(data)
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


def _csv(schema: pa.Schema, batches: Batches, file: IO[bytes]) -> None:
    head = True
    with _whole_numbers(schema, batches) as (columns, decided):
        for batch in decided:
            _csv_part(_flat(columns, batch), file, head)
            head = False
        if head:
            _csv_part(_flat(columns, pa.RecordBatch.from_pylist([], columns)), file, head)


def _csv_part(batch: pa.RecordBatch, file: IO[bytes], head: bool) -> None:
    # Arrow would close a file-like object of Python's own.
    made = pa.BufferOutputStream()
    pa_csv.write_csv(batch, made, pa_csv.WriteOptions(include_header=head))
    file.write(made.getvalue())


class _Open(io.RawIOBase):
    """A file that Arrow writes to and does not close."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)


def _parquet(schema: pa.Schema, batches: Batches, file: IO[bytes]) -> None:
    for field in schema:
        if pa.types.is_interval(field.type) or pa.types.is_union(field.type):
            raise UsageError(f"Parquet has no column like {field.name} ({field.type}): cast it to VARCHAR")
    with pq.ParquetWriter(_Open(file), schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


@contextlib.contextmanager
def _whole_numbers(
    schema: pa.Schema, batches: Batches, *, texts: bool = False
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Sums of integers are decimals in Arrow: integers again, where all of a column can be one anywhere.

    With `texts`, other integers are texts where one of a column cannot. To know that, all rows are looked at before
    the first is written; they wait in a file, if they are many.
    """
    looked = [place for place, field in enumerate(schema) if _is_whole(field.type) or (texts and _is_wide(field.type))]
    if not looked:
        yield schema, iter(batches)
        return
    whole = looked
    with tempfile.SpooledTemporaryFile(_KEPT_IN_MEMORY) as kept:
        with pa.ipc.new_stream(_Open(cast(IO[bytes], kept)), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                whole = [place for place in whole if _all_safe(batch[place])]
        kept.seek(0)
        for place in looked:
            if place in whole:
                schema = schema.set(place, schema.field(place).with_type(pa.int64()))
            elif not _is_whole(schema.field(place).type):
                schema = schema.set(place, schema.field(place).with_type(pa.string()))
        with pa.ipc.open_stream(kept) as reader:
            yield schema, (batch.cast(schema) for batch in reader)


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind)) and kind.scale == 0


def _is_wide(kind: pa.DataType) -> bool:
    return bool(pa.types.is_int64(kind) or pa.types.is_uint64(kind))


def _all_safe(column: pa.Array) -> bool:
    bounds = pc.min_max(column).as_py()
    return bounds["max"] is None or max(abs(bounds["min"]), abs(bounds["max"])) <= _SAFE


def _json(schema: pa.Schema, batches: Batches, file: IO[bytes]) -> None:
    """A list, one row a line, so that it can be read by people and by line tools."""
    names, separator = schema.names, b"[\n"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"JSON holds one value a name, and several columns are called {', '.join(twice)}: name them apart with AS, "
            "or use --format csv"
        )
    with _whole_numbers(schema, batches, texts=True) as (_, decided):
        for batch in decided:
            for start in range(0, batch.num_rows, _ROWS):
                lines = []
                for row in rows_of(batch.slice(start, _ROWS)):
                    lines += [separator, _dumped(dict(zip(names, row, strict=True)))]
                    separator = b",\n"
                file.write(b"".join(lines))
    file.write(b"[]\n" if separator == b"[\n" else b"\n]\n")


def _flat(schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Nested values as JSON text, and others that a CSV has no way for as their text."""
    columns = [_flat_column(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _flat_column(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_nested(kind):
        return _texts(column, lambda value: _dumped(value).decode())
    if pa.types.is_decimal(kind) or pa.types.is_interval(kind):
        return _texts(column, str)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _texts(column, json_value)
    if pa.types.is_temporal(kind):
        try:
            (column.cast(microseconds(kind)) if in_nanoseconds(kind) else column).to_pylist()
        except (OverflowError, ValueError):
            return _texts(column, str)
    return column


def _texts(column: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    values = column_values(column)
    return pa.array([None if value is None else text(value) for value in values], pa.string())


def _dumped(value: Any) -> bytes:
    return orjson.dumps(value, json_value, orjson.OPT_NON_STR_KEYS)


WRITERS: dict[str, Callable[[pa.Schema, Batches, IO[bytes]], None]] = {"csv": _csv, "json": _json, "parquet": _parquet}
