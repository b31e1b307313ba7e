"""The input of the benchmarks: ticks made by DuckDB of hashes, the same on every run."""

from __future__ import annotations

from pathlib import Path

import duckdb

ENTITIES = 10_000
SIDE = 1024
"""Side of the world; a grid of 128 has 64 regions."""


def _ticks(rows: int, first_tick: int = 0, entities: int = ENTITIES, side: int = SIDE) -> str:
    """SQL of `rows` ticks, all entities at each tick, six decimals."""

    first = first_tick * entities

    def part(salt: int, width: float) -> str:
        return f"round((hash(i + {salt * 10**12 + first}) >> 11)::DOUBLE / 9007199254740992 * {width}, 6)"

    return f"""
        SELECT 'E' || (i % {entities}) AS "entityId", {first_tick} + i // {entities} AS "tickId",
               {part(1, side)} AS x, {part(2, side)} AS y, {part(3, 3)} AS activity, {part(4, 0.01)} AS jitter,
               '2026-01-01T' || strftime(TIMESTAMP '2026-01-01' + to_seconds({first_tick} + i // {entities}), '%T')
                   || 'Z' AS "timestamp"
        FROM range({rows}) AS r(i)"""


def parquet(path: Path, rows: int, **shape: int) -> Path:
    """A Parquet file of ticks, sorted by (tickId, entityId) as far as ticks go."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET preserve_insertion_order = true")
        connection.execute(f"COPY ({_ticks(rows, **shape)} ORDER BY i) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
    return path


def json_lines(path: Path, rows: int, dirty: bool = False) -> Path:
    """JSON Lines of ticks; `dirty`: 0.1 % bad rows of six kinds and 1 % with unknown fields."""
    line = """'{"entityId":"' || "entityId" || '","tickId":' || "tickId" || ',"x":' || x || ',"y":' || y
        || ',"activity":' || activity || ',"jitter":' || jitter || ',"meta":{},"timestamp":"' || "timestamp" || '"}'"""
    if dirty:
        line = f"""CASE WHEN i % 1000 = 7 THEN ['{{"entityId":"E1","tickId":5',
                replace({line}, '"x":', '"x":"a","z":'), replace({line}, '"activity":', '"activity":-'),
                replace({line}, '"x":', '"activity":1,"x":'), replace({line}, '"tickId":', '"tickId":1.5,"z":'),
                replace({line}, '"meta":{{}}', '"meta":{{"a":1,"a":2}}')][1 + (i // 1000) % 6]
            WHEN i % 100 = 3 THEN ({line})[:-2] || ',"kind":"wolf","age":' || (i % 77) || '}}' ELSE {line} END"""
    options = "FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'"
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET preserve_insertion_order = true")
        ticks = f"SELECT *, row_number() OVER () - 1 AS i FROM ({_ticks(rows)} ORDER BY i)"
        connection.execute(f"COPY (SELECT {line} FROM ({ticks})) TO '{path}' ({options})")
    return path
