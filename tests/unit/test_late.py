"""Late ticks at scale: what a run reads and how long it takes follows from them, not from the history."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger_cli.core.policy import Policy, shard_of
from ledger_cli.engines.duck import DuckEngine
from ledger_cli.ports import TickRange
from ledger_cli.services.commits import read_commits
from ledger_cli.services.repository import Repository
from ledger_cli.services.scope import measure_of
from tests.reference import history
from tests.support import add_events, events_at, make_ledger, open_ledger, policy_json, run

EVERY_TICK = policy_json({"kind": "fixed", "interval": 1}, shards=2)


def events_over(ticks: range, entity: str, activity: float = 0.5) -> list[dict[str, Any]]:
    """One event at each tick, in seven regions by turns."""
    one = {"entityId": entity, "y": 1.0, "activity": activity}
    return [{**one, "tickId": tick, "x": 1.0 + 10 * (tick % 7)} for tick in ticks]


def ids(repository: Repository) -> list[str]:
    table = read_commits(repository, repository.branch("main"), ["shard", "height", "commit_id"])
    listed: list[str] = table.sort_by([("shard", "ascending"), ("height", "ascending")])["commit_id"].to_pylist()
    return listed


def test_thousands_of_late_epochs_take_seconds(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path / "ledger")
    add_events(repository, "main", events_over(range(5000), "E"))
    run(repository, "main", EVERY_TICK, final=True)
    add_events(repository, "main", events_over(range(5000), "F", activity=0.25))
    begun = time.process_time()
    assert run(repository, "main", EVERY_TICK).commits == 5000
    assert time.process_time() - begun < 10, "a second or so is usual"
    columns = ["epoch_start", "metadata <> '{}' AS amends", "unnest(entries) AS e"]
    entries = read_commits(repository, repository.branch("main"), columns)
    sums = repository.engine.query(
        "SELECT count(*) AS ticks, sum(n)::BIGINT AS n, count(*) FILTER (exact) AS exact FROM (SELECT epoch_start,"
        " sum(e.n) AS n, sum(e.weight::HUGEINT) = 750000000 AND count(*) = 2 AND bool_or(amends) AS exact"
        " FROM entries GROUP BY epoch_start)",
        entries=entries,
    )
    assert sums.to_pylist() == [{"ticks": 5000, "n": 10_000, "exact": 5000}]


STRATEGIES = [{"kind": "fixed", "interval": 3}, {"kind": "hybrid", "minInterval": 3, "maxInterval": 7, "maxSize": 2}]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["fixed", "hybrid"])
def test_many_late_epochs_and_gaps_are_those_of_the_model(tmp_path: Path, strategy: dict[str, Any]) -> None:
    policy = policy_json(strategy, shards=2)
    repository, model = make_ledger(tmp_path / "ledger"), history.Branch(policy)
    # Every run makes a file, and gaps of all widths lie within files and between them.
    parts = [events_over(range(first, first + 40, 5 + first % 7), "E") for first in range(20, 300, 60)]
    late = [events_over(range(0, 310, 4), "F"), events_at(150, entity="G"), events_over(range(1, 330, 3), "H")]
    for events in [*parts, *late]:
        add_events(repository, "main", events)
        model.ingest(events)
        run(repository, "main", policy)
        model.run()
        assert ids(repository) == [commit.commit_id for commit in model.commits]


class Watched:
    """How many rows came out of the engine in one piece at most, and which files were read for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        self.files: list[int] = []
        for name in ("over", "commits"):
            monkeypatch.setattr(DuckEngine, name, self._watched(getattr(DuckEngine, name)))

    def _watched(self, real: Any) -> Any:
        def call(engine: DuckEngine, files: list[Any], *given: Any, **tables: Any) -> pa.Table:
            table = real(engine, files, *given, **tables)
            self.rows = max(self.rows, table.num_rows)
            self.files.append(len(files))
            return table

        return call


@pytest.fixture
def long_history(tmp_path: Path) -> Path:
    """Three files of a thousand epochs each, with gaps between them."""
    repository = make_ledger(tmp_path / "ledger")
    for first in (0, 2000, 4000):
        add_events(repository, "main", events_at(*range(first, first + 1000)))
        run(repository, "main", EVERY_TICK, final=True)
    return tmp_path / "ledger"


def test_a_late_row_of_an_epoch_reads_that_epoch_and_its_file(
    long_history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = open_ledger(long_history)
    add_events(repository, "main", events_at(2500, entity="F"))
    watched = Watched(monkeypatch)
    assert run(repository, "main", EVERY_TICK).commits == 1
    assert watched.rows < 10
    assert set(watched.files) == {1}


def test_a_late_row_of_a_gap_reads_its_neighbours(long_history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = open_ledger(long_history)
    add_events(repository, "main", events_at(1500, entity="F"))
    watched = Watched(monkeypatch)
    assert run(repository, "main", EVERY_TICK).commits == 1
    assert watched.rows < 10
    newest = read_commits(repository, repository.branch("main"), ["epoch_start", "epoch_end"], "reason = 'late'")
    assert newest.to_pylist() == [{"epoch_start": 1500, "epoch_end": 1501}]


def test_a_gap_between_files_is_bounded_by_the_next_epochs(tmp_path: Path) -> None:
    policy = policy_json({"kind": "adaptive", "maxSize": 1})
    repository, model = make_ledger(tmp_path / "ledger"), history.Branch(policy)
    for events in (events_at(10, 11), events_at(90, 91), events_at(95, 96), events_at(40, 3, entity="F")):
        add_events(repository, "main", events)
        model.ingest(events)
        run(repository, "main", policy, final=True)
        model.run(final=True)
    assert ids(repository) == [commit.commit_id for commit in model.commits]


def test_the_regions_of_the_cases_are_in_both_shards() -> None:
    assert {shard_of(f"{number}:0", 2) for number in range(7)} == {0, 1}


@pytest.mark.parametrize("ranges", [1, 3, 64, 65, 500])
@pytest.mark.parametrize("width", [1, 4])
def test_the_engine_gives_the_ticks_of_the_ranges_and_no_others(tmp_path: Path, ranges: int, width: int) -> None:
    repository = make_ledger(tmp_path / "ledger")
    for first in (0, 1500, 3000):
        add_events(repository, "main", events_at(*range(first, first + 1000)))
    segments = repository.branch("main").segments()
    wanted = [TickRange(start, start + width) for start in range(10, 10 + 7 * ranges, 7)]
    measure = measure_of(Policy.from_json(EVERY_TICK))
    batches = list(repository.engine.moments(segments, measure, wanted))
    expected = [tick for each in wanted for tick in range(each.start or 0, each.end or 0) if tick % 1500 < 1000]
    assert [tick for batch in batches for tick in batch["tick"].to_pylist()] == expected
    (behind,) = repository.engine.moments(segments, measure, [*wanted, TickRange(3995, None)])
    assert behind["tick"].to_pylist() == [*expected, *range(3995, 4000)]
    assert list(repository.engine.moments(segments, measure, [TickRange(1100, 1400), TickRange(5000)])) == []
