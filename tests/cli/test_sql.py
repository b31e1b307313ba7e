"""`ledger sql`: every format, files, streams, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ledger_cli import Ledger
from ledger_cli.ports import SQL_VIEWS
from tests.cli.conftest import Run

SUMS = (
    "SELECT region, sum(n) AS n, sum(weight_sum) AS exact, sum(weight) AS weight "
    "FROM commit_entries GROUP BY region ORDER BY region"
)
TABLE = """\
region   n        exact  weight
───────────────────────────────
0:0     20  13800000000    13.8
1:0     20  43800000000    43.8
2:0      5    200000000     0.2
3 rows
"""
CSV = """\
"region","n","exact","weight"
"0:0",20,13800000000,13.8
"1:0",20,43800000000,43.8
"2:0",5,200000000,0.2
"""


def test_table(world: Path, ledger: Run) -> None:
    assert ledger("sql", SUMS).out == TABLE
    assert ledger("sql", SUMS, "--limit", "1").out.splitlines()[-2:] == [
        "… and 2 more rows: --limit N shows more, --format csv all",
        "3 rows",
    ]
    assert ledger("sql", "SELECT 1 AS a WHERE false").out == "a\n─\n0 rows\n"


def test_long_tables_look_the_same(world: Path, ledger: Run) -> None:
    few = ledger("sql", "SELECT 'x' || i AS name, i FROM range(1000) t(i) LIMIT 3").out.splitlines()
    many = ledger("sql", "SELECT 'x' || i AS name, i FROM range(1000) t(i)").out.splitlines()
    assert [line.split() for line in many[2:5]] == [line.split() for line in few[2:5]]
    assert many[-1] == "1 000 rows"
    assert len(many) == 1003


def test_json(world: Path, ledger: Run) -> None:
    expected = [{"region": "2:0", "n": 5, "exact": 200000000, "weight": 0.2}]
    assert ledger("sql", SUMS, "--json").json[2:] == expected
    assert ledger("sql", SUMS, "--format", "json").json[2:] == expected
    assert ledger("sql", "SELECT 1 AS a WHERE false", "--json").json == []


def test_values_that_json_and_csv_have_no_type_for(world: Path, ledger: Run) -> None:
    statement = (
        "SELECT 'nan'::DOUBLE AS a, 'x'::BLOB AS c, [1, NULL] AS d, {'k': 1.50::DECIMAL(9,2)} AS e,"
        " TIMESTAMPTZ '2026-01-01 00:00:00+00' AS f, NULL AS g, 9007199254740993::HUGEINT AS h"
    )
    (row,) = ledger("sql", statement, "--json").json
    assert (row["a"], row["c"], row["d"], row["e"]) == (None, "78", [1, None], {"k": "1.50"})
    assert (row["f"], row["g"], row["h"]) == ("2026-01-01T00:00:00+00:00", None, "9007199254740993")
    (head, line) = list(csv.reader(io.StringIO(ledger("sql", statement, "--format", "csv").out)))
    values = dict(zip(head, line, strict=True))
    assert (values["d"], values["e"], values["h"]) == ("[1,null]", '{"k":"1.50"}', "9007199254740993")
    assert ledger("sql", statement).code == 0


def test_no_file_stays_open(world: Path) -> None:
    """DuckDB does not close all that it opens."""
    with Ledger.open(world) as ledger:

        def held() -> int:
            ledger.sql("SELECT * FROM commit_entries JOIN commits USING (commit_id) JOIN ticks ON true LIMIT 5")
            return sum("/segments/" in each or "/commits/" in each for each in map(opened, os.listdir("/proc/self/fd")))

        def opened(number: str) -> str:
            try:
                return os.readlink(f"/proc/self/fd/{number}")
            except FileNotFoundError:
                return ""  # the one that lists them

        assert held() == held() == 0


def test_what_there_is(world: Path, ledger: Run) -> None:
    shown = ledger("sql", "SHOW TABLES", "--json").json
    assert [row["name"] for row in shown] == sorted(SQL_VIEWS)
    described = ledger("sql", "DESCRIBE ticks", "--json").json
    assert [row["column_name"] for row in described][:2] == ["entity_id", "tick_id"]


FAR = {
    "DATE 'infinity'": "infinity",
    "TIMESTAMP '-infinity'": "-infinity",
    "TIMESTAMPTZ 'infinity'": "infinity",
    "DATE '10000-01-01'": "10000-01-01",
    "DATE '0044-03-15 (BC)'": "0044-03-15 (BC)",
    "TIMESTAMP '0044-03-15 (BC) 01:02:03.5'": "0044-03-15 (BC) 01:02:03.5",
    "TIMESTAMPTZ '12000-01-01 01:02:03+00'": "12000-01-01 01:02:03+00",
    "'2020-01-01 00:00:00.123456789'::TIMESTAMP_NS": "2020-01-01 00:00:00.123456789",
    "INTERVAL '-14 months 3 days 04:05:06.5'": "-1 year -2 months 3 days 04:05:06.5",
    "INTERVAL 0 DAY": "00:00:00",
}


@pytest.mark.parametrize(("value", "text"), FAR.items())
def test_dates_and_times_that_python_has_no_value_for(value: str, text: str, world: Path, ledger: Run) -> None:
    statement = f"SELECT {value} AS v"
    assert ledger("sql", f"SELECT ({value})::VARCHAR AS v", "--json").json == [{"v": text}], "as DuckDB shows it"
    assert ledger("sql", statement).out.splitlines()[2].strip() == text
    assert ledger("sql", statement, "--json").json == [{"v": text}]
    assert ledger("sql", statement, "--format", "csv").out == f'"v"\n"{text}"\n'
    assert ledger("sql", f"SELECT [{value}, NULL] AS v", "--json").json == [{"v": [text, None]}]


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_an_answer_is_written_as_it_comes(format: str, world: Path, tmp_path: Path, ledger: Run) -> None:
    # All of it has no room anywhere, and would take hours.
    out = tmp_path / "first"
    endless = "SELECT range AS n FROM range(1000000000000)"
    ran = ledger("sql", endless, "--limit", "3", "--format", format, "--out", out)
    assert ran.err == f"wrote 3 rows to {out}\n"
    if format == "parquet":
        assert pq.read_table(out).to_pydict() == {"n": [0, 1, 2]}
    if format == "csv":
        assert out.read_text() == '"n"\n0\n1\n2\n'


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_an_error_in_the_middle_leaves_no_half_file(format: str, world: Path, tmp_path: Path, ledger: Run) -> None:
    out = tmp_path / "files" / "a"
    out.parent.mkdir()
    statement = "SELECT CASE WHEN range = 2000000 THEN error('too far') ELSE 'near' END AS n FROM range(3000000)"
    assert "too far" in ledger("sql", statement, "--out", out, "--format", format, code=2).err
    assert list(out.parent.iterdir()) == []


def test_whether_a_column_has_large_integers_is_one_answer_for_all_rows(world: Path, ledger: Run) -> None:
    statement = "SELECT range::HUGEINT + if(range = 150000, 10::HUGEINT ** 20, 0)::HUGEINT AS n FROM range({})"
    rows = ledger("sql", statement.format(200000), "--json").json
    assert (rows[0], rows[150000]) == ({"n": "0"}, {"n": "100000000000000150000"})
    assert ledger("sql", statement.format(150000), "--json").json[0] == {"n": 0}


def test_integers_that_readers_of_json_would_change_are_texts(world: Path, ledger: Run) -> None:
    large = "SELECT unnest([1, {}]) AS n, 5 AS small, unnest([2, NULL]) AS null_last"
    safe = ledger("sql", large.format("9007199254740992::BIGINT"), "--json").json
    assert [row["n"] for row in safe] == [1, 2**53]
    for value, text in (
        ("9007199254740993::BIGINT", "9007199254740993"),
        ("(-9223372036854775808)::BIGINT", "-9223372036854775808"),
        ("18446744073709551615::UBIGINT", "18446744073709551615"),
    ):
        rows = ledger("sql", large.format(value), "--json").json
        assert rows == [{"n": "1", "small": 5, "null_last": 2}, {"n": text, "small": 5, "null_last": None}]
        assert text in ledger("sql", large.format(value), "--format", "csv").out


def test_columns_of_one_name_have_no_room_in_json(world: Path, tmp_path: Path, ledger: Run) -> None:
    statement = "SELECT 1 AS a, 2 AS a, 3 AS b"
    assert "several columns are called a: name them apart" in ledger("sql", statement, "--json", code=2).err
    out = tmp_path / "files" / "a.json"
    out.parent.mkdir()
    ledger("sql", statement, "--out", out, code=2)
    assert list(out.parent.iterdir()) == []
    assert ledger("sql", statement, "--format", "csv").out == '"a","a","b"\n1,2,3\n'
    assert ledger("sql", statement).out.split()[:3] == ["a", "a", "b"]


def test_csv_and_files(world: Path, tmp_path: Path, ledger: Run) -> None:
    assert ledger("sql", SUMS, "--format", "csv").out == CSV
    ran = ledger("sql", SUMS, "--out", tmp_path / "a.csv")
    assert (ran.out, ran.err) == ("", f"wrote 3 rows to {tmp_path / 'a.csv'}\n")
    assert (tmp_path / "a.csv").read_text() == CSV
    ledger("sql", SUMS, "--out", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 3
    ledger("sql", SUMS, "--out", tmp_path / "a", "--format", "json")
    assert len(json.loads((tmp_path / "a").read_text())) == 3


def test_text_that_looks_like_markup(world: Path, ledger: Run) -> None:
    out = ledger("sql", "SELECT '[red]x[/red] :smile: ' || chr(27) || '[31m' AS \"[b]\"").out
    assert out.splitlines()[0] == "[b]"
    assert out.splitlines()[2] == "[red]x[/red] :smile: �[31m"


def test_errors(world: Path, tmp_path: Path, ledger: Run) -> None:
    views = "use ticks, commits, commit_entries, entity_state, world, world_events, quarantine, refs\n"
    assert ledger("sql", "FROM nothere", code=2).err == f"ledger: there is no table nothere: {views}"
    assert ledger("sql", "FROM tick", code=2).err == f"ledger: there is no table tick, did you mean ticks: {views}"
    assert 'not found in FROM clause! Candidate bindings: "y"' in ledger("sql", "SELECT yy FROM ticks", code=2).err
    assert 'does not exist! Did you mean "length"?' in ledger("sql", "SELECT lenght('a')", code=2).err
    assert 'near "SELEKT"; correct it there' in ledger("sql", "SELEKT", code=2).err
    assert "`DESCRIBE` and the name of a view" in ledger("sql", "SELECT colour FROM ticks", code=2).err
    assert 'use "n"::VARCHAR' in ledger("sql", "SELECT 5::UHUGEINT AS n", code=2).err
    assert "only reads" in ledger("sql", "DROP TABLE ticks", code=2).err
    assert "none of table" in ledger("sql", "SELECT 1", "--format", "xml", code=2).err
    assert "exclude each other" in ledger("sql", "SELECT 1", "--format", "csv", "--json", code=2).err
    assert "or add --format" in ledger("sql", "SELECT 1", "--out", tmp_path / "a.txt", code=2).err
    assert "make it" in ledger("sql", "SELECT 1", "--out", tmp_path / "no" / "a.csv", code=2).err
    assert "is a directory" in ledger("sql", "SELECT 1", "--out", tmp_path, "--format", "csv", code=2).err
    assert list(tmp_path.glob("*.draft")) == []


def test_a_directory_that_cannot_be_written(world: Path, ledger: Run) -> None:
    # Not even root may make a file there.
    ran = ledger("sql", "SELECT 1", "--out", "/proc/a.csv", code=1)
    assert ran.err.startswith("ledger: /proc/a.csv cannot be written (")


def test_a_device_that_is_full(world: Path, ledger: Run) -> None:
    ran = ledger("sql", "FROM ticks", "--out", "/dev/full", "--format", "csv", code=1)
    assert "No space left" in ran.err


def _shell(command: str) -> subprocess.CompletedProcess[bytes]:
    python = f"{sys.executable} -m ledger_cli"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("ledger ", f"{python} ", 1)],
        capture_output=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize("command", ["sql 'FROM range(200000)'", "sql --json 'FROM range(200000)'", "log --json"])
def test_a_reader_that_goes_away(world: Path, command: str) -> None:
    ran = _shell(f"ledger {command} | head -1 > /dev/null")
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_parquet_through_a_pipe_but_not_to_a_terminal(world: Path) -> None:
    assert _shell("ledger sql 'FROM ticks' --format parquet | head -c 4").stdout == b"PAR1"
    script = f"script -qec \"{sys.executable} -m ledger_cli sql 'FROM ticks' --format parquet\" /dev/null"
    ran = _shell(script)
    assert ran.returncode == 2
    assert b"this is a terminal: add --out FILE" in ran.stdout
