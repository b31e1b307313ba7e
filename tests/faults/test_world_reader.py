"""The process that reads world events: nothing depends on it, and it never outlives what it works for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ledger_cli.core.world import PROTOCOL, Refused
from ledger_cli.core.world_batch import Events
from ledger_cli.services import world_reader
from ledger_cli.services.world_reader import EventReader

ROOT = Path(__file__).resolve().parents[2]

GOOD = b'{"eventId":"e%d","entityId":"E1","type":"a.b.v1","payload":{"n":%d},"handshake":{"protocol":"%s"}}'


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_reader, "ALONE_EVENTS", 0)


def batch(number: int, events: int = 100) -> list[bytes]:
    return [GOOD % (number, each, PROTOCOL.encode()) if each % 10 else b"{" for each in range(events)]


def right(events: Events, number: int) -> bool:
    values = [None if isinstance(each, Refused) else (each.event_id, each.payload["n"]) for each in events.found]
    return values == [(f"e{number}", each) if each % 10 else None for each in range(len(values))]


def test_batches_come_in_order() -> None:
    with EventReader({}) as reader:
        readings = [reader.read(batch(number)) for number in range(3)]
        assert reader.working
        assert all(right(reading.result(), number) for number, reading in enumerate(readings))


def test_few_events_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_reader, "ALONE_EVENTS", 150)
    with EventReader({}) as reader:
        for number, working in enumerate([False, False, True]):
            assert right(reader.read(batch(number)).result(), number)
            assert reader.working == working


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "/bin/cat", "/bin/false"])
def test_without_a_python_to_start_events_are_read_here(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with EventReader({}) as reader:
        assert all(right(reader.read(batch(number)).result(), number) for number in range(4))
        assert not reader.working


def test_what_a_killed_process_leaves_is_read_here() -> None:
    with EventReader({}) as reader:
        assert right(reader.read(batch(0)).result(), 0)
        assert reader._process is not None
        reader._process.kill()
        assert all(right(reader.read(batch(number, 20_000)).result(), number) for number in range(1, 4))
        assert not reader.working


def test_it_ends_with_its_reader() -> None:
    with EventReader({}) as reader:
        # Far more than a pipe holds: neither side waits for the other.
        reading = reader.read(batch(0, 20_000))
        assert reader._process is not None
    assert reader._process.returncode is not None
    assert right(reading.result(), 0)


_PARENT = """
import sys, time
from ledger_cli.services import world_reader
world_reader.ALONE_EVENTS = 0
reader = world_reader.EventReader({})
reader.read([b"{"]).result()
print(reader._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_does_not_outlive_a_killed_command(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as parent:
        assert parent.stdout is not None
        reader = int(parent.stdout.readline())
        parent.send_signal(number)
        parent.wait()
    deadline = time.monotonic() + 20
    while _runs(reader):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
