"""Histories of ingests, runs, forced closes and forks come out as the reference model has them.

The model knows nothing of files, moves or looking again: it holds all rows and says the rules literally. So
whatever a fork forgets to look at, or looks at twice, shows as another id.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_cli.core.policy import Policy
from ledger_cli.errors import UsageError
from ledger_cli.services.commits import read_commits
from ledger_cli.services.fork import fork
from ledger_cli.services.lookup import Place, find_commit
from ledger_cli.services.replay import verify_replay, what_if
from ledger_cli.services.repository import Repository
from tests.reference import commits, history
from tests.support import add_events, events_at, make_ledger, open_ledger, policy_json, run

TICKS = 120
STRATEGIES: list[dict[str, Any]] = [
    {"kind": "fixed", "interval": 20},
    {"kind": "hybrid", "minInterval": 3, "maxInterval": 25, "maxSize": 6, "maxVariance": 0.7},
    {"kind": "hybrid", "minInterval": 5, "maxSize": 9},
    {"kind": "adaptive", "maxSize": 9, "maxMean": 2.5},
]
REGIONS = ["0:0", "1:1", "-1:0", "-1:-1"]


class Histories:
    """The same acts on a ledger and on the model, compared after each."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self.chance = chance
        self.ledger: Repository = make_ledger(root)
        self.policy = self._policy()
        self.model: dict[str, history.Branch] = {"main": history.Branch(self.policy)}
        self._entity = 0

    def _policy(self, **changes: Any) -> dict[str, Any]:
        return policy_json(self.chance.choice(STRATEGIES), shards=3, lateness=self.chance.choice([0, 0, 10]), **changes)

    def act(self, name: str, what: str) -> None:
        model = self.model[name]
        if what == "ingest":
            self._ingest(name, model)
        elif what in ("run", "final"):
            model.run(final=what == "final")
            run(self.ledger, name, model.policy, final=what == "final")
        elif what == "force":
            self._force(name, model, self.chance.choice(REGIONS))
        else:
            name = self._fork(name, model, what)
        self.compare(name)

    def _force(self, name: str, model: history.Branch, region: str) -> None:
        if any(commits.region_of(model.policy, event) == region for event in model.events):
            model.force(region)
            run(self.ledger, name, model.policy, force=region)
        else:
            with pytest.raises(UsageError, match="nothing ever fell into region"):
                run(self.ledger, name, model.policy, force=region)

    def _ingest(self, name: str, model: history.Branch) -> None:
        low = self.chance.randrange(TICKS)
        events = [self._event(low) for _ in range(self.chance.randrange(1, 25))]
        model.ingest(events)
        add_events(self.ledger, name, events)

    def _event(self, low: int) -> dict[str, Any]:
        self._entity += 1
        draw = self.chance.uniform
        return {
            "entityId": f"E{self._entity}",
            "tickId": min(TICKS, low + self.chance.randrange(40)),
            "x": draw(-20, 20),
            "y": draw(-20, 20),
            "activity": round(draw(0, 3), 6),
        }

    def _fork(self, name: str, model: history.Branch, what: str) -> str:
        made = f"{name[:1]}{len(self.model)}"
        at, place = self._place(name, model, what)
        policy = self.chance.choice(
            [
                None,
                self._policy(baseWeight=3),
                self._policy(regions={"kind": "grid", "cell": 7}),
            ]
        )
        self.model[made] = model.fork(at, policy)
        fork(self.ledger, name, made, place, None if policy is None else Policy.from_json(policy))
        return made

    def _place(self, name: str, model: history.Branch, what: str) -> tuple[int | str | None, Place | None]:
        if what == "fork at a tick":
            tick = self.chance.randrange(TICKS)
            return tick, Place(str(tick), "tick", name, tick=tick)
        ids = [commit.commit_id for commit in model.commits]
        if what == "fork at a commit" and ids:
            chosen = self.chance.choice(ids)
            found = find_commit(self.ledger, chosen, name)
            assert found is not None
            return chosen, Place(chosen, "commit", *found)
        return None, None

    def compare(self, *names: str) -> None:
        for name in names or self.model:
            model = self.model[name]
            branch = self.ledger.branch(name)
            table = read_commits(self.ledger, branch, ["shard", "height", "commit_id"])
            table = table.sort_by([("shard", "ascending"), ("height", "ascending")])
            assert table["commit_id"].to_pylist() == [commit.commit_id for commit in model.commits], name
            state = branch.state
            assert state.watermark == model.watermark, name
            starts = {int(shard): each.start for shard, each in state.shards.items() if each.start is not None}
            assert starts == {shard.number: shard.start for shard in model.shards if shard.start is not None}, name
            assert state.rows == len(model.events)

    def replayed(self) -> None:
        """Every branch can be made again from its events, also by a process that has seen nothing of it."""
        self.compare()
        fresh = open_ledger(self.root)
        for name in self.model:
            report = verify_replay(fresh, name)
            assert report.ok, report
            assert report.commits == fresh.branch(name).state.commits


ACTS = ["ingest"] * 4 + ["run"] * 3 + ["final", "force", "fork", "fork at a tick", "fork at a commit"]


def acts(chance: random.Random, count: int) -> Iterator[str]:
    yield from ("ingest", "run")
    for _ in range(count):
        yield chance.choice(ACTS)


@pytest.mark.parametrize("seed", range(25))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    histories = Histories(tmp_path / "ledger", chance)
    for what in acts(chance, 18):
        histories.act(chance.choice(list(histories.model)), what)
    for name in list(histories.model):
        histories.act(name, "run")
        histories.act(name, "final")
    histories.replayed()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(set(ACTS)))), max_size=12),
)
def test_any_history(tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[tuple[int, str]]) -> None:
    histories = Histories(tmp_path_factory.mktemp("history") / "ledger", random.Random(seed))
    for place, what in [(0, "ingest"), (0, "run"), *steps]:
        names = list(histories.model)
        histories.act(names[place % len(names)], what)
    histories.replayed()


@pytest.mark.parametrize("seed", range(6))
def test_a_what_if_is_what_the_policy_would_have_made(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    histories = Histories(tmp_path / "ledger", chance)
    for what in acts(chance, 8):
        if not what.startswith("fork"):
            histories.act("main", what)
    histories.act("main", "final")
    parent = histories.model["main"]
    policy = policy_json(STRATEGIES[seed % len(STRATEGIES)], baseWeight=2, shards=1 + seed % 3)
    what_if(histories.ledger, "main", "other", Policy.from_json(policy))
    alone = history.Branch(policy)
    alone.ingest(parent.events)
    alone.run(final=True)
    histories.model["other"] = alone
    histories.compare()
    histories.replayed()


def test_a_row_behind_an_empty_open_epoch_is_committed_once(tmp_path: Path) -> None:
    policy = policy_json({"kind": "fixed", "interval": 20}, lateness=10)
    ledger, model = make_ledger(tmp_path / "ledger"), history.Branch(policy)
    for events in (events_at(3, 105), events_at(122), events_at(140)):
        add_events(ledger, "main", events)
        model.ingest(events)
        run(ledger, "main", policy)
        model.run()
    ids = read_commits(ledger, ledger.branch("main"), ["height", "commit_id"]).sort_by("height")["commit_id"]
    assert ids.to_pylist() == [commit.commit_id for commit in model.commits]
