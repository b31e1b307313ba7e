"""Acts on a ledger in processes that can be killed: a nursery imports everything once and forks for each job.

Read from standard input, a JSON line each: {"jobs": [job…], "kill_after": seconds or null}, where a job is
{"ledger", "act", "arguments", "options"}. Answered with a list of {"killed", "error", "seconds"}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Job:
    """One act: a method of `Ledger`, like `commit` or `world.apply_file`, with its arguments."""

    ledger: Path
    act: str
    arguments: Sequence[Any] = ()
    options: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `error`: the name of its class and its message, empty for none."""

    killed: bool
    error: str
    seconds: float


class Nursery:
    """Runs jobs in processes of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *jobs: Job, kill_after: float | None = None) -> list[Outcome]:
        """Start all jobs at once, kill them after a while, and wait for their end."""
        given = [{**vars(job), "ledger": str(job.ledger), "options": job.options or {}} for job in jobs]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"jobs": given, "kill_after": kill_after}) + "\n")
        self._process.stdin.flush()
        return [Outcome(**each) for each in json.loads(self._process.stdout.readline())]

    def finish(self, *jobs: Job) -> None:
        """Run jobs one after the other, each to its end and without an error."""
        for job in jobs:
            (outcome,) = self.run(job)
            assert outcome.error == ""


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery, ready."""
    command = [sys.executable, "-c", "from tests.faults.jobs import main; main()"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def main() -> None:
    """The nursery."""
    import ledger_cli.api
    import ledger_cli.engines.duck
    import ledger_cli.engines.importer
    import ledger_cli.services.compact
    import ledger_cli.services.snapshot_restore
    import ledger_cli.sources.csv
    import ledger_cli.sources.lines  # noqa: F401

    for line in sys.stdin:
        given = json.loads(line)
        begun = time.monotonic()
        running = [_begin(job) for job in given["jobs"]]
        if given["kill_after"] is not None:
            time.sleep(given["kill_after"])
            for pid, _ in running:
                os.kill(pid, signal.SIGKILL)
        outcomes = [_end(pid, errors, begun) for pid, errors in running]
        print(json.dumps(outcomes), flush=True)


def _begin(job: dict[str, Any]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    from ledger_cli.api import Ledger
    from ledger_cli.errors import LedgerError

    error = ""
    try:
        with Ledger.open(job["ledger"]) as ledger:
            done = attrgetter(job["act"])(ledger)(*job["arguments"], **job["options"])
            if isinstance(done, Iterator):
                # It goes on step by step.
                for _ in done:
                    pass
    except LedgerError as caught:
        error = f"{type(caught).__name__}: {caught}"
    except BaseException as caught:  # noqa: BLE001 - the parent shows it
        error = f"unexpected {type(caught).__name__}: {caught}"
    os.write(writing, error.encode())
    os._exit(0)


def _end(pid: int, errors: int, begun: float) -> dict[str, Any]:
    _, status = os.waitpid(pid, 0)
    with os.fdopen(errors, "rb") as file:
        error = file.read().decode()
    return {"killed": os.WIFSIGNALED(status), "error": error, "seconds": time.monotonic() - begun}
