"""Typed columns (Parquet, Arrow, CSV, the result of a mapping) into checked ticks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ledger_cli.core.chunks import ColumnChunk
from ledger_cli.core.events import ACTIVITY_LIMIT, TICK_LIMIT
from ledger_cli.core.tick_json import FIELDS, MILLISECONDS_LIMIT, RFC3339
from ledger_cli.engines.common.duck import quoted
from ledger_cli.engines.importer.lacking import NEEDED, lacking_told
from ledger_cli.engines.importer.lines import unique_keys
from ledger_cli.engines.importer.unfit import unfit_rows
from ledger_cli.errors import SourceError

JSON_TEXTS = {b"ledger": b"json"}
"""Metadata of a column whose texts are JSON values."""

_YEAR_10000 = 253402300800000000
"""µs since 1970."""

_SPARE_COMMA = r",\s*[}\]]"


@dataclass(frozen=True)
class Column:
    """A column of a chunk: its name, and how SQL calls it, so that no name can be taken for another."""

    name: str
    sql: str
    type: pa.DataType
    json: bool
    """Its texts are JSON values, of a type each."""

    @property
    def known(self) -> bool:
        """Whether it is a field of a tick."""
        return self.name in FIELDS


def is_json(field: pa.Field) -> bool:
    """Whether the texts of a column are JSON values."""
    return bool(JSON_TEXTS.items() <= (field.metadata or {}).items())


def registered(chunk: ColumnChunk) -> tuple[pa.Table, list[Column], list[tuple[int, str]]]:
    """The chunk as DuckDB is given it, with the columns `r` (row) and `l` (line).

    Beside it, the rows left out since DuckDB has no such values, and the reason of each.

    SourceError where a field has two columns, or one that no tick is without has none.
    """
    names = chunk.table.schema.names
    twins = [name for name in FIELDS if names.count(name) > 1]
    if twins:
        raise SourceError(f"two columns are named {twins[0]!r}: leave one out")
    lacking = [name for name in NEEDED if name not in names]
    if lacking and len(chunk.table):
        raise SourceError(lacking_told(lacking, names, chunk.textual))
    plain = [_plain(name, column) for name, column in zip(names, chunk.table.columns, strict=True)]
    json_texts = [is_json(each) for each in chunk.table.schema]
    columns = [Column(name, f"c{place}", plain[place].type, json_texts[place]) for place, name in enumerate(names)]
    rows = pa.array(np.arange(len(chunk.lines), dtype=np.int64))
    table = pa.table([*plain, rows, chunk.lines], names=[*(column.sql for column in columns), "r", "l"])
    unfit = unfit_rows(chunk.table)
    if unfit:
        table = table.filter(pa.array(~np.isin(np.arange(len(table)), list(unfit))))
    return table, columns, sorted(unfit.items())


def _plain(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a type that DuckDB knows; a field's timestamp without its zone, which changes no instant."""
    if pa.types.is_dictionary(column.type):
        return _plain(name, column.cast(column.type.value_type))
    if pa.types.is_float16(column.type):
        return column.cast(pa.float32())
    if pa.types.is_decimal256(column.type):
        return column.cast(pa.float64())
    if name == "timestamp" and pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp(column.type.unit))
    return column


def columns_sql(columns: Sequence[Column], textual: bool) -> str:
    """SQL over `chunk`, as `registered`: row, line, reason (null for a good row), and the tick.

    Its meta comes in two parts, JSON texts: `own_meta`, and `unknown` for the columns that are no field.
    """
    found = {column.name: column for column in columns}
    made = {name: _field(name, found.get(name), textual) for name in FIELDS}
    reasons = " ".join(f"WHEN {test} THEN {quoted(reason)}" for test, reason in _checks(made))
    return f"""
    SELECT r AS row, l AS line, CASE {reasons} END AS reason, f_entityId AS entity_id,
        CASE WHEN f_tickId >= 0 AND f_tickId < {TICK_LIMIT} AND f_tickId = floor(f_tickId)
             THEN f_tickId::BIGINT END AS tick_id,
        f_x AS x, f_y AS y, f_activity AS activity, f_jitter AS jitter, f_timestamp AS "timestamp",
        f_meta AS own_meta, {_unknown_sql(columns)} AS unknown
    FROM (SELECT *, {", ".join(f"{made[name].value} AS f_{name}" for name in FIELDS)} FROM chunk)"""


def suspect_sql(columns: Sequence[Column]) -> str:
    """SQL over `columns_sql`: a good row whose meta has to be looked at more closely."""
    names = "[" + ", ".join(quoted(column.name) for column in columns if not column.known) + "]::VARCHAR[]"
    return f"""reason IS NULL AND NOT (coalesce({unique_keys("own_meta")}, false)
        AND coalesce({unique_keys("unknown")}, false)
        AND CASE WHEN own_meta IS NULL THEN true WHEN regexp_matches(own_meta, {quoted(_SPARE_COMMA)}) THEN false
            WHEN unknown IS NULL THEN true ELSE NOT list_has_any(json_keys(own_meta), {names}) END)"""


@dataclass(frozen=True)
class _Field:
    """SQL of a field: its value, whether it is missing, and whether it has another type than it should."""

    value: str
    missing: str
    mistyped: str


def _field(name: str, column: Column | None, textual: bool) -> _Field:
    kind = {"entityId": "VARCHAR", "meta": "VARCHAR", "timestamp": "BIGINT"}.get(name, "DOUBLE")
    if column is None or pa.types.is_null(column.type):
        return _Field(f"NULL::{kind}", "true", "false")
    if column.json:
        return _json_field(name, column.sql)
    of_type, missing = column.type, f"{column.sql} IS NULL"
    found = {"entityId": _entity, "meta": _meta_field, "timestamp": _timestamp}.get(name, _number)(
        column.sql, of_type, missing, textual
    )
    return found or _Field(f"NULL::{kind}", missing, f"{column.sql} IS NOT NULL")


def _json_field(name: str, column: str) -> _Field:
    """A field whose values are JSON: each has its own type."""
    kind, text = f"json_type({column})", f"json_extract_string({column}, '$')"
    missing, number = f"coalesce({kind} = 'NULL', true)", f"{kind} IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
    if name == "entityId":
        value = f"CASE WHEN {kind} IN ('VARCHAR', 'BIGINT', 'UBIGINT') THEN {text} END"
        return _Field(value, f"({missing} OR {value} = '')", f"({value}) IS NULL")
    if name == "meta":
        value = f"CASE WHEN {kind} = 'OBJECT' AND json({column}) <> '{{}}' THEN json({column})::VARCHAR END"
        return _Field(value, missing, f"{kind} <> 'OBJECT'")
    if name == "timestamp":
        milliseconds = _milliseconds(f"try_cast({column} AS DOUBLE)", whole=False)
        value = f"CASE WHEN {kind} = 'VARCHAR' THEN {_instant_of_text(text)} WHEN {number} THEN {milliseconds} END"
        return _Field(value, missing, f"NOT ({kind} = 'VARCHAR' OR {number})")
    value = f"CASE WHEN {number} THEN try_cast({column} AS DOUBLE) END"
    return _Field(value, missing, f"NOT ({number})")


def _entity(column: str, of_type: pa.DataType, missing: str, _: bool) -> _Field | None:
    if not _is_text(of_type):
        return None
    value = f"{column}::VARCHAR"
    return _Field(value, f"({missing} OR {value} = '')", "false")


def _number(column: str, of_type: pa.DataType, missing: str, textual: bool) -> _Field | None:
    if _is_number(of_type):
        return _Field(f"{column}::DOUBLE", missing, "false")
    if not _is_text(of_type) or not textual:
        return None
    # DuckDB reads 1_000 as a number, too.
    value = f"CASE WHEN NOT contains({column}, '_') THEN try_cast(trim({column}) AS DOUBLE) END"
    return _Field(value, f"({missing} OR trim({column}) = '')", f"({value}) IS NULL")


def _meta_field(column: str, of_type: pa.DataType, missing: str, _: bool) -> _Field | None:
    if pa.types.is_struct(of_type) or pa.types.is_map(of_type):
        text = f"to_json({column})::VARCHAR"
        return _Field(f"CASE WHEN {column} IS NOT NULL AND {text} <> '{{}}' THEN {text} END", missing, "false")
    if not _is_text(of_type):
        return None
    valid = f"CASE WHEN json_valid({column}) THEN {column} END"
    mistyped = f"(trim({column}) <> '' AND coalesce(json_type({valid}), '') NOT IN ('OBJECT', 'NULL'))"
    # The JSON of DuckDB forgives a comma too many: such a text stays as it is, to be read exactly.
    text = f"CASE WHEN regexp_matches({column}, {quoted(_SPARE_COMMA)}) THEN {column} ELSE json({valid})::VARCHAR END"
    value = f"CASE WHEN json_type({valid}) = 'OBJECT' AND json({valid}) <> '{{}}' THEN {text} END"
    return _Field(value, missing, mistyped)


def _timestamp(column: str, of_type: pa.DataType, missing: str, textual: bool) -> _Field | None:
    if pa.types.is_timestamp(of_type):
        return _Field(_instant(column, of_type), missing, "false")
    if _is_number(of_type):
        return _Field(_milliseconds(column, pa.types.is_integer(of_type)), missing, "false")
    if not _is_text(of_type):
        return None
    text = f"trim({column})" if textual else column
    return _Field(_instant_of_text(text), f"({missing} OR {text} = '')", "false")


def _milliseconds(number: str, whole: bool) -> str:
    fits = f"{number} > -{MILLISECONDS_LIMIT} AND {number} < {MILLISECONDS_LIMIT}"
    fits += "" if whole else f" AND {number} = floor({number})"
    return f"CASE WHEN {fits} THEN {number}::BIGINT * 1000 END"


def _instant_of_text(text: str) -> str:
    upper = f"upper({text})"
    digits = f"regexp_full_match({text}, '-?\\d{{1,{len(str(MILLISECONDS_LIMIT)) - 1}}}')"
    return f"""CASE WHEN regexp_full_match({upper}, {quoted(RFC3339)}) AND NOT starts_with({upper}, '0000')
        THEN CASE WHEN {upper}[18:19] = '60' THEN {_leap_second(upper)}
                  ELSE epoch_us(try_cast({upper} AS TIMESTAMPTZ)) END
        WHEN {digits} THEN try_cast({text} AS BIGINT) * 1000 END"""


def _leap_second(text: str) -> str:
    """See `core.tick_json.timestamp_of`."""
    after = f"(epoch_us(try_cast({text}[:17] || '59' || {text}[20:] AS TIMESTAMPTZ)) + 1000000)"
    moment = f"make_timestamp({after})"
    first = f"date_trunc('second', {moment}) = date_trunc('month', {moment})"
    return f"CASE WHEN {first} AND {after} < {_YEAR_10000} THEN {after} END"


def _instant(column: str, of_type: pa.DataType) -> str:
    """µs since 1970 of a timestamp column in UTC; null for an infinite one."""
    if of_type.unit == "ns":
        count = f"epoch_ns({column})"
        return f"CASE WHEN isfinite({column}) THEN ({count} - ({count} % 1000 + 1000) % 1000) // 1000 END"
    return f"CASE WHEN isfinite({column}) THEN epoch_us({column}) END"


def _is_number(of_type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of_type) or pa.types.is_floating(of_type) or pa.types.is_decimal(of_type))


def _is_text(of_type: pa.DataType) -> bool:
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
        (f"NOT isfinite(f_tickId) OR f_tickId < 0 OR f_tickId >= {TICK_LIMIT}", "tick_id_out_of_range"),
        ("f_tickId <> floor(f_tickId)", "wrong_type"),
        (activity.missing, "activity_missing"),
        (activity.mistyped, "wrong_type"),
        ("NOT isfinite(f_activity)", "activity_not_finite"),
        ("f_activity < 0", "activity_negative"),
        (f"f_activity > {ACTIVITY_LIMIT!r}", "activity_too_large"),
        (f"{x.missing} OR {y.missing}", "position_missing"),
        (f"{x.mistyped} OR {y.mistyped}", "wrong_type"),
        ("NOT isfinite(f_x) OR NOT isfinite(f_y)", "position_not_finite"),
        (f"NOT {jitter.missing} AND ({jitter.mistyped})", "wrong_type"),
        ("f_jitter IS NOT NULL AND NOT isfinite(f_jitter)", "jitter_not_finite"),
        (f"NOT {meta.missing} AND ({meta.mistyped})", "wrong_type"),
        (f"NOT {timestamp.missing} AND ({timestamp.mistyped})", "wrong_type"),
        (f"NOT {timestamp.missing} AND f_timestamp IS NULL", "bad_timestamp"),
    ]


def _unknown_sql(columns: Sequence[Column]) -> str:
    """JSON text of an object of the row's unknown columns that are not null; null where there is none."""
    parts = [
        f"CASE WHEN {_present(column)} "
        f"THEN {quoted(json.dumps(column.name, ensure_ascii=False) + ':')} || {_json_of(column)} END"
        for column in columns
        if not column.known and not pa.types.is_null(column.type)
    ]
    return f"'{{' || nullif(concat_ws(',', {', '.join(parts)}), '') || '}}'" if parts else "NULL::VARCHAR"


def _json_of(column: Column) -> str:
    return f"json({column.sql})::VARCHAR" if column.json else f"to_json({column.sql})::VARCHAR"


def _present(column: Column) -> str:
    number = f" AND NOT isnan({column.sql})" if pa.types.is_floating(column.type) else ""
    return f"{column.sql} IS NOT NULL{number}"
