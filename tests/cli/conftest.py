"""A small ledger, and commands run inside the process as a shell would see them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.cli.main import main
from ledger_cli.wiring import machine
from tests.conftest import Once


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def ledger(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `ledger` with arguments; an end other than `code` fails, and so does a stack trace."""

    def run(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> Ran:
        capfd.readouterr()
        given = [str(each) for each in arguments]
        monkeypatch.setattr(sys, "argv", ["ledger", *given])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        ended = main(given)
        sys.stdout.flush()
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err + captured.out
        assert ended == code, captured.err or captured.out
        if code in (1, 2, 5):
            assert captured.out == ""
            assert captured.err.startswith("ledger: ")
            assert captured.err.count("\n") == 1, captured.err
        return Ran(ended, captured.out, captured.err)

    return run


@dataclass
class Clock:
    """Goes on by a minute at each look."""

    minutes: int = 0

    def __call__(self) -> str:
        self.minutes += 1
        return f"2026-01-01T{(self.minutes - 1) // 60:02d}:{(self.minutes - 1) % 60:02d}:00.000Z"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Neither the clock nor the host nor the terminal of the day shows in what is compared."""
    clock = Clock()
    monkeypatch.setattr(machine, "now", clock)
    monkeypatch.setattr(machine, "author", lambda: "tester@host")
    for name in ("LEDGER_URL", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEDGER_THREADS", "2")
    return clock


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> None:
    """World events are judged by a clock that stands at the beginning of 2026, on the node `here`."""
    monkeypatch.setattr(machine, "clock", lambda: 1_767_225_600_000_000)
    monkeypatch.setenv("LEDGER_NODE", "here")


@pytest.fixture
def once(once: Once, settled: Clock, tmp_path: Path) -> Once:
    """As for all tests; and the clock goes on from where it was then."""

    def fill(make: Callable[[], object]) -> None:
        @wraps(make)
        def noted() -> None:
            make()
            (tmp_path / "clock").write_text(str(settled.minutes))

        once(noted)
        settled.minutes = int((tmp_path / "clock").read_text())

    return fill


EVENTS = [
    {"entityId": entity, "tickId": tick, "x": x, "y": 0, "activity": activity + tick / 100}
    for entity, x, activity in (("a", 1, 0.5), ("b", 12, 2.0), ("c", 25, 0.0))
    for tick in range(0, 40, 2)
    if entity != "c" or tick < 10
]


def make_world(ledger: Run, home: Path) -> Path:
    root = home / "world"
    ticks = home / "ticks.jsonl"
    ticks.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    ledger("init", root, "--regions", "grid:10", "--interval", "10")
    ledger("ingest", ticks, "--ledger", root)
    ledger("commit", "--final", "--ledger", root)
    return root


def make_forked(ledger: Run, home: Path) -> Path:
    root = make_world(ledger, home)
    ledger("tag", "baseline", "--ledger", root)
    policy = ("--strategy", "fixed", "--interval", "5")
    ledger("replay", "--fork", "hybrid", "--from", "20", *policy, "--ledger", root)
    return root


@pytest.fixture
def world(tmp_path: Path, ledger: Run, once: Once, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present directory is a ledger with 4 commits on `main` over the regions 0:0, 1:0 and 2:0."""
    once(lambda: make_world(ledger, tmp_path))
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


@pytest.fixture
def forked(tmp_path: Path, ledger: Run, once: Once, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with the tag `baseline` and a branch `hybrid` of another policy from tick 20."""
    once(lambda: make_forked(ledger, tmp_path))
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"
