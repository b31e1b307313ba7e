"""Random histories with forks, archived, restored and compacted in any order, read as if nothing had been moved."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger_cli.api import Ledger
from ledger_cli.core.history import ADMIN
from ledger_cli.services import archive_files
from ledger_cli.services.packs import member_names
from ledger_cli.wiring import ledgers

TICKS = 60


class Archives(RuleBasedStateMachine):
    """One ledger of which parts are archived, and one of which nothing ever is."""

    store: str | None = None

    @initialize(shards=st.integers(1, 3), large=st.sampled_from([0, archive_files.LARGE]))
    def begin(self, shards: int, large: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(archive_files, "LARGE", large)
        self.root = Path(tempfile.mkdtemp())
        self.names = [f"fork-{number}" for number in itertools.islice(itertools.count(), 9)]
        self.ledgers = [
            Ledger.create(self.root / name, store=store, regions="grid:10", interval=5, shards=shards)
            for name, store in (("moved", self.store), ("whole", None))
        ]
        self.branches = ["main"]
        self.tick = 0
        self.ingest(12, 3)

    @rule(count=st.integers(1, 20), step=st.integers(1, 4))
    def ingest(self, count: int, step: int) -> None:
        branch = self.branches[-1]
        path = self.root / "ticks.jsonl"
        ticks = range(self.tick, self.tick + count * step, step)
        self.tick = ticks[-1] + 1
        path.write_text("".join(map(_event, ticks)))
        for ledger in self.ledgers:
            ledger.ingest(path, branch=branch)
            ledger.commit(branch)

    @rule(late=st.integers(0, 20))
    def late(self, late: int) -> None:
        """Ticks below the watermark: their commits are looked at again."""
        path = self.root / "ticks.jsonl"
        path.write_text(_event(late, f"late{self.tick}"))
        for ledger in self.ledgers:
            ledger.ingest(path, branch=self.branches[-1])
            ledger.commit(self.branches[-1])

    @precondition(lambda self: len(self.branches) < 4)
    @rule(tick=st.integers(1, TICKS))
    def fork(self, tick: int) -> None:
        name = self.names[len(self.branches)]
        for ledger in self.ledgers:
            ledger.fork(name, tick, self.branches[-1])
        self.branches.append(name)

    @rule(
        data=st.data(),
        before=st.none() | st.integers(0, TICKS),
        activity=st.none() | st.sampled_from([0.2, 0.5, 1.0]),
        ticks=st.booleans(),
    )
    def archive(self, data: st.DataObject, before: int | None, activity: float | None, ticks: bool) -> None:
        branch = data.draw(st.none() | st.sampled_from(self.branches))
        if before is not None or activity is not None:
            chosen: dict[str, Any] = {"max_activity": activity, "branch": branch, "ticks": ticks and before is not None}
            self.ledgers[0].archive(before, **chosen)

    @precondition(lambda self: any(not each.record.restored for each in self.ledgers[0].archives()))
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        ids = [str(each.record.id) for each in self.ledgers[0].archives() if not each.record.restored]
        self.ledgers[0].restore(data.draw(st.sampled_from(ids)))

    @rule(low=st.integers(0, TICKS), size=st.integers(1, 30))
    def restore_range(self, low: int, size: int) -> None:
        held = [each.record for each in self.ledgers[0].archives() if not each.record.restored and each.record.commits]
        if any((each.epoch_min or 0) < low + size and (each.epoch_max or 0) >= low for each in held):
            self.ledgers[0].restore(since=low, until=low + size)

    @rule()
    def compact(self) -> None:
        self.ledgers[0].compact(grace="0s")

    @rule()
    def forget(self) -> None:
        """Copies may go at any time."""
        shutil.rmtree(self.root / "moved" / "cache", ignore_errors=True)

    @invariant()
    def reads_alike(self) -> None:
        if not hasattr(self, "ledgers"):
            return
        for branch in self.branches:
            moved, whole = (_read(ledger, branch) for ledger in self.ledgers)
            assert moved == whole
        assert self.ledgers[0].verify(archives=True).findings == ()
        assert _packed_and_archived(self.ledgers[0]) == set()

    def teardown(self) -> None:
        if hasattr(self, "ledgers"):
            for ledger in self.ledgers:
                for branch in self.branches:
                    assert ledger.replay(branch).ok
                ledger.close()
            shutil.rmtree(self.root)
            self.patch.undo()


def _event(tick: int, entity: str = "E") -> str:
    raw = {"entityId": entity, "tickId": tick, "x": tick * 7 % 50, "y": 0, "activity": tick % 5 / 4}
    return json.dumps(raw) + "\n"


def _read(ledger: Ledger, branch: str) -> list[Any]:
    log = ledger.log(branch, entries=True).to_json()
    for each in log:
        del each["createdAt"]
    headers = [{name: value for name, value in each.items() if name != "entries"} for each in log]
    listed = ledger.log(branch).to_json()
    for each in listed:
        del each["createdAt"]
    assert listed == headers
    return [log, ledger.gamma(branch).table.to_pylist(), ledger.sql("SELECT count(*) FROM ticks", branch).to_pylist()]


def _packed_and_archived(ledger: Ledger) -> set[str]:
    repository = ledger._repository
    store, admin = ledgers.archives_of(repository), repository.find(ADMIN)
    if admin is None:
        return set()
    held = [store.manifest(record) for record in admin.state.archives.values() if not record.restored]
    gone = {batch for manifest in held for batch in manifest.batches if store.archived(batch)}
    gone |= {each.name for manifest in held for each in manifest.whole}
    packs = [pack for pack in admin.state.packs if pack.replaced is None]
    return gone & {name for pack in packs for name in member_names(store, pack)}


class InEngine(Archives):
    """The same where an engine keeps each commit once."""

    store = "sqlite:///commits.sqlite"


FEW = settings(max_examples=6, stateful_step_count=8, suppress_health_check=list(HealthCheck))
TestArchives = Archives.TestCase
TestArchives.settings = FEW
TestInEngine = InEngine.TestCase
TestInEngine.settings = FEW
