"""The picture of a reconciliation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ledger_cli.render.conflicts import ROWS_MAX, svg_text, write_png
from ledger_cli.services.merge_decisions import FieldConflict
from ledger_cli.services.merge_ticks import TickConflict
from ledger_cli.services.merge_world import RefusedEvent

AT = "2026-01-29T19:21:00.{:06d}Z-0000-{}"


def field(number: int, rule: str = "lww", a: Any = 1, b: Any = 2) -> FieldConflict:
    readings = AT.format(number, "north"), AT.format(number + 1, "south")
    return FieldConflict("lamp", "shop", "persistent", f"f{number}", rule, a, b, *readings, ("e1", "e2"))


def plan(*fields: FieldConflict, ticks: tuple[TickConflict, ...] = (), refused: tuple[RefusedEvent, ...] = ()) -> Any:
    return SimpleNamespace(
        a="main",
        b="<south>",
        outcome="merge",
        ticks=SimpleNamespace(losers=ticks, conflicts=ticks),
        world=SimpleNamespace(conflicts=fields, refused=refused),
    )


def struck(svg: str) -> list[str]:
    return re.findall(r"text-decoration='line-through'>([^<]*)<", svg)


def test_what_does_not_stay_is_struck_out() -> None:
    drawn = svg_text(plan(field(1), field(3, "max", 9, 4), field(5, "sum", 5, 6), field(7, "manual", 7, 8)))
    assert struck(drawn) == ["1", "4"]
    for words in ("the last write stays", "the highest stays", "both are added", "a person decides"):
        assert words in drawn
    assert "2026-01-29 19:21:00.000 · north" in drawn
    assert "&lt;south&gt;" in drawn


def test_ticks_show_what_they_differ_in() -> None:
    kept = '{"activity":3,"entityId":"e","tickId":5,"timestamp":1000000,"x":1}'
    refused = '{"activity":1,"entityId":"e","tickId":5,"timestamp":2000000,"x":1}'
    drawn = svg_text(plan(ticks=(TickConflict(kept, "<south>", refused, "main"),)))
    assert struck(drawn) == ["activity 1"]
    assert drawn.index(">1970-01-01T00:00:02Z<") < drawn.index(">activity 3<") < drawn.index(">1970-01-01T00:00:01Z<")
    assert "e · tick 5" in drawn
    later = kept.replace("1000000", "3000000")
    alone = svg_text(plan(ticks=(TickConflict(kept, "main", later, "<south>"),)))
    assert struck(alone) == ["timestamp 1970-01-01T00:00:03Z"]


def test_refused_events_are_struck_out_where_they_are_from() -> None:
    event = {"entityId": "ann", "type": "shop.room.v1", "payload": {"room": "hall"}, "hlc": AT.format(7, "south")}
    text = json.dumps(event)
    refused = RefusedEvent(text, "constraint_violation", "ann would break: a < b", "b")
    drawn = svg_text(plan(field(1, a=""), refused=(refused,)))
    assert struck(drawn) == ["", "room hall"]
    assert drawn.count("<rect") == 1 + 2 + 1, "the other side said nothing about it"
    for words in ("ann · shop.room.v1", "ann would break: a &lt; b", "1 conflict · 1 event refused", "· south"):
        assert words in drawn
    twice = svg_text(plan(refused=(RefusedEvent(text, "causal_gap", "its cause x is refused", "both"),)))
    assert struck(twice) == ["room hall"] * 2


def test_many_are_counted_and_none_is_said(tmp_path: Path) -> None:
    drawn = svg_text(plan(*(field(2 * number) for number in range(ROWS_MAX + 7))))
    assert "and 7 more" in drawn
    assert drawn.count("lamp ·") == ROWS_MAX
    assert "0 conflicts" in svg_text(plan())
    pytest.importorskip("vl_convert")
    write_png(tmp_path / "plan.png", plan(field(1)))
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
