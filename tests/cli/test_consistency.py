"""Levels of consistency: `--consistency`, `--after`, strong types, and events of two ledgers in one act."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.api import reconcile
from ledger_cli.core.vector_clock import VectorClock
from ledger_cli.services import world_judge
from tests.cli.conftest import Run
from tests.cli.worlds import event, lines

PAID = "shop.paid.v1"
SEEN = "shop.seen.v1"


def line(number: int, type: str = SEEN, entity: str = "till", **fields: Any) -> str:
    return lines({**event(number, type, entity, payload={"n": number}), **fields})


@pytest.fixture
def shops(tmp_path: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two ledgers: `head`, and `branch`, for which `head` decides about payments."""
    monkeypatch.chdir(tmp_path)
    for name in ("head", "branch"):
        ledger("init", name)
        settings = tmp_path / name / "ledger.toml"
        text = settings.read_text().replace("[world]", f'[world]\nnode = "{name}"')
        if name == "branch":
            text = text.replace("[world]", '[world]\ncanonical = "../head"')
        settings.write_text(text + f'\n[types."{PAID}"]\nconsistency = "strong"\n[types."{SEEN}"]\n')
    return tmp_path


def apply(ledger: Run, name: str, *lines: str, options: tuple[str, ...] = (), code: int = 0) -> Any:
    return ledger("world", "apply", "-", "--json", *options, "--ledger", name, stdin="".join(lines), code=code)


def ids(name: str) -> set[str]:
    with Ledger.open(name) as opened:
        return {row["event_id"] for row in opened.sql("SELECT event_id FROM world_events").to_pylist()}


# -- reads ------------------------------------------------------------------------------------------------


def test_a_reader_sees_what_it_has_seen_before(shops: Path, ledger: Run) -> None:
    written = apply(ledger, "head", line(1)).json["clock"]
    read = ledger("world", "get", "till", "--ledger", "head", "--json").json["clock"]
    assert written == read
    status = ledger("status", "--ledger", "head", "--json").json["world"]["clock"]
    assert status == read
    assert read.startswith("head~")
    apply(ledger, "branch", line(2, entity="door"))
    for words in (["get", "door"], ["history", "door"], ["find"], ["aggregate"], ["graph", "door"]):
        early = ledger("world", *words, "--after", read, "--ledger", "branch", code=1)
        assert f"branch main has not taken in {read} yet" in early.err
        assert ledger("world", *words, "--ledger", "branch").out
    ledger("sync", "head", "--ledger", "branch")
    for words in (["get", "till"], ["history", "till"], ["find"], ["aggregate"], ["graph", "till"]):
        assert ledger("world", *words, "--after", read, "--consistency", "causal", "--ledger", "branch").out


def test_waiting(shops: Path, ledger: Run) -> None:
    seen = apply(ledger, "head", line(1)).json["clock"]

    def later() -> None:
        time.sleep(0.2)
        with Ledger.open("branch") as opened:
            opened.sync("head")

    other = threading.Thread(target=later)
    other.start()
    with Ledger.open("branch") as opened:
        assert opened.world.reading(after=seen, wait=60).get("till").entity.version == 1
    other.join()
    begun = time.monotonic()
    early = ledger("world", "find", "--after", "x~00000000:1", "--wait", "0.3", "--ledger", "head", code=1)
    assert "has not taken in x~00000000:1 yet" in early.err
    assert time.monotonic() - begun >= 0.3


def test_what_a_reader_may_ask(shops: Path, ledger: Run) -> None:
    apply(ledger, "head", line(1))
    ask = ("world", "get", "till", "--ledger", "head")
    assert "belong together" in ledger(*ask, "--consistency", "causal", code=2).err
    assert "belong together" in ledger(*ask, "--consistency", "eventual", "--after", "a~00000000:1", code=2).err
    assert "no vector clock" in ledger(*ask, "--after", "noon", code=2).err
    assert "'exact' is none of eventual, causal, strong" in ledger(*ask, "--consistency", "exact", code=2).err


def test_branches_of_one_ledger_have_clocks_of_their_own(shops: Path, ledger: Run) -> None:
    apply(ledger, "head", line(1))
    ledger("fork", "trial", "--ledger", "head")
    here = apply(ledger, "head", line(2)).json["clock"]
    there = apply(ledger, "head", line(3), options=("--branch", "trial")).json["clock"]
    plan = ("reconcile", "main", "trial", "--ledger", "head")
    assert ledger(*plan, "--plan", "--json").json["world"]["order"] == "concurrent"
    ledger("world", "get", "till", "--after", there, "--ledger", "head", code=1)
    ledger(*plan)
    merged = VectorClock.parse(here).merged(VectorClock.parse(there))
    assert ledger("status", "--ledger", "head", "--json").json["world"]["clock"] == str(merged)
    assert ledger(*plan, "--plan", "--json").json["world"]["order"] == "after"


def test_events_that_came_to_both_by_themselves(shops: Path, ledger: Run) -> None:
    """Nothing is new to either, and still a reader of one is served by the other once they have met."""
    given = line(1, hlc="2026-01-01T00:00:00.000000Z-0000-sensor")
    clocks = [apply(ledger, name, given).json["clock"] for name in ("head", "branch")]
    ledger("world", "get", "till", "--after", clocks[0], "--ledger", "branch", code=1)
    ledger("sync", "head", "--ledger", "branch")
    for name in ("head", "branch"):
        ledger("world", "get", "till", "--after", ",".join(sorted(clocks)), "--ledger", name)
    moves = ledger("status", "--ledger", "branch", "--json").json["moves"]
    ledger("sync", "head", "--ledger", "branch")
    assert ledger("status", "--ledger", "branch", "--json").json["moves"] == moves


# -- strong types -----------------------------------------------------------------------------------------


def test_the_canonical_ledger_decides(shops: Path, ledger: Run) -> None:
    made = apply(ledger, "branch", line(1, PAID), line(2), line(3, PAID, expectedVersion=9), code=3).json
    assert (made["read"], made["applied"]) == (3, 2)
    assert [(each["line"], each["reason"]) for each in made["refusals"]] == [(3, "version_conflict")]
    assert (ids("head"), ids("branch")) == ({"e1"}, {"e1", "e2"})
    # What the branch does not know of yet decides all the same.
    apply(ledger, "head", line(4, PAID))
    late = apply(ledger, "branch", line(5, PAID, expectedVersion=2), code=0).json
    assert late["applied"] == 1
    assert ids("branch") == {"e1", "e2", "e4", "e5"}
    again = apply(ledger, "branch", line(5, PAID, expectedVersion=2)).json
    assert (again["applied"], again["duplicates"]) == (0, 1)


def test_atomic_goes_there_as_a_whole(shops: Path, ledger: Run) -> None:
    apply(ledger, "branch", line(1, PAID), line(2, expectedVersion=7), options=("--atomic",), code=3)
    assert ids("head") == ids("branch") == set()
    apply(ledger, "branch", line(1, PAID), line(2, expectedVersion=1), options=("--atomic",))
    assert ids("head") == ids("branch") == {"e1", "e2"}


def test_strong_reads(shops: Path, ledger: Run) -> None:
    apply(ledger, "head", line(1, PAID))
    read = ("world", "get", "till", "--ledger", "branch", "--json")
    ledger(*read, code=2)
    assert ledger(*read, "--consistency", "strong").json["version"] == 1
    assert ledger("world", "find", "--ledger", "head", "--consistency", "strong", "--json").json[0]["version"] == 1


def test_a_canonical_ledger_out_of_reach(shops: Path, ledger: Run) -> None:
    shutil.move("head", "away")
    refused = apply(ledger, "branch", line(1), line(2, PAID), code=1)
    assert f"since {PAID} is strong" in refused.err
    assert "cannot be reached" in refused.err
    assert ids("branch") == set()
    assert ledger("status", "--ledger", "branch", "--json").json["quarantined"] == 0
    apply(ledger, "branch", line(1))
    assert "cannot be reached" in ledger("world", "find", "--consistency", "strong", "--ledger", "branch", code=1).err
    shutil.move("away", "head")
    apply(ledger, "branch", line(2, PAID))
    assert ids("branch") == {"e1", "e2"}


def test_what_waits_for_its_cause_is_decided_there_too(shops: Path, ledger: Run) -> None:
    waiting = apply(ledger, "branch", line(2, PAID, causes=["e1"])).json
    assert (waiting["applied"], ids("branch")) == (0, set())
    apply(ledger, "branch", line(1))
    assert (ids("head"), ids("branch")) == (set(), {"e1"})
    apply(ledger, "branch", line(3))
    assert ids("branch") == {"e1", "e3"}
    ledger("sync", "head", "--ledger", "branch")
    assert ids("head") == {"e1", "e2", "e3"}
    ledger("sync", "head", "--ledger", "branch")
    assert ids("branch") == {"e1", "e2", "e3"}
    assert ledger("status", "--ledger", "branch", "--json").json["world"]["waiting"] == 0


def test_canonical_ledgers_do_not_form_chains(shops: Path, ledger: Run) -> None:
    ledger("init", "third")
    settings = shops / "head" / "ledger.toml"
    settings.write_text(settings.read_text().replace("[world]", '[world]\ncanonical = "../third"'))
    assert "names another canonical ledger" in apply(ledger, "branch", line(1, PAID), code=2).err
    settings.write_text(settings.read_text().replace("../third", "../head"))
    apply(ledger, "branch", line(1, PAID))


# -- sync -------------------------------------------------------------------------------------------------


def test_strong_sync_moves_the_other_ledger_first(shops: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(ledger, "branch", line(1))
    apply(ledger, "head", line(2, entity="door"))
    moved: list[str] = []
    whole = reconcile.reconcile

    def noted(ledger: Ledger, *given: Any, **named: Any) -> Any:
        moved.append(Path(ledger.location).name)
        return whole(ledger, *given, **named)

    monkeypatch.setattr(reconcile, "reconcile", noted)
    ledger("sync", "head", "--ledger", "branch", "--consistency", "strong")
    assert moved == ["head", "branch"]
    assert ids("head") == ids("branch") == {"e1", "e2"}
    assert (
        len({ledger("status", "--ledger", name, "--json").json["world"]["clock"] for name in ("head", "branch")}) == 1
    )


@pytest.mark.parametrize(("level", "taken"), [("causal", False), ("strong", False), ("eventual", True), (None, True)])
def test_effects_without_a_cause(
    shops: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch, level: str | None, taken: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(world_judge._Judge, "_reading_of", lambda *_: "")  # a ledger made by another tool
        apply(ledger, "head", line(2, causes=["e1"]))
    apply(ledger, "branch", line(3, entity="door"))
    options = () if level is None else ("--consistency", level)
    said = ledger("sync", "head", "--ledger", "branch", *options, code=0 if taken else 1)
    assert ids("branch") == ({"e2", "e3"} if taken else {"e3"})
    assert ids("head") == ({"e2", "e3"} if taken else {"e2"})
    assert taken or "has e2 without its cause e1 before it" in said.err


def test_the_level_of_a_type_holds_without_being_asked_for(
    shops: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(world_judge._Judge, "_reading_of", lambda *_: "")
        apply(ledger, "head", line(2, causes=["e1"]))
    settings = shops / "branch" / "ledger.toml"
    settings.write_text(settings.read_text() + 'consistency = "causal"\n')
    ledger("sync", "head", "--ledger", "branch", code=1)
    apply(ledger, "head", line(4, type=PAID, entity="door"))
    ledger("sync", "head", "--ledger", "branch", "--consistency", "eventual")
    assert ids("branch") == {"e2", "e4"}


# -- two ledgers in one act -------------------------------------------------------------------------------


def test_all_of_both(shops: Path, ledger: Run) -> None:
    ours, theirs = shops / "ours.jsonl", shops / "theirs.jsonl"
    ours.write_text(line(1) + "\n" + line(2))
    theirs.write_text(line(1) + line(3, entity="door"))
    shown = ledger("world", "apply", ours, "--with", "third", theirs, "--ledger", "head", code=2)
    assert "third is no ledger" in shown.err
    ledger("init", "third")
    both = ("world", "apply", ours, "--with", "third", theirs, "--ledger", "head")
    refused = ledger(*both, code=3)
    assert "2 of 2 events were refused; nothing was applied" in refused.err
    assert "--ledger third" in refused.err
    assert (ids("head"), ids("third")) == (set(), set())
    ledger("schema", "register", SEEN, "--ledger", "third")
    assert [each.split() for each in ledger(*both).out.splitlines()[2:]] == [
        ["read", "2", "2"],
        ["applied", "2", "2"],
        ["duplicates", "0", "0"],
    ]
    assert (ids("head"), ids("third")) == ({"e1", "e2"}, {"e1", "e3"})
    again = ledger(*both, "--json").json
    assert (again["transaction"], again["duplicates"], again["with"]["duplicates"]) == (None, 2, 2)
    theirs.write_text(line(4))
    ours.write_text(line(5, expectedVersion=1))
    assert ledger(*both, "--json", code=3).json["refused"] == {"version_conflict": 1}
    assert (ids("head"), ids("third")) == ({"e1", "e2"}, {"e1", "e3"})
    assert ledger("world", "recover", "--ledger", "head").out == "no transaction is under way\n"
    theirs.write_text("\n")
    assert "has no events: apply the other file alone" in ledger(*both, code=2).err
    assert "is this ledger" in ledger(*both[:4], "head", ours, "--ledger", "head", code=2).err
    theirs.write_text(line(6, PAID))
    elsewhere = ledger(*both[:4], "branch", theirs, "--ledger", "head", "--json", code=3).json
    assert "the canonical ledger has not decided" in elsewhere["with"]["refusals"][0]["detail"]
    for name in ("head", "third"):
        assert ledger("verify", "--ledger", name).code == 0


# -- follow -----------------------------------------------------------------------------------------------


def test_what_follows_is_read_once_where_another_ledger_decides(shops: Path, ledger: Run) -> None:
    grown = shops / "grown.jsonl"
    grown.write_text(line(1) + line(2, PAID) + "{\n")
    with Ledger.open("branch") as opened:
        steps = opened.follow(world=["grown.jsonl"], every=0.01, idle=20)
        assert [each.applied for each in next(steps).world] == [2]
        for more, applied in ((line(3, PAID), 1), (line(4), 1), (line(5) + "{\n" + line(6, PAID), 2)):
            with grown.open("a") as file:
                file.write(more)
            assert [each.applied for each in next(steps).world] == [applied]
        steps.close()
    assert (ids("head"), ids("branch")) == ({"e2", "e3", "e6"}, {f"e{number}" for number in range(1, 7)})
    assert ledger("follow", "--world", "grown.jsonl", "--ledger", "branch", "--idle", "1s").out == ""
    with Ledger.open("branch") as opened:
        assert opened.sql("SELECT line FROM quarantine ORDER BY line").to_pylist() == [{"line": 3}, {"line": 7}]


def test_who_follows_waits_for_the_ledger_that_decides(shops: Path) -> None:
    (shops / "grown.jsonl").write_text(line(1) + line(2, PAID))
    (shops / "head").rename("away")
    with Ledger.open("branch") as opened:
        steps = opened.follow(world=["grown.jsonl"], every=0.01, idle=20)
        [note] = next(steps).notes
        assert "tried again at the next step: the canonical ledger" in note
        assert opened.status().world is None
        (shops / "away").rename("head")
        assert [each.applied for each in next(steps).world] == [2]
        steps.close()
    assert (ids("head"), ids("branch")) == ({"e2"}, {"e1", "e2"})
