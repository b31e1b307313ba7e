"""`ledger world session`, `ledger world cache`, and the classes of state in `ledger status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ledger_cli.services import world_apply
from tests.cli.conftest import Run
from tests.cli.worlds import event, lines

OPENED, MOVED = "building.opened.v1", "physics.moved.v1"
STATE = (
    "persistent: 2 entities, 2 parts, 26 bytes; session: 2 entities, 3 parts, 31 bytes; "
    "cache: 1 entity, 1 part, 14 bytes\n"
)


@pytest.fixture
def home(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with state of each class; a checkpoint is made at every second batch."""
    monkeypatch.setattr(world_apply, "CHECKPOINT_FILES", 1)
    ledger("init", tmp_path / "home")
    monkeypatch.setenv("LEDGER_URL", str(tmp_path / "home"))
    ledger("schema", "register", OPENED)
    ledger("schema", "register", MOVED)
    events = [
        event(1, OPENED, payload={"open": True}),
        event(2, OPENED, payload={"user": 1}, stateClass="session"),
        event(3, MOVED, payload={"user": 1}, stateClass="session"),
        event(4, OPENED, "door-8", payload={"open": True}),
        event(5, OPENED, "door-8", payload={"user": 12}, stateClass="session"),
        event(6, OPENED, "door-8", payload={"seen": "now"}, stateClass="cache"),
        event(7, OPENED, "door-9", payload={"seen": 1}, stateClass="transient"),
    ]
    ledger("world", "apply", "-", stdin=lines(*events))
    return tmp_path / "home"


def state(ledger: Run, entity: str) -> Any:
    return ledger("world", "get", entity, "--json").json["state"]


def test_status_shows_the_classes_apart(home: Path, ledger: Run) -> None:
    assert STATE in ledger("status").out
    assert ledger("status", "--json").json["world"]["classes"] == {
        "persistent": {"entities": 2, "parts": 2, "bytes": 26},
        "session": {"entities": 2, "parts": 3, "bytes": 31},
        "cache": {"entities": 1, "parts": 1, "bytes": 14},
    }


def test_a_session_ends_by_events(home: Path, ledger: Run) -> None:
    before = ledger("status", "--json").json["world"]["hlc"]
    assert ledger("world", "session", "end", "--module", "physics").out == "ended 1 session part of 1 entity\n"
    assert state(ledger, "door-7")["session"] == {"building": {"user": 1}}
    ended = ledger("world", "session", "end", "--json").json
    assert (ended["entities"], ended["parts"]) == (2, 2)
    assert state(ledger, "door-7") == {"persistent": {"building": {"open": True}}}
    assert ledger("world", "session", "end").out == "ended 0 session parts of 0 entities\n"
    told = ledger("world", "history", "door-7", "--json").json[-2:]
    assert [each["type"] for each in told] == ["physics.session_ended.v1", "building.session_ended.v1"]
    # The past has its session still.
    past = ledger("world", "get", "door-7", "--at", before, "--json").json
    assert past["state"]["session"] == {"building": {"user": 1}, "physics": {"user": 1}}
    assert "has no entity 'door-99'" in ledger("world", "session", "end", "--entity", "door-99", code=2).err


def test_a_session_begins_again(home: Path, ledger: Run) -> None:
    ledger("world", "session", "end", "--entity", "door-7")
    assert "session" in state(ledger, "door-8")
    ledger("world", "apply", "-", stdin=lines(event(9, OPENED, payload={"by": "ann"}, stateClass="session")))
    assert state(ledger, "door-7")["session"] == {"building": {"by": "ann"}}
    assert ledger("world", "session", "end", "--entity", "door-7", "--json").json["parts"] == 1
    assert "session" not in state(ledger, "door-7")


def test_others_may_end_a_session(home: Path, ledger: Run) -> None:
    kind = "building.session_ended.v1"
    wrong = [event(20, kind), event(21, kind, stateClass="session", payload={"a": 1})]
    right = event(22, kind, stateClass="session")
    result = ledger("world", "apply", "-", "--json", stdin=lines(*wrong, right), code=3).json
    assert (result["applied"], result["refused"]) == (1, {"constraint_violation": 1, "invalid_event": 1})
    assert state(ledger, "door-7")["session"] == {"physics": {"user": 1}}


def test_a_session_of_a_module_with_a_key_ends(home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_KEYS", "building=env:BUILDING_KEY")
    monkeypatch.setenv("BUILDING_KEY", "secret")
    assert ledger("world", "session", "end", "--json").json["parts"] == 3
    assert "signature" in ledger("world", "history", "door-8", "--json").json[-1]["handshake"]


def test_the_cache_comes_back_equal(home: Path, ledger: Run) -> None:
    assert ledger("world", "cache", "drop").out == "dropped the cache state of 0 entities: 0 bytes\n"
    # The second batch keeps a checkpoint of the first.
    ledger("world", "apply", "-", stdin=lines(event(9, OPENED, payload={"open": False})))
    before = ledger("world", "find", "--json").json
    assert before[1]["state"]["cache"] == {"building": {"seen": "now"}}
    dropped = ledger("world", "cache", "drop", "--json").json
    assert (dropped["entities"], dropped["bytes"] > 0) == (1, True)
    assert ledger("world", "cache", "drop", "--json").json["entities"] == 0
    assert ledger("world", "find", "--json").json == before
    assert state(ledger, "door-8") == before[1]["state"]
    assert ledger("verify").out.startswith("2 refs")
