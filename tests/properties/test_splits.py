"""However the rows come and the runs are cut: the same chain within the lateness, the same sums beyond it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_cli import Ledger

POLICIES: list[dict[str, Any]] = [
    {"strategy": "fixed", "interval": 7},
    {"strategy": "adaptive", "max_size": 6, "max_mean": 2},
    {"strategy": "hybrid", "min_interval": 3, "max_interval": 11, "max_size": 5, "max_variance": 0.5},
]
EVENT = st.tuples(st.integers(0, 5), st.integers(0, 60), st.integers(-30, 30), st.integers(0, 40))
EVENTS = st.lists(EVENT, min_size=1, max_size=40, unique_by=lambda event: event[:2])


def _line(event: tuple[int, int, int, int]) -> str:
    entity, tick, x, activity = event
    return json.dumps({"entityId": f"E{entity}", "tickId": tick, "x": x, "y": 0, "activity": activity / 10}) + "\n"


def _world(directory: str, name: str, policy: dict[str, Any], lateness: int) -> Ledger:
    return Ledger.create(Path(directory) / name, regions="grid:20", shards=2, lateness=lateness, **policy)


def _ingest(ledger: Ledger, directory: str, events: list[tuple[int, int, int, int]]) -> None:
    source = Path(directory) / "part.jsonl"
    source.write_text("".join(map(_line, events)))
    ledger.ingest(source)


def _chains(ledger: Ledger) -> dict[int, list[str]]:
    table = ledger.log().table.sort_by([("shard", "ascending"), ("height", "ascending")])
    chains: dict[int, list[str]] = {}
    for shard, commit_id in zip(table["shard"].to_pylist(), table["commit_id"].to_pylist(), strict=True):
        chains.setdefault(shard, []).append(commit_id)
    return chains


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, st.sampled_from(POLICIES), st.integers(0, 15), st.randoms(use_true_random=False), st.data())
def test_rows_within_the_lateness_give_one_chain(
    events: list[tuple[int, int, int, int]], policy: dict[str, Any], lateness: int, random: Any, data: st.DataObject
) -> None:
    # A row is as late as its delay says; order of arrival by tick + delay keeps it within the lateness.
    delayed = sorted(events, key=lambda event: event[1] + random.uniform(0, lateness))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    with (
        tempfile.TemporaryDirectory() as directory,
        _world(directory, "once", policy, lateness) as once,
        _world(directory, "often", policy, lateness) as often,
    ):
        _ingest(once, directory, events)
        once.commit(final=True)
        for first, last in zip([0, *cuts], [*cuts, len(events)], strict=True):
            _ingest(often, directory, delayed[first:last])
            often.commit()
        often.commit(final=True)
        assert _chains(often) == _chains(once)
        assert often.replay().ok


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    EVENTS,
    st.sampled_from(POLICIES),
    st.randoms(use_true_random=False),
    st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_rows_that_come_too_late_are_all_in_the_sums(
    events: list[tuple[int, int, int, int]], policy: dict[str, Any], random: Any, finals: list[bool]
) -> None:
    random.shuffle(events)
    size = len(events) // len(finals) + 1
    with tempfile.TemporaryDirectory() as directory, _world(directory, "world", policy, 0) as ledger:
        for place, final in enumerate([*finals, True]):
            _ingest(ledger, directory, events[place * size : (place + 1) * size])
            ledger.commit(final=final)
        counted: Counter[str] = Counter()
        for entry in ledger.to_arrow("commit_entries").to_pylist():
            counted[entry["region"]] += entry["n"]
        expected = Counter(f"{event[2] // 20}:0" for event in events)
        assert counted == expected
        assert ledger.replay().ok
        assert ledger.verify().ok
