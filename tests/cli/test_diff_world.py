"""`ledger diff` shows what changed in the world, beside the regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL, merge_patch
from tests.cli.conftest import Run

TYPE = "building.set.v1"
TABLE = """\
A = main, B = rebuilt
no difference in 0 regions

entity  change         module            field       A      B
─────────────────────────────────────────────────────────────────
bell    version 1 → 2  –                 –           –      –
cellar  removed        building          dry         true   –
door-7  changed        building (cache)  warm        false  –
door-7  changed        building          lock/turns  1      2
door-7  changed        building          open        –      true
door-8  added          building          open        –      false
entities of the world: 1 added, 1 removed, 2 changed
"""


def put(ledger: Run, branch: str, entity: str, payload: Any, **fields: Any) -> None:
    event = {"entityId": entity, "type": TYPE, "payload": payload, "handshake": {"protocol": PROTOCOL}, **fields}
    ledger("world", "apply", "-", "--branch", branch, stdin=json.dumps(event))


@pytest.fixture
def rebuilt(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world on `main`, and on `rebuilt`, where some of it is otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEDGER_URL", "home")
    ledger("init", "home", "--interval", "10")
    ledger("schema", "register", TYPE)
    put(ledger, "main", "door-7", {"lock": {"turns": 1}, "colour": "red"})
    put(ledger, "main", "bell", {})
    put(ledger, "main", "same", {"a/b": {"c~": 1}})
    ledger("fork", "rebuilt")
    put(ledger, "main", "cellar", {"dry": True})
    put(ledger, "main", "door-7", {"warm": False}, stateClass="cache")
    put(ledger, "rebuilt", "door-7", {"lock": {"turns": 2}, "open": True})
    put(ledger, "rebuilt", "door-8", {"open": False})
    put(ledger, "rebuilt", "bell", {}, causes=[])
    return tmp_path


def test_two_branches(rebuilt: Path, ledger: Run) -> None:
    shown = ledger("diff", "main", "rebuilt")
    assert (shown.out, shown.err) == (TABLE, "")
    assert "world" not in ledger("diff", "main", "main").out
    rows = ledger("diff", "main", "rebuilt", "--json").json["world"]
    turns = next(row for row in rows if row["field"] == "lock/turns")
    assert turns == {
        "entity_id": "door-7", "entity_kind": "entity", "change": "changed", "version_a": 2, "version_b": 2,
        "module": "building", "state_class": "persistent", "field": "lock/turns", "a": 1, "b": 2,
    }  # fmt: skip
    back = ledger("diff", "rebuilt", "main", "--json").json["world"]
    assert [(row["entity_id"], row["a"], row["b"]) for row in back] == [(r["entity_id"], r["b"], r["a"]) for r in rows]


def test_order_and_limit(rebuilt: Path, ledger: Run) -> None:
    def column(name: str, *options: str) -> list[str]:
        return [
            row[name] for row in ledger("diff", "main", "rebuilt", "--json", "--sort", name, *options).json["world"]
        ]

    assert column("field") == ["warm", "open", "open", "lock/turns", "dry", None]
    assert column("field", "--ascending") == ["dry", "lock/turns", "open", "open", "warm", None]
    assert column("change", "--ascending")[0] == "added"
    lines = ledger("diff", "main", "rebuilt", "--limit", "1").out.splitlines()
    assert lines[-2:] == [
        "… and 5 more fields: --limit N shows more, --json all",
        "entities of the world: 1 added, 1 removed, 2 changed",
    ]


def test_commits_tags_and_ticks_are_compared_as_they_were(rebuilt: Path, ledger: Run) -> None:
    for tick in (9, 19):
        row = {"entityId": "a", "tickId": tick, "x": 1, "y": 1, "activity": 1}
        Path("ticks.jsonl").write_text("".join(json.dumps({**row, "tickId": each}) + "\n" for each in (tick, tick + 1)))
        put(ledger, "main", "clock", {"tick": tick})
        ledger("ingest", "ticks.jsonl")
        ledger("commit")
    put(ledger, "main", "clock", {"tick": 99})
    second, first = (each["commitId"] for each in ledger("log", "--json").json)
    ledger("tag", "early", first)
    for a, b, values in (
        (first, second, (9, 19)),
        ("early", second[:9], (9, 19)),
        ("10", "20", (9, 19)),
        ("10", "main", (9, 99)),
        ("10", "50", (9, 99)),
    ):
        world = ledger("diff", a, b, "--json").json["world"]
        assert [(row["entity_id"], row["a"], row["b"]) for row in world] == [("clock", *values)]
    assert ledger("diff", first, "early", "--json").json["world"] == []


def test_in_python(rebuilt: Path) -> None:
    with Ledger.open("home") as ledger:
        found = ledger.diff("main", "rebuilt")
        assert repr(found) == (
            "DiffResult of main and rebuilt: 0 regions listed, 0 equal; entities: 1 added, 1 removed, 2 changed"
        )
        assert found.world.num_rows == 6
        html = found._repr_html_()
        assert "lock/turns" in html
        assert "<b>World</b>" in html


_STATES = st.dictionaries(
    st.sampled_from(["a", "b/c", "~"]),
    st.recursive(
        st.one_of(st.integers(0, 2), st.just([]), st.just("x")),
        lambda inner: st.dictionaries(st.sampled_from(["a", "b/c"]), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)


@given(_STATES, _STATES)
def test_the_fields_that_differ_lead_from_one_state_to_the_other(a: Any, b: Any) -> None:
    """No field is left out and none is told for nothing: with all of B's values put into A, A is B."""
    from ledger_cli.services.world_diff import _leaves

    before, after = dict(_leaves("", a)), dict(_leaves("", b))
    kept = {path: value for path, value in before.items() if before[path] == after.get(path)}
    built: Any = {}
    for path, value in {**kept, **{path: value for path, value in after.items() if path not in kept}}.items():
        patch = value
        for name in reversed(path.split("/")) if path else ():
            patch = {name.replace("~1", "/").replace("~0", "~"): patch}
        built = merge_patch(built, patch) if path else patch
    assert built == b
