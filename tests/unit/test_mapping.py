"""Foreign columns into ticks: `map` and `sql` over the whole source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ledger_cli.core.tick_json import Tick
from ledger_cli.engines.importer import DuckImporter
from ledger_cli.errors import UsageError
from ledger_cli.ports import Mapping
from ledger_cli.services.ingest import IngestOptions, ingest
from ledger_cli.wiring.inputs import make_source
from tests.importing import COLUMNS
from tests.support import make_ledger

FIELDS = {"entityId": "id", "tickId": "t", "x": "lon", "y": "lat", "activity": "a"}
CSV = "id,t,lon,lat,a,note\n007,1,1.5,2,0.5,x\n008,2,1.5,2,0.25,\n"
SELECT = "SELECT id AS entityId, t AS tickId, lon AS x, lat AS y, a AS activity"


class Mapped:
    """What a mapping makes of a file."""

    def __init__(self, directory: Path, name: str, text: str, given: Mapping, threads: int = 2, **options: Any) -> None:
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
        repository = make_ledger(directory / "world")
        source = make_source(str(directory / name), **options)
        importer = DuckImporter(repository.store, threads, "1GB", None)
        self.result = ingest(repository, importer, "main", [source], IngestOptions(given))
        branch = repository.branch("main")
        self.ticks = []
        for segment in branch.segments():
            rows = pq.read_table(repository.store.location(segment.file)).to_pylist()
            self.ticks += [Tick(*(row[name] for name in COLUMNS)) for row in rows]
        files = [pq.read_table(repository.store.location(file.file)) for file in branch.quarantine()]
        self.refused = [(row["line"], row["reason"], row["raw"]) for file in files for row in file.to_pylist()]


def by_fields(**changes: str) -> Mapping:
    return Mapping(fields=tuple({**FIELDS, **changes}.items()))


def test_columns_by_expressions(tmp_path: Path) -> None:
    made = Mapped(tmp_path, "a.csv", CSV, by_fields(x="lon * 2"))
    assert [tick[:5] for tick in made.ticks] == [("007", 1, 3.0, 2.0, 0.5), ("008", 2, 3.0, 2.0, 0.25)]
    assert [tick.meta for tick in made.ticks] == ['{"note":"x"}', None]


def test_window_function_over_the_whole_source(tmp_path: Path) -> None:
    fields = "id AS entityId, 10 * row_number() OVER (ORDER BY t DESC) AS tickId, 1 AS x, 1 AS y, a AS activity"
    sql = f"SELECT {fields} FROM source"
    made = Mapped(tmp_path, "a.csv", CSV, Mapping(sql=sql))
    assert sorted((tick.entity_id, tick.tick_id) for tick in made.ticks) == [("007", 20), ("008", 10)]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["007", "010"], ["007", "010"]),
        (["7", "10"], [7, 10]),
        (["7", "1.5"], [7.0, 1.5]),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"]),
        (["1_0", "2"], ["1_0", "2"]),
        (["-0", "x"], ["-0", "x"]),
    ],
)
def test_what_columns_of_csv_are_taken_for(tmp_path: Path, values: list[str], kept: list[object]) -> None:
    import json

    lines = "".join(f"e,{tick},1,1,1,{value}\n" for tick, value in enumerate(values))
    made = Mapped(tmp_path, "a.csv", "id,t,lon,lat,a,v\n" + lines, by_fields())
    assert [json.loads(tick.meta or "")["v"] for tick in made.ticks] == kept


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (by_fields(tickId="nope"), "nope"),
        (by_fields(speed="t"), "is no field of a tick"),
        (by_fields(tickId="row_number() over ()"), "use --sql"),
        (by_fields(tickId="t) FROM source; DROP TABLE source; --"), "must be SQL over the source"),
        (Mapping(sql="SELECT nope FROM source"), "nope.*its columns are id, t, lon, lat, a, note, _line"),
        (Mapping(sql="SELECT 1; SELECT 2"), "must be one SELECT"),
        (Mapping(sql="not sql"), "must be one SELECT"),
        (Mapping(sql="DELETE FROM source"), "must be one SELECT"),
        (Mapping(sql="COPY source TO 'stolen.csv'"), "must be one SELECT"),
        (Mapping(sql="ATTACH 'other.db'"), "must be one SELECT"),
        (Mapping(sql="SELECT * FROM read_csv('/etc/passwd')"), "disabled"),
        (Mapping(sql="SELECT * FROM read_text('/etc/*')"), "disabled"),
        (Mapping(sql="SELECT * FROM '/etc/passwd'"), "does not exist"),
        (Mapping(sql=f"{SELECT}, NULL AS _line FROM source"), "_line must not be null"),
        (Mapping(sql=f"{SELECT}, 'x' AS _line FROM source"), "_line must be a whole number"),
        (Mapping(sql=f"{SELECT}, t AS TICKID FROM source"), "a column twice"),
        (Mapping(sql=f"{SELECT}, error('no') AS z FROM source"), "does not work"),
    ],
)
def test_what_is_refused(tmp_path: Path, given: Mapping, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        Mapped(tmp_path, "a.csv", CSV, given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "id,t,lon,lat,a\n"])
def test_an_empty_source_gives_nothing(tmp_path: Path, text: str) -> None:
    made = Mapped(tmp_path, "a.csv", text, by_fields())
    assert (made.result.read, made.ticks, made.refused) == (0, [], [])


def test_rows_that_are_none_are_carried_over(tmp_path: Path) -> None:
    made = Mapped(tmp_path, "a.csv", "id,t,lon,lat,a\n007,1\n008,2,1,1,1\n", by_fields())
    assert made.refused == [(2, "broken_row", "007,1")]
    assert [tick.entity_id for tick in made.ticks] == ["008"]
    lines = ['{"id":"a","t":1,"lon":1,"lat":1,"a":1}', "{", "", "[1]", '{"id":"b","t":1,"t":2}', '{"id":"c",}']
    made = Mapped(tmp_path / "json", "a.jsonl", "\n".join(lines), by_fields())
    assert made.refused == [(line, "broken_json", lines[line - 1]) for line in (2, 4, 5, 6)]
    assert (made.result.read, [tick.entity_id for tick in made.ticks]) == (5, ["a"])


def test_json_with_mixed_types_and_missing_keys(tmp_path: Path) -> None:
    lines = [
        '{"id":"a","t":1,"p":{"lon":1,"lat":2},"a":0.5,"z":1}',
        '{"id":5,"t":"2","p":{"lon":1},"a":0.5}',
        '{"id":6,"t":3,"p":{"lon":1,"lat":2},"a":0.5,"z":"x"}',
    ]
    made = Mapped(tmp_path, "a.jsonl", "\n".join(lines), by_fields(x="p.lon", y="p.lat"))
    assert [(tick.entity_id, tick.tick_id) for tick in made.ticks] == [("a", 1), ("6", 3)]
    assert [tick.meta for tick in made.ticks] == [
        '{"p":{"lon":1,"lat":2},"z":1}',
        '{"p":{"lon":1,"lat":2},"z":"x"}',
    ]
    assert [each[:2] for each in made.refused] == [(2, "wrong_type")]


def test_keys_that_sql_cannot_tell_apart(tmp_path: Path) -> None:
    line = '{"id":"a","ID":"b","t":1,"lon":1,"lat":1,"a":1,"":5,"_line":7,"p":{"A":1,"a":2}}'
    (tick,) = Mapped(tmp_path, "a.jsonl", line, by_fields()).ticks
    assert tick.meta == '{"p":{"A":1,"a":2},"ID_1":"b","_1":5,"_line_1":7}'


def test_messages_of_kafka(tmp_path: Path) -> None:
    payload = '{\\"id\\":\\"a\\",\\"t\\":1,\\"lon\\":1,\\"lat\\":1,\\"a\\":1}'
    message = '{{"topic":"t","partition":0,"offset":{},"payload":{}}}\n'
    values = ('"xx"', "null", '""', '" "')
    text = message.format(3, f'"{payload}"') + "".join(message.format(4, value) for value in values) + "\n"
    made = Mapped(tmp_path, "a.jsonl", text, by_fields(), format="kcat")
    assert [tick.entity_id for tick in made.ticks] == ["a"]
    assert [each[:2] for each in made.refused] == [(line, "broken_json") for line in (2, 3, 4, 5)]


def test_order_and_numbers_do_not_depend_on_threads(tmp_path: Path) -> None:
    text = "id,t,lon,lat,a\n" + "".join(f"e{row % 7},{row},1,1,{row % 3 - 1}\n" for row in range(5000))
    for given in (by_fields(), Mapping(sql=f"{SELECT} FROM source"), Mapping(sql=f"{SELECT}, _line FROM source")):
        made = [Mapped(tmp_path / f"{hash(given)}{n}", "a.csv", text, given, n) for n in (1, 2)]
        assert made[0].ticks == made[1].ticks
        assert made[0].refused == made[1].refused
        assert [each[0] for each in made[0].refused] == list(range(2, 5002, 3))


def test_several_bad_rows_of_one_line_are_all_kept(tmp_path: Path) -> None:
    sql = "SELECT id AS entityId, t AS tickId, 1 AS x, 1 AS y, unnest([a, -1, -2]) AS activity, _line FROM source"
    made = Mapped(tmp_path, "a.csv", CSV, Mapping(sql=sql))
    assert [each[:2] for each in made.refused] == [(line, "activity_negative") for line in (2, 2, 3, 3)]


@pytest.mark.parametrize(
    "sql",
    [
        f"{SELECT} FROM source;",
        f"{SELECT}, row_number() OVER (PARTITION BY id ORDER BY t DESC) AS n FROM source ORDER BY t DESC -- last first",
        f"WITH late AS ({SELECT} FROM source WHERE t > 0 ORDER BY 2 DESC) SELECT * FROM late",
        f"{SELECT} FROM (SELECT * EXCLUDE (_line) FROM source) AS s",
        f"{SELECT}, u FROM source, unnest([note]) AS x(u)",
        f"{SELECT}, n FROM source LEFT JOIN (SELECT id AS i, count(*) AS n FROM source GROUP BY id) AS o ON id = i",
        f"{SELECT}, (SELECT max(t) FROM source) AS last FROM source WHERE t IN (SELECT t FROM source)",
    ],
)
def test_a_statement_that_leaves_out_the_line_gets_it(tmp_path: Path, sql: str) -> None:
    text = "id,t,lon,lat,a,note\n\n007,1,1,1,1,x\n\n008,2,1,1,-1,y\n009,3,1,1,-1,z\n"
    made = Mapped(tmp_path, "a.csv", text, Mapping(sql=sql))
    assert sorted(each[:2] for each in made.refused) == [(5, "activity_negative"), (6, "activity_negative")]
    assert all("_line" not in (tick.meta or "") for tick in made.ticks)
    assert [tick.entity_id for tick in made.ticks] == ["007"]


@pytest.mark.parametrize(
    "select",
    [
        f"{SELECT} FROM (SELECT id, t, lon, lat, a FROM source) AS s WHERE COLUMNS(* EXCLUDE (id)) < 3",
        f"{SELECT.replace('lon', 'len(to_json(s))')} FROM (SELECT id, t, lon, lat, a FROM source) AS s",
        f"WITH s AS (SELECT id, t, lon, lat, a FROM source) {SELECT.replace('lon', 'len(to_json(s))')} FROM s",
    ],
)
def test_a_line_that_is_carried_changes_no_row(tmp_path: Path, select: str) -> None:
    text = "id,t,lon,lat,a\n\n\n\n\n\n007,1,1.5,2,0.5\n"
    (tick,) = Mapped(tmp_path, "a.csv", text, Mapping(sql=select)).ticks
    length = len('{"id":"007","t":1,"lon":1.5,"lat":2,"a":0.5}')
    assert tick[:3] == ("007", 1, length if "len" in select else 1.5)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id AS entityId, t AS tickId, 1 AS x, 1 AS y, sum(a) AS activity FROM source GROUP BY ALL",
        "SELECT DISTINCT id AS entityId, t AS tickId, 1 AS x, 1 AS y, a AS activity FROM source",
        f"{SELECT} FROM source UNION SELECT id || '-', t, lon, lat, a FROM source",
        "SELECT s.id AS entityId, s.t AS tickId, 1 AS x, 1 AS y, o.a AS activity FROM source s JOIN source o USING (t)",
    ],
)
def test_rows_without_a_line_have_the_same_number_each_time(tmp_path: Path, sql: str) -> None:
    rows = [f"e{row % 997},{row},1,1,{row % 3 - 1}\n" for row in range(20_000)]
    text = "id,t,lon,lat,a\n" + "".join(rows)
    made = [Mapped(tmp_path / str(n), "a.csv", text, Mapping(sql=sql), n) for n in (1, 2)]
    assert made[0].refused == made[1].refused
    assert made[0].result.refused >= 6_667


@pytest.mark.parametrize("sql", [f"{SELECT} FROM source", f"{SELECT} FROM source UNION ALL {SELECT} FROM source"])
def test_a_second_try_adds_nothing(tmp_path: Path, sql: str) -> None:
    (tmp_path / "a.csv").write_text("id,t,lon,lat,a\n" + "".join(f"e,{n},1,1,{n % 3 - 1}\n" for n in range(5000)))
    repository = make_ledger(tmp_path / "world")
    for threads in (1, 2, 2):
        importer = DuckImporter(repository.store, threads, "1GB", None)
        source = make_source(str(tmp_path / "a.csv"))
        ingest(repository, importer, "main", [source], IngestOptions(Mapping(sql=sql)))
    (file,) = repository.branch("main").quarantine()
    assert file.rows == 1667 * (1 if "UNION" not in sql else 2)


@pytest.mark.parametrize(
    ("line", "given", "raw"),
    [
        (
            '{"id":"b","t":"1","lon":true,"a":1}',
            by_fields(y="1"),
            '{"entityId": "b", "tickId": "1", "x": true, "y": 1, "activity": 1, "lat": null}',
        ),
        (
            '{"id":"b","t":-5,"lon":1,"a":0.5}',
            Mapping(
                sql="SELECT id AS entityId, t::DECIMAL(9,1) AS tickId, 1.5 AS x, 1 AS y, a AS activity FROM source"
            ),
            '{"entityId": "b", "tickId": -5, "x": 1.5, "y": 1, "activity": 0.5}',
        ),
    ],
)
def test_refused_values_are_shown_as_they_are(tmp_path: Path, line: str, given: Mapping, raw: str) -> None:
    others = '\n{"id":"a","t":1,"lon":1,"lat":1,"a":1}'  # so that the columns of the first row are of several types
    made = Mapped(tmp_path, "a.jsonl", line + others, given)
    assert (1, raw) in [(each[0], each[2]) for each in made.refused]
