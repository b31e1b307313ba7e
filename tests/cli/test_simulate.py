"""`ledger simulate`: the same options, the same bytes; every format; commands; what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Run

SMALL = ("--entities", "6", "--ticks", "40", "--seed", "3")
COMMAND = {"entityId": "E1", "cmd": "setActivity", "params": {"value": 2.5, "rampTicks": 4}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_same_options_same_bytes_and_another_seed_another_world(ledger: Run) -> None:
    assert ledger("simulate", "a.jsonl", *SMALL).out == "wrote 240 rows: 6 entities, ticks 0 to 39, to a.jsonl\n"
    ledger("simulate", "b.jsonl", *SMALL)
    ledger("simulate", "c.jsonl", *SMALL[:-1], "4")
    assert Path("a.jsonl").read_bytes() == Path("b.jsonl").read_bytes() != Path("c.jsonl").read_bytes()


def test_stdout_takes_rows_alone(ledger: Run) -> None:
    told = ledger("simulate", "-", *SMALL)
    ledger("simulate", "a.jsonl", *SMALL)
    assert told.out == Path("a.jsonl").read_text()
    assert told.err == "wrote 240 rows: 6 entities, ticks 0 to 39\n"
    assert "want stdout" in ledger("simulate", "-", "--json", code=2).err


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("t.jsonl", None),
        ("t.json", None),
        ("t.csv", None),
        ("t.tsv.gz", None),
        ("t.parquet", None),
        ("t.arrow", None),
        ("t.jsonl.zst", None),
        ("t.txt", "kcat"),
        ("t.txt", "kafka-console"),
    ],
)
def test_every_format_is_read_back_whole(ledger: Run, name: str, format_name: str | None) -> None:
    given = () if format_name is None else ("--format", format_name)
    result = ledger("simulate", name, *SMALL, *given, "--json").json
    assert result == {
        "target": name,
        "rows": 240,
        "entities": 6,
        "firstTick": 0,
        "endTick": 40,
        "seed": 3,
        "commands": 0,
        "unusedCommands": 0,
    }
    ledger("init", "world")
    ledger("simulate", "plain.jsonl", *SMALL)
    assert ledger("ingest", name, *given, "--ledger", "world", "--json").json["stored"] == 240
    again = ledger("ingest", "plain.jsonl", "--ledger", "world", "--json").json
    assert (again["duplicates"], again["quarantined"]) == (240, {})


def test_what_has_no_effect_is_told(ledger: Run) -> None:
    assert ledger("simulate", "none.jsonl", "--ticks", "0").out == (
        "wrote 0 rows: 100 entities, no ticks, to none.jsonl\n"
    )
    last, after = ({**COMMAND, "timestamp": f"2026-01-01T00:00:{second}Z"} for second in ("39", "39.001"))
    Path("c.jsonl").write_text(json.dumps(last) + "\n" + json.dumps(after) + "\n")
    told = ledger("simulate", "led.jsonl", *SMALL, "--commands", "c.jsonl", "--json")
    assert (told.json["commands"], told.json["unusedCommands"]) == (2, 1)
    assert told.err == "warning: 1 command after the last tick had no effect: simulate more --ticks\n"
    Path("c.jsonl").write_text(json.dumps(last))
    assert ledger("simulate", "led.jsonl", *SMALL, "--commands", "c.jsonl").err == ""


def test_commands_lead_activities(ledger: Run) -> None:
    command = {**COMMAND, "timestamp": "2026-03-01T00:00:05Z"}
    Path("c.jsonl").write_text(json.dumps(command) + "\n\n")
    given = (*SMALL, "--start", "2026-03-01T01:00:00+01:00", "--tick-ms", "500", "--first-tick", "100")
    ledger("simulate", "plain.jsonl", *given)
    assert ledger("simulate", "led.jsonl", *given, "--commands", "c.jsonl", "--json").json["commands"] == 1
    plain, led = ([json.loads(line) for line in Path(f"{n}.jsonl").read_text().splitlines()] for n in ("plain", "led"))
    assert plain[0]["tickId"] == 100
    assert plain[0]["timestamp"] == "2026-03-01T00:00:00Z"
    assert plain[6]["timestamp"] == "2026-03-01T00:00:00.500Z"
    changed = {(a["entityId"], a["tickId"]) for a, b in zip(plain, led, strict=True) if a != b}
    assert {entity for entity, _ in changed} == {"E1"}
    assert min(tick for _, tick in changed) > 110 - 1
    assert {row["activity"] for row in led if row["entityId"] == "E1" and row["tickId"] >= 114} == {2.5}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("t.xyz",), "does not tell its format"),
        (("t.csv", "--format", "xml"), "xml"),
        (("t.csv", "--entities", "0"), "entities is 0: give an integer from 1"),
        (("t.csv", "--size", "ten"), "--size 'ten': write it as W or W,H"),
        (("t.csv", "--size", "1,2,3"), "write it as W or W,H"),
        (("t.csv", "--start", "noon"), "write it as 2026-01-01T00:00:00Z"),
        (("t.csv", "--start", "2026-01-01T00:00:00"), "has no zone"),
        (("t.csv", "--commands", "no.jsonl"), "no.jsonl: no such file"),
        (("t.csv", "--commands", "bad.jsonl"), "bad.jsonl, line 2: not JSON"),
        (("t.csv", "--commands", "list.jsonl"), "list.jsonl, line 1: a command is a JSON object"),
        (("t.csv", "--commands", "other.jsonl"), 'other.jsonl, line 1: Unknown command "jump"'),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(ledger: Run, arguments: tuple[str, ...], told: str) -> None:
    good = json.dumps({**COMMAND, "timestamp": "2026-01-01T00:00:05Z"})
    Path("bad.jsonl").write_text(f"{good}\n{{\n")
    Path("list.jsonl").write_text("[1]\n")
    Path("other.jsonl").write_text(json.dumps({**COMMAND, "cmd": "jump"}) + "\n")
    assert told in ledger("simulate", *arguments, code=2).err
    assert not list(Path().glob("t.*"))
