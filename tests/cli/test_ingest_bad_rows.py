"""What a person sees of rows that cannot be used: each goes to quarantine alone, and the next step is named."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ledger_cli.render import output
from tests.cli.conftest import Run


@pytest.fixture
def new(tmp_path: Path, ledger: Run) -> Path:
    assert ledger("init", tmp_path / "world").code == 0
    return tmp_path / "world"


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("meta", pa.array([[("a", 1), ("a", 2)], [("b", 1)]], pa.map_(pa.string(), pa.int64())), "broken_json"),
        ("timestamp", pa.array([2**62, 5], pa.timestamp("ms")), "bad_timestamp"),
        ("seen", pa.array([-(2**60), None], pa.timestamp("ms")), "bad_timestamp"),
        ("tags", pa.array([[[("k", 1)], [("k", 1), ("k", 1)]], None], pa.list_(pa.map_(pa.string(), pa.int64()))),
         "broken_json"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mapped", [False, True])
def test_a_value_that_the_engine_cannot_hold(
    tmp_path: Path, new: Path, ledger: Run, column: str, values: pa.Array, reason: str, mapped: bool
) -> None:
    table = pa.table({"entityId": ["A", "B"], "tickId": [1, 2], "x": [1.0, 1], "y": [1.0, 1], "activity": [1.0, 1]})
    pq.write_table(table.append_column(column, values), tmp_path / "a.parquet")
    options = ["--map", "x=x"] if mapped else []
    done = ledger("ingest", tmp_path / "a.parquet", "--ledger", new, "--json", *options, code=3)
    assert (done.json["stored"], done.json["quarantined"]) == (1, {reason: 1})
    (row,) = ledger("sql", "FROM quarantine", "--ledger", new, "--json").json
    assert (row["line"], row["raw"][:16]) == (1, '{"entityId": "A"')


def test_names_with_letters_that_mean_something_in_a_pattern(tmp_path: Path, ledger: Run) -> None:
    home = tmp_path / "a[b]*c?d"
    ledger("init", home)
    lines = ["entityId,tickId,x,y,activity", *(f"E{n % 3},{n // 3},1,2,0.5" for n in range(30))]
    (home / "e[1].csv").write_text("\n".join(lines))
    for stored, duplicates in ((30, 0), (0, 30)):
        done = ledger("ingest", home / "e[1].csv", "--ledger", home, "--map", "x=x*2", "--json").json
        assert (done["stored"], done["duplicates"]) == (stored, duplicates)
    ledger("commit", "--ledger", home, "--interval", "5", "--final")
    assert ledger("sql", "SELECT max(x) AS x FROM ticks", "--ledger", home, "--json").json == [{"x": 2.0}]
    assert ledger("gamma", "--ledger", home, "--json").json["regions"]
    assert "all equal" in ledger("replay", "--verify", "--ledger", home).out


def test_an_expression_that_fails_for_a_row(tmp_path: Path, new: Path, ledger: Run) -> None:
    (tmp_path / "a.csv").write_text("id,t,x,y,a,ts\nA,1,1,2,0.5,2026-01-01\nB,two,1,2,0.5,2026-01-02\nC,3,1,2,1,soon\n")
    maps = ["entityId=id", "tickId=t::BIGINT", "activity=a", "timestamp=strptime(ts, '%Y-%m-%d')"]
    options = [each for text in maps for each in ("--map", text)]
    done = ledger("ingest", tmp_path / "a.csv", "--ledger", new, "--json", *options, code=3)
    assert (done.json["stored"], done.json["quarantined"]) == (1, {"wrong_type": 2})
    rows = ledger("sql", "SELECT line, raw FROM quarantine ORDER BY line", "--ledger", new, "--json").json
    assert [(row["line"], '"t":"two"' in row["raw"], '"ts":"soon"' in row["raw"]) for row in rows] == [
        (3, True, False),
        (4, False, True),
    ]


def test_a_column_that_is_not_there(tmp_path: Path, new: Path, ledger: Run) -> None:
    (tmp_path / "a.csv").write_text("icao24,t\nA,1\n")
    done = ledger("ingest", tmp_path / "a.csv", "--ledger", new, "--map", "entityId=icao", code=2)
    assert "icao24" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"entity_id": "A", "tickId": 1, "x": 1, "y": 1, "activity": 1}, "--map entityId=entity_id"),
        ({"entityId": "A", "tick_id": 1, "x": 1, "y": 1, "activity": 1}, "--map tickId=tick_id"),
        ({"entityId": "A", "tickId": 1, "pos": {"x": 1, "y": 1}, "activity": 1}, "--map x=pos.x --map y=pos.y"),
        ({"entityId": "A", "tickId": 1, "x": 1, "y": 1, "speed": 1}, "--map activity=speed"),
        ({"entityId": 7, "tickId": 1, "x": 1, "y": 1, "activity": 1}, "--map entityId=entityId"),
        ({"entityId": "A", "tickId": 1, "x": 1, "y": 1, "activity": "1"}, "--map activity=activity::DOUBLE"),
    ],
)
def test_rows_that_are_all_refused_are_meant_otherwise(
    tmp_path: Path, new: Path, ledger: Run, row: dict[str, object], advice: str
) -> None:
    """What is advised helps."""
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    done = ledger("ingest", tmp_path / "a.jsonl", "--ledger", new, code=3)
    assert advice in done.err
    helped = ledger("ingest", tmp_path / "a.jsonl", "--ledger", new, *shlex.split(advice), "--json")
    assert helped.json["stored"] == 1
    assert "warning" not in helped.err


def test_one_good_row_needs_no_advice(tmp_path: Path, new: Path, ledger: Run) -> None:
    good = {"entityId": "A", "tickId": 1, "x": 1, "y": 1, "activity": 1}
    (tmp_path / "a.jsonl").write_text(json.dumps(good) + '\n{"x": 1}\n')
    assert "warning" not in ledger("ingest", tmp_path / "a.jsonl", "--ledger", new, code=3).err


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_a_source_without_rows_is_told(tmp_path: Path, new: Path, ledger: Run, name: str) -> None:
    (tmp_path / name).touch()
    assert "there was no row to read" in ledger("ingest", tmp_path / name, "--ledger", new).err


@pytest.mark.parametrize("options", [[], ["--map", "x=x"]])
def test_text_that_is_not_utf8(tmp_path: Path, new: Path, ledger: Run, options: list[str]) -> None:
    good = b'{"entityId":"b","tickId":1,"x":1,"y":1,"activity":1}\n'
    (tmp_path / "a.jsonl").write_bytes(good + good.replace(b"b", b"caf\xe9", 1))
    (tmp_path / "a.csv").write_bytes(b"entityId,tickId,x,y,activity\nc,1,1,1,1\ncaf\xe9,1,1,1,1\n")
    for name in ("a.jsonl", "a.csv"):
        done = ledger("ingest", tmp_path / name, "--ledger", new, "--json", *options, code=3)
        assert (done.json["stored"], done.json["quarantined"]) == (1, {"not_utf8": 1})
        assert "iconv -f LATIN1 -t UTF-8" in done.err
    rows = ledger("sql", "SELECT raw FROM quarantine", "--ledger", new, "--json").json
    assert all("caf\ufffd" in row["raw"] for row in rows)


def test_the_hint_leads_to_the_same_place(tmp_path: Path, new: Path, ledger: Run) -> None:
    (tmp_path / "a.jsonl").write_text("{\n")
    done = ledger("ingest", tmp_path / "a.jsonl", "--ledger", new, code=3)
    assert f'`ledger sql "SELECT source, line, reason, raw FROM quarantine" --ledger {new}`' in done.err


@pytest.mark.parametrize("torn", [False, True])
def test_a_lost_quarantine_file(tmp_path: Path, new: Path, ledger: Run, torn: bool) -> None:
    (tmp_path / "a.jsonl").write_text('{"entityId":"b","tickId":1,"x":1,"y":1,"activity":1}\n{\n')
    ledger("ingest", tmp_path / "a.jsonl", "--ledger", new, code=3)
    (file,) = (new / "quarantine").iterdir()
    file.chmod(0o600)
    if torn:
        file.write_bytes(file.read_bytes()[:50])
    else:
        file.unlink()
    assert len(ledger("sql", "FROM ticks", "--ledger", new, "--json").json) == 1
    done = ledger("sql", "FROM quarantine", "--ledger", new, code=1)
    assert f"quarantine/{file.name} cannot be read: run `ledger verify`" in done.err
    assert "^" not in done.err


def test_a_file_is_no_ledger(tmp_path: Path, ledger: Run) -> None:
    (tmp_path / "plain").touch()
    done = ledger("init", tmp_path / "plain", code=2)
    assert "plain is a file: choose another directory" in done.err


def test_settings_with_a_byte_order_mark(new: Path, ledger: Run) -> None:
    settings = new / "ledger.toml"
    settings.write_bytes(b"\xef\xbb\xbf" + settings.read_bytes())
    assert ledger("status", "--ledger", new).code == 0


def test_a_very_long_row_does_not_flood_the_terminal(
    tmp_path: Path, new: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text("{" + "x" * 100_000)
    ledger("ingest", tmp_path / "a.jsonl", "--ledger", new, code=3)
    assert len(ledger("sql", "FROM quarantine", "--ledger", new, "--json").json[0]["raw"]) == 100_001
    monkeypatch.setattr(output, "stdout", lambda: Console(force_terminal=True, no_color=True, width=80))
    shown = ledger("sql", "FROM quarantine", "--ledger", new).out
    assert "more: --json shows all" in shown
    assert len(shown) < 3000
