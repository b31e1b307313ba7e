"""`ledger world graph`: what an entity is related to, as a tree, as DOT, and as a picture."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli import Ledger
from ledger_cli.core.world import PROTOCOL
from ledger_cli.render import relations
from ledger_cli.services.world_graph import Related, Relation, WorldGraph
from tests.cli.conftest import Run

TYPE = "building.set.v1"
TREE = """\
door-7 (entity)
├── → hall (space): leads to
│   ├── ← ann (entity): is in
│   │   └── → bob (entity): knows
│   └── ← door-8 (entity): r5
└── → kitchen (space): leads to
    ├── → hall (space, also elsewhere here): lies beside
    └── → ghost (no entity): r6
"""
DOT = """\
digraph "door-8" {
  rankdir=LR;
  node [shape=box, style=rounded];
  "door-8" [label="door-8\\nentity"];
  "hall" [label="hall\\nspace"];
  "door-8" -> "hall" [label="r5"];
}
"""


def put(ledger: Run, *events: tuple[str, str, dict[str, Any]]) -> None:
    usual = {"type": TYPE, "handshake": {"protocol": PROTOCOL}}
    lines = [{**usual, "entityId": name, "entityKind": kind, "payload": state} for name, kind, state in events]
    ledger("world", "apply", "-", stdin="\n".join(map(json.dumps, lines)))


def relate(number: int, source: Any, target: Any, kind: str | None = None) -> tuple[str, str, dict[str, Any]]:
    return f"r{number}", "relationship", {"from": source, "to": target, **({} if kind is None else {"kind": kind})}


@pytest.fixture
def building(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEDGER_URL", "home")
    ledger("init", "home")
    ledger("schema", "register", TYPE)
    put(ledger, *((name, "entity", {"a": 1}) for name in ("door-7", "door-8", "ann", "bob", "lonely")))
    put(ledger, ("hall", "space", {}), ("kitchen", "space", {}))
    put(ledger, relate(1, "door-7", "hall", "leads to"), relate(2, "door-7", "kitchen", "leads to"))
    put(ledger, relate(3, "kitchen", "hall", "lies beside"), relate(4, "ann", "hall", "is in"))
    put(ledger, relate(5, "door-8", "hall"), relate(6, "kitchen", "ghost"), relate(7, "ann", "bob", "knows"))
    put(ledger, relate(8, "door-7", 5), ("r9", "relationship", {"from": "door-7"}))
    return tmp_path


def test_the_tree_shows_each_relation_once(building: Path, ledger: Run) -> None:
    assert ledger("world", "graph", "door-7", "--depth", "3").out == TREE
    near = ledger("world", "graph", "door-7", "--depth", "1").out
    assert "kitchen" in near
    assert "ann" not in near
    assert ledger("world", "graph", "door-7", "--depth", "0").out == "door-7 (entity)\n"


def test_json(building: Path, ledger: Run) -> None:
    found = ledger("world", "graph", "bob", "--depth", "1", "--json").json
    assert found == {
        "branch": "main", "at": None, "entityId": "bob", "depth": 1,
        "entities": [
            {"entityId": "bob", "entityKind": "entity", "distance": 0},
            {"entityId": "ann", "entityKind": "entity", "distance": 1},
        ],
        "relations": [{"relationshipId": "r7", "from": "ann", "to": "bob", "kind": "knows", "module": "building"}],
    }  # fmt: skip


def test_of_a_relationship_its_two_ends(building: Path, ledger: Run) -> None:
    shown = ledger("world", "graph", "r7", "--depth", "0").out
    assert shown == "ann (entity)\n└── → bob (entity): knows\n"


def test_a_relationship_of_a_missing_entity_is_found_by_its_id(building: Path, ledger: Run) -> None:
    assert ledger("world", "graph", "ghost", "--depth", "1").out.startswith("ghost (no entity)\n└── ← kitchen")
    assert "has no entity 'nobody'" in ledger("world", "graph", "nobody", code=2).err
    alone = ledger("world", "graph", "lonely")
    assert alone.out == "lonely (entity)\n"
    assert "no relationship" in alone.err


def test_then_and_now(building: Path, ledger: Run) -> None:
    then = ledger("status", "--json").json["world"]["hlc"]
    put(ledger, relate(7, None, None))
    put(ledger, relate(10, "bob", "door-8", "paints"))
    assert "paints" in ledger("world", "graph", "bob").out
    assert "knows" not in ledger("world", "graph", "bob").out
    past = ledger("world", "graph", "bob", "--at", then, "--json").json
    assert (past["at"], [each["kind"] for each in past["relations"]]) == (then, ["is in", "knows"])


def test_files_and_streams(building: Path, ledger: Run) -> None:
    assert ledger("world", "graph", "door-8", "--depth", "1", "--format", "dot").out == DOT
    told = ledger("world", "graph", "door-8", "--depth", "1", "--out", "g.dot").out
    assert (told, Path("g.dot").read_text()) == ("wrote g.dot: 2 entities, 1 relation\n", DOT)
    streamed = ledger("world", "graph", "door-7", "--format", "svg").out
    ledger("world", "graph", "door-7", "--out", "g.svg")
    assert Path("g.svg").read_text() == streamed
    ElementTree.fromstring(streamed)
    ledger("world", "graph", "door-7", "--out", "g.PNG")
    assert Path("g.PNG").read_bytes().startswith(b"\x89PNG")
    with Ledger.open() as opened:
        assert len(opened.world.save_graph("h.svg", "door-7", depth=2).relations) == 6
        assert opened.world.graph("door-7", depth=1).to_json()["depth"] == 1


def test_errors(building: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*options: str, code: int = 2) -> str:
        return ledger("world", "graph", "door-7", *options, code=code).err

    assert "is none of text, dot, svg, png" in told("--format", "gif")
    assert "ends with one of .dot, .svg, .png" in told("--out", "g.gif")
    assert "end it with .svg" in told("--out", "g.png", "--format", "svg")
    assert "exclude each other" in told("--json", "--format", "dot")
    assert "there is no directory" in told("--out", "nowhere/g.svg")
    monkeypatch.setattr(relations, "PICTURE_ENTITIES_MAX", 3)
    assert "too many for a picture (at most 3): give a smaller --depth" in told("--format", "svg")
    assert not list(Path().glob("*.svg"))
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert "[render]" in told("--depth", "0", "--format", "png", code=1)


_NAMES = st.one_of(st.sampled_from("abcdef"), st.text(min_size=1, max_size=6))


@given(st.lists(st.tuples(_NAMES, _NAMES, st.one_of(st.none(), st.text(max_size=5))), max_size=12))
def test_any_graph_can_be_drawn(drawn: list[tuple[str, str, str | None]]) -> None:
    """As well-formed XML and balanced DOT; all entities are there, and none covers another."""
    related = [Relation(f"r{place}", *each, "m") for place, each in enumerate(drawn)]
    names = dict.fromkeys(["root", *(end for each in related for end in (each.source, each.target))])
    graph = WorldGraph("main", None, "root", 9, [Related(name, "space", 0) for name in names], related)
    image = ElementTree.fromstring(relations.svg_text(graph))
    boxes = [group[1].attrib for group in image if len(group) == 4]
    sides = [tuple(float(box[name]) for name in ("x", "y", "width", "height")) for box in boxes]
    assert len(sides) == len(names)
    assert all(
        one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0] or abs(one[1] - other[1]) >= one[3]
        for place, one in enumerate(sides)
        for other in sides[:place]
    )
    arrows = [path for path in image.iter() if "marker-end" in path.attrib]
    assert len(arrows) == len(related)
    lines = relations.dot_text(graph).split(";\n")
    assert len(lines) == 3 + len(names) + len(related)
    assert all(re.fullmatch(r'([^"]|"([^"\\]|\\.)*")*', line, re.DOTALL) for line in lines)
