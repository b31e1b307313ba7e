"""Rows with one key: which is kept, which are equal to it, which contradict it (DESIGN, invariant 5).

Two tables hold the work: `rivals`, every row of a key that stands twice, and `dropped`, the rows to be left out
of their drafts. Both may be larger than memory; Python only spells a row canonically, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import Refused
from ledger_cli.core.events import TICKS
from ledger_cli.core.tick_json import Tick
from ledger_cli.engines.common.duck import quoted

TICK = ", ".join(f'"{name}"' for name in TICKS.names)
_CONTENT = 'x, y, activity, jitter, meta, "timestamp"'
_SOURCE = r"regexp_extract(file, 'draft-(\d+)-[^/]*$', 1)::INTEGER"
_BATCH_ROWS = 20_000
_SPELLED = pa.schema([("file", pa.string()), ("row", pa.int64()), ("line", pa.int64()), ("text", pa.string())])


class RefusedRows:
    """Refused rows with the index of their source, in the order of source and line; kept in a file."""

    def __init__(self, path: Path, reason: str) -> None:
        self._path = path
        self._reason = reason

    def __iter__(self) -> Iterator[tuple[int, Refused]]:
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for source, line, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield source, Refused(line, text, self._reason)


class Rivals:
    """The rows of `rivals` judged, over one connection. The names of files in `directory` are made with `number`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, directory: Path, number: int) -> None:
        self._connection = connection
        self._spelled = directory / f"spelled-{number}.parquet"
        self._refused = directory / f"left-out-{number}.parquet"

    def clear(self) -> None:
        """Nothing is dropped yet."""
        self._run("CREATE OR REPLACE TEMP TABLE dropped (file VARCHAR, row BIGINT)")

    def drop_equal(self) -> int:
        """Where all rows of a key are alike to the letter, keep the stored or first one; how many were left out."""
        self._run(f"""CREATE OR REPLACE TEMP TABLE alike AS
            SELECT tick_id, entity_id, min((file, row)) AS kept FROM rivals GROUP BY tick_id, entity_id
            HAVING count(DISTINCT ({_CONTENT})) = 1""")
        self._run("""INSERT INTO dropped SELECT file, row FROM rivals JOIN alike USING (tick_id, entity_id)
            WHERE file <> '' AND (file, row) <> kept""")
        ((dropped,),) = self._rows("SELECT count(*) FROM dropped")
        self._run("DELETE FROM rivals WHERE (tick_id, entity_id) IN (SELECT (tick_id, entity_id) FROM alike)")
        return int(dropped)

    def settle(self) -> tuple[int, RefusedRows]:
        """Judge what is left: the number of rows equal to the kept but in writing, and the contradicting ones.

        What is stored stays. Else the first by (timestamp, null last; canonical JSON text) is kept.
        """
        self._spell(f"SELECT {TICK}, file, row, line FROM rivals")
        self._run(f"""CREATE OR REPLACE TEMP TABLE judged AS
            SELECT file, row, line, text, text = kept AS equal
            FROM (SELECT *, first_value(text) OVER each_key AS kept, row_number() OVER each_key AS place
                  FROM rivals JOIN read_parquet({quoted(str(self._spelled))}) AS spelled USING (file, row, line)
                  WINDOW each_key AS (PARTITION BY tick_id, entity_id
                                      ORDER BY file <> '', "timestamp" NULLS LAST, text, file, row))
            WHERE place > 1 AND file <> ''""")
        self._run("INSERT INTO dropped SELECT file, row FROM judged")
        ((equal,),) = self._rows("SELECT count(*) FROM judged WHERE equal")
        return int(equal), self._left_out("FROM judged WHERE NOT equal", "key_conflict")

    def refuse(self, rows: str, reason: str) -> RefusedRows:
        """Drop the rows that a query gives (a tick's columns, file, row, line), all for one reason."""
        self._spell(rows)
        spelled = f"FROM read_parquet({quoted(str(self._spelled))})"
        self._run(f"INSERT INTO dropped SELECT file, row {spelled}")
        return self._left_out(spelled, reason)

    def _spell(self, rows: str) -> None:
        """Write the canonical text of rows, out of core."""
        reader = self._connection.sql(rows).to_arrow_reader(_BATCH_ROWS)
        with pq.ParquetWriter(self._spelled, _SPELLED, compression="zstd") as writer:
            for batch in reader:
                *tick, file, row, line = batch.columns
                texts = [Tick(*each).canonical() for each in zip(*(column.to_pylist() for column in tick), strict=True)]
                arrays = [file, row, line, pa.array(texts, pa.string())]
                columns = [array.cast(field.type) for array, field in zip(arrays, _SPELLED, strict=True)]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_SPELLED))

    def _left_out(self, rows: str, reason: str) -> RefusedRows:
        self._run(f"""COPY (SELECT {_SOURCE} AS source, line, text {rows} ORDER BY source, line)
            TO {quoted(str(self._refused))} (FORMAT parquet, COMPRESSION zstd)""")
        return RefusedRows(self._refused, reason)

    def _run(self, sql: str) -> None:
        self._connection.execute(sql).fetchall()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.sql(sql).fetchall()
