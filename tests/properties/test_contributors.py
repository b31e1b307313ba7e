"""The entities that contributed to an entry are those that plain Python finds among the rows of its epoch.

In whatever order, in however many ingests and runs the rows come; and no id tells whether anybody asked for them.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_cli.core.policy import Policy
from ledger_cli.engines import duck
from ledger_cli.services.fork import fork
from ledger_cli.services.integrity import verify
from ledger_cli.services.lookup import Place
from ledger_cli.services.query import sql
from ledger_cli.services.replay import verify_replay
from ledger_cli.services.repository import Repository
from tests.reference import commits
from tests.support import add_events, make_ledger, open_ledger, policy_json, run

IDS = ["E1", "E10", "E2", "e", "Ä ö", "a,b", 'q"\\', "\x01\n", "𝄞", "\ufb01", "z" * 80]
STRATEGIES: list[dict[str, Any]] = [
    {"kind": "fixed", "interval": 7},
    {"kind": "hybrid", "minInterval": 3, "maxInterval": 25, "maxSize": 6},
    {"kind": "adaptive", "maxSize": 9},
]
MAPS: list[dict[str, Any]] = [
    {"kind": "grid", "cell": 10},
    {"kind": "quadtree", "x": -15, "y": -15, "size": 25, "depth": 2},
    {"kind": "field", "name": "place"},
]
WEIGHTS: list[dict[str, Any]] = [
    {"kind": "linear"},
    {"kind": "nonlinear", "alpha": 0.7, "beta": 0.3},
    {"kind": "softfloor", "epsilon": 1.5},
]
PLACES = ["1", 1, 1.0, "Ä", None, {"b": 1, "a": 2}, True]
ENTRIES = "SELECT commit_id, region, epoch_start, epoch_end, shard, height, entity_refs FROM commit_entries"

Event = dict[str, Any]


def events_of(chance: random.Random, count: int) -> list[Event]:
    """Events with unique keys, few activities among them, so that many contribute the same."""
    keys = {(chance.choice(IDS), chance.randrange(60)) for _ in range(count)}
    return [
        {
            "entityId": entity,
            "tickId": tick,
            "x": chance.uniform(-20, 20),
            "y": chance.uniform(-20, 20),
            "activity": chance.choice([0, 0, 0.5, 1, 2.25, 1e-9, 1e6]),
            "meta": {"place": chance.choice(PLACES)} if chance.random() < 0.8 else {},
        }
        for entity, tick in sorted(keys)
    ]


def expected(policy: dict[str, Any], events: list[Event], row: dict[str, Any], most: int) -> list[str]:
    """The contributors to an entry: what the rows of its epoch and region add up to, by entity."""
    weights: Counter[str] = Counter()
    for event in events:
        inside = row["epoch_start"] <= event["tickId"] < row["epoch_end"]
        if inside and commits.region_of(policy, event) == row["region"]:
            weights[event["entityId"]] += commits.q(commits.weight_of(policy, event["activity"]))
    return sorted(weights, key=lambda entity: (-weights[entity], entity))[:most]


def entries(repository: Repository, branch: str = "main") -> dict[tuple[str, str], dict[str, Any]]:
    rows = sql(repository, branch, ENTRIES).to_pylist()
    found = {(row["commit_id"], row["region"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def parts_of(chance: random.Random, events: list[Event]) -> list[list[Event]]:
    """The events in some shuffled parts, each of which arrives at once."""
    shuffled = chance.sample(events, len(events))
    cuts = sorted(chance.sample(range(len(events) + 1), min(3, len(events))))
    return [part for low, high in zip([0, *cuts], [*cuts, len(events)], strict=True) if (part := shuffled[low:high])]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 150),
    most=st.integers(1, 5),
    strategy=st.sampled_from(STRATEGIES),
    regions=st.sampled_from(MAPS),
    weight=st.sampled_from(WEIGHTS),
    shards=st.sampled_from([1, 3]),
)
def test_contributors_are_those_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    most: int,
    strategy: dict[str, Any],
    regions: dict[str, Any],
    weight: dict[str, Any],
    shards: int,
) -> None:
    chance = random.Random(seed)
    policy = policy_json(strategy, regions=regions, weight=weight, shards=shards)
    root = tmp_path_factory.mktemp("contributors")
    told, plain = make_ledger(root / "told"), make_ledger(root / "plain")
    told.entity_refs = most
    seen: list[Event] = []
    known: dict[tuple[str, str], dict[str, Any]] = {}
    parts = parts_of(chance, events_of(chance, count))
    for place, part in enumerate(parts):
        seen += part
        final = place == len(parts) - 1
        for repository in (told, plain):
            add_events(repository, "main", part)
            result = run(repository, "main", policy, final=final)
        assert dict(told.branch("main").state.shards) == dict(plain.branch("main").state.shards), result
        found = entries(told)
        assert {key: found[key] for key in known} == known, "a commit never changes"
        for key in found.keys() - known.keys():
            assert found[key]["entity_refs"] == expected(policy, seen, found[key], most)
        known = found
    assert known.keys() == entries(plain).keys()
    assert {row["entity_refs"] for row in entries(plain).values()} == {None}
    fresh = open_ledger(root / "told")
    assert verify(fresh).ok
    assert verify_replay(fresh, "main").ok


@pytest.mark.parametrize("seed", range(4))
def test_late_rows_of_a_fork_count_as_its_epochs_do(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    repository = make_ledger(tmp_path / "ledger")
    repository.entity_refs = 3
    before = policy_json({"kind": "fixed", "interval": 10}, shards=2)
    after = policy_json({"kind": "fixed", "interval": 10}, shards=2, weight=WEIGHTS[1], baseWeight=2)
    events = events_of(chance, 120)
    add_events(repository, "main", events[::3])
    run(repository, "main", before, final=True)
    kept = entries(repository)
    fork(repository, "main", "other", Place("30", "tick", "main", tick=30), Policy.from_json(after))
    assert all(row["epoch_end"] <= 30 for row in entries(repository, "other").values())
    add_events(repository, "other", events[1::3])
    run(repository, "other", after, final=True)
    rows = events[::3] + events[1::3]
    found = entries(repository, "other")
    fresh = found.keys() - kept.keys()
    assert fresh
    for key in fresh:
        row = found[key]
        # An amended epoch keeps the policy of its first commit.
        amended = any(
            (row["shard"], row["epoch_start"]) == (other["shard"], other["epoch_start"]) and other["epoch_end"] <= 30
            for other in kept.values()
        )
        assert row["entity_refs"] == expected(before if amended else after, rows, row, 3)
    assert {key: row["entity_refs"] for key, row in entries(repository).items()} == {
        key: row["entity_refs"] for key, row in kept.items()
    }


def test_a_region_that_is_closed_by_force_has_its_own(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path / "ledger")
    repository.entity_refs = 2
    policy = policy_json({"kind": "fixed", "interval": 100})
    events = events_of(random.Random(1), 100)
    add_events(repository, "main", events)
    run(repository, "main", policy, force=commits.region_of(policy, events[0]))
    found = entries(repository)
    assert found
    assert all(row["entity_refs"] == expected(policy, events, row, 2) for row in found.values())


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_rows_that_are_too_many_at_once_are_taken_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(duck, "_ENTITY_ROWS_AT_ONCE", rows)
    chance = random.Random(rows)
    repository = make_ledger(tmp_path / "ledger")
    repository.entity_refs = 2
    policy = policy_json({"kind": "fixed", "interval": 20}, regions=MAPS[2], shards=2)
    seen: list[Event] = []
    for part in parts_of(chance, events_of(chance, 200)):
        seen += part
        add_events(repository, "main", part)
    run(repository, "main", policy, final=True)
    found = entries(repository)
    assert len(found) > 10
    assert all(row["entity_refs"] == expected(policy, seen, row, 2) for row in found.values())
