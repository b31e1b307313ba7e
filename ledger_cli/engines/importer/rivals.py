"""Rows with one key: which is kept, which are equal to it, which contradict it (DESIGN, invariant 5).

The table `rivals` holds every row of the keys that stand twice, a portion of ticks at a time. What is dropped
and what is refused goes to files, so that memory does not grow with them; Python only spells a row canonically.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import Refused
from ledger_cli.core.events import TICKS
from ledger_cli.core.tick_json import Tick
from ledger_cli.engines.common.duck import quoted, sql_list

TICK = ", ".join(f'"{name}"' for name in TICKS.names)
STORED = -1
"""The place of a row that is stored."""
_ROW_BITS = 40
_BATCH_ROWS = 20_000
_SPELLED = pa.schema(
    [
        *(TICKS.field(name) for name in ("tick_id", "entity_id", "timestamp")),
        *(pa.field(name, pa.int64()) for name in ("source", "line", "place")),
        pa.field("text", pa.string()),
    ]
)
_ALIKE = " AND ".join(
    f"min({name}) IS NOT DISTINCT FROM max({name}) AND count({name}) IN (0, count(*))"
    for name in ("x", "y", "activity", "jitter", "meta", '"timestamp"')
)


def draft_name(source: int, number: int) -> str:
    """The file name of a draft: it tells the source. No two drafts of an importer have one number."""
    return f"draft-{source}-{number:06d}.parquet"


def number_of(draft: Path) -> int:
    """The number of a draft."""
    return int(draft.stem.split("-")[2])


_STANDS = rf"""regexp_extract(filename, 'draft-(\d+)-[^/]*$', 1)::BIGINT AS source, line,
    regexp_extract(filename, 'draft-\d+-(\d+)[^/]*$', 1)::BIGINT << {_ROW_BITS} | file_row_number AS place"""
"""Where a row of a scan of drafts stands: a place is the number of the draft and the row in it."""


def placed_sql(scan: str) -> str:
    """The rows of drafts, and where they stand."""
    return f"SELECT {TICK}, {_STANDS} FROM {scan}"


def stored_sql(scan: str) -> str:
    """Stored rows in the same columns."""
    return f"SELECT {TICK}, 0 AS source, 0 AS line, {STORED} AS place FROM {scan}"


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
    """Judges rows over one connection, portion by portion. The names of files in `directory` are made with `number`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, directory: Path, number: int) -> None:
        self._connection = connection
        self._directory = directory / f"rivals-{number}"
        self._directory.mkdir()
        self._files: dict[str, list[str]] = {"dropped": [], "refused": []}

    def judge(self) -> int:
        """Judge the rows of `rivals`: which are dropped, which of them refused; how many are duplicates."""
        return self._drop_equal() + self._settle()

    def refuse(self, rows: str) -> None:
        """Refuse the rows that a query gives (`placed_sql`)."""
        spelled = self._spell(rows)
        self._keep("dropped", f"SELECT place FROM {spelled}")
        self._keep("refused", f"SELECT source, line, text FROM {spelled}")

    def refused(self, reason: str) -> Iterable[tuple[int, Refused]]:
        """The refused rows of all portions, for one reason, with the index of their source."""
        if not self._files["refused"]:
            return []
        path = self._directory / "all.parquet"
        self._copy(f"SELECT * FROM {self._kept('refused')} ORDER BY source, line", path)
        return RefusedRows(path, reason)

    def dropped(self) -> dict[int, int]:
        """How many rows are dropped, by the number of the draft."""
        rows = f"SELECT place >> {_ROW_BITS}, count(*) FROM {self._kept('dropped')} GROUP BY 1"
        return dict(self._rows(rows))

    def dropped_sql(self, draft: int) -> str:
        """The dropped rows of a draft, by their row numbers."""
        first = draft << _ROW_BITS
        return f"""SELECT place - {first} FROM {self._kept("dropped")}
            WHERE place BETWEEN {first} AND {first + (1 << _ROW_BITS) - 1}"""

    def _drop_equal(self) -> int:
        """Where all rows of a key are alike to the letter, keep the stored or first one; how many were left out."""
        self._run(f"""CREATE OR REPLACE TEMP TABLE alike AS
            SELECT tick_id, entity_id, min(place) AS kept FROM rivals GROUP BY tick_id, entity_id HAVING {_ALIKE}""")
        return self._keep(
            "dropped", "SELECT place FROM rivals JOIN alike USING (tick_id, entity_id) WHERE place > kept"
        )

    def _settle(self) -> int:
        """Judge the other keys; how many rows are equal to the kept one but in writing.

        What is stored stays. Else the first by (timestamp, null last; canonical JSON text) is kept.
        """
        others = "FROM rivals ANTI JOIN alike USING (tick_id, entity_id)"
        if not self._rows(f"SELECT 1 {others} LIMIT 1"):
            return 0
        self._run(f"""CREATE OR REPLACE TEMP TABLE judged AS
            SELECT source, line, place, text, text = kept AS equal
            FROM (SELECT *, first_value(text) OVER each_key AS kept, row_number() OVER each_key AS nth
                  FROM {self._spell(f"SELECT {TICK}, source, line, place {others}")}
                  WINDOW each_key AS (PARTITION BY tick_id, entity_id
                                      ORDER BY place >= 0, "timestamp" NULLS LAST, text, place))
            WHERE nth > 1 AND place >= 0""")
        dropped = self._keep("dropped", "SELECT place FROM judged")
        return dropped - self._keep("refused", "SELECT source, line, text FROM judged WHERE NOT equal")

    def _spell(self, rows: str) -> str:
        """SQL of a scan of rows with their canonical text, `_SPELLED`; they lie in a file."""
        path = self._directory / "spelled.parquet"
        reader = self._connection.sql(rows).to_arrow_reader(_BATCH_ROWS)
        with pq.ParquetWriter(path, _SPELLED, compression="zstd") as writer:
            for batch in reader:
                ticks = zip(*(batch.column(name).to_pylist() for name in TICKS.names), strict=True)
                texts = pa.array([Tick(*each).canonical() for each in ticks], pa.string())
                columns = [*(batch.column(name) for name in _SPELLED.names[:-1]), texts]
                arrays = [array.cast(field.type) for array, field in zip(columns, _SPELLED, strict=True)]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SPELLED))
        return f"read_parquet({quoted(str(path))})"

    def _keep(self, kind: str, rows: str) -> int:
        """Put rows aside; how many they are."""
        path = self._directory / f"{kind}-{len(self._files[kind])}.parquet"
        self._files[kind].append(str(path))
        return self._copy(rows, path)

    def _kept(self, kind: str) -> str:
        # Named one by one: what is above may have letters in its name that mean something in a pattern.
        return f"read_parquet({sql_list(self._files[kind])})"

    def _copy(self, rows: str, path: Path) -> int:
        ((count,),) = self._rows(f"COPY ({rows}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        return int(count)

    def _run(self, sql: str) -> None:
        self._connection.execute(sql).fetchall()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()
