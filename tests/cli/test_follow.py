"""`ledger follow`: what grows is taken in as it grows, and ends as one batch would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.errors import NotFound, Unavailable, UsageError
from ledger_cli.services import broadcast
from ledger_cli.services.follow import FollowStep
from ledger_cli.wiring import listeners, machine
from tests.cli.conftest import Run

TYPE = "building.opened.v1"
EVERY = 0.01
ROOT = Path(__file__).resolve().parents[2]


def ticks(*numbers: int) -> str:
    return "".join(
        json.dumps({"entityId": f"E{entity}", "tickId": tick, "x": entity, "y": tick % 7, "activity": tick % 3}) + "\n"
        for tick in numbers
        for entity in (1, 12)
    )


def events(*numbers: int, **fields: Any) -> str:
    made = (
        {
            "eventId": f"e{number}",
            "entityId": f"door-{number % 5}",
            "type": TYPE,
            "payload": {"n": number},
            "hlc": f"2026-01-01T00:00:00.{number:06d}Z-0000-there",
        }
        for number in numbers
    )
    return "".join(json.dumps({**each, "handshake": {"protocol": PROTOCOL}, **fields}) + "\n" for each in made)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ledger `world` in the present directory."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "world")
    return tmp_path


def make(root: Path) -> Path:
    with Ledger.create(root, interval=10) as ledger:
        ledger.world.register(TYPE)
    return root


class Followed:
    """Someone who follows, a step at a time."""

    def __init__(self, root: Path, *sources: str, **options: Any) -> None:
        self.ledger = Ledger.open(root)
        self.stop = threading.Event()
        # A test that waits for nothing fails.
        self._steps = self.ledger.follow(*sources, **{"every": EVERY, "stop": self.stop, "idle": 20, **options})

    def next(self) -> FollowStep:
        return next(self._steps)

    def rest(self) -> list[FollowStep]:
        self.stop.set()
        found = list(self._steps)
        self.ledger.close()
        return found


@pytest.fixture
def follow(home: Path) -> Iterator[Callable[..., Followed]]:
    begun: list[Followed] = []

    def begin(*sources: str, **options: Any) -> Followed:
        begun.append(Followed(home / "world", *sources, **options))
        return begun[-1]

    yield begin
    for each in begun:
        each.rest()


def found(root: Path) -> tuple[Any, ...]:
    """All that does not depend on how it came: heads, ticks, world."""
    with Ledger.open(root) as ledger:
        assert ledger.verify().ok
        status = ledger.status()
        heads = {shard: each.head for shard, each in status.shards.items()}
        return heads, status.rows, status.watermark, ledger.world.digest(), status.quarantined


def batch(root: Path, ticks: str, events: str) -> tuple[Any, ...]:
    """The same, of a ledger that takes all of it at once."""
    make(root)
    root.with_suffix(".ticks.jsonl").write_text(ticks)
    with Ledger.open(root) as ledger:
        ledger.ingest(root.with_suffix(".ticks.jsonl"))
        ledger.commit()
        ledger.world.apply(events.splitlines())
    return found(root)


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_what_grows_ends_as_one_batch(home: Path, follow: Callable[..., Followed]) -> None:
    source, world = home / "ticks.jsonl", home / "events.jsonl"
    source.write_text(ticks(*range(15)))
    world.write_text("")
    one = follow("ticks.jsonl", world=["events.jsonl"])
    step = one.next()
    assert (step.lines, step.committed.commits if step.committed else None) == (30, 1)
    add(source, ticks(*range(15, 40)))
    add(world, events(*range(8)))
    step = one.next()
    told = step.to_json()
    assert (told["ticks"]["stored"], told["commits"], told["watermark"]) == (50, 2, 39)
    assert (told["world"]["applied"], told["world"]["waiting"], told["bus"]) == (8, 0, None)
    assert one.rest() == []
    assert found(home / "world") == batch(home / "other", ticks(*range(40)), events(*range(8)))


def test_whole_lines_alone_are_taken(home: Path, follow: Callable[..., Followed]) -> None:
    source = home / "ticks.jsonl"
    text = ticks(1, 2)
    source.write_text(text[:-10])
    one = follow("ticks.jsonl")
    assert one.next().ticks[0].read == 3
    add(source, text[-10:])
    assert one.next().ticks[0].stored == 1
    assert one.ledger.status().quarantined == 0


def test_a_step_takes_so_many_rows(home: Path, follow: Callable[..., Followed]) -> None:
    (home / "a.jsonl").write_text(ticks(*range(10)))
    (home / "b.jsonl").write_text(ticks(*range(100, 105)))
    (home / "events.jsonl").write_text(events(*range(7)))
    one = follow("a.jsonl", "b.jsonl", world=["events.jsonl"], rows=4, idle=0.05)
    steps = list(one._steps)
    assert all(sum(each.read for each in step.ticks) <= 4 for step in steps)
    assert all(sum(each.read for each in step.world) <= 4 for step in steps)
    assert one.ledger.status().rows == 30
    assert sum(each.applied for step in steps for each in step.world) == 7


def test_what_comes_meanwhile_is_of_the_next_step(
    home: Path, follow: Callable[..., Followed], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, numbers = home / "events.jsonl", iter(range(2, 50))
    source.write_text(events(1))
    (home / "ticks.jsonl").touch()
    one = follow("ticks.jsonl", world=["events.jsonl"])
    apply = one.ledger.world._apply

    def while_more_comes(*given: Any, **options: Any) -> Any:
        add(source, events(next(numbers)))
        return apply(*given, **options)

    monkeypatch.setattr(one.ledger.world, "_apply", while_more_comes)
    assert [sum(each.read for each in one.next().world) for _ in range(3)] == [1, 1, 1]
    add(home / "ticks.jsonl", ticks(1))
    assert sum(each.stored for each in one.next().ticks) == 2, "whoever sends events without end holds up no ticks"
    monkeypatch.undo()


def test_who_goes_on_takes_no_line_twice(home: Path, follow: Callable[..., Followed]) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(1, 2) + "{\n")
    (home / "events.jsonl").write_text(events(1) + "{\n")
    first = follow("ticks.jsonl", world=["events.jsonl"])
    assert first.next().lines == 7
    first.rest()
    add(source, "{\n" + ticks(3))
    second = follow("ticks.jsonl", world=["events.jsonl"])
    step = second.next()
    assert [(each.read, each.stored, each.duplicates, each.refused) for each in step.ticks] == [(3, 2, 0, 1)]
    assert step.world == []
    rows = second.ledger.sql("SELECT line, raw FROM quarantine ORDER BY line").to_pylist()
    assert [row["line"] for row in rows] == [2, 5, 6]


@pytest.mark.parametrize("how", ["truncated", "written anew", "replaced", "between two runs"])
def test_a_file_that_is_another_one_is_read_from_its_start(
    how: str, home: Path, follow: Callable[..., Followed]
) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(1, 2, 3))
    one = follow("ticks.jsonl")
    one.next()
    other = ticks(*((9,) if how == "truncated" else range(4, 12)))
    if how == "replaced":
        # What comes to the old file, also a line without its end, is not lost.
        add(source, ticks(50) + ticks(51).rstrip("\n"))
        source.rename(home / "ticks.jsonl.1")
        source.write_text(other)
        assert one.next().ticks[0].stored == 3
    elif how == "between two runs":
        one.rest()
        one = follow("ticks.jsonl")
        source.write_text(other)
        one = follow("ticks.jsonl")
    else:
        source.write_text(other)
    step = one.next()
    if how == "replaced":
        assert step.ticks[0].stored == 1
        assert "was replaced by another file: it is read from its start" in step.notes[0]
        step = one.next()
    else:
        assert "it is read from its start, and what is known is skipped" in step.notes[0]
    assert step.ticks[0].stored == other.count("\n")
    assert one.ledger.status().rows == 6 + other.count("\n") + (4 if how == "replaced" else 0)


def test_fifos_may_have_one_writer_after_another(home: Path, follow: Callable[..., Followed]) -> None:
    os.mkfifo(home / "ticks")
    one = follow("ticks")

    def write(text: str) -> None:
        with (home / "ticks").open("w") as file:
            file.write(text)

    for number in (1, 2):
        writer = threading.Thread(target=write, args=[ticks(number).rstrip("\n")])
        writer.start()
        assert one.next().ticks[0].stored == 2
        writer.join()


def test_commits_are_told_to_be_late_or_complete(home: Path, follow: Callable[..., Followed]) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(1, 25))
    one = follow("ticks.jsonl")
    assert one.next().committed is not None
    moves = one.ledger.status().moves
    add(source, ticks(2))
    step = one.next()
    assert step.ticks[0].late == 2
    assert step.committed is not None
    assert step.committed.commits == 1
    assert one.ledger.status().moves == moves + 2
    add(source, ticks(25))
    assert one.next().committed is None, "nothing is new"


def test_a_snapshot_is_made_where_one_is_due(home: Path, follow: Callable[..., Followed], monkeypatch: Any) -> None:
    (home / "events.jsonl").write_text(events(1))
    now = "2026-01-01T00:00:00.000Z"
    monkeypatch.setattr(machine, "now", lambda: now)
    one = follow(world=["events.jsonl"], snapshot_every="1h")
    assert one.next().snapshot is not None
    add(home / "events.jsonl", events(2))
    assert one.next().snapshot is None
    now = "2026-01-01T01:00:00.000Z"
    assert one.next().snapshot is not None
    assert len(one.ledger.snapshots.list()) == 2


def test_a_bus_that_was_down_is_told_by_who_follows(home: Path, ledger: Run, monkeypatch: Any) -> None:
    monkeypatch.setenv("LEDGER_BUS", str(home / "sub" / "bus.jsonl"))
    assert "could not be told" in ledger("world", "apply", "-", "--ledger", "world", stdin=events(1)).err
    down = ledger("follow", "--ledger", "world", "--idle", "1s")
    assert down.out == "step 1: nothing new\n"
    assert "the bus could not be told" in down.err
    assert down.err.count("warning") == 1
    (home / "sub").mkdir()
    (home / "events.jsonl").write_text(events(1, 2))
    up = ledger("follow", "--world", "events.jsonl", "--ledger", "world", "--idle", "1s", "--json")
    [step] = [json.loads(line) for line in up.out.splitlines()]
    assert (step["world"]["applied"], step["bus"]["events"], step["bus"]["lag"]) == (1, 2, 0)
    lines = [json.loads(line) for line in (home / "sub" / "bus.jsonl").read_text().splitlines()]
    assert [(each["position"], each["eventId"]) for each in lines] == [(1, "e1"), (2, "e2")]


def test_a_bus_with_much_to_be_told_holds_up_nothing(
    home: Path, ledger: Run, follow: Callable[..., Followed], monkeypatch: Any
) -> None:
    monkeypatch.setattr(broadcast, "BATCH_EVENTS", 2)
    ledger("world", "apply", "-", "--ledger", "world", stdin=events(*range(9)))
    monkeypatch.setenv("LEDGER_BUS", str(home / "bus.jsonl"))
    source = home / "ticks.jsonl"
    source.write_text(ticks(1))
    one = follow("ticks.jsonl", every=1000)
    step = one.next()
    assert (step.lines, step.bus and (step.bus.events, step.bus.lag)) == (2, (2, 7))
    add(source, ticks(2))
    step = one.next()
    assert (step.lines, step.bus and (step.bus.events, step.bus.lag)) == (2, (2, 5))
    assert [each.bus and each.bus.lag for each in one.rest()] == [3]
    left = follow(idle=0.05)
    assert [step.bus and step.bus.lag for step in left._steps] == [1, 0]
    assert len((home / "bus.jsonl").read_text().splitlines()) == 9


def test_a_bus_that_does_not_answer_is_left_alone_for_a_while(
    home: Path, follow: Callable[..., Followed], monkeypatch: Any
) -> None:
    asked: list[int] = []

    class Hanging:
        name = "hanging"

        def publish(self, events: Any) -> None:
            asked.append(len(events))
            raise Unavailable("hanging cannot be reached: timed out")

    monkeypatch.setattr(listeners, "make_bus", lambda *_: Hanging())
    source = home / "events.jsonl"
    source.write_text(events(1))
    one = follow(world=["events.jsonl"], every=1000, rows=2)
    assert "the bus could not be told" in one.next().notes[-1]
    add(source, events(*range(2, 12), stateClass="transient"))
    one.stop.wait = lambda _: False  # type: ignore[method-assign]
    steps = [one.next() for _ in range(5)]
    assert [step.world[0].transient for step in steps] == [2] * 5
    assert "which are gone: hanging cannot be reached" in steps[0].notes[0], "it is not hidden that they are"
    assert len(asked) == 1


def test_what_waits_is_judged_where_nothing_comes(
    home: Path, follow: Callable[..., Followed], monkeypatch: Any
) -> None:
    now = 1_767_225_600_000_000
    monkeypatch.setattr(machine, "clock", lambda: now)
    monkeypatch.setenv("LEDGER_CAUSAL_WAIT", "60")
    (home / "events.jsonl").write_text(events(1) + events(2, causes=["never"]))
    one = follow(world=["events.jsonl"])
    assert one.next().to_json()["world"]["waiting"] == 1
    now += 59_000_000
    assert one.rest() == []
    now += 1_000_000
    step = follow(world=["events.jsonl"]).next().to_json()
    assert (step["world"]["read"], step["world"]["refused"], step["world"]["waiting"]) == (0, 1, 0)


def test_standard_input_ends_by_itself(home: Path, ledger: Run) -> None:
    text = ticks(*range(25)) + "{\n"
    done = ledger("follow", "-", "--ledger", "world", "--rows", "20", stdin=text.rstrip("\n"))
    steps = done.out.splitlines()
    assert len(steps) == 3
    assert steps[0] == "step 1: 20 ticks stored"
    assert steps[-1] == "step 3: 10 ticks stored (1 quarantined), 1 commit below tick 24"
    assert found(home / "world") == batch(home / "other", text, "")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_after_the_step_in_hand(sent: signal.Signals, home: Path) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(*range(25)))
    command = [sys.executable, "-m", "ledger_cli", "follow", "ticks.jsonl", "--ledger", "world", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ticks"]["stored"] == 50
        begun = time.monotonic()
        process.send_signal(sent)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert time.monotonic() - begun < 30
    assert found(home / "world") == batch(home / "other", ticks(*range(25)), "")


def test_several_may_follow_at_once(home: Path, follow: Callable[..., Followed]) -> None:
    for name, numbers in (("a", range(0, 60, 2)), ("b", range(1, 60, 2))):
        (home / f"{name}.jsonl").write_text(ticks(*numbers))
    one, other = follow("a.jsonl", rows=10), follow("b.jsonl", rows=10)
    for _ in range(6):
        one.next()
        other.next()
    assert one.ledger.status().rows == 120


def test_two_do_not_follow_the_same_file(home: Path, follow: Callable[..., Followed]) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(1) + "{\n")
    one, other = follow("ticks.jsonl", rows=1), follow("ticks.jsonl", rows=2)
    one.next()
    other.next()
    with pytest.raises(UsageError, match=r"another process follows .*ticks\.jsonl into main: let one do it"):
        one.next()
    assert one.ledger.status().quarantined == 1


def test_a_branch_that_is_made_again_is_not_gone_on_with(home: Path, follow: Callable[..., Followed]) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(1))
    with Ledger.open(home / "world") as other:
        other.fork("alt")
        one = follow("ticks.jsonl", branch="alt", every=0.2)
        one.next()
        other.delete_branch("alt")
        other.fork("alt")
    add(source, ticks(2))
    with pytest.raises(UsageError, match=r"alt does not know any more how far .*ticks\.jsonl was read: the branch was"):
        one.next()
    again = follow("ticks.jsonl", branch="alt")
    assert again.next().ticks[0].stored == 4


def test_a_branch_that_is_made_again_in_a_step_lacks_nothing(
    home: Path, follow: Callable[..., Followed], monkeypatch: Any
) -> None:
    source = home / "events.jsonl"
    source.write_text(events(1))
    with Ledger.open(home / "world") as other:
        other.fork("alt")
        one = follow(world=["events.jsonl"], branch="alt")
        one.next()
        apply = one.ledger.world._apply

        def late(*arguments: Any) -> Any:
            other.delete_branch("alt")
            other.fork("alt")
            return apply(*arguments)

        monkeypatch.setattr(one.ledger.world, "_apply", late)
        add(source, events(2))
        with pytest.raises(UsageError, match="alt does not know any more"):
            one.next()
        assert other.status("alt").world is None


def test_a_store_that_is_away_for_a_while_ends_nothing(
    home: Path, follow: Callable[..., Followed], monkeypatch: Any
) -> None:
    source = home / "ticks.jsonl"
    source.write_text(ticks(1))
    one = follow("ticks.jsonl")
    one.next()
    add(source, ticks(2))

    def away(*_: Any) -> Any:
        raise Unavailable("the store cannot be reached: run it again")

    with monkeypatch.context() as patch:
        patch.setattr(one.ledger._repository, "branch", away)
        assert "tried again at the next step: the store cannot be reached" in one.next().notes[0]
    assert one.next().ticks[0].stored == 2


def test_a_fork_reads_from_the_start(home: Path, follow: Callable[..., Followed]) -> None:
    (home / "events.jsonl").write_text(events(1))
    one = follow(world=["events.jsonl"])
    one.next()
    one.ledger.fork("alt")
    other = follow(world=["events.jsonl"], branch="alt")
    assert other.next().world[0].duplicates == 1


def test_errors(home: Path, ledger: Run) -> None:
    (home / "ticks.jsonl").write_text(ticks(1))
    (home / "ticks.jsonl.gz").write_bytes(b"")
    with Ledger.open(home / "world") as opened:
        with pytest.raises(NotFound, match="no such file"):
            next(opened.follow("nope.jsonl"))
        with pytest.raises(UsageError, match="`ledger ingest` reads it as it is now"):
            next(opened.follow("ticks.jsonl.gz"))
    (home / "link.jsonl").symlink_to("ticks.jsonl")
    for arguments, told in (
        (["ticks.jsonl", "--world", "ticks.jsonl"], "is named twice"),
        (["ticks.jsonl", "--world", "./ticks.jsonl"], "./ticks.jsonl is named twice"),
        (["ticks.jsonl", "link.jsonl"], "link.jsonl is named twice"),
        (["-", "-"], "- is named twice"),
        ([f"{number}.jsonl" for number in range(101)], "101 sources are too many, at most 100 are remembered"),
        (["--every", "soon"], "is no length of time"),
        (["--every", "0.0s"], "0.0 seconds are no time to wait"),
        (["--idle", ".5s"], "is no length of time"),
        (["--snapshot-every", "0s"], "is no length of time"),
        ([".", "--idle", "1s"], "is not a file that grows line by line"),
    ):
        assert told in ledger("follow", *arguments, "--ledger", "world", code=2).err
    with Ledger.open("world") as opened:
        for every in (0, -1, float("inf"), float("nan")):
            with pytest.raises(UsageError, match="no time to wait"):
                opened.follow("ticks.jsonl", every=every)
    assert ledger("follow", "ticks.jsonl", "--every", "0.1s", "--idle", "0.5s", "--ledger", "world").code == 0
