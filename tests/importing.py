"""Rows through the real importer, and what `parse_tick` says of the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import ColumnChunk, LineChunk
from ledger_cli.core.tick_json import Refusal, parse_tick
from ledger_cli.engines.importer import DuckImporter
from ledger_cli.stores.directory import DirectoryStore

COLUMNS = ("entity_id", "tick_id", "x", "y", "activity", "jitter", "meta", "timestamp")

Row = tuple[Any, ...]
Outcome = tuple[list[tuple[int, Row]], list[tuple[int, str]]]
"""Stored rows and refused ones, each with its line."""


@contextmanager
def importer(threads: int = 1) -> Iterator[tuple[DuckImporter, Path]]:
    """An importer and a directory for its drafts."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        yield DuckImporter(DirectoryStore(directory), threads, "1GB", None), directory


def by_definition(lines: Sequence[bytes]) -> Outcome:
    """What `parse_tick` makes of lines, one by one."""
    stored: list[tuple[int, Row]] = []
    refused: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            tick = parse_tick(line)
        except Refusal as refusal:
            refused.append((number, refusal.reason))
            continue
        if tick is not None:
            stored.append((number, comparable(tick)))
    return stored, refused


def by_importer(
    made: DuckImporter,
    directory: Path,
    chunk: LineChunk | ColumnChunk,
    envelope: str = "none",
) -> Outcome:
    """What the importer makes of a chunk."""
    parsed = made.parse(chunk, envelope, 0, directory)
    draft = parsed.draft.result()
    rows = [] if draft is None else pq.read_table(draft.path).to_pylist()
    stored = sorted((row["line"], comparable(tuple(row[name] for name in COLUMNS))) for row in rows)
    if draft is not None:
        ordered = [(row["tick_id"], row["entity_id"]) for row in rows]
        assert ordered == sorted(ordered, key=lambda key: (key[0], key[1].encode()))
        ticks = [tick for tick, _ in ordered]
        highest = max(row["activity"] for row in rows)
        described = (draft.rows, draft.tick_min, draft.tick_max, draft.activity_max)
        assert described == (len(rows), min(ticks), max(ticks), highest)
        assert draft.repeats == (len(set(ordered)) < len(ordered))
    return stored, sorted((each.line, each.reason) for each in parsed.refused)


def comparable(row: Sequence[Any]) -> Row:
    """A stored row with its meta parsed and typed, so that the spelling of JSON does not matter but 1 is not 1.0."""
    entity_id, tick_id, x, y, activity, jitter, meta, timestamp = row
    parsed = None if meta is None else json.dumps(json.loads(meta), sort_keys=True)
    return (entity_id, tick_id, x, y, activity, repr(jitter), repr(parsed), repr(timestamp))


def chunk_of(lines: Sequence[bytes], blocks: int = 1) -> LineChunk:
    """Lines as a source gives them, in several blocks."""
    chunk = LineChunk(1)
    size = max(1, -(-len(lines) // blocks))
    for begin in range(0, len(lines), size):
        chunk.add_lines(b"".join(line + b"\n" for line in lines[begin : begin + size]))
    return chunk


def columns_of(table: pa.Table, textual: bool = False) -> ColumnChunk:
    """Columns as a source gives them."""
    return ColumnChunk(table, pa.array(range(1, len(table) + 1), pa.int64()), lambda row: f"row {row}", textual)
