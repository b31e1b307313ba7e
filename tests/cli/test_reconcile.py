"""`ledger reconcile` and `ledger sync`."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.wiring import machine
from tests.cli.conftest import Run
from tests.conftest import Once

EVENT = {"type": "m.set.v1", "handshake": {"protocol": "55-45-17"}}


def tick(entity: str, number: int, activity: float, second: int | None = None) -> str:
    event = {"entityId": entity, "tickId": number, "x": 1, "y": 1, "activity": activity}
    return json.dumps(event if second is None else {**event, "timestamp": f"2026-01-01T00:00:{second:02d}Z"}) + "\n"


def add(ledger: Run, branch: str, *ticks: str, code: int = 0) -> None:
    ledger("ingest", "-", "--branch", branch, stdin="".join(ticks), code=code)
    ledger("commit", "--branch", branch)


def say(ledger: Run, branch: str, number: int, **payload: Any) -> None:
    event = {**EVENT, "eventId": f"e{number}", "entityId": "x", "payload": payload}
    ledger("world", "apply", "-", "--branch", branch, stdin=json.dumps(event) + "\n")


@pytest.fixture
def parted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Run, once: Once) -> Path:
    """Two branches that share the ticks 0 to 9 and then went on apart, with one conflict."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEDGER_URL", "world")

    def make() -> None:
        ledger("init", "world", "--interval", "10", "--regions", "grid:10")
        add(ledger, "main", *(tick("a", number, 1) for number in range(11)))
        ledger("fork", "trial")
        add(ledger, "main", tick("b", 12, 1), tick("c", 15, 2, second=5), tick("a", 30, 1))
        add(ledger, "trial", tick("d", 13, 4), tick("c", 15, 3, second=1), tick("d", 41, 1))

    once(make)
    return tmp_path / "world"


def test_the_shape_of_a_merge(parted: Path, ledger: Run) -> None:
    old = [ledger("log", "--branch", name, "--json").json[0]["digest"] for name in ("main", "trial")]
    split = ledger("log", "--branch", "trial", "--json").json[-1]["digest"]
    said = ledger("reconcile", "main", "trial").out
    assert said == "main holds the events of main and trial now (1 conflict); main.4 keeps what main was\n"
    merge, *folded = ledger("log", "--entries", "--json").json
    assert (merge["epochStart"], merge["epochEnd"], merge["entries"], merge["metadata"]) == (41, 41, [], {})
    assert merge["parents"] == [folded[0]["digest"], *sorted(old)]
    assert [(each["epochStart"], each["epochEnd"]) for each in folded] == [(30, 40), (10, 20), (0, 10)]
    assert folded[-1]["digest"] == split
    assert [each["count"] for each in folded[1]["entries"]] == [4]
    assert ledger("log", "--branch", "main.4", "--json").json[0]["digest"] == old[0]
    assert ledger("log", "--branch", "trial", "--json").json[0]["digest"] == old[1]
    assert "made again" not in ledger("replay", "--verify").err
    assert ledger("verify").code == 0
    assert merge["commitId"][:13] in ledger("log", "--graph").out
    assert ledger("gamma", "--json").json
    parents = {each["branch"]: each["parent"] for each in ledger("branch", "list", "--json").json}
    assert parents == {"main": None, "main.4": "main", "trial": "main"}, "all of them are there to be looked at"
    assert ledger("status", "--json").json["parent"] is None


def test_conflicts_are_in_the_order_of_entity_and_tick(parted: Path, ledger: Run) -> None:
    add(ledger, "main", tick("c", 33, 9), tick("b", 34, 8), tick("c", 32, 7))
    add(ledger, "trial", tick("c", 33, 1), tick("b", 34, 2), tick("c", 32, 3))
    listed = ledger("reconcile", "main", "trial", "--plan", "--json").json["ticks"]["listed"]
    assert [(each["kept"]["entityId"], each["kept"]["tickId"]) for each in listed] == [
        ("b", 34), ("c", 15), ("c", 32), ("c", 33),
    ]  # fmt: skip


def test_a_branch_that_just_moves_on_keeps_what_it_refused(parted: Path, ledger: Run) -> None:
    ledger("fork", "later")
    add(ledger, "later", tick("e", 31, 1))
    add(ledger, "main", '{"tickId": 1}\n', code=3)
    ledger("world", "apply", "-", stdin='{"no": "event"}\n', code=3)
    assert ledger("reconcile", "main", "later").out == "main is at the head of later now\n"
    rows = ledger("sql", "SELECT raw, reason FROM quarantine ORDER BY reason", "--json").json
    assert [row["reason"] for row in rows] == ["entity_id_missing", "invalid_event"]
    assert ledger("sql", "FROM quarantine", "--branch", "later", "--json").json == []
    again = ledger("world", "apply", "-", "--json", stdin='{"no": "event"}\n', code=3).json
    assert again["refused"] == {"invalid_event": 1}
    assert len(ledger("sql", "FROM quarantine", "--json").json) == 2, "what is refused again is there once"
    assert ledger("reconcile", "main", "later").out.endswith("nothing changed\n")
    assert ledger("verify").code == 0


def test_of_two_contents_the_earlier_is_kept(parted: Path, ledger: Run) -> None:
    plan = ledger("reconcile", "main", "trial", "--plan", "--json").json
    assert (plan["outcome"], plan["split"]["commits"], plan["ticks"]["conflicts"]) == ("merge", {"0": 1}, 1)
    (conflict,) = plan["ticks"]["listed"]
    assert (conflict["kept"]["activity"], conflict["keptOf"]) == (3, "trial")
    assert (conflict["refused"]["activity"], conflict["refusedOf"]) == (2, "main")
    assert [each["branch"] for each in ledger("branch", "list", "--json").json] == ["main", "trial"]
    told = ledger("reconcile", "main", "trial", "--plan").out
    assert "their events are folded anew from the split" in told
    ledger("reconcile", "main", "trial")
    assert ledger("sql", "SELECT activity FROM ticks WHERE entity_id = 'c'", "--json").json == [{"activity": 3.0}]
    (row,) = ledger("sql", "FROM quarantine", "--json").json
    assert (row["reason"], json.loads(row["raw"])["activity"]) == ("key_conflict", 2)


def test_the_order_of_the_names_does_not_matter(parted: Path, ledger: Run) -> None:
    one = ledger("reconcile", "main", "trial", "--into", "one", "--json").json
    other = ledger("reconcile", "trial", "main", "--into", "other", "--json").json
    assert one["heads"] == other["heads"]
    assert one["kept"] is None
    assert {each["branch"] for each in ledger("branch", "list", "--json").json} == {"main", "trial", "one", "other"}


def test_what_is_part_of_the_other_just_moves_on(parted: Path, ledger: Run) -> None:
    ledger("reconcile", "main", "trial")
    heads = ledger("status", "--json").json["digest"]
    assert ledger("reconcile", "main", "trial").out == "trial is part of main already: nothing changed\n"
    assert ledger("status", "--json").json["digest"] == heads
    moved_on = "trial is at the head of main now; trial.2 keeps what trial was\n"
    assert ledger("reconcile", "trial", "main").out == moved_on
    assert ledger("status", "--branch", "trial", "--json").json["digest"] == heads
    add(ledger, "trial", tick("e", 55, 1))
    assert ledger("reconcile", "main", "trial", "--json").json["outcome"] == "advance"


def test_both_histories_of_a_world_without_ticks_stay_reachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger("init", "world")
    monkeypatch.setenv("LEDGER_URL", "world")
    ledger("schema", "register", "m.set.v1")
    say(ledger, "main", 1, v=1)
    ledger("fork", "trial")
    say(ledger, "main", 2, v=2)
    say(ledger, "trial", 3, v=3)
    old = ledger("world", "history", "x", "--json").json
    assert ledger("reconcile", "main", "trial").out.endswith("; main.2 keeps what main was\n")
    assert [each["eventId"] for each in ledger("world", "history", "x", "--json").json] == ["e1", "e2", "e3"]
    assert ledger("world", "history", "x", "--branch", "main.2", "--json").json == old
    assert ledger("reconcile", "trial", "main").out.endswith("of main now; trial.1 keeps what trial was\n")
    say(ledger, "trial", 4, v=4)
    assert ledger("reconcile", "main", "trial").out == "main is at the head of trial now\n"


def test_what_cannot_be_reconciled(parted: Path, ledger: Run) -> None:
    assert "is one branch: name two" in ledger("reconcile", "main", "main", code=2).err
    ledger("replay", "--fork", "fives", "--strategy", "fixed", "--interval", "5")
    refused = ledger("reconcile", "main", "fives", code=2).err
    assert "`ledger replay --fork NAME`" in refused
    assert "there is no branch 'nothing'" in ledger("reconcile", "main", "nothing", code=2).err
    assert "exists" in ledger("reconcile", "main", "trial", "--into", "fives", code=2).err
    assert [each["branch"] for each in ledger("branch", "list", "--json").json] == ["main", "fives", "trial"]


def test_fields_of_the_world(parted: Path, ledger: Run) -> None:
    ledger("schema", "register", "m.set.v1")
    for number, (branch, payload) in enumerate([("main", {"a": 1, "b": 1}), ("trial", {"a": 2, "c": 3})]):
        say(ledger, branch, number, **payload)
    plan = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]
    assert (plan["onlyA"], plan["onlyB"], plan["conflicts"]) == (1, 1, 1)
    (conflict,) = plan["listed"]
    assert (conflict["entityId"], conflict["field"], conflict["rule"]) == ("x", "a", "lww")
    assert (conflict["a"], conflict["b"], conflict["kept"]) == (1, 2, "b")
    drawn = ledger("reconcile", "main", "trial", "--plan", "--out", "plan.svg")
    assert "drew plan.svg" in drawn.err
    assert "x · m.a" in Path("plan.svg").read_text()
    assert "ends with .png or .svg" in ledger("reconcile", "main", "trial", "--out", "plan.txt", code=2).err
    ledger("reconcile", "main", "trial")
    found = ledger("world", "get", "x", "--json").json
    assert (found["version"], found["state"]) == (2, {"persistent": {"m": {"a": 2, "b": 1, "c": 3}}})
    assert [each["eventId"] for each in ledger("world", "history", "x", "--json").json] == ["e0", "e1"]


def test_rules_of_fields_unite_what_both_sides_did(parted: Path, ledger: Run) -> None:
    ledger("schema", "register", "m.set.v1", "--field", "n=sum", "--field", "tags=union", "--field", "peak=max")
    say(ledger, "main", 1, n=2, tags=["a"], peak=9)
    say(ledger, "trial", 2, n=3, tags=["b"], peak=4)
    say(ledger, "main", 3, n=5)
    listed = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]["listed"]
    assert {each["field"]: each["rule"] for each in listed} == {"n": "sum", "peak": "max", "tags": "union"}
    ledger("reconcile", "main", "trial")
    state = ledger("world", "get", "x", "--json").json["state"]["persistent"]["m"]
    assert (state["n"], state["tags"]) == (10, ["a", "b"])


def test_sync_of_two_ledgers(parted: Path, ledger: Run) -> None:
    ledger("schema", "register", "m.set.v1")
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    add_other = ("--ledger", "other")
    ledger("ingest", "-", *add_other, stdin=tick("z", 3, 1) + tick("z", 77, 1))
    ledger("commit", *add_other)
    head, _, here, there = ledger("sync", "other").out.splitlines()
    assert head.split("  ") == ["ledger", "ticks taken in", "world events taken in", "outcome"]
    assert here.split(maxsplit=3)[:3] == ["here", "2", "0"]
    assert here.endswith("main holds the events of main and other.main now (0 conflicts); main.4 keeps what main was")
    moved_on = "main is at the head of world.main now"
    assert there.split(maxsplit=3) == ["other", "14", "0", f"{moved_on}; main.2 keeps what main was"]
    digests = [ledger("status", *where, "--json").json["digest"] for where in ((), add_other)]
    assert digests[0] == digests[1]
    assert ledger("replay", "--verify", *add_other).code == 0
    assert ledger("verify", *add_other).code == 0
    again = ledger("sync", "other", "--json").json
    assert (again["ledger"], again["here"]["outcome"], again["there"]["outcome"]) == ("other", "nothing", "nothing")
    assert again["here"]["takenIn"] == again["there"]["takenIn"] == {"ticks": 0, "worldEvents": 0}
    say(ledger, "main", 1, a=1)
    assert ledger("sync", "other", "--json").json["there"]["takenIn"] == {"ticks": 0, "worldEvents": 1}
    refused = ledger("ingest", "-", "--branch", "other.main", stdin=tick("q", 1, 1), code=2).err
    assert "is a copy of another ledger's branch" in refused
    assert "is no ledger" in ledger("sync", "nowhere", code=2).err


def test_sync_of_ledgers_whose_watermark_is_below_the_first_tick(
    tmp_path: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays behind the highest tick by the lateness, which may be more than that."""
    monkeypatch.chdir(tmp_path)
    for name, number in (("one", 2), ("other", 3)):
        ledger("init", name, "--interval", "10", "--regions", "grid:10", "--lateness", "5")
        ledger("ingest", "-", "--ledger", name, stdin=tick(name, number, 1))
        ledger("commit", "--ledger", name)
    assert ledger("status", "--json", "--ledger", "other").json["watermark"] == -2
    for _ in range(2):
        ledger("sync", "other", "--ledger", "one")
    for name in ("one", "other"):
        assert ledger("status", "--json", "--ledger", name).json["watermark"] == -2
        assert len(ledger("sql", "FROM ticks", "--json", "--ledger", name).json) == 2
        ledger("commit", "--final", "--ledger", name)
        ledger("replay", "--verify", "--ledger", name)


def test_what_one_side_closed_for_good_and_the_other_has_still_open(
    tmp_path: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ended its history with tick 4. Its last tick is in an open epoch of the union, as later ones of the other."""
    monkeypatch.chdir(tmp_path)
    hybrid = ("--strategy", "hybrid", "--min-interval", "3", "--max-interval", "20", "--max-size", "5")
    for name in ("one", "other"):
        ledger("init", name, "--regions", "grid:10", *hybrid)
    ended = [tick(entity, 0, 1) for entity in "abcde"] + [tick("a", 4, 1)]
    ledger("ingest", "-", "--ledger", "one", stdin="".join(ended))
    assert ledger("commit", "--final", "--ledger", "one", "--json").json["watermark"] == 5
    ledger("ingest", "-", "--ledger", "other", stdin="".join(tick("f", number, 1) for number in (2, 9, 19)))
    ledger("sync", "other", "--ledger", "one")
    for name in ("one", "other"):
        ledger("commit", "--final", "--ledger", name)
        summed = ledger("sql", "SELECT sum(n)::BIGINT AS n FROM commit_entries", "--json", "--ledger", name).json
        assert summed == [{"n": 9}]
        ledger("replay", "--verify", "--ledger", name)


def test_what_waits_for_its_cause_is_exchanged(parted: Path, ledger: Run) -> None:
    """Also where there is nothing else: its cause may come to either ledger."""
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    for where in ("world", "other"):
        ledger("schema", "register", "m.set.v1", "--ledger", where)
    late = {**EVENT, "eventId": "e2", "entityId": "y", "payload": {}, "causes": ["e1"]}
    ledger("world", "apply", "-", "--ledger", "other", stdin=json.dumps(late))
    ledger("sync", "other")
    for where in ("world", "other"):
        assert ledger("world", "apply", "-", "--json", "--ledger", where, stdin="").json["waiting"] == 1
    moves = ledger("status", "--json").json["moves"]
    ledger("sync", "other")
    assert ledger("status", "--json").json["moves"] == moves
    say(ledger, "main", 1)
    assert [each["eventId"] for each in ledger("world", "history", "y", "--json").json] == ["e2"]
    ledger("reconcile", "main", "other.main")
    assert ledger("status", "--json").json["world"]["waiting"] == 0
    moves = ledger("status", "--json").json["moves"]
    ledger("reconcile", "main", "other.main")
    assert ledger("status", "--json").json["moves"] == moves


def test_a_copied_ledger_is_another_one(parted: Path, ledger: Run, tmp_path: Path) -> None:
    """Both logs begin alike, and nothing that either holds is taken for the other's."""
    import shutil

    shutil.copytree(parted, tmp_path / "copy")
    add(ledger, "main", tick("m", 60, 1))
    with Ledger.open("copy") as copy:
        (tmp_path / "more.jsonl").write_text(tick("n", 61, 1))
        copy.ingest(tmp_path / "more.jsonl")
        copy.commit()
    ledger("reconcile", "main", "./copy")
    entities = {row["entity_id"] for row in ledger("sql", "FROM ticks", "--json").json}
    assert entities == {"a", "b", "c", "m", "n"}
    assert ledger("reconcile", "main", "copy#trial", "--json").json["outcome"] == "merge"
    assert "d" in {row["entity_id"] for row in ledger("sql", "FROM ticks", "--json").json}


def test_a_person_decides(parted: Path, ledger: Run) -> None:
    ledger("schema", "register", "m.set.v1", "--field", "note=manual", "--field", "n=sum")
    for number, (branch, payload) in enumerate([("main", {"note": "x", "n": 2}), ("trial", {"note": "y", "n": 3})]):
        say(ledger, branch, number, **payload)
    before = [ledger("status", "--branch", name, "--json").json["digest"] for name in ("main", "trial")]
    plan = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]
    assert {each["field"]: each["kept"] for each in plan["listed"]} == {"note": "neither", "n": "both"}
    assert plan["undecided"] == 1
    said = ledger("reconcile", "main", "trial", code=5).err
    assert "`ledger reconcile --resolutions reconcile-main-trial.json`" in said
    assert [ledger("status", "--branch", name, "--json").json["digest"] for name in ("main", "trial")] == before
    path = Path("reconcile-main-trial.json")
    asked = json.loads(path.read_text())
    (conflict,) = asked["conflicts"]
    assert (conflict["entityId"], conflict["a"], conflict["b"], conflict["choice"]) == ("x", "x", "y", None)
    assert "the choice of conflict 1 (x, note) must be" in ledger("reconcile", "--resolutions", path, code=2).err
    conflict["choice"] = {"value": "z"}
    path.write_text(json.dumps(asked))
    swapped = ledger("reconcile", "trial", "main", "--into", "swapped", "--resolutions", path, "--json").json
    made = ledger("reconcile", "--resolutions", path, "--json").json
    assert made["heads"] == swapped["heads"]
    worlds = [ledger("world", "get", "x", "--branch", name, "--json").json for name in ("main", "swapped")]
    assert worlds[0]["state"] == {"persistent": {"m": {"note": "z", "n": 5}}}
    assert all(worlds[0][name] == worlds[1][name] for name in ("state", "version", "hlc", "eventId"))
    (decision,) = [each for each in ledger("world", "history", "x", "--json").json if each["type"] == "m.resolved.v1"]
    assert decision["causes"] == ["e0", "e1"]
    assert ledger("reconcile", "main", "trial", "--json").json["outcome"] == "nothing"
    say(ledger, "trial", 9, note="later")
    assert ledger("reconcile", "main", "trial", code=5).err.count("reconcile-main-trial.2.json")
    assert "is known in every module" in ledger("schema", "register", "m.resolved.v1", code=2).err
    Path("x.json").write_text("[]")
    assert "no file of decisions" in ledger("reconcile", "main", "trial", "--resolutions", "x.json", code=2).err


def test_a_plan_tells_what_the_writes_of_a_side_come_to(parted: Path, ledger: Run) -> None:
    """By the rule of the field: of several writes the last one alone would say neither what is added nor what stays."""
    fields = {"n": "sum", "even": "sum", "top": "max", "low": "min", "tags": "union", "same": "union", "note": "lww"}
    given = [text for name, rule in fields.items() for text in ("--field", f"{name}={rule}")]
    ledger("schema", "register", "m.set.v1", *given)
    say(ledger, "main", 0, n=2, even=1, top=9, low=1, tags=["x"], same=["q"], note="first")
    say(ledger, "main", 1, n=5, even=3, top=4, low=6, tags=["y"], same=["p"], note="second")
    say(ledger, "trial", 2, n=4, even=4, top=7, low=3, tags=["z"], same=["p", "q"], note="second")
    plan = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]
    assert {each["field"]: (each["a"], each["b"], each["kept"]) for each in plan["listed"]} == {
        "n": (7, 4, "both"),
        "even": (4, 4, "both"),
        "top": (9, 7, "a"),
        "low": (1, 3, "a"),
        "tags": (["x", "y"], ["z"], "both"),
    }
    ledger("reconcile", "main", "trial")
    state = ledger("world", "get", "x", "--json").json["state"]["persistent"]["m"]
    assert state == {
        "n": 11,
        "even": 8,
        "top": 9,
        "low": 1,
        "tags": ["x", "y", "z"],
        "same": ["p", "q"],
        "note": "second",
    }


def test_an_event_told_in_other_words_is_one_event(parted: Path, ledger: Run) -> None:
    ledger("schema", "register", "m.set.v1")
    event = {**EVENT, "eventId": "same", "entityId": "an id\0with NUL"}
    for branch, payload in (("main", {"a": 1, "b": 2}), ("trial", {"b": 2, "a": 1})):
        text = json.dumps({**event, "payload": payload})
        ledger("world", "apply", "-", "--branch", branch, stdin=text + "\n")
    plan = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]
    assert (plan["both"], plan["refused"], plan["conflicts"]) == (1, [], 0)


def test_what_breaks_a_constraint_together(parted: Path, ledger: Run) -> None:
    with open("world/ledger.toml", "a") as file:
        file.write('[types."m.set.v1"]\n')
        file.write("constraints = ['(SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 1']\n")
    event = {**EVENT, "eventId": "in-main", "entityId": "ann", "payload": {"room": "hall"}}
    ledger("world", "apply", "-", stdin=json.dumps(event))
    others = [
        {**EVENT, "eventId": "in-trial", "entityId": "bob", "payload": {"room": "hall"}},
        {**EVENT, "eventId": "after", "entityId": "cat", "payload": {"fed": 1}, "causes": ["in-trial"]},
        {**EVENT, "eventId": "apart", "entityId": "dan", "payload": {"room": "loft"}},
    ]
    ledger("world", "apply", "-", "--branch", "trial", stdin="\n".join(map(json.dumps, others)))
    told = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]["refused"]
    reasons = {each["event"]["eventId"]: each["reason"] for each in told}
    assert reasons == {"in-trial": "constraint_violation", "after": "causal_gap"}
    assert {each["of"] for each in told} == {"b"}
    assert {each["detail"] for each in told} == {
        "bob would break: (SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 1",
        "its cause in-trial is refused",
    }
    plan = ledger("reconcile", "main", "trial", "--plan", "--out", "plan.svg").out
    assert "its cause in-trial is refused" in plan
    assert "bob · m.set.v1" in Path("plan.svg").read_text()
    ledger("reconcile", "main", "trial")
    assert {each["entityId"] for each in ledger("world", "find", "--json").json} == {"ann", "dan"}
    rows = ledger("sql", "SELECT raw, reason FROM quarantine", "--json").json
    assert reasons.items() <= {(json.loads(row["raw"]).get("eventId"), row["reason"]) for row in rows}
    assert ledger("reconcile", "main", "trial", "--json").json["outcome"] == "nothing"
    assert ledger("verify").code == 0


def test_gamma_and_forks_of_a_merge_hold_what_came_before_it(parted: Path, ledger: Run) -> None:
    ledger("reconcile", "main", "trial")
    ledger("commit", "--final")
    counted = "SELECT region, sum(n)::BIGINT AS n FROM commit_entries GROUP BY region ORDER BY region"
    summed = {row["region"]: row["n"] for row in ledger("sql", counted, "--json").json}
    assert sum(summed.values()) == 16
    assert {row["region"]: row["count"] for row in ledger("gamma", "--json").json["regions"]} == summed
    before = ledger("gamma", "--at", "10", "--json").json["regions"]
    assert sum(row["count"] for row in before) == 10
    made = ledger("fork", "early", "--from", "10", "--json").json
    assert (made["commits"], made["watermark"]) == (1, 10)
    first = ledger("log", "--json").json[-1]["commitId"]
    assert ledger("fork", "first", "--from", first, "--json").json["commits"] == 1


def test_what_a_merge_had_stays_when_the_next_one_finds_another(parted: Path, ledger: Run) -> None:
    add(ledger, "main", tick("k", 33, 2))
    ledger("reconcile", "main", "trial")
    add(ledger, "trial", tick("k", 33, 1, second=0))
    assert ledger("reconcile", "main", "trial", "--json").json["outcome"] == "merge"
    assert ledger("sql", "SELECT activity FROM ticks WHERE entity_id = 'k'", "--json").json == [{"activity": 2.0}]
    ledger("commit", "--final")
    assert ledger("replay", "--verify").code == 0
    assert ledger("reconcile", "main", "trial", "--json").json["outcome"] == "nothing"


def test_names_of_ones_own_are_left_alone(parted: Path, ledger: Run) -> None:
    ledger("fork", "main.merge")
    ledger("fork", "Main.4")
    ledger("tag", "main.4.2")
    ledger("reconcile", "main", "trial")
    names = {each["branch"] for each in ledger("branch", "list", "--json").json}
    assert names == {"main", "trial", "main.merge", "Main.4", "main.4.3"}
    assert "exists" in ledger("reconcile", "main", "trial", "--into", "main", "--plan", code=2).err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("added", "segments", 0, "file", "../stolen"), "names the file '../stolen'"),
        (("added", "segments", 0, "file", "ledger.toml"), "names the file 'ledger.toml'"),
        (("added", "segments", 0, "file", None), "cannot be used"),
        (("state", "watermark", "x"), "says what cannot be"),
        (("state", "created", 7), "says what cannot be"),
        (("state", "base", {"branch": "main", "segments_move": 1, "commits_move": 1}), "stands on itself"),
        (("previous", "0" * 64), "does not follow the one before it"),
    ],
)
def test_a_ledger_that_was_tampered_with(
    changed: tuple[Any, ...], said: str, parted: Path, ledger: Run, tmp_path: Path
) -> None:
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    ledger("ingest", "-", "--ledger", "other", stdin=tick("z", 3, 1))
    move = tmp_path / "other" / "refs" / "main" / f"{1:020d}.json"
    raw = json.loads(move.read_text())
    place = raw
    for name in changed[:-2]:
        place = place[name]
    place[changed[-2]] = changed[-1]
    move.write_text(json.dumps(raw, separators=(",", ":"), sort_keys=True) + "\n")
    before = sorted(path for path in tmp_path.rglob("*") if "scratch" not in path.parts)
    settings = (parted / "ledger.toml").read_text()
    told = ledger("reconcile", "main", "./other", code=1).err
    assert said in told
    assert told.startswith("ledger: ./other")
    assert (parted / "ledger.toml").read_text() == settings
    assert not [path for path in set(tmp_path.rglob("*")) - set(before) if path.name.startswith("stolen")]
    assert ledger("verify").code == 0
    assert ledger("branch", "list").out
    names = {each["branch"] for each in ledger("branch", "list", "--json").json} - {"main", "trial"}
    for name in names:
        ledger("branch", "delete", name)


def test_of_two_ledgers_the_damaged_one_is_named(parted: Path, ledger: Run) -> None:
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    ledger("ingest", "-", "--ledger", "other", stdin=tick("z", 3, 1))

    def said(broken: Path, code: int = 1) -> str:
        kept = broken.read_bytes()
        broken.write_bytes(b"?")
        told = ledger("sync", "./other", code=code).err
        broken.write_bytes(kept)
        return told.removeprefix("ledger: ")

    move = Path("refs", "main", f"{1:020d}.json")
    assert said("other" / move).startswith(f"./other: {move} is damaged")
    [segment] = Path("other", "segments").iterdir()
    assert said(segment).startswith(f"./other cannot be used (segments/{segment.name} is not what its digest says)")
    assert said(Path("other", "ledger.toml"), code=2).startswith("./other: ledger.toml is not TOML")
    assert said(parted / move).startswith(f"{move} is damaged")
    assert "./other: there is no branch 'none'" in ledger("reconcile", "main", "./other#none", code=2).err
    ledger("ingest", "-", "--ledger", "other", stdin=tick("z", 4, 1))
    [later] = set(Path("other", "segments").iterdir()) - {segment}
    later.unlink()
    assert f"./other: segments/{later.name} is missing" in ledger("sync", "./other", code=1).err


@pytest.mark.parametrize("level", ["eventual", "strong"])
def test_sync_with_a_ledger_that_may_only_be_read(
    level: str, parted: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    ledger("ingest", "-", "--ledger", "other", stdin=tick("z", 3, 1))
    mkdir = Path.mkdir

    def refused(path: Path, *given: Any, **named: Any) -> None:
        if path.parts[0] == "other":
            raise PermissionError(errno.EROFS, "Read-only file system", str(path))
        mkdir(path, *given, **named)

    rows = [{"rows": 15}] if level == "eventual" else [{"rows": 14}]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        told = ledger("sync", "other", "--consistency", level, code=1).err
    assert ledger("sql", 'SELECT count(*) AS "rows" FROM ticks', "--json").json == rows
    assert (
        told
        == {
            "eventual": "ledger: main has taken in what other has, but other took in nothing: other/scratch: "
            "Read-only file system; make it writable and sync again\n",
            "strong": "ledger: other: the ledger cannot be written: other/scratch: Read-only file system; nothing was "
            "stored, make it writable and retry\n",
        }[level]
    )
    done = ledger("sync", "other", "--json").json
    assert (done["here"]["outcome"], done["there"]["outcome"]) == (
        ("nothing", "advance") if level == "eventual" else ("merge", "advance")
    )


def test_what_another_ledger_is_called_here(parted: Path, ledger: Run) -> None:
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    united = ("reconcile", "main", "./other")
    for _ in range(2):
        for name in ("a b", "../x", "", "7", "x" * 41):
            for words in (("sync", "other"), united, (*united, "--plan")):
                assert f"{name!r} " in ledger(*words, "--as", name, code=2).err
        ledger("sync", "other", "--as", "there")
    assert "there.main" in {each["branch"] for each in ledger("branch", "list", "--json").json}
    assert "'trial' is none: leave it out" in ledger("reconcile", "main", "trial", "--as", "there", code=2).err


def test_a_clock_that_is_far_ahead_stays_outside(parted: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger("schema", "register", "m.set.v1")
    ledger("fork", "more")
    ledger("init", "other", "--interval", "10", "--regions", "grid:10")
    ledger("schema", "register", "m.set.v1", "--ledger", "other")
    now = machine.clock()
    monkeypatch.setattr(machine, "clock", lambda: now + 365 * 86_400 * 10**6)
    event = {**EVENT, "eventId": "e", "entityId": "x", "payload": {}}
    ledger("world", "apply", "-", "--ledger", "other", stdin=json.dumps(event))
    monkeypatch.setattr(machine, "clock", lambda: now)
    told = ledger("sync", "other", code=1).err
    assert told.startswith("ledger: other: its clock stands at ")
    assert "s ahead of this machine's" in told
    say(ledger, "main", 1, a=1)


def test_what_a_refused_event_wrote_is_in_no_conflict(parted: Path, ledger: Run) -> None:
    """The last write of a field is refused for another one: the value that stays is that of the other side."""
    with open("world/ledger.toml", "a") as file:
        file.write('[types."m.set.v1"]\n')
        file.write("constraints = ['(SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 1']\n")
    ledger("world", "apply", "-", stdin=json.dumps({**EVENT, "eventId": "0", "entityId": "y", "payload": {"room": 1}}))
    say(ledger, "main", 1, note="main")
    say(ledger, "trial", 2, note="trial")
    say(ledger, "trial", 3, note="refused", room=1)
    world = ledger("reconcile", "main", "trial", "--plan", "--json").json["world"]
    (conflict,) = world["listed"]
    assert (conflict["a"], conflict["b"], conflict["kept"]) == ("main", "trial", "b")
    ledger("reconcile", "main", "trial")
    assert ledger("world", "get", "x", "--json").json["state"] == {"persistent": {"m": {"note": "trial"}}}


def test_a_decision_is_about_events_that_stay(parted: Path, ledger: Run) -> None:
    with open("world/ledger.toml", "a") as file:
        file.write('[types."m.set.v1"]\nfields = {note = "manual"}\n')
        file.write("constraints = ['(SELECT count(*) FROM entities e WHERE e.room = entity.room) <= 1']\n")
    ledger("world", "apply", "-", stdin=json.dumps({**EVENT, "eventId": "0", "entityId": "y", "payload": {"room": 1}}))
    say(ledger, "main", 1, note="main")
    say(ledger, "trial", 2, note="trial")
    say(ledger, "trial", 3, note="refused", room=1)
    ledger("reconcile", "main", "trial", code=5)
    asked = json.loads(Path("reconcile-main-trial.json").read_text())
    (conflict,) = asked["conflicts"]
    assert (conflict["a"], conflict["b"]) == ("main", "trial")
    conflict["choice"] = "a"
    Path("chosen.json").write_text(json.dumps(asked))
    ledger("reconcile", "--resolutions", "chosen.json")
    assert ledger("world", "get", "x", "--json").json["state"] == {"persistent": {"m": {"note": "main"}}}
