"""Whole processes, measured one after the other in turns, so that what else the machine does hits both alike."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEDGER = [sys.executable, "-m", "ledger_cli"]


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds on the clock, seconds of all its threads, and its peak memory in MiB."""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Job:
    """A command to be measured, and what has to be put back before it can run again."""

    command: Sequence[str]
    prepare: Callable[[], object] = lambda: None


def python(script: str) -> list[str]:
    """A short Python program."""
    return [sys.executable, "-c", script]


def run(command: Sequence[str], threads: int = 2) -> Cost:
    """Run a command to its end. RuntimeError with its output where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEDGER_THREADS": str(threads)}
    # What is installed has its bytecode; ours is to have it too, where the shell forbids to write any.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise RuntimeError(f"{' '.join(command)[:300]} ended with {process.returncode}:\n{said.decode()[-2000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turns(jobs: Sequence[Job], rounds: int) -> list[Cost]:
    """The best of several rounds of each job, by the clock; memory is the highest."""
    found: list[list[Cost]] = [[] for _ in jobs]
    for _ in range(rounds):
        for place, job in enumerate(jobs):
            job.prepare()
            found[place].append(run(job.command))
    return [Cost(min(c.wall for c in costs), min(c.cpu for c in costs), max(c.peak for c in costs)) for costs in found]
