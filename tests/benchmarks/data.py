"""The input of the benchmarks, the same on every run: ticks made by DuckDB of hashes, world events of a seed."""

from __future__ import annotations

import hmac
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson

from ledger_cli.core.world import PROTOCOL, signed_text

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


WORLD_ENTITIES = 100_000
WORLD_START = datetime(2026, 1, 1, tzinfo=UTC)
WORLD_KEY = b"the key of the module physics"


def world_moment(number: int) -> str:
    """The clock reading of an event of `world_events`."""
    return f"{WORLD_START + timedelta(milliseconds=number):%Y-%m-%dT%H:%M:%S.%f}Z-0000-n1"


def _event_id(node: str, number: int) -> str:
    return f"e{number}" if node == "n1" else f"{node}-{number}"


def world_events(
    path: Path, events: int, entities: int = WORLD_ENTITIES, node: str = "n1", shared: float = 1.0
) -> Path:
    """JSON Lines of signed world events, each with a reading 1 ms after the last; one in ten names a cause.

    `shared`: the part of them that is about entities which other nodes change too.
    """
    draw = random.Random(17 if node == "n1" else node)
    versions = [0] * entities
    key = hmac.new(WORLD_KEY, digestmod="sha256")
    with open(path, "wb") as file:
        for number in range(events):
            entity = draw.randrange(entities)
            own = "" if shared == 1 or entity % 1000 < 1000 * shared else f"{node}-"
            event: dict[str, Any] = {
                "eventId": _event_id(node, number),
                "entityId": f"{own}E{entity}",
                "type": "physics.moved.v1",
                "payload": {
                    "x": (2 * draw.randrange(500_000) + 1) / 1000,
                    "y": (2 * draw.randrange(500_000) + 1) / 1000,
                    "awake": draw.random() < 0.5,
                },
                "expectedVersion": versions[entity],
                "hlc": world_moment(number).replace("n1", node),
            }
            versions[entity] += 1
            if number % 10 == 9:
                event["causes"] = [_event_id(node, number - draw.randrange(1, min(number, 5_000) + 1))]
            signed = key.copy()
            signed.update(signed_text(event))
            event["handshake"] = {"protocol": PROTOCOL, "signature": signed.hexdigest()}
            file.write(orjson.dumps(event) + b"\n")
    return path
