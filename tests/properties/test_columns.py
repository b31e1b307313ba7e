"""Typed and textual columns give the rows that the same events give as lines of JSON."""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_cli.core.events import TICK_LIMIT
from ledger_cli.engines.importer import DuckImporter
from ledger_cli.errors import SourceError
from tests.importing import Outcome, by_definition, by_importer, columns_of, comparable, importer

Made = tuple[DuckImporter, Path]


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    with importer(threads=2) as found:
        yield found


def imported(made: Made, textual: bool = False, rows: int | None = None, **columns: Any) -> Outcome:
    """What becomes of columns; those of a good row stand for the ones not given."""
    size = len(next(iter(columns.values()))) if rows is None else rows
    usual = {"entityId": "E", "tickId": 1, "x": 1.5, "y": 2.0, "activity": 0.5}
    filled = {name: pa.array([str(value) if textual else value] * size) for name, value in usual.items()}
    return by_importer(*made, columns_of(pa.table({**filled, **columns}), textual))


def reasons(outcome: Outcome, rows: int) -> list[str | None]:
    found = dict(outcome[1])
    return [found.get(line) for line in range(1, rows + 1)]


def metas(outcome: Outcome) -> list[Any]:
    texts = [ast.literal_eval(row[6]) for _, row in outcome[0]]
    return [None if text is None else json.loads(text) for text in texts]


# --- the same rows in all forms -------------------------------------------------------------------


def random_events(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    some = lambda *values: chance.choice(values)  # noqa: E731
    return [
        {
            "entityId": some("E1", "é,\"", "", None, "x" * 40),
            "tickId": some(1, 7, 0, -1, 2**53 - 1, 2**53, 2**62, None),
            "x": some(1.5, -0.0, 1e300, float("nan"), float("inf"), None),
            "y": some(2.0, 5e-324),
            "activity": some(0.0, 0.25, 1e6, 1e6 + 1, -1.0, float("nan"), float("-inf"), None),
            "jitter": some(None, 0.5, float("inf")),
            "meta": some(None, "{}", '{"a":1}', '{"a":{"b":1}}', '{"u":1}', '{"meta":1,"v":2}'),
            "timestamp": some(
                None, "2026-01-29T19:21:00Z", "2026-01-29t19:21:00.1234567+01:00", "x", "0000-01-01T00:00:00Z"
            ),
            "u": some(None, "text", 'quo"te'),
            "v": some(None, 1, 2**60),
        }
        for _ in range(600)
    ]  # fmt: skip


def as_lines(events: list[dict[str, Any]]) -> list[bytes]:
    def line(event: dict[str, Any]) -> str:
        unknown = {name for name in ("u", "v") if event[name] is None}
        parts = {name: json.dumps(value) for name, value in event.items() if name not in unknown}
        parts["meta"] = event["meta"] or "null"
        return "{" + ",".join(f'"{name}":{text}' for name, text in parts.items()) + "}"

    return [line(event).encode() for event in events]


@pytest.mark.parametrize("seed", range(4))
def test_typed_columns_are_as_lines(made: Made, seed: int) -> None:
    events = random_events(seed)
    assert by_importer(*made, columns_of(pa.Table.from_pylist(events))) == by_definition(as_lines(events))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["dictionary", "large", "view"])
def test_other_text_types_are_as_lines(made: Made, seed: int, kind: str) -> None:
    events = random_events(seed)
    types = {"dictionary": pa.dictionary(pa.int32(), pa.string()), "large": pa.large_string(), "view": pa.string_view()}
    table = pa.Table.from_pylist(events)
    fields = [pa.field(f.name, types[kind]) if pa.types.is_string(f.type) else f for f in table.schema]
    assert by_importer(*made, columns_of(table.cast(pa.schema(fields)))) == by_definition(as_lines(events))


@pytest.mark.parametrize("seed", range(4))
def test_textual_columns_are_as_lines(made: Made, seed: int) -> None:
    events = [{**event, "v": None} for event in random_events(seed)]
    texts = [{k: None if v is None else v if isinstance(v, str) else repr(v) for k, v in e.items()} for e in events]
    names = [name for name in events[0] if name != "v"]
    table = pa.table({name: pa.array([text[name] for text in texts], pa.string()) for name in names})
    assert by_importer(*made, columns_of(table, textual=True)) == by_definition(as_lines(events))


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint8(), pa.int16(), pa.int32(), pa.uint64(), pa.float32(), pa.float16(),
             pa.decimal128(22, 2),
             pa.decimal256(50, 2), pa.dictionary(pa.int8(), pa.int64()), pa.dictionary(pa.int8(), pa.float64())],
    ids=str,
)  # fmt: skip
def test_numbers_of_any_type(made: Made, kind: pa.DataType) -> None:
    values = pa.array([1, 2, None], pa.int64())
    numbers = values.cast(kind.value_type).dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    for name, missing in [("tickId", "tick_id_missing"), ("x", "position_missing"), ("activity", "activity_missing")]:
        outcome = imported(made, **{name: numbers})
        assert reasons(outcome, 3) == [None, None, missing]
        assert [row[1:5][["tickId", "x", "y", "activity"].index(name)] for _, row in outcome[0]] == [1, 2]
    assert reasons(imported(made, jitter=numbers), 3) == [None] * 3
    assert [row[7] for _, row in imported(made, timestamp=numbers)[0]] == ["1000", "2000", "None"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, False, None]),
        pa.array(["1", "2", None]),
        pa.array([b"1", b"2", None]),
        pa.array([datetime.date(2026, 1, 1), datetime.date(2026, 1, 2), None]),
        pa.array([[1], [2], None]),
        pa.array([{"a": 1}, {"a": 2}, None]),
    ],
    ids=lambda values: str(values.type),
)
def test_other_types_are_no_numbers(made: Made, values: pa.Array) -> None:
    for name, missing in [("tickId", "tick_id_missing"), ("y", "position_missing"), ("activity", "activity_missing")]:
        assert reasons(imported(made, **{name: values}), 3) == ["wrong_type", "wrong_type", missing]
    assert reasons(imported(made, jitter=values), 3) == ["wrong_type", "wrong_type", None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64(), pa.decimal128(30, 3), pa.float64()], ids=str)
def test_ticks_are_never_rounded_into_range(made: Made, kind: pa.DataType) -> None:
    ticks = [TICK_LIMIT - 1, TICK_LIMIT, TICK_LIMIT + 1, 2**63 - 1, 0]
    numbers = pa.array([decimal.Decimal(tick) for tick in ticks], pa.decimal128(38, 3)).cast(kind, safe=False)
    outcome = imported(made, tickId=numbers)
    assert reasons(outcome, 5) == [None, *["tick_id_out_of_range"] * 3, None]
    assert [row[1] for _, row in outcome[0]] == [TICK_LIMIT - 1, 0]


def test_the_ends_of_64_bits(made: Made) -> None:
    ends = pa.array([-(2**63), 2**63 - 1, -1], pa.int64())
    assert reasons(imported(made, tickId=ends), 3) == ["tick_id_out_of_range"] * 3
    assert reasons(imported(made, timestamp=ends), 3) == ["bad_timestamp", "bad_timestamp", None]
    assert reasons(imported(made, timestamp=pa.array([2**64 - 1], pa.uint64())), 1) == ["bad_timestamp"]


def test_entities_are_text_as_in_json(made: Made) -> None:
    assert reasons(imported(made, entityId=pa.array([7, None])), 2) == ["wrong_type", "entity_id_missing"]
    assert reasons(imported(made, entityId=pa.array([1.0, None])), 2) == ["wrong_type", "entity_id_missing"]
    assert reasons(imported(made, entityId=pa.array([True, None])), 2) == ["wrong_type", "entity_id_missing"]


@pytest.mark.parametrize("name", ["entityId", "tickId", "x", "activity"])
def test_a_column_without_a_type_is_missing(made: Made, name: str) -> None:
    assert all(reason and reason.endswith("_missing") for reason in reasons(imported(made, **{name: pa.nulls(2)}), 2))
    assert (
        reasons(imported(made, jitter=pa.nulls(2), meta=pa.nulls(2), timestamp=pa.nulls(2), z=pa.nulls(2)), 2)
        == [None] * 2
    )


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+05:30"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_with_and_without_zone(made: Made, unit: str, zone: str | None) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [0, 1, -1, 1769714460 * per_second, -(10**9) * per_second - 1, None]
    outcome = imported(made, timestamp=pa.array(counts, pa.timestamp(unit, zone)))
    expected = [None if count is None else count * 10**6 // per_second for count in counts]
    assert [row[7] for _, row in outcome[0]] == list(map(repr, expected))


@pytest.mark.parametrize("textual", [False, True])
def test_leap_seconds(made: Made, textual: bool) -> None:
    event = {"entityId": "E", "tickId": 1, "x": 1.5, "y": 2.0, "activity": 0.5}
    whens = ["2016-12-31T23:59:60Z", "2016-12-31t23:59:60.25z", "2016-12-31T15:59:60-08:00", "1968-12-31T23:59:60.5Z"]
    wrong = ["2016-12-31T23:59:60+01:00", "2016-12-30T23:59:60Z", "2016-12-31T12:00:60Z", "2016-12-31T23:59:61Z",
             "9999-12-31T23:59:60Z", "2016-02-31T23:59:60Z"]  # fmt: skip
    outcome = imported(made, textual=textual, timestamp=pa.array(whens + wrong))
    assert outcome == by_definition([json.dumps({**event, "timestamp": when}).encode() for when in whens + wrong])
    assert reasons(outcome, 10) == [None] * 4 + ["bad_timestamp"] * 6


def test_timestamps_beyond_all_years(made: Made) -> None:
    for unit in ("us", "s"):
        outcome = imported(made, timestamp=pa.array([2**63 - 1, 0], pa.timestamp(unit)))
        assert reasons(outcome, 2) == ["bad_timestamp", None]


def test_textual_numbers(made: Made) -> None:
    texts = ["5", " 5 ", "5e0", "x", "", " ", "1_0", "0x5", "true", "nan", "-inf", "１"]
    expected = [None] * 3 + ["wrong_type", "position_missing", "position_missing"] + ["wrong_type"] * 3
    expected += ["position_not_finite"] * 2 + ["wrong_type"]
    assert reasons(imported(made, textual=True, x=pa.array(texts)), len(texts)) == expected


def test_textual_meta(made: Made) -> None:
    texts = [
        '{"a":1,"a":2}',
        '{"a": 1.50}',
        "",
        " ",
        "null",
        "{}",
        "x",
        "[]",
        '{"a":1,}',
        '{"a":NaN}',
        '{"a":",]"}',
        '{"a":1}{"b":1}',
        '"{}"',
    ]
    outcome = imported(made, textual=True, meta=pa.array(texts))
    found = reasons(outcome, len(texts))
    assert (
        found == ["broken_json"] + [None] * 5 + ["wrong_type"] * 2 + ["broken_json"] * 2 + [None] + ["wrong_type"] * 2
    )
    assert outcome[0][0][1] == comparable(("E", 1, 1.5, 2.0, 0.5, None, '{"a":1.5}', None))


# --- meta -----------------------------------------------------------------------------------------


def test_struct_and_map_meta(made: Made) -> None:
    struct = pa.array([{"a": 1, "b": None}, None, {"a": None, "b": "x"}])
    assert metas(imported(made, meta=struct)) == [{"a": 1, "b": None}, None, {"a": None, "b": "x"}]
    pairs = pa.array([[("k", 1), ('quo"te', 2)], [], None], pa.map_(pa.string(), pa.int64()))
    assert [meta and sorted(meta.values()) for meta in metas(imported(made, meta=pairs))] == [[1, 2], None, None]


def test_struct_meta_with_nan_is_refused(made: Made) -> None:
    assert reasons(imported(made, meta=pa.array([{"a": float("nan")}, {"a": 1.0}])), 2) == ["broken_json", None]


WEIRD = ["row", "line", "_row", "_line", "reason", "suspect", "ok", "own_meta", "unknown", "ts", "r", "l", "c0", "f_x",
         "chunk", "entity_id", "tick_id", "X", "ENTITYID", "entityid", "Meta", 'quo"te', "it's", "a b", "", "é",
         "select",
         "new\nline", "tab\t", "{}", "[:,]", "\\", "a:b", "%", "*"]  # fmt: skip


@pytest.mark.parametrize("textual", [False, True], ids=["typed", "textual"])
def test_unknown_columns_of_any_name_go_into_meta(made: Made, textual: bool) -> None:
    columns = {name: pa.array([f"{name}!", None]) for name in WEIRD}
    stored, refused = imported(made, textual=textual, **columns)
    line = {"entityId": "E", "tickId": 1, "x": 1.5, "y": 2.0, "activity": 0.5}
    assert (stored, refused) == by_definition(
        [json.dumps({**line, **{name: f"{name}!" for name in WEIRD}}).encode(), json.dumps(line).encode()]
    )


def test_each_weird_name_alone(made: Made) -> None:
    for name in WEIRD:
        outcome = imported(made, **{name: pa.array([5, None])})
        assert metas(outcome) == [{name: 5}, None], name


def test_unknown_columns_of_any_type(made: Made) -> None:
    columns = {
        "bool": pa.array([True]),
        "uint64": pa.array([2**64 - 1], pa.uint64()),
        "decimal": pa.array([decimal.Decimal("1.50")]),
        "double": pa.array([0.1]),
        "half": pa.array([0.5], pa.float16()),
        "list": pa.array([[1, None, 2]]),
        "struct": pa.array([{"a": {"b": [1]}}]),
        "text": pa.array(['a"\n\\\u0001é']),
        "choice": pa.array(["x"]).dictionary_encode(),
        "nothing": pa.nulls(1),
        "nan": pa.array([float("nan")]),
    }
    (meta,) = metas(imported(made, **columns))
    assert meta == {
        "bool": True,
        "uint64": 2**64 - 1,
        "decimal": 1.5,
        "double": 0.1,
        "half": 0.5,
        "list": [1, None, 2],
        "struct": {"a": {"b": [1]}},
        "text": 'a"\n\\\u0001é',
        "choice": "x",
    }
    for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.time64("us"), pa.duration("s")):
        assert isinstance(
            metas(
                imported(
                    made,
                    when=pa.array([1], pa.int64()).cast(pa.int32() if kind == pa.date32() else pa.int64()).cast(kind),
                )
            )[0]["when"],
            str,
        )
    assert isinstance(metas(imported(made, blob=pa.array([b"\x00\xff"])))[0]["blob"], str)
    assert reasons(imported(made, endless=pa.array([float("inf")])), 1) == ["broken_json"]


def test_unknown_columns_hide_nothing_of_meta(made: Made) -> None:
    outcome = imported(
        made, meta=pa.array(['{"kind":"cat","z":0}', '{"z":1}', None]), kind=pa.array(["wolf", None, "fox"])
    )
    assert metas(outcome) == [{"kind": "wolf", "z": 0, "meta": {"kind": "cat"}}, {"z": 1}, {"kind": "fox"}]


def test_twin_fields_are_one_clear_error(made: Made) -> None:
    table = pa.table([["E"], [1], [1.0], [1.0], [1.0], [2.0]], names=["entityId", "tickId", "x", "y", "activity", "x"])
    with pytest.raises(SourceError, match="two columns are named 'x'"):
        by_importer(*made, columns_of(table))


def test_no_rows_and_no_columns(made: Made) -> None:
    assert by_importer(*made, columns_of(pa.table({"x": pa.array([], pa.float64())}))) == ([], [])
    with pytest.raises(SourceError, match=r"no column is named entityId, tickId, .* \(there are: z\)"):
        by_importer(*made, columns_of(pa.table({"z": [1, 2]})))
