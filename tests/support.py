"""Ledgers for tests, made without the command line: small, and the same at every run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_cli.core.events import TICKS
from ledger_cli.core.history import Added, Segment, State
from ledger_cli.core.policy import Policy
from ledger_cli.engines.duck import DuckEngine
from ledger_cli.services.commit import CommitRequest, CommitResult, commit
from ledger_cli.services.repository import Author, Repository
from ledger_cli.stores.directory import DirectoryStore

Event = Mapping[str, Any]

_KEYS = ("entityId", "tickId", "x", "y", "activity", "jitter", "meta", "timestamp")


def open_ledger(root: Path) -> Repository:
    """A ledger as a new process sees it; its clock goes on by a second a move."""
    store = DirectoryStore(root)
    seconds = count()
    now = lambda: f"2026-01-01T00:{(s := next(seconds)) // 60 % 60:02d}:{s % 60:02d}Z"  # noqa: E731
    return Repository(store, lambda: DuckEngine(store, 2, "1GB", None), Author("tester", now))


def make_ledger(root: Path) -> Repository:
    """An empty ledger in a directory, with the branch `main`."""
    root.mkdir(parents=True, exist_ok=True)
    repository = open_ledger(root)
    repository.create_branch("main", "init", "", None, State())
    return repository


def ticks_of(events: Iterable[Event]) -> pa.Table:
    """Events in the JSON shape as stored columns."""
    ordered = sorted(events, key=lambda event: (event["tickId"], event["entityId"]))
    columns: dict[str, list[Any]] = {
        "entity_id": [event["entityId"] for event in ordered],
        "tick_id": [event["tickId"] for event in ordered],
        **{name: [float(event[name]) for event in ordered] for name in ("x", "y", "activity")},
        "jitter": [event.get("jitter") for event in ordered],
        "meta": [_meta(event) for event in ordered],
        "timestamp": [event.get("timestamp") for event in ordered],
    }
    return pa.table(columns, schema=TICKS)


def _meta(event: Event) -> str | None:
    meta = {**(event.get("meta") or {}), **{key: value for key, value in event.items() if key not in _KEYS}}
    return json.dumps(meta) if meta else None


def add_events(repository: Repository, branch: str, events: Iterable[Event]) -> None:
    """Make events visible on a branch, as one segment and one move. `timestamp`: µs since 1970."""
    table = ticks_of(events)
    if not table.num_rows:
        return
    ticks = table["tick_id"].to_pylist()
    with repository.store.scratch() as scratch:
        pq.write_table(table, scratch / "ticks.parquet")
        stored = repository.store.publish(scratch / "ticks.parquet", "segments/{sha256}.parquet")
    highest = max(table["activity"].to_pylist())
    x, y = table["x"].to_pylist(), table["y"].to_pylist()
    segment = Segment(
        **vars(stored),
        rows=len(ticks),
        tick_min=min(ticks),
        tick_max=max(ticks),
        activity_max=highest,
        box=(min(x), max(x), min(y), max(y)),
    )
    before = repository.branch(branch)
    state = replace(
        before.state,
        rows=before.state.rows + len(ticks),
        highest_tick=max([*ticks, before.state.highest_tick or 0]),
    )
    repository.advance(branch, before, "ingest", state, "", Added(segments=(segment,)))


def run(
    repository: Repository,
    branch: str,
    policy: Mapping[str, Any],
    final: bool = False,
    force: str | None = None,
) -> CommitResult:
    """A run of commit under a policy in its JSON form."""
    return commit(repository, branch, CommitRequest(Policy.from_json(policy), final=final, force=force))


def add_history(repository: Repository, policy: Mapping[str, Any]) -> None:
    """Three runs over two entities on `main`, and one over events that came late."""
    for start in (0, 50, 100):
        add_events(repository, "main", events_at(*range(start, start + 50, 3)))
        add_events(repository, "main", events_at(*range(start, start + 50, 7), entity="F", x=15.0))
        run(repository, "main", policy)
    add_events(repository, "main", events_at(5, 31, entity="late"))
    run(repository, "main", policy, final=True)


def policy_json(strategy: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A policy in its JSON form."""
    return {
        "layer": "atomic",
        "regions": {"kind": "grid", "cell": 10},
        "shards": 1,
        "weight": {"kind": "linear"},
        "baseWeight": 1,
        "strategy": dict(strategy),
        "lateness": 0,
    } | changes


def events_at(*ticks: int, entity: str = "E", activity: float = 0.5, x: float = 1.0, y: float = 1.0) -> list[Event]:
    """One event of an entity at each tick."""
    return [{"entityId": entity, "tickId": tick, "x": x, "y": y, "activity": activity} for tick in ticks]


def settings_of(policy: dict[str, Any]) -> dict[str, Any]:
    """A policy's JSON as settings of `ledger.toml`."""
    regions, weight, strategy = policy["regions"], policy["weight"], policy["strategy"]
    spelled = {
        "grid": lambda: f"grid:{regions['cell']}",
        "quadtree": lambda: "quadtree:" + ",".join(str(regions[key]) for key in ("x", "y", "size", "depth")),
        "field": lambda: f"field:{regions['name']}",
    }
    values = ",".join(str(value) for key, value in weight.items() if key != "kind")
    keys = {
        "interval": "interval",
        "minInterval": "min_interval",
        "maxInterval": "max_interval",
        "maxSize": "max_size",
        "maxMean": "max_mean",
        "maxVariance": "max_variance",
    }
    return {
        "layer": policy["layer"],
        "regions": spelled[regions["kind"]](),
        "shards": policy["shards"],
        "weight": weight["kind"] + (":" + values if values else ""),
        "base_weight": policy["baseWeight"],
        "lateness": policy["lateness"],
        "strategy": strategy["kind"],
        **{keys[key]: value for key, value in strategy.items() if key != "kind"},
    }
