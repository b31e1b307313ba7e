"""Writes batches of ticks in every format that can be ingested: the inverse of reading.

* Rows stay columns: a batch becomes the text of all its lines in a few Arrow calls; memory stays a batch's.
* Numbers are written with the fewest digits that read back as the same binary64.
* The same batches give the same bytes (gzip without time and name). Where the batches are cut shows only in
  Parquet and Arrow, as row groups.
* A local file is made whole: beside its place first, then moved there; what was there stays until then. On
  other file systems the file is committed at the end, as far as the file system can.
"""

from __future__ import annotations

import gzip
import os
import secrets
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard
from fsspec.implementations.local import LocalFileSystem

from ledger_cli.core.simulation import TickBatch
from ledger_cli.errors import LedgerError, UsageError
from ledger_cli.sources.common.names import FORMATS, check_format

KAFKA_PARTITIONS = 3
STDOUT = "-"

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_ROWS_AT_ONCE = 131_072
_COMPRESSIONS = (".gz", ".zst")
_FIELDS = ("entityId", "tickId", "x", "y", "activity", "jitter", "meta", "timestamp")
_SCHEMA = pa.schema(
    [("entityId", pa.string()), ("tickId", pa.int64())]
    + [(name, pa.float64()) for name in ("x", "y", "activity", "jitter")]
    + [("meta", pa.string()), ("timestamp", pa.timestamp("ms", tz="UTC"))]
)


class _Writer:
    def write(self, batch: TickBatch) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Write what belongs after the last row."""

    def abandon(self) -> None:
        """Let go of what was begun; the sink is still open."""


def write_ticks(
    batches: Iterable[TickBatch],
    target: str | os.PathLike[str],
    format_name: str | None = None,
    *,
    topic: str = "entity.ticks",
) -> int:
    """Write `batches` to `target` and return the number of rows.

    `target` is a path, an fsspec URL, or `-` for standard output; a name that ends in `.gz` or `.zst` is
    compressed. `format_name` is one of `FORMATS`; without it the name decides (`jsonl` on standard output).
    `topic` appears in `kcat` lines. The columns are those of `simulate`, values finite.
    Raises `UsageError` for a format that is unknown or cannot be compressed, `LedgerError` where the target
    cannot be written; what a local file held before is still there then.
    """
    location = os.fspath(target)
    chosen = format_name if format_name is not None else format_of(location)
    if check_format(chosen) in ("parquet", "arrow") and _compression_of(location):
        raise UsageError(f"{chosen} is not compressed as a whole: leave off {_compression_of(location)}.")
    rows = 0
    with _open_sink(location) as sink:
        writer = _make_writer(chosen, sink, topic)
        try:
            for part in _parts(batches):
                _check_finite(part)
                writer.write(part)
                rows += len(part["tick_id"])
            writer.close()
        except BaseException:
            writer.abandon()
            raise
    return rows


def format_of(target: str) -> str:
    """The format that a name stands for, by its suffix before `.gz` or `.zst`; `jsonl` for `-`.

    Raises `UsageError` where the suffix says nothing.
    """
    if target == STDOUT:
        return "jsonl"
    name = target.lower().removesuffix(_compression_of(target))
    for suffix, found in _SUFFIXES.items():
        if name.endswith(suffix):
            return found
    raise UsageError(f"The name {target} does not tell its format: give one of {', '.join(FORMATS)}.")


def _parts(batches: Iterable[TickBatch]) -> Iterator[TickBatch]:
    """Batches that are neither empty nor so long that their text exceeds an Arrow array."""
    for batch in batches:
        for begin in range(0, len(batch["tick_id"]), _ROWS_AT_ONCE):
            yield {name: column[begin : begin + _ROWS_AT_ONCE] for name, column in batch.items()}


def _compression_of(target: str) -> str:
    return next((suffix for suffix in _COMPRESSIONS if target.lower().endswith(suffix)), "")


def _check_finite(batch: TickBatch) -> None:
    for name in ("x", "y", "activity", "jitter"):
        if not np.isfinite(batch[name]).all():
            raise LedgerError(f"A tick's {name} is not finite: JSON has no number for it, give a finite one.")


def _make_writer(format_name: str, sink: IO[bytes], topic: str) -> _Writer:
    if format_name == "parquet":
        return _ArrowWriter(pq.ParquetWriter(sink, _SCHEMA, compression="zstd"))
    if format_name == "arrow":
        return _ArrowWriter(pa.ipc.new_file(sink, _SCHEMA))
    if format_name == "json":
        return _JsonArrayWriter(sink)
    if format_name in ("csv", "tsv"):
        separator = "," if format_name == "csv" else "\t"
        return _LinesWriter(sink, _DelimitedLines(separator), header=separator.join(_FIELDS) + "\n")
    if format_name == "kcat":
        return _LinesWriter(sink, _KcatLines(topic))
    return _LinesWriter(sink, _JsonLines() if format_name == "jsonl" else _ConsoleLines())


class _ArrowWriter(_Writer):
    """Parquet and Arrow IPC: one row group, or record batch, a batch."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer

    def write(self, batch: TickBatch) -> None:
        names = ("entity_id", "tick_id", "x", "y", "activity", "jitter")
        columns = [pa.array(batch[name]) for name in names]
        columns.append(pa.repeat("{}", len(batch["tick_id"])))
        columns.append(pa.array(batch["timestamp"]))
        columns = [column.cast(field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
        self.writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))

    def close(self) -> None:
        self.writer.close()

    def abandon(self) -> None:
        # Else it closes itself when it is collected, and finds its sink gone.
        with suppress(Exception):
            self.writer.close()


class _LinesWriter(_Writer):
    """One line a row."""

    def __init__(self, sink: IO[bytes], lines: Callable[[TickBatch], pa.Array], header: str = "") -> None:
        self.sink, self.lines = sink, lines
        sink.write(header.encode())

    def write(self, batch: TickBatch) -> None:
        self.sink.write(_joined(self.lines(batch), "\n"))


class _JsonArrayWriter(_Writer):
    """One array of all rows, a row a line."""

    def __init__(self, sink: IO[bytes]) -> None:
        self.sink, self.lines = sink, _JsonLines()
        self.before = "["

    def write(self, batch: TickBatch) -> None:
        self.sink.write(f"{self.before}\n".encode())
        self.sink.write(_joined(self.lines(batch), ",\n")[:-2])
        self.before = ","

    def close(self) -> None:
        self.sink.write(b"\n]\n" if self.before == "," else b"[]\n")


class _JsonLines:
    """The JSON text of each row, as in `entity.ticks`."""

    def __init__(self) -> None:
        self.names = _PerEntity(lambda name: orjson.dumps(name).decode())

    def __call__(self, batch: TickBatch) -> pa.Array:
        return _join(
            *('{"entityId":', self.names(batch), ',"tickId":', _numbers(batch["tick_id"])),
            *(',"x":', _numbers(batch["x"]), ',"y":', _numbers(batch["y"])),
            *(',"activity":', _numbers(batch["activity"]), ',"jitter":', _numbers(batch["jitter"])),
            *(',"meta":{},"timestamp":"', _timestamps(batch["timestamp"]), '"}'),
        )


class _DelimitedLines:
    """CSV (RFC 4180 quoting) and its like."""

    def __init__(self, separator: str) -> None:
        self.separator = separator
        self.names = _PerEntity(self._quoted)

    def _quoted(self, name: str) -> str:
        special = name == "" or any(sign in name for sign in (self.separator, '"', "\n", "\r"))
        return '"' + name.replace('"', '""') + '"' if special else name

    def __call__(self, batch: TickBatch) -> pa.Array:
        parts: list[pa.Array | str] = [self.names(batch)]
        for name in ("tick_id", "x", "y", "activity", "jitter"):
            parts += [self.separator, _numbers(batch[name])]
        return _join(*parts, f"{self.separator}{{}}{self.separator}", _timestamps(batch["timestamp"]))


class _KcatLines:
    """What `kcat -C -J` prints for messages whose key is the entity and whose value is the tick."""

    def __init__(self, topic: str) -> None:
        self.head = f'{{"topic":{orjson.dumps(topic).decode()},"partition":'
        self.values, self.places = _JsonLines(), _Places()

    def __call__(self, batch: TickBatch) -> pa.Array:
        partition, offset = self.places(batch)
        escaped = pc.replace_substring(self.values(batch), "\\", "\\\\")
        escaped = pc.replace_substring(escaped, '"', '\\"')
        return _join(
            *(self.head, _numbers(partition), ',"offset":', _numbers(offset)),
            *(',"tstype":"create","ts":', _milliseconds(batch), ',"broker":0,"key":'),
            *(self.values.names(batch), ',"payload":"', escaped, '"}'),
        )


class _ConsoleLines:
    """What `kafka-console-consumer` prints with timestamp, partition, offset, headers and key."""

    def __init__(self) -> None:
        self.values, self.places = _JsonLines(), _Places()
        self.keys = _PerEntity(self._key)

    @staticmethod
    def _key(name: str) -> str:
        if any(sign in name for sign in "\t\r\n"):
            raise LedgerError(f"kafka-console cannot carry the tab or line break in {name!r}: use kcat or jsonl.")
        return name

    def __call__(self, batch: TickBatch) -> pa.Array:
        partition, offset = self.places(batch)
        return _join(
            *("CreateTime:", _milliseconds(batch), "\tPartition:", _numbers(partition)),
            *("\tOffset:", _numbers(offset), "\tNO_HEADERS\t", self.keys(batch), "\t", self.values(batch)),
        )


class _PerEntity:
    """A text for the name of each row's entity, worked out once an entity."""

    def __init__(self, make: Callable[[str], str]) -> None:
        self.make = make
        self.made: dict[str, str] = {}

    def __call__(self, batch: TickBatch) -> pa.Array:
        encoded = pa.array(batch["entity_id"]).dictionary_encode()
        names = encoded.dictionary.to_pylist()
        for name in names:
            if name not in self.made:
                self.made[name] = self.make(name)
        return pa.array([self.made[name] for name in names], pa.string()).take(encoded.indices)


class _Places:
    """Partition and offset of each row: by the CRC-32 of the key, counted up over all batches."""

    def __init__(self) -> None:
        self.partitions = _PerEntity(lambda name: str(zlib.crc32(name.encode()) % KAFKA_PARTITIONS))
        self.ends = [0] * KAFKA_PARTITIONS

    def __call__(self, batch: TickBatch) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        partition = self.partitions(batch).cast(pa.int64()).to_numpy(zero_copy_only=False)
        offset = np.empty_like(partition)
        for number, end in enumerate(self.ends):
            rows = np.flatnonzero(partition == number)
            offset[rows] = np.arange(end, end + rows.size)
            self.ends[number] = end + rows.size
        return partition, offset


def _numbers(values: np.ndarray[Any, Any]) -> pa.Array:
    """JSON texts; orjson writes the shortest digits that read back as the same binary64."""
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return pc.split_pattern(pa.scalar(text[1:-1].decode(), pa.large_string()), ",").values.cast(pa.string())


def _milliseconds(batch: TickBatch) -> pa.Array:
    return _numbers(batch["timestamp"].astype("datetime64[ms]").astype(np.int64))


def _timestamps(values: np.ndarray[Any, Any]) -> pa.Array:
    """RFC 3339 texts in UTC, with three decimals of a second only where they are not zero."""
    moments, places = np.unique(values.astype("datetime64[ms]"), return_inverse=True)
    texts = np.char.add(np.char.replace(np.datetime_as_string(moments, unit="ms"), ".000", ""), "Z")
    return pa.array(texts).take(pa.array(places))


def _join(*parts: pa.Array | str) -> pa.Array:
    """Concatenate row by row."""
    return pc.binary_join_element_wise(*parts, "")


def _joined(lines: pa.Array, separator: str) -> bytes:
    """All lines as one text, `separator` after each."""
    ended = _join(lines, separator)
    begin, end = np.frombuffer(ended.buffers()[1], dtype=np.int32)[[ended.offset, ended.offset + len(ended)]]
    return memoryview(ended.buffers()[2])[int(begin) : int(end)].tobytes()


@contextmanager
def _open_sink(target: str) -> Iterator[IO[bytes]]:
    try:
        with _open_raw(target) as raw, _compressing(raw, _compression_of(target)) as sink:
            yield sink
    except BrokenPipeError:
        raise
    except (OSError, ImportError) as error:
        raise LedgerError(f"Cannot write {target}: {error}. Check the path and its permissions.") from error


@contextmanager
def _compressing(raw: IO[bytes], suffix: str) -> Iterator[IO[bytes]]:
    if suffix == ".gz":
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
            yield packed  # type: ignore[misc]
    elif suffix == ".zst":
        with zstandard.ZstdCompressor(level=3).stream_writer(raw, closefd=False) as packed:
            yield packed
    else:
        yield raw


@contextmanager
def _open_raw(target: str) -> Iterator[IO[bytes]]:
    if target == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif "://" not in target:
        with _open_local(Path(target)) as file:
            yield file
    else:
        with _open_remote(target) as file:
            yield file


@contextmanager
def _open_local(path: Path) -> Iterator[IO[bytes]]:
    if path.exists() and not path.is_file():  # a pipe or a device is written to, not replaced
        with path.open("wb") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _open_remote(url: str) -> Iterator[IO[bytes]]:
    try:
        file_system, path = fsspec.url_to_fs(url, skip_instance_cache=True)
    except ValueError as error:
        raise UsageError(f"Cannot write to {url}: {error}. Give a path or an fsspec URL.") from error
    if isinstance(file_system, LocalFileSystem):
        with _open_local(Path(path)) as file:
            yield file
    else:
        with file_system.transaction, file_system.open(path, "wb") as file:
            yield file
