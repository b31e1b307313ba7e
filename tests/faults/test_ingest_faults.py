"""`ingest`, killed at any instant, against a full disk, and by several processes at once.

Whatever happens, a reader sees all of a command or nothing, and running it again ends where an undisturbed run
would. LEDGER_FAULT_SEED gives other instants.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.api import Ledger
from tests.faults.disks import SmallDisk
from tests.faults.jobs import ROOT, Job, Nursery
from tests.faults.worlds import POLICY, SEED, commits, instants, is_swept, new_ledger, refused, rows, write_rows

SECONDS = 0.9
"""About what the undisturbed command takes; some instants lie behind its end."""

Prepared = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, jobs: Nursery) -> Prepared:
    """Input files, what a ledger holds before the command, and what it holds after an undisturbed one."""
    home = tmp_path_factory.mktemp("ingest")
    names = [f"E{number}" for number in range(100)]
    old = write_rows(home / "old.jsonl", range(40), names)
    new = [
        write_rows(home / "a.jsonl", range(30, 200), names, 997),
        write_rows(home / "b.jsonl", range(190, 300), names),
    ]
    before = new_ledger(home / "before")
    after = home / "after"
    jobs.finish(Job(before, "ingest", [str(old)]))
    shutil.copytree(before, after)
    jobs.finish(Job(after, "ingest", [str(path) for path in new]))
    found = {"before": before, "arguments": [str(path) for path in new]}
    found |= {"rows_before": rows(before), "rows_after": rows(after), "refused": refused(after)}
    jobs.run(Job(after, "commit", options={**POLICY, "final": True}))
    return {**found, "commits": commits(after)}


def copied(prepared: Prepared, path: Path) -> Path:
    shutil.copytree(prepared["before"], path)
    return path


def ends_as_undisturbed(jobs: Nursery, prepared: Prepared, ledger: Path) -> None:
    jobs.finish(Job(ledger, "ingest", prepared["arguments"]))
    assert is_swept(ledger)
    assert rows(ledger) == prepared["rows_after"]
    assert refused(ledger) == prepared["refused"]
    jobs.finish(Job(ledger, "commit", options={**POLICY, "final": True}))
    assert commits(ledger) == prepared["commits"]


@pytest.mark.parametrize("instant", instants(12, SECONDS, SEED, soak=300))
def test_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    jobs.run(Job(ledger, "ingest", prepared["arguments"]), kill_after=instant)
    seen = rows(ledger)
    assert seen in (prepared["rows_before"], prepared["rows_after"]), "half of it is visible"
    assert refused(ledger) == ([] if seen == prepared["rows_before"] else prepared["refused"])
    ends_as_undisturbed(jobs, prepared, ledger)


def test_killed_again_and_again_on_one_ledger(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    for place in range(12):
        jobs.run(Job(ledger, "ingest", prepared["arguments"]), kill_after=0.05 * place)
    ends_as_undisturbed(jobs, prepared, ledger)


# --- several at once ------------------------------------------------------------------------------


def test_the_same_rows_by_several_processes_at_once(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    outcomes = jobs.run(*[Job(ledger, "ingest", prepared["arguments"])] * 3)
    assert [outcome.error for outcome in outcomes] == [""] * 3
    ends_as_undisturbed(jobs, prepared, ledger)


def test_parts_of_it_by_several_processes_at_once(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    """`a` and `b` contradict each other, so either may win; but no key is there twice, and none is lost."""
    ledger = copied(prepared, tmp_path / "world")
    outcomes = jobs.run(*[Job(ledger, "ingest", [path]) for path in prepared["arguments"] * 2])
    assert [outcome.error for outcome in outcomes] == [""] * 4
    found = [row[:2] for row in rows(ledger)]
    assert found == [row[:2] for row in prepared["rows_after"]]
    events = set(rows(ledger)) | {line[:2] for line in refused(ledger)}
    assert len(events) == len(found) + len(refused(ledger))


# --- a full disk ----------------------------------------------------------------------------------


def limited(bytes_max: int) -> Any:
    """No file may grow beyond this; a write that wants to fails, as on a full disk."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))

    return limit


def ingest_by_command(ledger: Path, arguments: list[str], prepare: Any = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ledger_cli", "ingest", *arguments, "--ledger", str(ledger)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=prepare)


def fails_in_one_line(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "verify" not in done.stderr, "a full disk is no damage"
    assert "the ledger cannot be written: " in done.stderr
    assert done.stderr.endswith("; nothing was stored, free space and retry\n")


@pytest.mark.parametrize("kib", [0, 1, 4, 16, 30, 50])
def test_a_disk_that_takes_no_more(jobs: Nursery, prepared: Prepared, tmp_path: Path, kib: int) -> None:
    ledger = copied(prepared, tmp_path / "world")
    fails_in_one_line(ingest_by_command(ledger, prepared["arguments"], limited(kib << 10)))
    assert rows(ledger) == prepared["rows_before"]
    assert refused(ledger) == []
    ends_as_undisturbed(jobs, prepared, ledger)


@pytest.mark.parametrize("options", [[], ["--map", "x=x*2"], ["--sql", "SELECT * EXCLUDE (_line) FROM source"]])
def test_a_disk_that_is_full_for_the_engine_too(prepared: Prepared, tmp_path: Path, options: list[str]) -> None:
    ledger = copied(prepared, tmp_path / "world")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        Ledger.simulate(tmp_path / name, entities=300)
        fails_in_one_line(ingest_by_command(ledger, [str(tmp_path / name), *options], limited(100 << 10)))
        assert rows(ledger) == prepared["rows_before"]


@pytest.mark.parametrize("spare_kib", [8, 64, 110])
def test_a_full_disk(jobs: Nursery, prepared: Prepared, small_disk: SmallDisk, spare_kib: int) -> None:
    ledger = copied(prepared, small_disk.path / "world")
    small_disk.leave(spare_kib)
    fails_in_one_line(ingest_by_command(ledger, prepared["arguments"]))
    assert rows(ledger) == prepared["rows_before"]
    assert is_swept(ledger)
    small_disk.leave(100 << 10)
    ends_as_undisturbed(jobs, prepared, ledger)
