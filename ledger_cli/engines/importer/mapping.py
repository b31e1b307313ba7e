"""Foreign rows into ticks by SQL: the source is staged as Parquet, the statement sees it whole.

The staged source is read by a connection of its own that reaches nothing else: a recipe from elsewhere can
compute, but neither read other files nor write any.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.chunks import ColumnChunk, LineChunk, Refused
from ledger_cli.core.tick_json import FIELDS
from ledger_cli.engines.common.duck import connect, first_line, ident, quoted, refuse_full_disk, sql_list
from ledger_cli.engines.importer.columns import JSON_TEXTS, is_json
from ledger_cli.engines.importer.lacking import columns_told
from ledger_cli.engines.importer.line_carried import LINE, carrying_line
from ledger_cli.engines.importer.lines import UNWRAP
from ledger_cli.engines.importer.unfit import unfit_rows
from ledger_cli.errors import UsageError
from ledger_cli.ports import Mapping, Source

_CHUNK_ROWS = 500_000
_WHOLE = r"-?(0|[1-9]\d{0,17})"
_LONG = r"-?(0\d.*|\d{19,})|.*_.*"
"""Numbers that would not come out as they are written."""
_SPARE_COMMA = r",\s*[}\]]"
_UNUSED = "_unused_row"
"""The column with the source's row, where an expression of it failed."""
_STRING = r'"(\\.|[^"\\])*"'
_OBJECT = f"""CASE WHEN raw IS NULL OR NOT json_valid(raw) OR json_type(raw) <> 'OBJECT' THEN false
    WHEN list_unique(json_keys(raw)) <> len(json_keys(raw)) THEN false
    WHEN regexp_matches(raw, {quoted(_SPARE_COMMA)})
        THEN NOT regexp_matches(regexp_replace(raw, {quoted(_STRING)}, '""', 'g'), {quoted(_SPARE_COMMA)})
    ELSE true END"""
"""The line is one JSON object; DuckDB forgives a comma too many."""


class Stage:
    """A source, staged. `fill`, then `rows`."""

    def __init__(self, limits: tuple[int | None, str, Path | None], directory: Path) -> None:
        self._connection = connect(*limits)
        self._connection.execute("SET preserve_insertion_order = true")
        self._directory = directory / "stage"
        self._directory.mkdir()
        self._parts = 0
        self._lines = self._textual = False
        self._columns: list[str] = []
        self._refused: list[Refused] = []

    def fill(self, source: Source, watch: Callable[[], None]) -> None:
        """Stage every chunk of a source."""
        for chunk in source.chunks():
            if isinstance(chunk, LineChunk):
                self._stage_lines(chunk, source.envelope)
            else:
                self._stage_columns(chunk)
            self._parts += 1
            watch()
        if self._lines:
            self._refuse_lines()

    def rows(self, mapping: Mapping) -> Iterator[ColumnChunk]:
        """What the mapping makes of it, in chunks; the first carries the rows that were refused before."""
        if not self._parts:
            return
        self._connection.execute(f"CREATE VIEW source AS {self._view()}")
        self._confine()
        numbered = 1
        try:
            sql = self._fields_sql(mapping.fields) if mapping.sql is None else self._with_line(mapping.sql)
            result = self._connection.sql(sql)
            json_texts = {place for place, kind in enumerate(result.types) if str(kind) == "JSON"}
            for batch in result.to_arrow_reader(_CHUNK_ROWS):
                yield self._chunk(_marked(pa.Table.from_batches([batch]), json_texts), numbered)
                numbered += len(batch)
        except duckdb.Error as error:
            refuse_full_disk(error)
            there = f"; its columns are {self._listed()}" if isinstance(error, duckdb.BinderException) else ""
            raise UsageError(f"the mapping does not work on this source: {_told(error)}{there}") from error
        if self._refused:
            yield self._chunk(pa.table({"entityId": pa.array([], pa.string())}), numbered)

    def _listed(self) -> str:
        """What an expression may use."""
        return columns_told(self._connection.sql("FROM source").columns)

    def _chunk(self, table: pa.Table, first: int) -> ColumnChunk:
        names = [name.lower() for name in table.schema.names]
        _refuse_twins(names)
        if LINE in names:
            place = names.index(LINE)
            lines = _line_numbers(table.column(place))
            table = table.remove_column(place)
        else:
            lines = pa.array(np.arange(first, first + len(table), dtype=np.int64))
        refused, self._refused = self._refused, []
        if _UNUSED in names:
            unused = table.column(_UNUSED)
            bad = zip(lines.filter(unused.is_valid()).to_pylist(), unused.drop_null().to_pylist(), strict=True)
            refused += [Refused(line, text, "wrong_type") for line, text in bad]
            table, lines = table.drop_columns(_UNUSED).filter(unused.is_null()), lines.filter(unused.is_null())
        spelled = {name.lower(): name for name in FIELDS}
        table = table.rename_columns([spelled.get(name.lower(), name) for name in table.schema.names])
        table = _with_text_of_integers(table, "entityId")

        return ColumnChunk(table, lines, partial(_row_text, table), refused=refused)

    def _stage_lines(self, chunk: LineChunk, envelope: str) -> None:
        self._lines = True
        self._connection.register("chunk", chunk.table())
        no_text = chunk.not_utf8
        self._refused += [
            Refused(chunk.line(row), chunk.raw(row).decode(errors="replace"), "not_utf8") for row in no_text
        ]
        extra = "" if envelope != "none" else ', NULL::BIGINT AS partition, NULL::BIGINT AS "offset"'
        wanted = f"row NOT IN (SELECT unnest({no_text}::INTEGER[]))"
        if envelope == "none":  # a message is a row, also one of nothing
            wanted += " AND NOT coalesce(regexp_full_match(raw, '\\s*'), false)"
        self._run(f"""COPY (SELECT line, rtrim(raw, chr(13) || chr(10)) AS raw, partition, "offset"
                FROM (SELECT *{extra} FROM ({UNWRAP[envelope]}))
                WHERE {wanted})
            TO {quoted(str(self._part()))} (FORMAT parquet)""")
        self._connection.unregister("chunk")

    def _stage_columns(self, chunk: ColumnChunk) -> None:
        names = _staged_names(chunk.table.schema.names)
        table = chunk.table.rename_columns(names).append_column("_line", chunk.lines)
        unfit = unfit_rows(chunk.table)
        self._refused += [Refused(chunk.lines[row].as_py(), chunk.raw(row), reason) for row, reason in unfit.items()]
        if unfit:
            table = table.filter(pa.array(~np.isin(np.arange(len(table)), list(unfit))))
        self._textual = chunk.textual
        self._columns = names
        self._refused += list(chunk.refused)
        pq.write_table(table, self._part(), compression="zstd")

    def _refuse_lines(self) -> None:
        bad = self._rows(f"""SELECT line, raw, partition, "offset" FROM {self._scan()}
            WHERE NOT coalesce({_OBJECT}, false) ORDER BY line""")
        self._refused += [Refused(line, raw or "", "broken_json", part, at) for line, raw, part, at in bad]

    def _view(self) -> str:
        if not self._lines:
            columns = self._typed_columns(self._columns) if self._textual else "*"
            return f"SELECT {columns} FROM {self._scan()}"
        good = f"""(SELECT * FROM {self._scan()}
            WHERE coalesce({_OBJECT}, false))"""
        ((structure,),) = self._rows(f"SELECT json_group_structure(raw::JSON)::VARCHAR FROM {good}")
        if structure is None or not isinstance(json.loads(structure), dict) or not json.loads(structure):
            return f"SELECT line AS _line FROM {good}"
        fields, twins = _told_apart(json.loads(structure))
        # A nested value is JSON whatever the other rows hold: as a list it would be counted from 1, as JSON from 0.
        fields = {name: "JSON" if isinstance(kind, (dict, list)) else kind for name, kind in fields.items()}
        others = "".join(f", json_extract(raw, {quoted(pointer)}) AS {ident(name)}" for name, pointer in twins.items())
        return f"SELECT line AS _line, unnest(from_json(raw, {quoted(json.dumps(fields))})){others} FROM {good}"

    def _typed_columns(self, names: Sequence[str]) -> str:
        """Text columns as numbers where every value is one; digits with a leading zero stay text."""
        tests = ", ".join(
            f"count({c}) = count(*) FILTER (regexp_full_match(trim({c}), '{_WHOLE}')), "
            f"count({c}) = count(try_cast(trim({c}) AS DOUBLE)) "
            f"AND count_if(regexp_full_match(trim({c}), {quoted(_LONG)})) = 0, count({c}) > 0"
            for c in map(ident, names)
        )
        (found,) = self._rows(f"SELECT {tests} FROM {self._scan()}")
        typed = []
        for place, name in enumerate(names):
            whole, number, any_value = found[3 * place : 3 * place + 3]
            kind = "BIGINT" if whole and any_value else "DOUBLE" if number and any_value else None
            typed.append(ident(name) if kind is None else f"trim({ident(name)})::{kind} AS {ident(name)}")
        return ", ".join([*typed, "_line"])

    def _fields_sql(self, fields: Sequence[tuple[str, str]]) -> str:
        """SELECT that gives each field its expression, and keeps the columns that none of them uses."""
        have = [name for name, *_ in self._rows("DESCRIBE source")]
        fields = [(field, _as_column(expression, have)) for field, expression in fields]
        used: set[str] = set()
        for field, expression in fields:
            if field not in FIELDS:
                raise UsageError(f"--map {field}=…: {field!r} is no field of a tick; use one of {', '.join(FIELDS)}")
            used |= self._names_in(expression, f"--map {field}={expression}")
        used |= {field.lower() for field, _ in fields}
        kept = [ident(name) for name in have if name.lower() not in used or name == "_line"]
        made, failed = [], ["false"]
        for field, expression in fields:
            # In a list, a value that is null can be told from one that cannot be computed.
            tried = f"TRY([({expression})])"
            if self._can_be_bound(tried):
                made.append(f"{tried}[1] AS {ident(field)}")
                failed.append(f"{tried} IS NULL")
            else:
                made.append(f"({expression}) AS {ident(field)}")
        row = ", ".join(f"{quoted(name)}: {ident(name)}" for name in have if name != "_line")
        unused = f"CASE WHEN {' OR '.join(failed)} THEN to_json({{{row}}})::VARCHAR END AS {_UNUSED}"
        return f"SELECT {', '.join([*made, unused, *kept])} FROM source"

    def _can_be_bound(self, expression: str) -> bool:
        """Whether an expression may stand there: not every one can be tried."""
        try:
            self._rows(f"DESCRIBE SELECT {expression} FROM source")
        except duckdb.BinderException:
            return False
        return True

    def _names_in(self, expression: str, what: str) -> set[str]:
        """Lower-case names of the columns that an expression uses; `what` is how it was asked for."""
        parsed = self._parsed(f"SELECT ({expression}) FROM source", what, "SQL over the source's columns")
        found: set[str] = set()

        def walk(node: Any) -> None:
            if isinstance(node, dict):
                if node.get("class") == "WINDOW":
                    raise UsageError(f"{what}: a window function needs the whole source, use --sql")
                if node.get("class") == "COLUMN_REF":
                    found.add(str(node["column_names"][-1]).lower())
                for value in node.values():
                    walk(value)
            elif isinstance(node, list):
                for value in node:
                    walk(value)

        walk(parsed)
        return found

    def _with_line(self, sql: str) -> str:
        """The statement with the line of each row; where its rows have none, they come in an order of their own.

        So a row has the same number each time, whatever the threads: by it the quarantine knows it again.
        """
        tree = self._parsed(sql, "--sql")
        columns = self._columns_of(sql)
        names = [name.lower() for name, _ in columns]
        _refuse_twins(names)
        if LINE in names:
            return sql
        carried = carrying_line(tree)
        if carried is not None:
            text = self._written(carried)
            try:
                if self._columns_of(text) == [*columns, (LINE, "BIGINT")]:
                    return text
            except duckdb.Error:
                pass  # an aggregate, or a name that two tables have
        return f"SELECT * FROM ({self._written(tree)}) ORDER BY ALL"

    def _columns_of(self, sql: str) -> list[tuple[str, str]]:
        """Name and type of each column that a statement gives."""
        result = self._connection.sql(sql)
        return [(name, str(kind)) for name, kind in zip(result.columns, result.types, strict=True)]

    def _written(self, tree: dict[str, Any]) -> str:
        """SQL of a syntax tree."""
        ((text,),) = self._rows(f"SELECT json_deserialize_sql({quoted(json.dumps(tree))}::JSON)")
        return str(text)

    def _parsed(self, sql: str, what: str, should: str = "one SELECT over `source`") -> Any:
        """The syntax tree of one SELECT."""
        ((text,),) = self._rows(f"SELECT json_serialize_sql({quoted(sql)})::VARCHAR")
        tree = json.loads(text)
        if tree.get("error") or len(tree["statements"]) != 1:
            raise UsageError(f"{what} must be {should}: {tree.get('error_message', 'these are several')}")
        return tree

    def _confine(self) -> None:
        self._run(f"SET allowed_directories = [{quoted(str(self._directory))}]")
        self._run("SET enable_external_access = false")
        self._run("SET lock_configuration = true")

    def _part(self) -> Path:
        return self._directory / f"{self._parts:06d}.parquet"

    def _scan(self) -> str:
        return f"read_parquet({sql_list([str(part) for part in sorted(self._directory.glob('*.parquet'))])})"

    def _run(self, sql: str) -> None:
        self._connection.execute(sql).fetchall()

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.sql(sql).fetchall()


def _staged_names(names: Sequence[str]) -> list[str]:
    """Names of columns as SQL sees them."""
    shadows = _shadows(names)
    return [f"{name}_1" if name == LINE or name in shadows else name for name in names]


def _shadows(names: Collection[str]) -> set[str]:
    """What SQL would take for a field of a tick that is there too: X beside x."""
    fields = {name.lower() for name in names if name in FIELDS}
    return {name for name in names if name.lower() in fields and name not in FIELDS}


def _as_column(expression: str, have: Sequence[str]) -> str:
    """An expression in SQL: the very name of a column is that column, also where SQL would want it in quotes."""
    try:
        float(expression)
    except ValueError:
        return ident(expression) if expression in have else expression
    return expression


def _told(error: duckdb.Error) -> str:
    """What DuckDB says in one line, with the columns that it offers in another."""
    offered = re.search(r"Candidate bindings: .*", str(error))
    return first_line(error) + ("" if offered is None else f" (c{offered[0][1:]})")


def _marked(table: pa.Table, json_texts: set[int]) -> pa.Table:
    """The table, its columns of JSON values marked as such."""
    for place in json_texts:
        field = table.schema.field(place).with_type(pa.string()).with_metadata(JSON_TEXTS)
        table = table.set_column(place, field, table.column(place).cast(pa.string()))
    return table


def _with_text_of_integers(table: pa.Table, name: str) -> pa.Table:
    """The table, integers of a column as their digits: to a mapping, 7 in a CSV is a number."""
    place = table.schema.get_field_index(name)
    if place < 0 or not pa.types.is_integer(table.schema.field(place).type):
        return table
    return table.set_column(place, name, table.column(place).cast(pa.string()))


def _refuse_twins(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise UsageError("the mapping gives a column twice: leave it out of the `*` with EXCLUDE")


def _row_text(table: pa.Table, row: int) -> str:
    """A row as JSON: what is JSON already as it is, numbers as numbers."""
    cells = zip(table.schema, (column[row] for column in table.columns), strict=True)
    values = (f"{_JSON.encode(field.name)}: {_value_text(field, cell)}" for field, cell in cells)
    return "{" + ", ".join(values) + "}"


def _value_text(field: pa.Field, cell: pa.Scalar) -> str:
    value = cell.as_py()
    return str(value) if value is not None and is_json(field) else _JSON.encode(value)


def _plain(value: Any) -> Any:
    """A value that JSON has no kind for."""
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


_JSON = json.JSONEncoder(ensure_ascii=False, default=_plain)


def _line_numbers(column: pa.ChunkedArray) -> pa.Array:
    try:
        lines = column.cast(pa.int64()).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError("the mapping's _line must be a whole number: the line that a row comes from") from error
    if lines.null_count:
        raise UsageError("the mapping's _line must not be null: leave it out where a row has no line")
    return lines


def _told_apart(structure: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The structure without what SQL cannot tell apart, for names differ there by more than case; and the names of
    the top-level keys left out, with their JSON pointers."""
    kept: dict[str, Any] = {}
    twins: dict[str, str] = {}
    taken, shadows = {"_line"}, _shadows(structure)
    for key, kind in structure.items():
        if not key or key.lower() in taken or key in shadows:
            number = next(
                n for n in itertools.count(1) if f"{key}_{n}".lower() not in {*taken, *map(str.lower, structure)}
            )
            taken.add(f"{key}_{number}".lower())
            twins[f"{key}_{number}"] = "/" + key.replace("~", "~0").replace("/", "~1")
        else:
            taken.add(key.lower())
            kept[key] = _without_twins(kind)
    return kept, twins


def _without_twins(kind: Any) -> Any:
    """A kind in which objects whose keys differ by case alone stay JSON."""
    if isinstance(kind, list):
        return [_without_twins(each) for each in kind]
    if not isinstance(kind, dict):
        return kind
    if len({key.lower() for key in kind}) < len(kind) or not all(kind):
        return "JSON"
    return {key: _without_twins(each) for key, each in kind.items()}
