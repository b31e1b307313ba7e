"""Commits as Parquet files of a ledger, one a batch: for stores that are made of files."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.archive import with_entries
from ledger_cli.core.commit import CommitRow, ascend, chained
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.slices import History
from ledger_cli.ports import EVER, Files, Reading, TickRange
from ledger_cli.stores.common.commits import CommitsBase
from ledger_cli.stores.common.rows import (
    ARCHIVED,
    COUNTS,
    HEADERS,
    STORED,
    by_region,
    counted,
    counts_of,
    held,
    missing,
    pieces,
    row_of,
)

if TYPE_CHECKING:
    import duckdb

_ENDLESS = 2**63 - 1
_STATE = "entity_state"
_STATE_FILES = 16
"""More files of entities than this are made one."""
_REWRITTEN = b"created_at"
"""In the footer of a file that was written here, and not published: its name is not the digest of its bytes."""
_REPEATED = [
    "layer",
    "shard",
    "policy",
    "metadata",
    "reason",
    *(f"{e}.list.element.region" for e in ("entries", "kept")),
]
"""Columns in which few values are met again and again; digests never are."""
_ROWS_PER_ROW_GROUP = 100_000
_READ_AT_ONCE = 50_000
_SORTED_AT_ONCE = 2_000_000
"""Commits and entries."""


class FarFiles(Files, Protocol):
    """Files that may lie elsewhere."""

    def reading(self, files: Sequence[str]) -> Reading:
        """See `ports.Store`."""
        ...


class ParquetCommits(CommitsBase):
    """See `ports.Commits`. A batch is a file, which appears whole or not at all."""

    def __init__(self, files: FarFiles) -> None:
        self._files = files

    def close(self) -> None:
        """See `ports.CommitStore`."""
        if "_connection" in vars(self):
            self._connection.close()
            del self._connection

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        if batch.rpartition("/")[2] not in self._files.folders("commits"):
            with self._files.scratch() as scratch:
                self._files.publish(self._written(scratch, STORED, commits), batch)
        else:
            self._files.touch(batch)

    def batches(self) -> dict[str, str]:
        """See `ports.Commits`. Files have the time of the disk."""
        written = self._files.written("commits").items()
        return {f"commits/{name}": each.at for name, each in written if name[0] != "."}

    def rewritten(self, file: str) -> bool:
        """See `ports.Store`."""
        if not file.startswith("commits/"):
            return False
        try:
            return _REWRITTEN in (pq.read_metadata(self._files.location(file)).metadata or {})
        except (OSError, pa.ArrowInvalid):
            return False

    def remove_batch(self, batch: str, before: str = EVER) -> bool:
        """See `ports.Commits`."""
        return self._files.discard(batch, before)

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """See `ports.Commits`."""
        yield STORED.empty_table()
        for table in self._pieces(batch):
            yield table.select(STORED.names).cast(STORED)

    def read_counts(self, batch: str) -> pa.Table:
        """See `ports.Commits`."""
        return counts_of(map(counted, self._pieces(batch)))

    def query_commit(self, history: History, commit_id: str) -> CommitRow | None:
        """See `ports.Commits`."""
        columns = ", ".join(HEADERS.names)
        sql = "SELECT {}, batch FROM files WHERE commit_id = $id"
        try:
            # At once: to look for it takes the time, and a second look as much again.
            return row_of(self._first(history, sql.format(f"{columns}, entries"), commit_id).select(STORED.names))
        except self._refused:
            # Some have no such column: what is archived of them is passed over.
            found = self._first(history, sql.format(columns), commit_id)
        if not found.num_rows:
            return None
        source = self._connection.read_parquet(self._files.location(found["batch"][0].as_py()))
        entries = "entries" if "entries" in source.columns else "kept AS entries"
        row = source.filter(f"commit_id = '{found['commit_id'][0]}'").limit(1)
        return row_of(row.project(f"{columns}, {entries}").to_arrow_table())

    def _first(self, history: History, sql: str, commit_id: str) -> pa.Table:
        """Of what is found by an id the first row that belongs to the history, if there is one."""
        found = self._ask(history, sql, id=commit_id)
        places = zip(*(found[name].to_pylist() for name in ("batch", "shard", "height")), strict=True)
        mine = [at for at, place in enumerate(places) if history.holds(*place)]
        return found.take(pa.array(mine[:1], pa.int64()))

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
        low, high = ticks.start or 0, _ENDLESS if ticks.end is None else ticks.end
        given = {"region": region, "low": low, "high": high}
        try:
            found = self._ask(history, _BY_REGION.format(entries="entries"), **given)
        except self._refused:
            # Some have no such column: what is archived of them is passed over.
            kinds = {batch: "kept" in pq.read_schema(self._files.location(batch)).names for batch in history.batches}
            parts = [
                self._over([batch for batch, kept in kinds.items() if kept == which], query, given)
                for which, query in ((False, _BY_REGION.format(entries="entries")), (True, _BY_REGION_KEPT))
                if which in kinds.values()
            ]
            found = pa.concat_tables(parts)
        return by_region(held(found, history))

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """See `ports.Commits`."""
        everything = self._are_all(batch, commit_ids)
        gone = None if everything else _chunked(commit_ids)
        dropped = 0

        def headers(table: pa.Table) -> pa.Table:
            nonlocal dropped
            table = counted(table)
            before = table["entries"].null_count
            table = _with_entries(table, None if gone is None else pc.is_in(table["commit_id"], gone))
            dropped += table["entries"].null_count - before
            return table

        with self._files.scratch() as scratch:
            tables = map(headers, self._pieces(batch, counts=everything))
            path = self._written(scratch, ARCHIVED, tables)
            if dropped:
                self._files.publish(path, batch)

    def _are_all(self, batch: str, commit_ids: Sequence[str]) -> bool:
        """Whether these are all commits of a batch of which nothing is archived, in the order of its file."""
        with self._open(batch) as file:
            if file.metadata.num_rows != len(commit_ids) or "kept" in file.schema_arrow.names:
                return False
            seen = 0
            for piece in file.iter_batches(columns=["commit_id"]):
                if not pa.chunked_array([piece.column(0)]).equals(_chunked(commit_ids[seen : seen + len(piece)])):
                    return False
                seen += len(piece)
            return True

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        with self._open(batch) as file:
            if "kept" not in file.schema_arrow.names:
                return
        lacking = 0

        def noted(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
            nonlocal lacking
            for table in tables:
                lacking += table["entries"].null_count
                yield table

        with self._files.scratch() as scratch:
            whole = noted(with_entries(self._pieces(batch), map(chained, commits)))
            path = self._written(scratch, STORED, whole)
            if lacking:
                with pq.ParquetFile(path) as file:
                    back = (file.read_row_group(group) for group in range(file.num_row_groups))
                    some = with_entries(self._pieces(batch), back)
                    path = self._written(scratch, ARCHIVED, some)
            self._files.publish(path, batch)

    def upsert_entity_state(self, rows: pa.Table) -> None:
        """See `ports.Commits`. Each call leaves a file; they are merged by reading, whoever wrote them."""
        files = self._state_files()
        self._write_state(rows)
        if len(files) >= _STATE_FILES:
            merged = self.entity_state()
            self._write_state(merged)
            for file in files:
                self._files.remove(file)

    def entity_state(self, entities: Sequence[str] | None = None) -> pa.Table:
        """See `ports.Commits`."""
        files = self._state_files()
        if not files:
            return ENTITY_STATE.empty_table()
        # Of equal ticks the row that came last: files are named by the order in which they came.
        sql = f"""
            SELECT {", ".join(ENTITY_STATE.names)} FROM (
                SELECT *, row_number() OVER (PARTITION BY entity_id
                    ORDER BY last_tick DESC, parse_filename(filename) DESC, file_row_number DESC) AS place
                FROM read_parquet($files, filename := true, file_row_number := true)
                WHERE $chosen IS NULL OR list_contains($chosen, entity_id))
            WHERE place = 1 ORDER BY entity_id"""
        chosen = None if entities is None else list(entities)
        locations = [self._files.location(file) for file in files]
        found = self._connection.sql(sql, params={"files": locations, "chosen": chosen}).to_arrow_table()
        return found.cast(ENTITY_STATE)

    # -- files --------------------------------------------------------------------------------------------

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        return duckdb.connect(config={"threads": 2})

    @cached_property
    def _refused(self) -> tuple[type[Exception], ...]:
        """What DuckDB raises where a column is not there."""
        import duckdb

        return duckdb.BinderException, duckdb.InvalidInputException

    def _ask(self, history: History, sql: str, **values: Any) -> pa.Table:
        """The result of SQL over the rows of a history's batches, with the batch of each."""
        return self._over(history.batches, sql, values) if history.batches else self._empty(sql, values)

    def _over(self, batches: Sequence[str], sql: str, values: dict[str, Any]) -> pa.Table:
        self._files.reading(batches)  # what is elsewhere is brought together
        locations = [self._files.location(batch) for batch in batches]
        files = "SELECT * EXCLUDE (filename), 'commits/' || parse_filename(filename) AS batch"
        source = f"{files} FROM read_parquet($files, filename := true)"
        with_files = f"WITH files AS NOT MATERIALIZED ({source}) {sql}"
        return self._connection.sql(with_files, params={"files": locations, **values}).to_arrow_table()

    def _empty(self, sql: str, values: dict[str, Any]) -> pa.Table:
        nothing = STORED.append(pa.field("batch", pa.string())).empty_table()
        cursor = self._connection.cursor()
        cursor.register("files", nothing)
        return cursor.sql(sql, params=values).to_arrow_table()

    def _open(self, batch: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._files.location(batch), pre_buffer=False)
        except FileNotFoundError as error:
            raise missing(batch) from error

    def _pieces(self, batch: str, counts: bool = False) -> Iterator[pa.Table]:
        """Rows of `STORED` in the order of their chains, with `COUNTS` where entries are archived.

        `counts`: of the entries no more than these are counted from.
        """
        with self._open(batch) as file:
            groups = range(file.num_row_groups)
            names = file.schema_arrow.names
            columns = [*HEADERS.names, *([each.name for each in COUNTS] if "kept" in names else [])]
            columns.append("kept" if "kept" in names else "entries")
            read_of = [*columns[:-1], "entries.list.element.n"] if counts else columns

            def read(chosen: Iterable[int]) -> pa.Table:
                table = file.read_row_groups(list(chosen), read_of)
                return table.rename_columns([*columns[:-1], "entries"])

            if ascend(file.read_row_group(group, ["shard", "height"]) for group in groups):
                rows = max(1, _READ_AT_ONCE * file.metadata.num_rows // max(1, _size(file)))
                for batch in _ahead(file.iter_batches(rows, columns=read_of)):
                    yield pa.Table.from_batches([batch]).rename_columns([*columns[:-1], "entries"])
            elif _size(file) <= _SORTED_AT_ONCE:
                yield chained(read(groups))
            else:
                shards = {shard for group in groups for shard in file.read_row_group(group, ["shard"])[0].to_pylist()}
                for shard in sorted(shards):
                    for group in groups:
                        # Within a shard they were written in order.
                        table = read([group])
                        yield chained(table.filter(pc.equal(table["shard"], shard)))

    @staticmethod
    def _written(scratch: Path, schema: pa.Schema, commits: Iterable[pa.Table]) -> Path:
        """A Parquet file of a batch. `schema`: `STORED` or `ARCHIVED`."""
        schema = schema.with_metadata({_REWRITTEN: b""})
        path = scratch / f"{uuid.uuid4().hex}.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=_REPEATED) as writer:
            for piece in pieces(commits, _ROWS_PER_ROW_GROUP):
                columns = [piece["entries" if field.name == "kept" else field.name] for field in schema]
                writer.write_table(pa.table(columns, schema.names).cast(schema))
        return path

    def _state_files(self) -> list[str]:
        return [f"{_STATE}/{name}" for name in self._files.folders(_STATE) if name.endswith(".parquet")]

    def _write_state(self, rows: pa.Table) -> None:
        from time import time_ns

        with self._files.scratch() as scratch:
            pq.write_table(rows.cast(ENTITY_STATE), scratch / "state.parquet", compression="zstd")
            self._files.publish(scratch / "state.parquet", f"{_STATE}/{time_ns():020d}-{uuid.uuid4().hex}.parquet")


_COLUMNS = "commit_id, batch, shard, height, epoch_start, epoch_end"
_BY_REGION = f"""
    SELECT {_COLUMNS}, unnest(entry, recursive := true) FROM (
        SELECT {_COLUMNS}, unnest(list_filter({{entries}}, lambda each: each.region = $region)) AS entry FROM files
        WHERE epoch_end > $low AND epoch_start < $high)"""
_BY_REGION_KEPT = _BY_REGION.format(entries="kept")


def _chunked(texts: Sequence[str]) -> pa.ChunkedArray:
    given = pa.array(texts, pa.string())
    return given if isinstance(given, pa.ChunkedArray) else pa.chunked_array([given])


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same, each read while the one before it is worked on."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = reader.submit(next, batches, None)
            yield batch


def _size(file: pq.ParquetFile) -> int:
    """Commits and entries of a file."""
    metadata = file.metadata
    leaves = [metadata.row_group(group).column(metadata.num_columns - 1) for group in range(metadata.num_row_groups)]
    return int(metadata.num_rows + sum(leaf.num_values for leaf in leaves))


def _with_entries(table: pa.Table, gone: pa.ChunkedArray | None) -> pa.Table:
    """The table without the entries of some commits; None: of all."""
    place = table.schema.get_field_index("entries")
    kept = table["entries"].combine_chunks()
    none = pa.nulls(len(kept), STORED.field("entries").type)
    chosen = none if gone is None else pc.if_else(gone.combine_chunks(), none, kept)
    return table.set_column(place, STORED.field("entries"), chosen)
