"""Refused rows on their way into quarantine: kept on disk, given their source's own text, stored once.

Quarantine is keyed by (SHA-256 of the source, line), so that a second try adds nothing. Of a file that is followed the
source is the block that was taken: read from its start again in other blocks, what is refused may be there once more.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import ColumnChunk, LineChunk, Refused
from ledger_cli.core.history import QuarantineFile
from ledger_cli.core.tick_json import Refusal, parse_tick
from ledger_cli.errors import Corrupt
from ledger_cli.ports import Source
from ledger_cli.services.repository import Branch, Repository

QUARANTINE = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("partition", pa.int64()),
        pa.field("offset", pa.int64()),
        pa.field("raw", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

_BATCH_ROWS = 20_000
_PARTITION, _OFFSET = re.compile(rb"(?:^|\t)Partition:(\d+)\t"), re.compile(rb"(?:^|\t)Offset:(\d+)\t")

Lines = npt.NDArray[np.int64]


class Refusals:
    """Refused rows of the sources of a command, in files of a directory of their own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.counts: Counter[str] = Counter()
        """Rows by reason."""
        self._directory = directory
        self._parts: dict[int, list[Path]] = {}

    def add(self, source: int, refused: Iterable[Refused]) -> None:
        """Put rows of a source aside."""
        rows = iter(refused)
        while batch := list(islice(rows, _BATCH_ROWS)):
            parts = self._parts.setdefault(source, [])
            parts.append(self._directory / f"{source}-{len(parts)}.parquet")
            columns = [[getattr(row, name) for row in batch] for name in QUARANTINE.names]
            pq.write_table(pa.table(columns, schema=QUARANTINE), parts[-1], compression="zstd")
            self.counts.update(row.reason for row in batch)

    def sources(self) -> set[int]:
        """The sources that have refused rows."""
        return set(self._parts)

    def tables(self, source: int) -> Iterator[pa.Table]:
        """The rows of a source as `QUARANTINE`, bounded pieces."""
        for path in self._parts.get(source, ()):
            yield pq.read_table(path)


def by_source(refused: Iterable[tuple[int, Refused]]) -> Iterator[tuple[int, Iterator[Refused]]]:
    """Rows in the order of their sources, source by source."""
    for source, rows in groupby(refused, key=lambda each: each[0]):
        yield source, (row for _, row in rows)


def quarantine_files(
    repository: Repository, before: Branch, sources: Sequence[Source], refusals: Sequence[Refusals], scratch: Path
) -> list[QuarantineFile]:
    """Publish the refused rows that are not in quarantine yet."""
    files: list[QuarantineFile] = []
    stored: dict[str, list[Lines]] = {}
    for index in sorted(set().union(*(each.sources() for each in refusals))):
        digest = sources[index].digest()
        if digest not in stored:
            stored[digest] = _known_lines(repository, before, digest)
        path = scratch / "quarantine.parquet"
        tables = (table for each in refusals for table in each.tables(index))
        added = _write_unknown(tables, np.concatenate([np.empty(0, np.int64), *stored[digest]]), path)
        if len(added):
            published = repository.store.publish(path, "quarantine/{sha256}.parquet")
            name = sources[index].name
            files.append(QuarantineFile(**vars(published), rows=len(added), source=name, source_sha256=digest))
            stored[digest].append(added)
        path.unlink(missing_ok=True)
    return files


def with_own_text(source: Source, refused: Iterable[Refused]) -> Iterator[Refused]:
    """Rows of a source, ascending by line, each with the text (partition, offset) that it has there.

    A row whose line is not found, or does not hold the same event any more, stays as it is.
    """
    rows = iter(refused)
    row = next(rows, None)
    if row is None:
        return
    with closing(cast(Any, source.chunks())) as chunks:
        for chunk in chunks:
            lines = _lines_of(chunk)
            while len(lines) and row is not None and row.line <= lines[-1]:
                yield _own_text(chunk, lines, source.envelope, row)
                row = next(rows, None)
            if row is None:
                return
    yield row
    yield from rows


def _lines_of(chunk: LineChunk | ColumnChunk) -> Lines:
    lines = chunk.lines if isinstance(chunk, ColumnChunk) else chunk.table()["line"]
    return cast(Lines, lines.to_numpy())


def _own_text(chunk: LineChunk | ColumnChunk, lines: Lines, envelope: str, refused: Refused) -> Refused:
    row = int(np.searchsorted(lines, refused.line))
    if lines[row] != refused.line:
        return refused
    if isinstance(chunk, ColumnChunk):
        return replace(refused, raw=chunk.raw(row))
    alone = row + 1 == len(lines) or lines[row + 1] != refused.line
    while row < len(lines) and lines[row] == refused.line:
        raw = chunk.raw(row)
        value, partition, offset = _unwrapped(raw, envelope)
        if _holds(value, refused.raw, alone):
            return replace(refused, raw=raw.decode(errors="replace"), partition=partition, offset=offset)
        row += 1
    return refused


def _holds(value: bytes, canonical: str, alone: bool) -> bool:
    """Whether a text is that of an event; if it stands alone on its line, the same key is enough."""
    try:
        tick = parse_tick(value)
    except Refusal:
        return False
    if tick is None or not alone:
        return tick is not None and tick.canonical() == canonical
    event = json.loads(canonical)
    return (tick.entity_id, tick.tick_id) == (event["entityId"], event["tickId"])


def _unwrapped(raw: bytes, envelope: str) -> tuple[bytes, int | None, int | None]:
    """The event in a line that is known to hold one, its partition and offset."""
    if envelope == "kcat":
        message = json.loads(raw)
        payload = message["payload"]
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return text.encode(), message.get("partition"), message.get("offset")
    if envelope == "kafka-console":
        partition, offset = (
            None if found is None else int(found[1]) for found in (_PARTITION.search(raw), _OFFSET.search(raw))
        )
        return raw[raw.rfind(b"\t") + 1 :], partition, offset
    return raw, None, None


def _write_unknown(tables: Iterable[pa.Table], known: Lines, path: Path) -> Lines:
    """Write the rows whose line is not known yet; their lines."""
    added = [np.empty(0, np.int64)]
    with pq.ParquetWriter(path, QUARANTINE, compression="zstd") as writer:
        for table in tables:
            lines = table["line"].to_numpy()
            fresh = ~np.isin(lines, known)
            if fresh.any():
                writer.write_table(table.filter(pa.array(fresh)))
                added.append(lines[fresh])
    return np.concatenate(added)


def quarantined(repository: Repository, branch: Branch, texts: set[str]) -> set[str]:
    """Those of some raw texts that the branch's quarantine holds."""
    files = [file.file for file in branch.quarantine()]
    if not texts or not files:
        return set()
    wanted = pa.table({"raw": pa.array(sorted(texts), pa.string())})
    sql = "SELECT raw FROM files SEMI JOIN wanted USING (raw)"
    return set(repository.engine.over(files, sql, wanted=wanted)["raw"].to_pylist())


def _known_lines(repository: Repository, before: Branch, digest: str) -> list[Lines]:
    known = []
    for file in before.quarantine():
        if file.source_sha256 == digest:
            data = pa.BufferReader(repository.store.read_file(file.file))
            try:
                known.append(pq.read_table(data, columns=["line"])["line"].to_numpy())
            except (pa.ArrowException, OSError, KeyError) as error:
                raise Corrupt(f"{file.file} cannot be read: run `ledger verify`") from error
    return known
