"""Rows of a Parquet file checked where they lie: one query reads, proves, sorts and writes them.

It serves files that look like ticks, and gives up at the first row that it cannot prove good: then the rows are
loaded, and every one is told apart (`columns`).
"""

from __future__ import annotations

import pyarrow as pa

from ledger_cli.core.chunks import StoredChunk
from ledger_cli.core.events import ACTIVITY_LIMIT, TICK_LIMIT
from ledger_cli.core.tick_json import FIELDS, MILLISECONDS_LIMIT
from ledger_cli.engines.common.duck import quoted
from ledger_cli.engines.importer.lines import microseconds_sql, unique_keys

_FIRST_MICROSECOND = -62135596800000000
"""The year 1, where RFC 3339 begins to be readable."""


def stored_sql(chunk: StoredChunk) -> str | None:
    """SQL of the sorted draft of a chunk, which fails where a row is not proved; None for columns of other types."""
    if len(set(chunk.schema.names)) < len(chunk.schema.names):
        return None
    types = {name: chunk.schema.field(name).type for name in chunk.schema.names if name in FIELDS}
    if len(types) < len(chunk.schema.names) or not {"entityId", "tickId", "x", "y", "activity"} <= set(types):
        return None
    meta = _meta(types.get("meta", pa.null()))
    timestamp = _timestamp(types.get("timestamp", pa.null()))
    jitter = types.get("jitter", pa.null())
    numbers = [types["x"], types["y"], types["activity"], *([] if pa.types.is_null(jitter) else [jitter])]
    if meta is None or timestamp is None or not all(map(pa.types.is_floating, numbers)):
        return None
    if not _is_text(types["entityId"]) or not pa.types.is_integer(types["tickId"]):
        return None
    given = '"timestamp"' if "timestamp" in types else "NULL"
    deviation = "NULL::DOUBLE" if pa.types.is_null(jitter) else "jitter::DOUBLE"
    good = f"""entity_id <> '' AND tick_id >= 0 AND tick_id < {TICK_LIMIT} AND activity >= 0
        AND activity <= {ACTIVITY_LIMIT!r} AND isfinite(x) AND isfinite(y)
        AND (jitter IS NULL OR isfinite(jitter)) AND meta_good AND {timestamp[1]}"""
    # As a filter, the proof leaves the statistics of the columns as they are, by which they are sorted faster.
    return f"""
        SELECT entity_id, tick_id::BIGINT AS tick_id, x, y, activity, jitter, meta, "timestamp", line
        FROM (SELECT "entityId" AS entity_id, "tickId" AS tick_id, x::DOUBLE AS x, y::DOUBLE AS y,
                     activity::DOUBLE AS activity, {deviation} AS jitter, {meta[0]} AS meta, {meta[1]} AS meta_good,
                     {timestamp[0]} AS "timestamp", {given} AS given, file_row_number + 1 AS line
              FROM read_parquet({quoted(chunk.path)}, file_row_number = true)
              WHERE file_row_number >= {chunk.first} AND file_row_number < {chunk.first + chunk.rows})
        WHERE CASE WHEN {good} THEN true ELSE error('a row is not proved')::BOOLEAN END
        ORDER BY tick_id, entity_id"""


def _is_text(of_type: pa.DataType) -> bool:
    return bool(pa.types.is_string(of_type) or pa.types.is_large_string(of_type))


def _meta(of_type: pa.DataType) -> tuple[str, str] | None:
    """The stored meta, and whether it is proved; None for a type that is told apart elsewhere."""
    if pa.types.is_null(of_type):
        return "NULL::VARCHAR", "true"
    if not _is_text(of_type):
        return None
    stored = "CASE WHEN meta IS NULL OR meta = '{}' THEN NULL WHEN json_valid(meta) THEN json(meta)::VARCHAR END"
    plain = f"CASE WHEN json_valid(meta) AND json_type(meta) = 'OBJECT' THEN {unique_keys('meta')} ELSE false END"
    return stored, f"CASE WHEN meta IS NULL OR meta = '{{}}' THEN true ELSE {plain} END"


def _timestamp(of_type: pa.DataType) -> tuple[str, str] | None:
    """The stored timestamp, and the proof of it beside what was `given`; None for a type told apart elsewhere."""
    if pa.types.is_null(of_type):
        return "NULL::BIGINT", "true"
    if pa.types.is_timestamp(of_type) and of_type.unit in ("ms", "us"):
        return 'epoch_us("timestamp")', "true"
    if pa.types.is_int64(of_type):
        bounds = f'abs("timestamp") < {MILLISECONDS_LIMIT}'
        return f'CASE WHEN {bounds} THEN "timestamp" * 1000 END', '(given IS NULL OR "timestamp" IS NOT NULL)'
    if not _is_text(of_type):
        return None
    proof = f'(given IS NULL OR coalesce("timestamp" >= {_FIRST_MICROSECOND}, false))'
    return microseconds_sql('"timestamp"'), proof
