"""Typed columns (Parquet, Arrow, CSV, the result of a mapping) into checked ticks."""

from __future__ import annotations

import json

import pyarrow as pa

from ledger_cli.core.events import ACTIVITY_LIMIT, TICK_LIMIT
from ledger_cli.core.tick_json import FIELDS, MILLISECONDS_LIMIT, RFC3339
from ledger_cli.engines.common.duck import ident, quoted


def columns_sql(schema: pa.Schema, textual: bool) -> str:
    """SQL over `chunk` (the columns and `_row`, `_line`): row, line, reason (null for a good row), and the tick.

    Its meta comes in two parts, JSON texts: `own_meta`, and `unknown` for the columns that are no field.
    """
    made = {name: _field(schema, name, textual) for name in FIELDS}
    reasons = " ".join(f"WHEN {test} THEN {quoted(reason)}" for test, reason in _checks(made))
    return f"""
    SELECT _row AS row, _line AS line, CASE {reasons} END AS reason,
        entityId AS entity_id,
        CASE WHEN tickId >= 0 AND tickId < {TICK_LIMIT} AND tickId = floor(tickId) THEN tickId::BIGINT END AS tick_id,
        x, y, activity, jitter, ts AS "timestamp", meta AS own_meta, {unknown_sql(schema)} AS unknown
    FROM (SELECT *, {", ".join(f"{made[name].value} AS {made[name].alias}" for name in FIELDS)}
          FROM (SELECT * RENAME ({_renamed(schema)}) FROM chunk))"""


class _Field:
    """SQL of a field: its value, whether it is missing, and whether it has another type than it should."""

    def __init__(self, name: str, value: str, missing: str, mistyped: str) -> None:
        self.alias = "ts" if name == "timestamp" else name
        self.value = value
        self.missing = missing
        self.mistyped = mistyped


def _column(name: str) -> str:
    return f'"_c_{name}"'


def _renamed(schema: pa.Schema) -> str:
    return ", ".join(f'"{name}" AS {_column(name)}' for name in FIELDS if name in schema.names) or "_row AS _row"


def _field(schema: pa.Schema, name: str, textual: bool) -> _Field:
    column = _column(name)
    if name not in schema.names:
        kind = {"entityId": "VARCHAR", "meta": "VARCHAR", "timestamp": "BIGINT"}.get(name, "DOUBLE")
        return _Field(name, f"NULL::{kind}", "true", "false")
    of_type = schema.field(name).type
    missing = f"{column} IS NULL"
    if name == "entityId":
        return _entity(column, of_type, missing)
    if name == "meta":
        return _meta_field(column, of_type, missing)
    if name == "timestamp":
        return _timestamp(column, of_type, missing)
    return _number(name, column, of_type, missing, textual)


def _entity(column: str, of_type: pa.DataType, missing: str) -> _Field:
    if _is_text(of_type) or pa.types.is_integer(of_type):
        value = f"{column}::VARCHAR"
        return _Field("entityId", value, f"({missing} OR {value} = '')", "false")
    return _Field("entityId", "NULL::VARCHAR", missing, f"{column} IS NOT NULL")


def _number(name: str, column: str, of_type: pa.DataType, missing: str, textual: bool) -> _Field:
    if pa.types.is_integer(of_type) or pa.types.is_floating(of_type) or pa.types.is_decimal(of_type):
        return _Field(name, f"{column}::DOUBLE", missing, "false")
    if _is_text(of_type) and textual:
        value = f"try_cast(trim({column}) AS DOUBLE)"
        return _Field(name, value, f"({missing} OR trim({column}) = '')", f"{value} IS NULL")
    if pa.types.is_null(of_type):
        return _Field(name, "NULL::DOUBLE", "true", "false")
    return _Field(name, "NULL::DOUBLE", missing, f"{column} IS NOT NULL")


def _meta_field(column: str, of_type: pa.DataType, missing: str) -> _Field:
    if _is_text(of_type):
        valid = f"CASE WHEN json_valid({column}) THEN {column} END"
        mistyped = f"(trim({column}) <> '' AND coalesce(json_type({valid}), '') NOT IN ('OBJECT', 'NULL'))"
        value = f"CASE WHEN json_type({valid}) = 'OBJECT' AND json({valid}) <> '{{}}' THEN json({valid})::VARCHAR END"
        return _Field("meta", value, missing, mistyped)
    if pa.types.is_struct(of_type) or pa.types.is_map(of_type):
        return _Field("meta", f"CASE WHEN {column} IS NOT NULL THEN to_json({column})::VARCHAR END", missing, "false")
    return _Field("meta", "NULL::VARCHAR", missing, f"{column} IS NOT NULL")


def _timestamp(column: str, of_type: pa.DataType, missing: str) -> _Field:
    if pa.types.is_timestamp(of_type):
        zoned = f"{column}::TIMESTAMPTZ" if of_type.tz is not None else f"{column}::TIMESTAMP"
        return _Field("timestamp", f"epoch_us({zoned})", missing, "false")
    if pa.types.is_integer(of_type) or pa.types.is_floating(of_type):
        whole = f"{column} = floor({column}) AND abs({column}) < {MILLISECONDS_LIMIT}"
        return _Field("timestamp", f"CASE WHEN {whole} THEN {column}::BIGINT * 1000 END", missing, "false")
    if _is_text(of_type):
        digits = f"regexp_full_match({column}, '-?\\d{{1,{len(str(MILLISECONDS_LIMIT)) - 1}}}')"
        value = f"""CASE WHEN regexp_full_match({column}, {quoted(RFC3339)})
            THEN epoch_us(try_cast({column} AS TIMESTAMPTZ)) WHEN {digits} THEN try_cast({column} AS BIGINT) * 1000 END"""
        return _Field("timestamp", value, f"({missing} OR {column} = '')", "false")
    return _Field("timestamp", "NULL::BIGINT", missing, f"{column} IS NOT NULL")


def _is_text(of_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(of_type):
        return _is_text(of_type.value_type)
    return bool(pa.types.is_string(of_type) or pa.types.is_large_string(of_type) or pa.types.is_string_view(of_type))


def _checks(made: dict[str, _Field]) -> list[tuple[str, str]]:
    """Tests in the order in which `core.tick_json.parse_tick` makes them, so that both give one reason."""
    entity, tick, activity = made["entityId"], made["tickId"], made["activity"]
    x, y, jitter, meta, timestamp = (made[name] for name in ("x", "y", "jitter", "meta", "timestamp"))
    return [
        (entity.missing, "entity_id_missing"),
        (entity.mistyped, "wrong_type"),
        (tick.missing, "tick_id_missing"),
        (tick.mistyped, "wrong_type"),
        (f"NOT isfinite(tickId) OR tickId < 0 OR tickId >= {TICK_LIMIT}", "tick_id_out_of_range"),
        ("tickId <> floor(tickId)", "wrong_type"),
        (activity.missing, "activity_missing"),
        (activity.mistyped, "wrong_type"),
        ("NOT isfinite(activity)", "activity_not_finite"),
        ("activity < 0", "activity_negative"),
        (f"activity > {ACTIVITY_LIMIT!r}", "activity_too_large"),
        (f"{x.missing} OR {y.missing}", "position_missing"),
        (f"{x.mistyped} OR {y.mistyped}", "wrong_type"),
        ("NOT isfinite(x) OR NOT isfinite(y)", "position_not_finite"),
        (f"NOT {jitter.missing} AND ({jitter.mistyped})", "wrong_type"),
        ("jitter IS NOT NULL AND NOT isfinite(jitter)", "jitter_not_finite"),
        (f"NOT {meta.missing} AND ({meta.mistyped})", "wrong_type"),
        (f"NOT {timestamp.missing} AND ({timestamp.mistyped})", "wrong_type"),
        (f"NOT {timestamp.missing} AND ts IS NULL", "bad_timestamp"),
    ]


def unknown_sql(schema: pa.Schema) -> str:
    """JSON text of an object of the row's unknown columns that are not null; null where there is none."""
    parts = [
        f"CASE WHEN {_present(name, schema.field(name).type)} "
        f"THEN {quoted(json.dumps(name, ensure_ascii=False) + ':')} || to_json({ident(name)})::VARCHAR END"
        for name in unknown_columns(schema)
    ]
    return f"'{{' || nullif(concat_ws(',', {', '.join(parts)}), '') || '}}'" if parts else "NULL::VARCHAR"


def unknown_columns(schema: pa.Schema) -> list[str]:
    """Columns that are no field of a tick."""
    return [name for name in schema.names if name not in FIELDS and name not in ("_row", "_line")]


def _present(name: str, of_type: pa.DataType) -> str:
    finite = f" AND isfinite({ident(name)})" if pa.types.is_floating(of_type) else ""
    return f"{ident(name)} IS NOT NULL{finite}"
