"""What is applied is told to the bus: at least once, in order, and later where it was down."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from ledger_cli.buses import file as file_bus
from ledger_cli.buses import http as http_bus
from ledger_cli.buses.file import FileBus
from ledger_cli.buses.http import SECONDS, HttpBus
from ledger_cli.errors import Unavailable, UsageError
from ledger_cli.ports import BusEvent
from tests.cli.conftest import Run
from tests.cli.worlds import event, lines
from tests.servers import Posted, server

OPENED, MOVED = "building.opened.v1", "physics.moved.v1"


def events(*numbers: int, **fields: Any) -> str:
    return lines(*({**event(each, OPENED, f"door-{each}", payload={"n": each}), **fields} for each in numbers))


@pytest.fixture
def home(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with two types and a file as its bus; it is the present directory."""
    ledger("init", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    for name in (OPENED, MOVED):
        ledger("schema", "register", name)
    monkeypatch.setenv("LEDGER_BUS", "events.jsonl")
    return tmp_path / "home"


@pytest.fixture
def posted() -> Iterator[Posted]:
    with server() as running:
        yield running


def told(home: Path, name: str = "events.jsonl") -> list[Any]:
    return [json.loads(line) for line in (home / name).read_text().splitlines()]


def ids(found: list[Any]) -> list[str]:
    return [each["eventId"] for each in found]


def test_without_a_bus_nothing_is_told_and_nobody_listens(home: Path, ledger: Run, monkeypatch: Any) -> None:
    monkeypatch.delenv("LEDGER_BUS")
    ledger("world", "apply", "-", stdin=events(1))
    assert not (home / "events.jsonl").exists()
    assert ledger("status", "--json").json["world"]["modules"] == []
    assert [row["kind"] for row in ledger("sql", "FROM refs WHERE branch = 'admin'", "--json").json] == ["schema"] * 2


def test_events_are_told_once_they_are_applied(home: Path, ledger: Run) -> None:
    assert ledger("world", "apply", "-", stdin=events(1, 2)).err == ""
    ledger("world", "apply", "-", stdin=events(2, 3))
    found = told(home)
    assert [(each["position"], each["eventId"]) for each in found] == [(1, "e1"), (2, "e2"), (3, "e3")]
    assert found[0].keys() > {"ledger", "branch", "position", "payload", "version", "hlc"}
    polled = ledger("world", "subscribe", "other", "--json").json
    assert polled["lag"] == 3
    alike = ledger("world", "poll", "other", "--json").json["events"]
    assert [{**each, "ledger": found[0]["ledger"], "branch": "main"} for each in alike] == found
    modules = ledger("status", "--json").json["world"]["modules"]
    assert modules[0] == {"module": "bus", "types": ["*"], "cursor": 3, "lag": 0, "ok": True}


def test_refused_events_are_not_told(home: Path, ledger: Run) -> None:
    ledger("world", "apply", "-", stdin=events(1) + events(2, type="no.such.v1"), code=3)
    assert ids(told(home)) == ["e1"]
    ledger("world", "apply", "-", "--atomic", stdin=events(3) + events(4, type="no.such.v1"), code=3)
    assert ids(told(home)) == ["e1"]


def test_transient_events_are_told_without_a_position(home: Path, ledger: Run) -> None:
    ledger("world", "apply", "-", stdin=events(1))
    ledger("world", "apply", "-", stdin=events(1, 2, stateClass="transient", eventId="t", entityId="door-1"))
    found = told(home)
    assert [(each["position"], each["eventId"], each["version"]) for each in found] == [
        (1, "e1", 1),
        (None, "t", 1),
        (None, "t", 1),
    ]


def test_what_the_bus_misses_it_is_told_by_the_next_write(home: Path, ledger: Run, monkeypatch: Any) -> None:
    monkeypatch.setenv("LEDGER_BUS", "sub/events.jsonl")
    done = ledger("world", "apply", "-", "--json", stdin=events(1, 2))
    assert done.json["applied"] == 2
    assert "the bus could not be told" in done.err
    assert "the events are applied, and the next write or `ledger follow` tells it" in done.err
    assert done.err.count("\n") == 1
    module = ledger("status", "--json").json["world"]["modules"][0]
    assert (module["module"], module["cursor"], module["lag"]) == ("bus", 0, 2)
    (home / "sub").mkdir()
    assert ledger("world", "apply", "-", stdin=events(3)).err == ""
    assert ids(told(home, "sub/events.jsonl")) == ["e1", "e2", "e3"]


def test_no_snapshot_waits_for_a_bus_that_is_down(home: Path, ledger: Run, monkeypatch: Any) -> None:
    ledger("world", "apply", "-", stdin=events(1))
    monkeypatch.setenv("LEDGER_BUS", "sub/events.jsonl")
    ledger("world", "apply", "-", stdin=events(2))
    assert ledger("status", "--json").json["world"]["modules"][0]["lag"] == 1
    assert "snapshot" in ledger("snapshot", "create", "--wait", "1").out
    assert len(ledger("snapshot", "list", "--json").json) == 1


def test_status_tells_of_the_bus_where_there_is_one(home: Path, ledger: Run, monkeypatch: Any) -> None:
    ledger("world", "apply", "-", stdin=events(1))
    assert "module bus" in ledger("status").out
    monkeypatch.delenv("LEDGER_BUS")
    ledger("world", "apply", "-", stdin=events(2))
    assert "module bus" not in ledger("status").out
    monkeypatch.setenv("LEDGER_BUS", "events.jsonl")
    assert ledger("status", "--json").json["world"]["modules"][0]["lag"] == 1
    ledger("world", "apply", "-", stdin="")
    assert ids(told(home)) == ["e1", "e2"]


def test_events_are_posted(home: Path, ledger: Run, posted: Posted, monkeypatch: Any) -> None:
    monkeypatch.setenv("LEDGER_BUS", posted.url.replace("//", "//ann:s3cret@") + "?token=hidden")
    posted.status = 503
    down = ledger("world", "apply", "-", stdin=events(1))
    assert "answered 503" in down.err
    assert "s3cret" not in down.err
    assert "hidden" not in down.err
    posted.status = 302
    assert "answered 302" in ledger("world", "apply", "-", stdin=events(2)).err
    posted.status = 200
    assert ledger("world", "apply", "-", stdin=events(3)).err == ""
    assert ids(posted.events) == ["e1", "e2", "e3"]
    assert posted.headers[0]["Content-Type"] == "application/x-ndjson"
    assert posted.headers[0]["Authorization"] == "Basic YW5uOnMzY3JldA=="


def test_many_events_are_posted_in_order_by_several_requests(
    home: Path, ledger: Run, posted: Posted, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LEDGER_BUS", posted.url)
    ledger("world", "apply", "-", stdin=events(*range(2500)))
    assert [len(each) for each in posted.requests] == [1000, 1000, 500]
    assert [each["position"] for each in posted.events] == list(range(1, 2501))


def test_an_answer_without_an_end_holds_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def answer() -> socket.socket:
            connection, _ = listening.accept()
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nand so on")
            return connection

        answered = pool.submit(answer)
        begun = time.monotonic()
        HttpBus(f"http://127.0.0.1:{listening.getsockname()[1]}/").publish([BusEvent("a", b"{}")])
        assert time.monotonic() - begun < SECONDS / 2
        answered.result().close()


def test_an_answer_in_drops_holds_up_nobody_for_long(monkeypatch: Any) -> None:
    monkeypatch.setattr(http_bus, "SECONDS_IN_ALL", 0.5)
    over = Event()
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                while not over.wait(0.05):
                    connection.sendall(b"H")

        pool.submit(drip)
        begun = time.monotonic()
        with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
            HttpBus(f"http://127.0.0.1:{listening.getsockname()[1]}/").publish([BusEvent("a", b"{}")])
        assert time.monotonic() - begun < SECONDS / 2
        over.set()


def test_a_server_that_is_gone_loses_nothing(home: Path, ledger: Run, monkeypatch: Any) -> None:
    with server() as first:
        monkeypatch.setenv("LEDGER_BUS", first.url)
        ledger("world", "apply", "-", stdin=events(1))
    assert "cannot be reached" in ledger("world", "apply", "-", stdin=events(2)).err
    with server() as second:
        monkeypatch.setenv("LEDGER_BUS", second.url)
        ledger("world", "apply", "-", stdin="")
        assert (ids(first.events), ids(second.events)) == (["e1"], ["e2"])


def test_the_bus_may_listen_to_some_types_or_from_some_place_alone(home: Path, ledger: Run) -> None:
    ledger("world", "subscribe", "bus", "--types", "physics.*")
    ledger("world", "apply", "-", stdin=events(1) + events(2, type=MOVED))
    assert ids(told(home)) == ["e2"]
    ledger("world", "subscribe", "bus", "--types", "*", "--from", "0")
    ledger("world", "apply", "-", stdin=events(3))
    assert ids(told(home)) == ["e2", "e1", "e2", "e3"]


def test_a_branch_tells_what_its_parent_does_not(home: Path, ledger: Run) -> None:
    ledger("world", "apply", "-", stdin=events(1))
    ledger("fork", "alt")
    ledger("world", "apply", "-", "--branch", "alt", stdin=events(2))
    assert [(each["branch"], each["eventId"]) for each in told(home)] == [("main", "e1"), ("alt", "e2")]
    ledger("world", "apply", "-", stdin=events(3))
    ledger("reconcile", "main", "alt")
    assert {(each["branch"], each["eventId"]) for each in told(home)} >= {("main", f"e{n}") for n in (1, 2, 3)}


def test_other_writes_tell_the_bus_too(home: Path, ledger: Run, tmp_path: Path, monkeypatch: Any) -> None:
    ledger("world", "apply", "-", stdin=events(1, stateClass="session"))
    ledger("world", "session", "end")
    assert [each["type"] for each in told(home)] == [OPENED, "building.session_ended.v1"]
    ledger("init", tmp_path / "other")
    for name in (OPENED, MOVED):
        ledger("schema", "register", name, "--ledger", tmp_path / "other")
    (home / "more.jsonl").write_text(events(4))
    (home / "theirs.jsonl").write_text(events(5))
    ledger("world", "apply", "more.jsonl", "--with", tmp_path / "other", "theirs.jsonl")
    assert ids(told(home))[2:] == ["e4"]
    ledger("sync", tmp_path / "other")
    assert "e5" in ids(told(home))
    assert {"e4", "e5"} <= set(ids(told(tmp_path / "other")))


@pytest.mark.parametrize(
    ("bus", "answer"),
    [
        ("ftp://host/events", "no bus for ftp://: give bus in ledger.toml a path or one of file://, http://, https://"),
        ("http://[::bad/events", "bus is no URL to post to (Invalid IPv6 URL)"),
        ("http://host:99999/events", "bus is no URL to post to (Port out of range 0-65535)"),
        ("https:///events", "bus is no URL to post to (it names no host, or no port)"),
    ],
)
def test_a_bus_that_cannot_be_is_told_before_anything_is_applied(
    bus: str, answer: str, home: Path, ledger: Run, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LEDGER_BUS", bus)
    assert answer in ledger("world", "apply", "-", stdin=events(1), code=2).err
    assert ledger("status", "--json").json["world"] is None


def test_a_torn_line_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    bus = FileBus(str(path))
    whole = BusEvent("a", b'{"ledger":"1"}')
    bus.publish([whole])
    for length in (1, 5, 12, 200_000):
        with path.open("ab") as file:
            file.write((b'{"ledger":"' + b"x" * 200_000)[:length])
        bus.publish([whole])
        assert set(path.read_bytes().split(b"\n")) == {whole.value, b""}
    assert len(path.read_bytes().splitlines()) == 5


def test_a_file_that_another_holds_is_waited_for_a_while(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "events.jsonl"
    bus, whole = FileBus(str(path)), BusEvent("a", b'{"ledger":"1"}')
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr(file_bus, "LOCK_SECONDS", 0.05)
        with pytest.raises(Unavailable, match="is locked by another process"):
            bus.publish([whole])
        monkeypatch.setattr(file_bus, "LOCK_SECONDS", 30)
        with ThreadPoolExecutor(1) as pool:
            published = pool.submit(bus.publish, [whole])
            time.sleep(0.1)
            assert path.read_bytes() == b""
            fcntl.flock(held, fcntl.LOCK_UN)
            published.result()
    assert path.read_bytes() == whole.value + b"\n"


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("milk\nbread")
    with pytest.raises(UsageError, match="let `bus` name a file of its own"):
        FileBus(str(path)).publish([BusEvent("a", b'{"ledger":"1"}')])
    assert path.read_text() == "milk\nbread"


def test_a_full_disk_leaves_whole_lines_alone(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "events.jsonl"
    bus, whole = FileBus(str(path)), BusEvent("a", b'{"ledger":"1"}')
    bus.publish([whole])
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) > 20:
            return write(file, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            bus.publish([whole, whole])
    assert path.read_bytes() == whole.value + b"\n"
    bus.publish([whole, whole])
    assert path.read_bytes().splitlines() == [whole.value] * 3
