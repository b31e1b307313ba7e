"""`commit`, killed at any instant and by several processes at once: ids are neither lost nor doubled.

LEDGER_FAULT_SEED gives other instants.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.api import Ledger
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import POLICY, SEED, commits, instants, is_swept, new_ledger, rows, write_rows

SECONDS = 0.6
"""About what the undisturbed command takes; some instants lie behind its end."""

Prepared = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, jobs: Nursery) -> Prepared:
    """A ledger with commits and more rows to commit, and what it holds after an undisturbed run."""
    home = tmp_path_factory.mktemp("commit")
    names = [f"E{number}" for number in range(100)]
    before, after = new_ledger(home / "before"), home / "after"
    parts = [range(100), range(100, 400), range(400, 500)]
    files = [str(write_rows(home / f"{place}.jsonl", ticks, names)) for place, ticks in enumerate(parts)]
    jobs.finish(Job(before, "ingest", files[:1]), Job(before, "commit", options=POLICY))
    jobs.finish(Job(before, "ingest", files[1:2]))
    shutil.copytree(before, after)
    found: Prepared = {"before": before, "commits_before": commits(before), "late": files[2]}
    jobs.finish(Job(after, "commit", options={"final": True}))
    found |= {"commits": commits(after), "heads": heads(after)}
    jobs.finish(Job(after, "ingest", files[2:]), Job(after, "commit", options={"final": True}))
    return {**found, "commits_late": commits(after), "rows_late": rows(after)}


def heads(root: Path) -> dict[str, str | None]:
    with Ledger.open(root) as ledger:
        return {shard: state.head for shard, state in ledger._repository.branch("main").state.shards.items()}


def copied(prepared: Prepared, path: Path) -> Path:
    shutil.copytree(prepared["before"], path)
    return path


def ends_as_undisturbed(jobs: Nursery, prepared: Prepared, ledger: Path) -> None:
    jobs.finish(Job(ledger, "commit", options={"final": True}))
    assert is_swept(ledger)
    assert commits(ledger) == prepared["commits"]
    assert heads(ledger) == prepared["heads"]
    with Ledger.open(ledger) as opened:
        assert opened.replay().ok


@pytest.mark.parametrize("instant", instants(12, SECONDS, SEED, soak=300))
def test_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    jobs.run(Job(ledger, "commit", options={"final": True}), kill_after=instant)
    assert commits(ledger) in (prepared["commits_before"], prepared["commits"]), "half of it is visible"
    ends_as_undisturbed(jobs, prepared, ledger)


def test_killed_again_and_again_on_one_ledger(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    for place in range(12):
        jobs.run(Job(ledger, "commit", options={"final": True}), kill_after=0.04 * place)
    ends_as_undisturbed(jobs, prepared, ledger)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_at_once(jobs: Nursery, prepared: Prepared, tmp_path: Path, processes: int) -> None:
    ledger = copied(prepared, tmp_path / "world")
    outcomes = jobs.run(*[Job(ledger, "commit", options={"final": True})] * processes)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert len(errors) < processes
    assert all(error.startswith("Conflict: ") for error in errors), errors
    assert commits(ledger) == prepared["commits"]
    ends_as_undisturbed(jobs, prepared, ledger)


def test_ingest_and_commit_at_once(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    """Whichever is first: after one more of each, the rows are all there, and summed exactly once."""
    for place in range(4):
        ledger = copied(prepared, tmp_path / f"world-{place}")
        ingesting = Job(ledger, "ingest", [prepared["late"]])
        committing = Job(ledger, "commit", options={"final": place % 2 == 0})
        outcomes = jobs.run(*([ingesting, committing] * 2 if place < 2 else [committing, ingesting]))
        errors = [outcome.error for outcome in outcomes if outcome.error]
        assert all(error.startswith("Conflict: ") for error in errors), errors
        jobs.finish(ingesting, Job(ledger, "commit", options={"final": True}))
        assert rows(ledger) == prepared["rows_late"]
        with Ledger.open(ledger) as opened:
            assert opened.verify().ok
            assert opened.replay().ok
        assert commits(ledger) == prepared["commits_late"]
