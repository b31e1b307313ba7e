"""Differences of commits and states, and where a branch stands."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from ledger_cli.errors import UsageError
from ledger_cli.services.diff import DIFF, diff, first_difference
from ledger_cli.services.fork import fork, tag
from ledger_cli.services.log import log
from ledger_cli.services.lookup import resolve
from ledger_cli.services.repository import Repository
from ledger_cli.services.status import status
from ledger_cli.services.world_health import Limits
from tests.support import add_events, events_at, make_ledger, policy_json, run

LIMITS = Limits(lag=10_000, skew=5)
POLICY = policy_json({"kind": "fixed", "interval": 20})


@pytest.fixture
def ledger(tmp_path: Path) -> Repository:
    repository = make_ledger(tmp_path / "ledger")
    add_events(repository, "main", events_at(*range(0, 100, 4), activity=0.3))
    add_events(repository, "main", events_at(*range(0, 50, 7), entity="F", x=15.0, activity=1.7))
    run(repository, "main", POLICY)
    return repository


def test_a_place_differs_from_itself_in_nothing(ledger: Repository) -> None:
    main = resolve(ledger, "main")
    result = diff(ledger, main, main)
    assert (result.table.num_rows, result.equal) == (0, 2)
    assert diff(ledger, main, main, equal=True).table["weight_delta"].to_pylist() == [0.0, 0.0]
    assert first_difference(ledger, main, main) == []


def test_two_commits_are_compared_by_their_entries(ledger: Repository) -> None:
    newest, older = (resolve(ledger, log(ledger, "main").to_json()[place]["commitId"]) for place in (0, 3))
    result = diff(ledger, older, newest, sort="region", descending=False)
    (gone,) = result.table.to_pylist()
    assert (result.equal, gone["region"], gone["count_a"], gone["count_b"]) == (1, "1:0", 3, 0)
    assert (gone["weight_b"], gone["mean_b"], gone["mean_delta"]) == (0.0, None, None)
    assert gone["weight_delta"] == -gone["weight_a"]


def test_states_are_the_sums_of_whole_chains(ledger: Repository) -> None:
    fork(ledger, "main", "other", resolve(ledger, "40"))
    run(ledger, "other", {**POLICY, "baseWeight": 2})
    rows = {
        row["region"]: row for row in diff(ledger, resolve(ledger, "main"), resolve(ledger, "other")).table.to_pylist()
    }
    assert rows["0:0"]["weight_a"] == 6.0
    assert rows["0:0"]["weight_b"] == float(Fraction(3, 10) * (10 + 2 * 10))
    assert rows["0:0"]["weight_delta"] == 3.0
    assert (rows["0:0"]["mean_a"], rows["0:0"]["var_a"], rows["0:0"]["mean_delta"]) == (0.3, 0.0, 0.0)
    assert rows["1:0"]["count_a"] == rows["1:0"]["count_b"] == 8


def test_a_tick_counts_late_commits_too_and_a_tag_cuts_like_a_fork(ledger: Repository) -> None:
    tag(ledger, "before", resolve(ledger, "main"))
    add_events(ledger, "main", events_at(2, entity="late"))
    run(ledger, "main", POLICY)
    (row,) = diff(ledger, resolve(ledger, "before"), resolve(ledger, "80"), sort="count_b").table.to_pylist()
    assert (row["region"], row["count_a"], row["count_b"]) == ("0:0", 20, 21)


def test_sorting(ledger: Repository) -> None:
    places = resolve(ledger, "20"), resolve(ledger, "main")
    for name in DIFF.names:
        values = diff(ledger, *places, sort=name).table[name].to_pylist()
        known = [abs(v) if name.endswith("delta") else v for v in values if v is not None]
        assert known == sorted(known, reverse=True)
        assert diff(ledger, *places, sort=name, descending=False).table[name].to_pylist() == values[::-1]
    with pytest.raises(UsageError, match="no column"):
        diff(ledger, *places, sort="size")


def test_the_first_commit_on_which_two_branches_part(ledger: Repository) -> None:
    fork(ledger, "main", "same", resolve(ledger, "40"))
    run(ledger, "same", POLICY)
    assert first_difference(ledger, resolve(ledger, "main"), resolve(ledger, "same")) == []
    fork(ledger, "main", "other", resolve(ledger, "40"))
    (ahead,) = first_difference(ledger, resolve(ledger, "main"), resolve(ledger, "other"))
    assert (ahead.height, ahead.b) == (2, None)
    run(ledger, "other", {**POLICY, "baseWeight": 2})
    (parting,) = first_difference(ledger, resolve(ledger, "main"), resolve(ledger, "other"))
    assert parting.a is not None
    assert parting.b is not None
    assert (parting.height, parting.a.epoch_start, parting.b.epoch_start) == (2, 40, 40)
    assert parting.to_json()["a"]["commitId"] != parting.to_json()["b"]["commitId"]


def test_what_is_shared_is_not_read(ledger: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    fork(ledger, "main", "one")
    fork(ledger, "main", "two")
    add_events(ledger, "two", events_at(200))
    run(ledger, "two", POLICY)
    read: list[str] = []
    commits = ledger.engine.commits
    places = resolve(ledger, "one"), resolve(ledger, "two")
    monkeypatch.setattr(
        ledger.engine,
        "commits",
        lambda files, *given: read.extend(file.file for file in files) or commits(files, *given),
    )
    (parting,) = first_difference(ledger, *places)
    assert parting.a is None
    assert not set(read) & {file.file for file in ledger.branch("main").added.commits}


def test_the_status_of_a_branch(ledger: Repository) -> None:
    add_events(ledger, "main", events_at(2, 90, 120, 130, entity="G"))
    fork(ledger, "main", "other")
    told = status(ledger, "main", LIMITS)
    assert (told.rows, told.segments, told.highest_tick, told.watermark) == (37, 3, 130, 96)
    assert (told.rows_open, told.rows_late) == (3, 2)
    assert (told.commits, told.shards["0"].start, told.forks) == (4, 80, ("other",))
    assert told.last_run is not None
    assert (told.last_run.commits, told.last_run.by) == (4, "tester")
    assert told.to_json()["policy"] == POLICY
    assert status(ledger, "other", LIMITS).parent == "main"
    assert status(ledger, "other", LIMITS).last_run is None
    assert status(ledger, "other", LIMITS).digest == told.digest


def test_the_status_of_an_empty_branch(tmp_path: Path) -> None:
    told = status(make_ledger(tmp_path / "ledger"), "main", LIMITS)
    assert (told.rows, told.watermark, told.policy, told.last_run, told.rows_open) == (0, None, None, None, 0)
    assert told.to_json()["shards"] == {}
