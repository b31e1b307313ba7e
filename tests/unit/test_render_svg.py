"""Pictures for readers who have it dark: what is drawn there can be read, and they stay what they were in the light."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from ledger_cli.render import relations
from ledger_cli.render.common.svg import themed
from ledger_cli.render.conflicts import svg_text as conflicts_text
from ledger_cli.render.gamma import svg_text as gamma_text
from ledger_cli.services.world_graph import Related, Relation, WorldGraph
from tests.unit.test_render_conflicts import field, plan
from tests.unit.test_render_gamma import MAP

RULE = re.compile(r'\[(fill|stroke)="(#[0-9a-f]{6})"\]\{\1:(#[0-9a-f]{6})\}')
READABLE = 4.5
"""The contrast that WCAG 2 asks of text."""


def graph() -> str:
    kinds = {"door": "entity", "hall": "space", "way": "relationship", "ghost": None}
    entities = [Related(name, kind, 1) for name, kind in kinds.items()]
    leads = [Relation(f"r{name}", "door", name, "leads to", "m") for name in kinds if name != "door"]
    return relations.svg_text(WorldGraph("main", None, "door", 2, entities, leads))


def conflicts() -> str:
    return conflicts_text(plan(field(1), field(3, "max", 9, 4), field(5, "sum", 5, 6), field(7, "manual", 7, 8)))


def gamma() -> str:
    pytest.importorskip("vl_convert")
    return gamma_text(MAP)


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("drawn", [graph, conflicts, gamma])
def test_text_can_be_read_in_the_dark(drawn: Callable[[], str]) -> None:
    svg = drawn()
    dark = {(name, light): colour for name, light, colour in RULE.findall(themed(svg))}
    image = ElementTree.fromstring(svg)
    boxes = [each.get("fill", "") for each in image.iter() if each.tag.endswith("rect")]
    grounds = {dark[("fill", box)] for box in boxes if ("fill", box) in dark}
    # White is no text, but the mark of decoupled cells, on a grey that stays.
    texts = {each.get("fill", "") for each in image.iter() if each.tag.endswith("text")} - {"#ffffff"}
    assert grounds
    assert texts
    assert all(luminance(ground) < 0.05 for ground in grounds)
    for text in texts:
        assert min(contrast(dark["fill", text], ground) for ground in grounds) >= READABLE


def test_a_light_reader_sees_what_was_drawn() -> None:
    told = themed(conflicts())
    style = re.search(r"<style>.*?</style>", told)
    assert style is not None
    assert told.replace(style[0], "") == conflicts()
    assert style[0].count("@media (prefers-color-scheme:dark)") == 1
    ElementTree.fromstring(told)
