"""Compaction changes no answer and no id: a ledger that is compacted at random points is as one that never was."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_cli.api import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.wiring import machine

SETTINGS: dict[str, Any] = {"strategy": "fixed", "interval": 10, "shards": 2, "regions": "grid:10", "lateness": 3}
ACTS = ["ingest", "ingest", "commit", "commit", "final", "apply", "apply", "fork", "delete", "compact", "compact"]
CLOCK = 1_767_225_600_000_000
"""µs since 1970."""


class Twins:
    """The same acts on two ledgers, of which one is compacted."""

    def __init__(self, home: Path, chance: random.Random) -> None:
        self.home = home
        self.chance = chance
        self.roots = [home / "never", home / "compacted"]
        for root in self.roots:
            Ledger.create(root, **SETTINGS).close()
        self.ledgers = [Ledger.open(root) for root in self.roots]
        self.acts = 0
        self.packed = 0
        self.removed = 0

    def act(self, what: str) -> None:
        self.acts += 1
        branch = self.chance.choice([view.name for view in self.ledgers[0].branches()])
        if what == "compact":
            self.compact()
            return
        seed = self.chance.random()
        heads = []
        for ledger in self.ledgers:
            self.chance.seed(seed)
            self.do(ledger, what, branch)
            heads.append({view.name: view.to_json() for view in ledger.branches()})
        assert without_time(heads[1]) == without_time(heads[0]), what

    def do(self, ledger: Ledger, what: str, branch: str) -> None:
        path = self.home / "given.jsonl"
        if what == "ingest":
            low = self.chance.randrange(60)
            ticks = [self._tick(low) for _ in range(self.chance.randrange(1, 9))]
            path.write_text("\n".join([*map(json.dumps, ticks), *["{"] * self.chance.randrange(2)]) + "\n")
            ledger.ingest(path, branch=branch)
        elif what in ("commit", "final"):
            ledger.commit(branch, final=what == "final")
        elif what == "apply":
            path.write_text("\n".join(json.dumps(self._event(number)) for number in range(2)) + "\n")
            ledger.world.apply_file(str(path), branch)
        elif what == "fork":
            place = self.chance.choice([None, 5, 25, 40])
            ledger.fork(f"fork-{self.acts}", place, branch)
        elif branch != "main":
            ledger.delete_branch(branch)

    def _tick(self, low: int) -> dict[str, Any]:
        return {
            "entityId": f"E{self.chance.randrange(3)}",
            "tickId": low + self.chance.randrange(20),
            "x": self.chance.randrange(-15, 15),
            "y": self.chance.randrange(15),
            "activity": self.chance.randrange(100) / 100,
        }

    def _event(self, number: int) -> dict[str, Any]:
        return {
            "eventId": f"e{self.acts}-{number}",
            "entityId": f"door-{self.chance.randrange(3)}",
            "type": "building.opened.v1",
            "payload": {"n": self.chance.randrange(9)},
            "handshake": {"protocol": PROTOCOL},
        }

    def compact(self) -> None:
        """Now and then by a process that the ledger's own does not know of."""
        with Ledger.open(self.roots[1]) as other:
            ledger = self.ledgers[1] if self.chance.random() < 0.5 else other
            grace = self.chance.choice(["0s", "0s", "1d"])
            target = self.chance.choice([4_000, 10**8])
            done = ledger.compact(grace=grace, target=target)
            self.packed += done.files
            self.removed += done.removed
            assert grace == "1d" or not done.waiting
            assert not ledger.compact(grace=grace, target=target).files

    def compare(self) -> None:
        for ledgers in (self.ledgers, [Ledger.open(root) for root in self.roots]):
            never, compacted = (answers(ledger) for ledger in ledgers)
            assert compacted == never


def answers(ledger: Ledger) -> list[Any]:
    found: list[Any] = []
    for view in ledger.branches():
        name = view.name
        found.append(without_time(ledger.log(name, entries=True).to_json()))
        found.append(sorted(map(str, ledger.gamma(name).to_json()["regions"])))
        for table in ("ticks", "commits", "commit_entries", "quarantine", "world", "world_events"):
            rows = ledger.sql(f"SELECT * FROM {table}", name).to_pylist()
            found.append((name, table, sorted(str(without_time(row)) for row in rows)))
        report = ledger.replay(name)
        found.append((report.ok, report.commits, report.digest))
        entities = ledger.sql("SELECT entity_id FROM world ORDER BY 1", name)["entity_id"].to_pylist()
        found += [ledger.world.get(entity, name).to_json() for entity in entities]
        found.append(without_time(ledger.diff("main", name).to_json()))
    report = ledger.verify()
    assert report.ok, report.findings
    return [*found, report.commits]


def without_time(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("at", "createdAt", "created_at", "source", "why")
        return {name: without_time(each) for name, each in value.items() if name not in left_out}
    return [without_time(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "clock", lambda: CLOCK)
    monkeypatch.setattr(machine, "now", lambda: "2026-01-01T00:00:00.000Z")


@settings(max_examples=7, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.sampled_from(ACTS), min_size=4, max_size=22), seed=st.integers(0, 2**32))
def test_no_answer_and_no_id_depends_on_compaction(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str], seed: int
) -> None:
    twins = Twins(tmp_path_factory.mktemp("twins"), random.Random(seed))
    for what in acts:
        twins.act(what)
    twins.compact()
    twins.compare()


def test_a_long_history_is_packed_and_packed_again(tmp_path: Path) -> None:
    twins = Twins(tmp_path, random.Random(1))
    for _ in range(6):
        for what in ["ingest", "apply", "commit", "ingest", "fork", "final", "compact"]:
            twins.act(what)
    twins.compact()
    assert twins.packed > 20
    assert twins.removed >= twins.packed - 20
    twins.compare()
