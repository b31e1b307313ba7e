"""A transaction over two ledgers is killed at every step, and ended from either side: all or none, nothing doubled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.errors import Conflict, Corrupt, LedgerError
from ledger_cli.services.doctor import Check
from ledger_cli.services.world_apply import ApplyResult
from ledger_cli.stores.directory import DirectoryStore
from ledger_cli.wiring import machine
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import SEED, instants

WRITES = ("advance_ref", "publish")
READS = ("read_ref", "latest_seq", "read_file", "digest_of_file")
MOVED = "bank.moved.v1"


class Killed(BaseException):
    """What stands for SIGKILL: nothing in the ledger catches it."""


def kill() -> None:
    raise Killed


class Fuse:
    """Does something, once, before or after the nth use of the store."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        before: tuple[str, ...] = WRITES,
        after: tuple[str, ...] = WRITES,
        blow: Callable[[], None] = kill,
    ) -> None:
        self.left: int | None = None
        self._blow = blow
        self.used = 0
        self._after = after
        for name in dict.fromkeys((*before, *after)):
            patch.setattr(DirectoryStore, name, self._burning(name, getattr(DirectoryStore, name), name in before))

    def _burn(self) -> None:
        self.used += 1
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.left = None
                self._blow()

    def _burning(self, name: str, method: Callable[..., Any], before: bool) -> Callable[..., Any]:
        def used(*given: Any) -> Any:
            if before:
                self._burn()
            done = method(*given)
            if name in self._after:
                self._burn()
            return done

        return used


def line(number: int, entity: str, **fields: Any) -> str:
    event = {"eventId": f"e{number}", "entityId": entity, "type": MOVED, "payload": {"n": number}}
    return json.dumps({**event, "handshake": {"protocol": PROTOCOL}, **fields})


OURS = [line(10, "ann", expectedVersion=1), line(11, "bob")]
THEIRS = [line(20, "eve", expectedVersion=1), line(21, "ann")]
NONE, ALL = ({"e1"}, {"e2"}), ({"e1", "e10", "e11"}, {"e2", "e20", "e21"})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ledgers with an event each."""
    root = tmp_path_factory.mktemp("two")
    for name, first in (("here", line(1, "ann")), ("there", line(2, "eve"))):
        with Ledger.create(root / name) as ledger:
            ledger.world.register(MOVED)
            ledger.world.apply([first])
    return root


def copied(template: Path, target: Path) -> Path:
    shutil.copytree(template, target)
    return target


def act(root: Path) -> None:
    with Ledger.open(root / "here") as here:
        here.world.apply_together(OURS, root / "there", THEIRS)


def found(root: Path) -> tuple[set[str], set[str]]:
    """The events of both, each there once."""
    both = []
    for name in ("here", "there"):
        with Ledger.open(root / name) as ledger:
            ids = [row["event_id"] for row in ledger.sql("SELECT event_id FROM world_events").to_pylist()]
            assert len(ids) == len(set(ids)), "an event stands twice"
            both.append(set(ids))
    return both[0], both[1]


def under_way(root: Path) -> list[str]:
    names = []
    for name in ("here", "there"):
        with Ledger.open(root / name) as ledger:
            names += list(ledger._repository.branch("main").state.transactions)
    return names


def recover(root: Path, *sides: str) -> None:
    for side in sides:
        with Ledger.open(root / side) as ledger:
            assert {each.outcome for each in ledger.world.recover(force=True)} <= {"carried out", "given up"}


def prove(root: Path, *sides: str) -> tuple[set[str], set[str]]:
    """End it from some sides, then do it again, to the end."""
    recover(root, *sides)
    assert under_way(root) == [], "something is locked still"
    ended = found(root)
    assert ended in (NONE, ALL), "half of it was done"
    act(root)
    assert found(root) == ALL
    assert under_way(root) == []
    for name in ("here", "there"):
        with Ledger.open(root / name) as ledger:
            assert ledger.verify().ok
    return ended


def uses(template: Path, root: Path, patch: pytest.MonkeyPatch, before: tuple[str, ...], after: tuple[str, ...]) -> int:
    with patch.context() as counting:
        fuse = Fuse(counting, before, after)
        act(copied(template, root))
        return fuse.used


def killed_at(
    place: int, root: Path, patch: pytest.MonkeyPatch, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    with patch.context() as burning:
        fuse = Fuse(burning, before, after)
        fuse.left = place
        with pytest.raises(Killed):
            act(root)


def everywhere(
    template: Path, root: Path, patch: pytest.MonkeyPatch, before: tuple[str, ...], after: tuple[str, ...]
) -> Iterator[tuple[int, Path]]:
    """A pair of ledgers for every place where the act may be killed."""
    for place in range(1, uses(template, root / "whole", patch, before, after) + 1):
        pair = copied(template, root / str(place))
        killed_at(place, pair, patch, before, after)
        yield place, pair
        shutil.rmtree(pair)


@pytest.mark.parametrize("sides", [("here", "there"), ("there", "here")])
def test_killed_at_every_write(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sides: tuple[str, str]
) -> None:
    ends = [prove(pair, *sides) for _, pair in everywhere(template, tmp_path, monkeypatch, WRITES, WRITES)]
    decided = ends.index(ALL)
    assert ends == [NONE] * decided + [ALL] * (len(ends) - decided), "there is one move that decides"
    assert 0 < decided < len(ends) - 1


@pytest.mark.soak
def test_killed_at_every_use_of_the_store(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, pair in everywhere(template, tmp_path, monkeypatch, (*READS, *WRITES), WRITES):
        prove(pair, *(("here", "there") if place % 2 else ("there", "here")))


@pytest.mark.parametrize("side", ["here", "there"])
def test_given_up_or_ended_by_another_one_while_it_runs(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """The coordinator is not dead, but slow: whatever another process makes of it, both say the same."""
    outcomes = set()
    for place in range(1, uses(template, tmp_path / "whole", monkeypatch, WRITES, WRITES) + 1):
        pair = copied(template, tmp_path / str(place))
        error = ""
        with monkeypatch.context() as patch:
            fuse = Fuse(patch, blow=lambda pair=pair: recover(pair, side))  # type: ignore[misc]
            fuse.left = place
            try:
                act(pair)
            except LedgerError as caught:
                error = str(caught)
        assert found(pair) == (NONE if "was given up" in error else ALL), error
        assert under_way(pair) == []
        outcomes.add("was given up" in error)
    assert outcomes == {True, False}


def test_killed_while_it_is_ended(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the act, killed again and again in recovering, a write further each time."""
    for place, pair in everywhere(template, tmp_path, monkeypatch, WRITES, ()):
        for again in range(1, 6):
            with monkeypatch.context() as patch:
                Fuse(patch, before=(), after=WRITES).left = again
                with suppress(Killed):
                    recover(pair, ("here", "there")[(place + again) % 2])
        prove(pair, "there", "here")


class Stopped:
    """A pair whose coordinator was killed once the other ledger had promised, and the time on both."""

    def __init__(self, pair: Path, patch: pytest.MonkeyPatch) -> None:
        self.pair = pair
        self.now = 1_900_000_000_000_000
        patch.setattr(machine, "clock", lambda: self.now)
        kill_once_promised(pair, patch)

    def apply(self, name: str, *lines: str) -> ApplyResult:
        with Ledger.open(self.pair / name) as ledger:
            return ledger.world.apply(lines)


def kill_once_promised(pair: Path, patch: pytest.MonkeyPatch) -> None:
    for place in range(1, 30):
        with patch.context() as burning:
            Fuse(burning, before=(), after=("advance_ref",)).left = place
            with pytest.raises(Killed):
                act(pair)
        with Ledger.open(pair / "there") as there:
            if there._repository.branch("main").state.transactions:
                return
        recover(pair, "here")
    raise AssertionError("nothing was promised")


@pytest.fixture
def stopped(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stopped:
    return Stopped(copied(template, tmp_path / "pair"), monkeypatch)


def test_promised_entities_are_locked_until_their_time_is_over(stopped: Stopped) -> None:
    refused = stopped.apply("there", line(30, "eve"), line(31, "tom"), line(21, "tom"), line(2, "eve"))
    assert [(each.line, each.reason) for each in refused.refused] == [(1, "version_conflict"), (3, "version_conflict")]
    assert under_way(stopped.pair)[0] in refused.refused[0].detail
    assert (refused.applied, refused.duplicates) == (1, 1)
    assert stopped.apply("here", line(32, "ann")).applied == 1
    with Ledger.open(stopped.pair / "there") as there:
        (name, told), *_ = there.status().to_json()["transactions"].items()
        assert told == {"stage": "prepared", "ledger": str(stopped.pair / "here")}
        assert check_of(there, name).ok
        stopped.now += 61_000_000
        assert not check_of(there, name).ok
    assert stopped.apply("there", line(30, "eve")).applied == 1
    assert under_way(stopped.pair) == []
    assert found(stopped.pair) == ({"e1", "e32"}, {"e2", "e31", "e30"})


def check_of(ledger: Ledger, name: str) -> Check:
    [check] = [each for each in ledger.doctor().checks if each.name == f"transaction {name}"]
    return check


def test_nothing_else_may_undo_a_promise(stopped: Stopped) -> None:
    with Ledger.open(stopped.pair / "there") as there:
        there.fork("old")
        with pytest.raises(Conflict, match="cannot be reconciled before transaction"):
            there.reconcile("main", "old")
    with Ledger.open(stopped.pair / "here") as here, pytest.raises(Conflict, match="before transaction"):
        here.sync(stopped.pair / "there")
    recover(stopped.pair, "there", "here")
    assert found(stopped.pair) == ({"e1", "e2"}, {"e2"})
    with Ledger.open(stopped.pair / "here") as here:
        here.sync(stopped.pair / "there")
    assert found(stopped.pair) == ({"e1", "e2"}, {"e1", "e2"})


def test_what_was_promised_is_checked(stopped: Stopped) -> None:
    with Ledger.open(stopped.pair / "here") as here:
        here.fetch(stopped.pair / "there")
        assert here.verify().ok
    [promised] = (stopped.pair / "there" / "segments").glob("prepared-*")
    whole = promised.read_bytes()
    promised.write_bytes(whole.replace(b"eve", b"joe"))
    with Ledger.open(stopped.pair / "there") as there:
        assert [finding.file for finding in there.verify().findings] == [f"segments/{promised.name}"]
        with pytest.raises(Corrupt, match="is not what its digest says"):
            there.world.apply([line(30, "tom")])
    promised.write_bytes(whole)
    prove(stopped.pair, "there", "here")


def test_a_coordinator_out_of_reach_decides_nothing(stopped: Stopped) -> None:
    stopped.now += 61_000_000
    away = stopped.pair / "away"
    (stopped.pair / "here").rename(away)
    Ledger.create(stopped.pair / "here").close()  # another one in its place knows nothing, and is not asked
    with Ledger.open(stopped.pair / "there") as there:
        assert [each.outcome for each in there.world.recover(force=True)] == ["unreachable"]
        assert [each.reason for each in there.world.apply([line(30, "eve")]).refused] == ["version_conflict"]
    shutil.rmtree(stopped.pair / "here")
    away.rename(stopped.pair / "here")
    prove(stopped.pair, "there")


SECONDS = 0.25


@pytest.mark.parametrize("instant", instants(7, SECONDS, SEED, soak=300))
def test_killed(jobs: Nursery, template: Path, tmp_path: Path, instant: float) -> None:
    pair = copied(template, tmp_path / "pair")
    jobs.run(Job(pair / "here", "world.apply_together", [OURS, str(pair / "there"), THEIRS]), kill_after=instant)
    prove(pair, *(("here", "there") if round(instant * 1e6) % 2 else ("there", "here")))


def test_transactions_both_ways_at_once(jobs: Nursery, template: Path, tmp_path: Path) -> None:
    """Four processes, two from each side, all over the same entities: each comes to all or nothing."""
    pair = copied(template, tmp_path / "pair")
    running = []
    for number in range(4):
        names = ("here", "there") if number % 2 else ("there", "here")
        batches = [[line(100 + 10 * number + place, "ann")] for place in range(2)]
        running.append(Job(pair / names[0], "world.apply_together", [batches[0], str(pair / names[1]), batches[1]]))
    for outcome in jobs.run(*running):
        assert not outcome.error.startswith("unexpected"), outcome.error
    recover(pair, "here", "there")
    assert under_way(pair) == []
    here, there = found(pair)
    for number in range(4):
        first, second = (here, there) if number % 2 else (there, here)
        assert (f"e{100 + 10 * number}" in first) == (f"e{101 + 10 * number}" in second)
