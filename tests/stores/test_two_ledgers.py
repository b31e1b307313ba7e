"""Two ledgers that meet in one process, over every engine: some can be opened by a process once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger_cli import Ledger
from tests.stores.engines import EMBEDDED

EMBEDDED_NAMES = sorted(EMBEDDED)


def event(name: str, type: str = "shop.moved.v1") -> str:
    return json.dumps(
        {"eventId": name, "entityId": name, "type": type, "payload": {}, "handshake": {"protocol": "55-45-17"}}
    )


def make(path: Path, engine: str, text: str = "") -> Path:
    Ledger.create(path, store=EMBEDDED[engine] or None).close()
    with (path / "ledger.toml").open("a") as file:
        file.write(f'{text}\n[types."shop.moved.v1"]\n[types."shop.paid.v1"]\nconsistency = "strong"\n')
    return path


def known(path: Path) -> list[str]:
    with Ledger.open(path) as ledger:
        ids: list[str] = ledger.world.find()["entity_id"].to_pylist()
        return ids


@pytest.mark.parametrize("engine", EMBEDDED_NAMES)
@pytest.mark.parametrize("consistency", ["causal", "strong"])
def test_both_take_in_what_the_other_has(engine: str, consistency: str, tmp_path: Path) -> None:
    here, there = (make(tmp_path / name, engine) for name in ("here", "there"))
    for path in (here, there):
        with Ledger.open(path) as ledger:
            ledger.world.apply([event(path.name)])
    with Ledger.open(here) as ledger:
        ledger.sync(there, consistency=consistency)
        ledger.world.apply([event("later")])
    assert (known(here), known(there)) == (["here", "later", "there"], ["here", "there"])


@pytest.mark.parametrize("engine", EMBEDDED_NAMES)
def test_what_is_archived_here_keeps_nothing_of_others_away(engine: str, tmp_path: Path) -> None:
    here, there = (make(tmp_path / name, engine) for name in ("here", "there"))
    for number, path in enumerate((here, there)):
        ticks = [{"entityId": path.name, "tickId": tick, "x": number, "y": 1, "activity": 1} for tick in range(300)]
        (tmp_path / "ticks.jsonl").write_text("\n".join(map(json.dumps, ticks)))
        with Ledger.open(path) as ledger:
            ledger.ingest(tmp_path / "ticks.jsonl")
            ledger.commit()
            assert len(ledger.sql("FROM commit_entries")) == 2, "a copy of the batch is made"
            ledger.archive(before=200)
    with Ledger.open(here) as ledger:
        ledger.sync(there)
        assert ledger.status().rows == 600
        assert ledger.verify(archives=True).ok
        assert ledger.replay().ok
    with Ledger.open(there) as ledger:
        assert ledger.status().rows == 600
        assert ledger.verify(archives=True).ok
        assert ledger.replay().ok


@pytest.mark.parametrize("engine", EMBEDDED_NAMES)
def test_strong_events_go_by_the_canonical_ledger(engine: str, tmp_path: Path) -> None:
    make(tmp_path / "bank", engine)
    till = make(tmp_path / "till", engine)
    text = (till / "ledger.toml").read_text()
    (till / "ledger.toml").write_text(text.replace("# canonical = ", 'canonical = "../bank" # '))
    with Ledger.open(till) as ledger:
        assert ledger.world.apply([event("first"), event("paid", "shop.paid.v1"), event("last")]).applied == 3
        assert ledger.world.apply([event("again")]).applied == 1
    assert (known(till), known(tmp_path / "bank")) == (["again", "first", "last", "paid"], ["paid"])
