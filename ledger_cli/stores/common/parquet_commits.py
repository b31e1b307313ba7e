"""Commits as Parquet files of a ledger, one a batch: for stores that are made of files."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.core.slices import History
from ledger_cli.ports import Files, Reading, TickRange
from ledger_cli.stores.common.rows import STORED, by_region, held, in_order, missing, pieces, tile_of, with_entries

if TYPE_CHECKING:
    import duckdb

_ENDLESS = 2**63 - 1
_STATE = "entity_state"
_STATE_FILES = 16
"""More files of entities than this are made one."""
_CREATED = b"created_at"


class ListedFiles(Files, Protocol):
    """Files of which is known when they were written."""

    def reading(self, files: Sequence[str]) -> Reading:
        """See `ports.Store`."""
        ...

    def written(self, folder: str) -> dict[str, str]:
        """The files directly in a folder, with the time of each, RFC 3339 UTC."""
        ...


class ParquetCommits:
    """See `ports.Commits`. A batch is a file, which appears whole or not at all."""

    def __init__(self, files: ListedFiles) -> None:
        self._files = files

    def persist_commits(self, batch: str, created_at: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        if batch.rpartition("/")[2] not in self._files.folders("commits"):
            self._write(batch, created_at, commits)

    def batches(self) -> dict[str, str]:
        """See `ports.Commits`."""
        times = {f"commits/{name}": time for name, time in self._files.written("commits").items() if name[0] != "."}
        return {batch: self._created_at(batch) or time for batch, time in times.items()}

    def rewritten(self, file: str) -> bool:
        """See `ports.Store`."""
        return file.startswith("commits/") and self._created_at(file) is not None

    def remove_batch(self, batch: str) -> None:
        """See `ports.Commits`."""
        self._files.remove(batch)

    def read_commits(self, batch: str) -> Iterator[pa.Table]:
        """See `ports.Commits`."""
        with self._open(batch) as file:
            yield in_order(STORED.empty_table())
            for group in range(file.num_row_groups):
                yield in_order(file.read_row_group(group))

    def query_commit(self, history: History, commit_id: str) -> pa.Table:
        """See `ports.Commits`."""
        found = self._ask(history, "SELECT * FROM files WHERE commit_id = $id", id=commit_id)
        return in_order(held(found, history).slice(0, 1))

    def query_commits_by_region(self, history: History, region: str, ticks: TickRange) -> pa.Table:
        """See `ports.Commits`."""
        columns = "commit_id, batch, shard, height, epoch_start, epoch_end"
        sql = f"""
            SELECT {columns}, unnest(entry, recursive := true) FROM (
                SELECT {columns}, unnest(list_filter(entries, lambda each: each.region = $region)) AS entry FROM files
                WHERE epoch_end > $low AND epoch_start < $high)"""
        low, high = ticks.start or 0, _ENDLESS if ticks.end is None else ticks.end
        return by_region(held(self._ask(history, sql, region=region, low=low, high=high), history))

    def read_projection_tile(self, history: History, region: str) -> pa.Table:
        """See `ports.Commits`."""
        return tile_of(region, self.query_commits_by_region(history, region, TickRange()))

    def archive_commits(self, batch: str, commit_ids: Sequence[str]) -> None:
        """See `ports.Commits`."""
        gone = pa.array(commit_ids, pa.string())

        def headers(table: pa.Table) -> pa.Table:
            return with_entries(table, pc.is_in(table["commit_id"], gone), None)

        self._rewrite(batch, headers)

    def restore_commits(self, batch: str, commits: Iterable[pa.Table]) -> None:
        """See `ports.Commits`."""
        for piece in commits:
            entries, ids = piece["entries"].combine_chunks(), piece["commit_id"].combine_chunks()

            def whole(table: pa.Table, entries: pa.Array = entries, ids: pa.Array = ids) -> pa.Table:
                back = entries.take(pc.index_in(table["commit_id"], ids).combine_chunks())
                return with_entries(table, pc.is_null(table["entries"]), back)

            self._rewrite(batch, whole)

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

    def _ask(self, history: History, sql: str, **values: Any) -> pa.Table:
        """The result of SQL over the rows of a history's batches, with the batch of each."""
        if not history.batches:
            return self._empty(sql, values)
        self._files.reading(history.batches)  # what is elsewhere is brought together
        locations = [self._files.location(batch) for batch in history.batches]
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
            return pq.ParquetFile(self._files.location(batch))
        except FileNotFoundError as error:
            raise missing(batch) from error

    def _created_at(self, batch: str) -> str | None:
        """What only a batch has that was written here, and not published as a file."""
        try:
            metadata = pq.read_metadata(self._files.location(batch)).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return None
        return metadata[_CREATED].decode() if _CREATED in metadata else None

    def _write(self, batch: str, created_at: str | None, commits: Iterable[pa.Table]) -> None:
        schema = STORED if created_at is None else STORED.with_metadata({_CREATED: created_at.encode()})
        with self._files.scratch() as scratch:
            path = scratch / "commits.parquet"
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for piece in pieces(commits):
                    writer.write_table(piece.cast(schema))
            self._files.publish(path, batch)

    def _rewrite(self, batch: str, change: Callable[[pa.Table], pa.Table]) -> None:
        self._write(batch, self._created_at(batch), map(change, self.read_commits(batch)))

    def _state_files(self) -> list[str]:
        return [f"{_STATE}/{name}" for name in self._files.folders(_STATE) if name.endswith(".parquet")]

    def _write_state(self, rows: pa.Table) -> None:
        from time import time_ns

        with self._files.scratch() as scratch:
            pq.write_table(rows.cast(ENTITY_STATE), scratch / "state.parquet", compression="zstd")
            self._files.publish(scratch / "state.parquet", f"{_STATE}/{time_ns():020d}-{uuid.uuid4().hex}.parquet")
