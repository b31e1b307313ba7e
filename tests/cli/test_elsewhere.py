"""A ledger at a URL answers as one in a directory does: the same commands, the same ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.core.world import PROTOCOL
from tests.cli.conftest import Run
from tests.stores import engines

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
OPENED = "building.opened.v1"
SCHEMA = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
EVENTS = "".join(
    json.dumps(
        {
            "eventId": f"e{number}",
            "entityId": "door-7",
            "type": OPENED,
            "payload": {"open": number % 2 == 0},
            "hlc": f"2026-01-01T00:00:0{number}.000000Z-0000-here",
            "handshake": {"protocol": PROTOCOL},
        }
    )
    + "\n"
    for number in range(3)
)


@pytest.fixture(params=[name for name in engines.NAMES if name in (*engines.ELSEWHERE, "ceph")])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL where a ledger is to be, and an empty cache."""
    monkeypatch.setenv("LEDGER_CACHE", str(tmp_path / "cache"))
    with engines.place(request.param) as url:
        yield url


def _life(ledger: Run, place: str | Path, scratch: Path) -> dict[str, Any]:
    """What a ledger answers from `init` to a snapshot: what has to be the same wherever it is."""

    def ran(*arguments: str | Path, **given: Any) -> Any:
        return ledger(*arguments, "--ledger", place, "--json", **given).json

    ledger("init", place, "--regions", "grid:128", "--interval", "5", "--shards", "2")
    said: dict[str, Any] = {"ingested": ran("ingest", FIXTURES / "ticks.jsonl.zst")["stored"]}
    ran("commit", "--final")
    said["commits"] = [(each["commitId"], each["digest"]) for each in ran("log")]
    said["gamma"] = ran("gamma")
    ran("fork", "other", "--from", said["commits"][3][0])
    ran("commit", "--branch", "other")
    said["other"] = [each["digest"] for each in ran("log", "--branch", "other")]
    said["replay"] = ran("replay", "--verify")["digest"]
    said["verified"] = ran("verify")["ok"]
    said["rows"] = ran("sql", "SELECT count(*) AS n, sum(activity) AS a FROM ticks")
    schema = scratch / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    ran("schema", "register", OPENED, "--schema", schema)
    applied = ran("world", "apply", "-", stdin=EVENTS)
    said["applied"] = applied["applied"]
    said["door"] = ran("world", "get", "door-7")["state"]
    said["snapshot"] = ran("snapshot", "create")["digest"]
    said["snapshots"] = len(ran("snapshot", "list"))
    said["branches"] = [each["branch"] for each in ran("branch", "list")]
    said["status"] = ran("status")["digest"]
    return said


def test_the_same_as_in_a_directory(place: str, ledger: Run, tmp_path: Path) -> None:
    assert _life(ledger, place, tmp_path) == _life(ledger, tmp_path / "world", tmp_path)


def test_small_files_go_into_packs(ledger: Run, place: str, tmp_path: Path) -> None:
    def ran(*arguments: str | Path) -> Any:
        return ledger(*arguments, "--ledger", place, "--json").json

    ledger("init", place, "--regions", "grid:10", "--interval", "10")
    for number in range(4):
        event = {"entityId": "E1", "tickId": number * 10, "x": 1, "y": 1, "activity": 0.5}
        (tmp_path / "ticks.jsonl").write_text(json.dumps(event) + "\n")
        ran("ingest", tmp_path / "ticks.jsonl")
        ran("commit")
    asked = [("log", "--entries"), ("gamma",), ("replay", "--verify"), ("sql", "SELECT * FROM ticks ORDER BY tick_id")]
    before = [ran(*each) for each in asked]
    assert ran("compact", "--grace", "0s")["removed"] == 7
    assert [ran(*each) for each in asked] == before
    ran("commit", "--final")
    assert ran("replay", "--verify")["commits"] == 4
    assert ran("verify")["ok"]
