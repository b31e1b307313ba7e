"""What was acknowledged survives a loss of power: every file was synced, and the directory that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from tests.support import events_at


def test_what_is_acknowledged_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    source = tmp_path / "ticks.jsonl"
    source.write_text("".join(json.dumps(event) + "\n" for event in events_at(*range(30))))
    event = {"entityId": "E1", "type": "a.b.v1", "payload": {}, "handshake": {"protocol": PROTOCOL}}
    with Ledger.create(tmp_path / "ledger", interval=10, bus="../told.jsonl") as ledger:
        ledger.ingest(source)
        ledger.commit(final=True)
        ledger.world.register("a.b.v1")
        ledger.world.apply([json.dumps(event).encode(), b"{"])
        ledger.snapshots.create()
        ledger.archive(20, to=tmp_path / "far" / "away")
    kept = [path for path in (tmp_path / "ledger").rglob("*") if path.is_file()]
    kept = [path for path in kept if not {"cache", "scratch"} & {*path.relative_to(tmp_path / "ledger").parts}]
    folders = {path.relative_to(tmp_path).parts[1] for path in kept}
    assert folders >= {"segments", "commits", "refs", "quarantine", "snapshots", "ledger.toml"}
    away = [*(tmp_path / "far" / "away").iterdir()]
    assert away
    for path in [*kept, *away, tmp_path / "told.jsonl"]:
        named_in = [each for each in path.parents if each.is_relative_to(tmp_path)]
        for each in (path, *named_in):
            assert each.stat().st_ino in synced, each
