"""See `ports.Importer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ledger_cli.core.chunks import ColumnChunk, LineChunk, Refused, StoredChunk
from ledger_cli.core.events import DRAFT
from ledger_cli.core.history import Segment
from ledger_cli.core.tick_json import Refusal, Tick, merged_meta, parse_tick
from ledger_cli.engines.common.duck import connect, quoted, translated
from ledger_cli.engines.importer.columns import columns_sql, registered, suspect_sql
from ledger_cli.engines.importer.drafts import COPY, DraftTools, draft_of
from ledger_cli.engines.importer.lines import UNWRAP, extra_keys, fast_sql, line_marks_of
from ledger_cli.engines.importer.mapping import Stage
from ledger_cli.engines.importer.rivals import draft_name
from ledger_cli.engines.importer.stored import stored_sql
from ledger_cli.ports import Deduplicated, Draft, Mapping, Parsed, Source, Store

_COLUMNS = ", ".join(f'"{name}"' for name in DRAFT.names)
_BATCH_ROWS = 65_536


class DuckImporter:
    """See `ports.Importer`. Holds one connection; not to be shared by threads."""

    def __init__(self, store: Store, threads: int | None, memory: str, spill: Path | None) -> None:
        self._limits = (threads, memory, spill)
        self._connection = connect(threads, memory, spill)
        self._tools = DraftTools(self._connection, store)
        self._drafts = 0
        self._looking = ThreadPoolExecutor(1, "ledger-drafts")
        self._guarded = self._doubtful = False

    def close(self) -> None:
        """See `ports.Importer`."""
        self._looking.shutdown()
        self._connection.close()

    def parse(self, chunk: LineChunk | ColumnChunk, envelope: str, source: int, directory: Path) -> Parsed:
        """See `ports.Importer`."""
        if isinstance(chunk, StoredChunk):
            draft = self._copied(chunk, source, directory)
            if draft is not None:
                return Parsed(draft, [], chunk.rows)
        with translated([]):
            if isinstance(chunk, LineChunk):
                fixed, refused, read = self._parse_lines(chunk, envelope)
            else:
                fixed, refused, read = self._parse_columns(chunk)
            draft = self._write(fixed, source, directory)
            self._connection.execute("DROP TABLE parsed")
        return Parsed(draft, refused, read)

    def mapped(
        self, source: Source, mapping: Mapping, directory: Path, watch: Callable[[], None]
    ) -> Iterator[ColumnChunk]:
        """See `ports.Importer`."""
        stage = Stage(self._limits, directory)
        with translated([]):
            stage.fill(source, watch)
        return stage.rows(mapping)

    def deduplicate(
        self, drafts: Sequence[Draft], stored: Sequence[Segment], directory: Path, among: bool
    ) -> Deduplicated:
        """See `ports.Importer`."""
        return self._tools.deduplicate(drafts, stored, directory, among)

    def split_above(
        self, drafts: Sequence[Draft], tick: int, directory: Path
    ) -> tuple[list[Draft], Iterable[tuple[int, Refused]]]:
        """See `ports.Importer`."""
        return self._tools.split_above(drafts, tick, directory)

    def widest_gap(self, drafts: Sequence[Draft], known: Sequence[int], limit: int | None) -> tuple[int, int] | None:
        """See `ports.Importer`."""
        with translated([]):
            return self._tools.widest_gap(drafts, known, limit)

    def count_below(self, drafts: Sequence[Draft], tick: int) -> int:
        """See `ports.Importer`."""
        with translated([]):
            return self._tools.count_below(drafts, tick)

    def _parse_lines(self, chunk: LineChunk, envelope: str) -> tuple[pa.Table, list[Refused], int]:
        self._connection.register("chunk", chunk.table())
        lines, wrapped = UNWRAP[envelope], envelope != "none"
        if wrapped:
            self._run(
                f"CREATE OR REPLACE TEMP TABLE unwrapped AS SELECT *, {line_marks_of('raw')} AS marks FROM ({lines})"
            )
            lines = "SELECT * FROM unwrapped"
        self._prove(lines, () if wrapped else extra_keys(chunk))
        doubtful = self._rows("SELECT row FROM parsed WHERE NOT ok ORDER BY row")
        inner: dict[int, tuple[Any, ...]] = {}
        if wrapped:
            wanted = "SELECT row FROM parsed WHERE NOT ok"
            texts = self._rows(f'SELECT row, raw, partition, "offset" FROM unwrapped WHERE row IN ({wanted})')
            inner = {row: tuple(rest) for row, *rest in texts}
        self._connection.unregister("chunk")
        fixed, refused, blank = _examined(chunk, [row for (row,) in doubtful], inner if wrapped else None)
        ((total,),) = self._rows("SELECT count(*) FROM parsed")
        return fixed, refused, total - blank

    def _copied(self, chunk: StoredChunk, source: int, directory: Path) -> Future[Draft | None] | None:
        """The draft of rows that are all good, made where they lie; None where that cannot be proved."""
        sql = None if self._doubtful else stored_sql(chunk)
        if sql is None:
            return None
        path = self._next_path(source, directory)
        try:
            self._run(f"COPY ({sql}) TO {quoted(str(path))} ({COPY})")
        except duckdb.OutOfMemoryException:
            with translated([]):
                raise
        except duckdb.Error:
            # Not to be tried again: where one row is bad, others are.
            self._doubtful = True
            path.unlink(missing_ok=True)
            return None
        return self._looking.submit(draft_of, path, source)

    def _next_path(self, source: int, directory: Path) -> Path:
        self._drafts += 1
        return directory / draft_name(source, self._drafts)

    def _prove(self, lines: str, extras: tuple[str, ...]) -> None:
        """Fill `parsed`. While every line is JSON the guard is not paid for; the first other line brings it in."""
        if not self._guarded:
            try:
                self._run(f"CREATE OR REPLACE TEMP TABLE parsed AS {fast_sql(lines, extras, guarded=False)}")
                return
            except duckdb.InvalidInputException:
                self._guarded = True
        self._run(f"CREATE OR REPLACE TEMP TABLE parsed AS {fast_sql(lines, extras, guarded=True)}")

    def _parse_columns(self, chunk: ColumnChunk) -> tuple[pa.Table, list[Refused], int]:
        table, columns, unfit = registered(chunk)
        self._connection.register(
            "chunk", pa.Table.from_batches(table.to_batches(max_chunksize=_BATCH_ROWS), table.schema)
        )
        self._run(f"""CREATE OR REPLACE TEMP TABLE parsed AS
            SELECT *, {suspect_sql(columns)} AS suspect, reason IS NULL AND NOT suspect AS ok,
                CASE WHEN own_meta IS NULL THEN unknown WHEN unknown IS NULL THEN own_meta
                     ELSE own_meta[:-2] || ',' || unknown[2:] END AS meta
            FROM ({columns_sql(columns, chunk.textual)})""")
        self._connection.unregister("chunk")
        refused = list(chunk.refused)
        read = len(chunk.table) + len(refused)
        bad = self._rows("SELECT row, line, reason FROM parsed WHERE reason IS NOT NULL ORDER BY row")
        refused += [Refused(line, chunk.raw(row), reason) for row, line, reason in bad]
        refused += [Refused(chunk.lines[row].as_py(), chunk.raw(row), reason) for row, reason in unfit]
        fixed, unusable = self._merged(chunk)
        return fixed, refused + unusable, read

    def _merged(self, chunk: ColumnChunk) -> tuple[pa.Table, list[Refused]]:
        """The rows whose meta has to be put together exactly."""
        ticks, lines, refused = [], [], []
        columns = 'row, line, entity_id, tick_id, x, y, activity, jitter, "timestamp", own_meta, unknown'
        for row, line, *values, own, unknown in self._rows(f"SELECT {columns} FROM parsed WHERE suspect ORDER BY row"):
            try:
                entity_id, tick_id, x, y, activity, jitter, timestamp = values
                ticks.append(Tick(entity_id, tick_id, x, y, activity, jitter, merged_meta(own, unknown), timestamp))
                lines.append(line)
            except Refusal as refusal:
                refused.append(Refused(line, chunk.raw(row), refusal.reason))
        return _as_table(ticks, lines), refused

    def _write(self, fixed: pa.Table, source: int, directory: Path) -> Future[Draft | None]:
        """Good rows, proved and examined ones, as one sorted file."""
        path = self._next_path(source, directory)
        rows = f"SELECT {_COLUMNS} FROM parsed WHERE ok"
        if len(fixed):
            self._connection.register("fixed", fixed)
            rows += f" UNION ALL SELECT {_COLUMNS} FROM fixed"
        self._run(f"COPY (SELECT * FROM ({rows}) ORDER BY tick_id, entity_id) TO {quoted(str(path))} ({COPY})")
        if len(fixed):
            self._connection.unregister("fixed")
        return self._looking.submit(draft_of, path, source)

    def _run(self, sql: str) -> None:
        self._connection.execute(sql).fetchall()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.sql(sql).fetchall()


def _examined(
    chunk: LineChunk, rows: list[int], inner: dict[int, tuple[Any, ...]] | None
) -> tuple[pa.Table, list[Refused], int]:
    """The rows that the fast path could not prove, read exactly: ticks, refusals, and the number of blank ones."""
    ticks, lines, refused, blank = [], [], [], 0
    no_text = set(chunk.not_utf8)
    for row in rows:
        text, partition, offset = chunk.raw(row), None, None
        if inner is not None and row not in no_text:
            value, partition, offset = inner[row]
            # A message is a row, also one of nothing: only a line can be blank.
            text = b"\0" if value is None or not value.strip() else value.encode()
        try:
            tick = parse_tick(text)
        except Refusal as refusal:
            raw = chunk.raw(row).decode(errors="replace").rstrip("\r")
            refused.append(Refused(chunk.line(row), raw, refusal.reason, partition, offset))
            continue
        if tick is None:
            blank += 1
        else:
            ticks.append(tick)
            lines.append(chunk.line(row))
    return _as_table(ticks, lines), refused, blank


def _as_table(ticks: list[Tick], lines: list[int]) -> pa.Table:
    columns = list(zip(*ticks, strict=True)) if ticks else [()] * len(Tick._fields)
    arrays = [pa.array(column, field.type) for column, field in zip((*columns, lines), DRAFT, strict=True)]
    return pa.Table.from_arrays(arrays, schema=DRAFT)
