"""A deterministic simulation: one seed is one run of several ledgers that write, part, meet, crash and heal.

Every node is a ledger with a clock of its own that is wrong by some constant. What a node answered to is
acknowledged; whatever happens afterwards, it has to be in all ledgers once they have met.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ledger_cli import Ledger
from ledger_cli.core.vector_clock import VectorClock
from ledger_cli.core.world import PROTOCOL
from ledger_cli.errors import Conflict, LedgerError
from ledger_cli.services.world import vector_clock
from ledger_cli.services.world_waiting import read_waiting
from ledger_cli.stores.directory import DirectoryStore
from ledger_cli.wiring import machine

TYPE = "sim.set.v1"
STRONG = "sim.paid.v1"
"""About its events the first node decides."""
_START = 1_769_714_460_000_000
_POLICIES: tuple[dict[str, Any], ...] = (
    {"interval": 10},
    {"strategy": "adaptive", "max_size": 6},
    {"strategy": "hybrid", "min_interval": 3, "max_interval": 20, "max_size": 5},
)


class Killed(BaseException):
    """What stands for SIGKILL: nothing in the ledger catches it."""


@dataclass
class Node:
    """One ledger, the error of its clock in µs, and what it acknowledged."""

    name: str
    ledger: Ledger
    skew: int
    ticks: dict[tuple[str, int], float] = field(default_factory=dict)
    events: set[str] = field(default_factory=set)
    commits: set[str] = field(default_factory=set)


class Simulation:
    """One run. `run` does it and proves what has to hold; a failure names the seed."""

    def __init__(self, seed: int, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.seed = seed
        self.story: list[str] = []
        self._random = random.Random(seed)
        self._directory = directory
        self._now = _START
        self._skew = 0
        self._fuse: int | None = None
        self._sent: list[dict[str, Any]] = []
        self._ticks = 0
        self._numbered = 0
        self._pairs: list[tuple[str, str]] = []
        patch.setattr(machine, "clock", lambda: self._now + self._skew)
        for name in ("advance_ref", "publish"):
            patch.setattr(DirectoryStore, name, self._burning(getattr(DirectoryStore, name)))
        policy = self._random.choice(_POLICIES)
        settings = {"regions": "grid:10", "shards": self._random.choice([1, 2]), **policy}
        if self._random.random() < 0.5:
            settings["lateness"] = 5
        self.nodes = []
        for name in "abc"[: self._random.choice([2, 3])]:
            made = Ledger.create(directory / name, **settings, node=name, max_drift=3600, canonical="../a")
            made.close()
            with (directory / name / "ledger.toml").open("a") as file:
                file.write(f'[types."{TYPE}"]\n[types."{STRONG}"]\nconsistency = "strong"\n')
            ledger = Ledger.open(made.location)
            ledger.world.apply([])  # registers the types
            self.nodes.append(Node(name, ledger, self._random.randrange(-2_000_000, 2_000_000)))

    def run(self) -> None:
        """Random acts, then healing, then what has to hold."""
        acts: list[Callable[[], None]] = [
            self._write_ticks,
            self._write_events,
            self._write_strong,
            self._write_together,
            self._meet,
        ]
        for _ in range(self._random.randrange(3, 10)):
            self._now += self._random.randrange(0, 1_000_000)
            self._random.choice(acts)()
            self._compare_clocks()
        self._heal()
        self._prove()

    def close(self) -> None:
        """Let go of all nodes."""
        for node in self.nodes:
            node.ledger.close()

    def _write_ticks(self) -> None:
        node = self._random.choice(self.nodes)
        rows = {}
        for _ in range(self._random.randrange(1, 12)):
            key = f"E{self._random.randrange(4)}", max(0, self._ticks + self._random.randrange(-12, 12))
            rows.setdefault(key, round(self._random.uniform(0, 3), 3))
        self._ticks += self._random.randrange(2, 12)
        path = self._directory / "ticks.jsonl"
        path.write_text("".join(self._tick(*key, activity) for key, activity in rows.items()))
        self._tell(f"{node.name} reads {len(rows)} ticks")
        if self._survives(node, lambda: node.ledger.ingest(path)):
            for key, activity in rows.items():
                node.ticks.setdefault(key, activity)
        if self._random.random() < 0.7:
            final = self._random.random() < 0.2
            self._tell(f"{node.name} commits{' finally' if final else ''}")
            if self._survives(node, lambda: node.ledger.commit(final=final)):
                node.commits |= set(node.ledger.log().table["commit_id"].to_pylist())

    @staticmethod
    def _tick(entity: str, tick: int, activity: float) -> str:
        x = sum(map(ord, entity)) % 30
        event = {"entityId": entity, "tickId": tick, "x": x, "y": tick % 30, "activity": activity}
        return json.dumps(event) + "\n"

    def _write_events(self) -> None:
        node = self._random.choice(self.nodes)
        events = [self._event() for _ in range(self._random.randrange(1, 5))]
        if self._sent and self._random.random() < 0.4:
            events.append(self._random.choice(self._sent))  # a message that comes again, perhaps to another node
        self._random.shuffle(events)
        self._tell(f"{node.name} applies {[event['eventId'] for event in events]}")
        results: list[Any] = []
        lines = [json.dumps(event) for event in events]
        if self._survives(node, lambda: results.append(node.ledger.world.apply(lines))):
            refused = {each.event_id for each in results[0].refused}
            # A transaction that was killed locks its entities.
            assert {each.reason for each in results[0].refused} <= {"causal_gap", "version_conflict"}
            node.events |= {event["eventId"] for event in events} - refused

    def _write_strong(self) -> None:
        node = self._random.choice(self.nodes)
        event = {**self._event(), "type": STRONG, "causes": []}
        self._sent[-1] = event
        self._tell(f"{node.name} applies {event['eventId']}, about which {self.nodes[0].name} decides")
        results: list[Any] = []
        if self._survives(node, lambda: results.append(node.ledger.world.apply([json.dumps(event)]))):
            if results[0].refused:
                assert results[0].refused[0].reason == "version_conflict"
                return
            assert event["eventId"] in self._events(self.nodes[0]), "what counts has not been decided"
            node.events.add(event["eventId"])

    def _write_together(self) -> None:
        one, other = self._random.sample(self.nodes, 2)
        pair = [{**self._event(), "causes": []} for _ in range(2)]
        ids = [event["eventId"] for event in pair]
        self._pairs.append((ids[0], ids[1]))
        del self._sent[-2:]  # nobody sends one of them alone
        self._tell(f"{one.name} applies {ids[0]}, and {other.name} {ids[1]}, or neither")
        lines = [json.dumps(event) for event in pair]
        results: list[Any] = []
        if self._survives(
            one, lambda: results.append(one.ledger.world.apply_together(lines[:1], other.ledger.location, lines[1:]))
        ):
            one.events |= set() if results[0].refused else set(ids)

    def _event(self) -> dict[str, Any]:
        self._numbered += 1
        event: dict[str, Any] = {
            "eventId": f"e{self._numbered}",
            "entityId": f"x{self._random.randrange(3)}",
            "type": TYPE,
            "payload": {f"f{self._random.randrange(3)}": self._random.choice([None, 1, 2, {"k": 3}])},
            "handshake": {"protocol": PROTOCOL},
        }
        if self._sent and self._random.random() < 0.3:
            event["causes"] = [self._random.choice(self._sent)["eventId"]]
        self._sent.append(event)
        return event

    def _meet(self) -> None:
        one, other = self._random.sample(self.nodes, 2)
        self._tell(f"{one.name} meets {other.name}")
        level = self._random.choice([None, "eventual", "causal", "strong"])
        self._survives(one, lambda: one.ledger.sync(other.ledger.location, consistency=level))

    def _survives(self, node: Node, act: Callable[[], object]) -> bool:
        """Do an act on a node, which is killed in it now and then; whether it came to its end."""
        self._skew = node.skew
        if self._random.random() < 0.25:
            self._fuse = self._random.randrange(0, 6)
        try:
            act()
            return True
        except Conflict as conflict:
            if "before transaction" not in str(conflict):
                raise
            self._tell(f"{node.name}: {conflict}")
            return False
        except Killed:
            self._tell(f"{node.name} is killed")
            for each in self.nodes:  # the other one may be in the act too
                each.ledger.close()
                each.ledger = Ledger.open(each.ledger.location)
            return False
        finally:
            self._fuse = None
            self._skew = 0

    def _burning(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def killed_before_or_after(*given: Any) -> Any:
            if self._fuse is not None:
                self._fuse -= 1
                if self._fuse == 0:
                    raise Killed
            done = method(*given)
            if self._fuse is not None:
                self._fuse -= 1
                if self._fuse == 0:
                    raise Killed
            return done

        return killed_before_or_after

    def _compare_clocks(self) -> None:
        """Who holds the clock of another one has all of its events."""
        clocks = [self._clock(node) for node in self.nodes]
        have = [self._events(node) for node in self.nodes]
        for a, mine in zip(clocks, have, strict=True):
            for b, theirs in zip(clocks, have, strict=True):
                assert not a.holds(b) or mine >= theirs, "a clock tells of events that are not there"
                assert a.compare(b) != "equal" or mine == theirs

    @staticmethod
    def _clock(node: Node) -> VectorClock:
        return vector_clock(node.ledger._repository.branch("main"))

    @staticmethod
    def _events(node: Node) -> set[str]:
        files = [Path(node.ledger.location, file.file) for file in node.ledger._repository.branch("main").world_files()]
        return {each for file in files for each in pq.read_table(file)["event_id"].to_pylist()}

    @staticmethod
    def _waiting(node: Node) -> set[str]:
        repository = node.ledger._repository
        return {json.loads(text)["eventId"] for text in read_waiting(repository, repository.branch("main").state)}

    def _heal(self) -> None:
        self._tell("all meet")
        hub, *others = self.nodes
        for node in self.nodes:
            ended = {each.outcome for each in node.ledger.world.recover(force=True)}
            assert ended <= {"carried out", "given up"}
        for _ in range(2):
            for other in others:
                hub.ledger.sync(other.ledger.location)

    def _prove(self) -> None:
        ledgers = [node.ledger for node in self.nodes]
        assert len({ledger.status().digest for ledger in ledgers}) == 1, "the commits differ"
        assert len({str(self._clock(node)) for node in self.nodes}) == 1, "the vector clocks differ"
        worlds = [ledger.sql("FROM world ORDER BY entity_id").to_pylist() for ledger in ledgers]
        assert all(world == worlds[0] for world in worlds), "the worlds differ"
        log = ledgers[0].sql("SELECT event_id, entity_id, hlc, causes FROM world_events").to_pylist()
        ids = [row["event_id"] for row in log]
        assert len(ids) == len(set(ids)), "an event stands twice"
        acknowledged = set().union(*(node.events for node in self.nodes))
        # One whose cause was never acknowledged waits for that.
        assert acknowledged <= {*ids, *self._waiting(self.nodes[0])}, "an acknowledged event is lost"
        assert all((one in ids) == (other in ids) for one, other in self._pairs), "half a transaction was done"
        readings = {row["event_id"]: row["hlc"] for row in log}
        assert all(readings[cause] < row["hlc"] for row in log for cause in row["causes"]), "an effect before its cause"
        rows = ledgers[0].sql("SELECT entity_id, tick_id FROM ticks").to_pylist()
        keys = [(row["entity_id"], row["tick_id"]) for row in rows]
        assert len(keys) == len(set(keys)), "a tick stands twice"
        assert set().union(*(node.ticks for node in self.nodes)) <= set(keys), "an acknowledged tick is lost"
        for node in self.nodes:
            for commit in sorted(node.commits):
                assert node.ledger.resolve(commit).commit is not None, "a commit is not reachable any more"
        for ledger in ledgers:
            assert ledger.verify().findings == ()
            assert ledger.replay().ok
        ledgers[0].commit(final=True)
        summed = ledgers[0].sql("SELECT coalesce(sum(n), 0)::BIGINT AS n FROM commit_entries").to_pylist()
        assert summed == [{"n": len(keys)}], "the commits hold other events than the segments"
        assert ledgers[0].replay().ok
        shown = ledgers[0].gamma().table
        assert sum(shown["count"].to_pylist()) == len(keys), "gamma leaves out commits"

    def _tell(self, line: str) -> None:
        self.story.append(line)


@contextmanager
def told(simulation: Simulation) -> Iterator[None]:
    """A failure says which seed it was, and what happened."""
    try:
        yield
    except (AssertionError, LedgerError, KeyError) as error:
        lines = "\n  ".join(simulation.story)
        raise AssertionError(f"seed {simulation.seed}: {error}\n  {lines}") from error
