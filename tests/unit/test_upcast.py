"""Upcasters: what they make of a payload."""

from __future__ import annotations

from typing import Any

import pytest

from ledger_cli.core.world_upcast import check_upcast, upcasted


@pytest.mark.parametrize(
    ("upcast", "payload", "made"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"remove": ["a", "z"]}, {"a": 1, "b": 2}, {"b": 2}),
        ({"rename": {"a": "b"}}, {"a": 1}, {"b": 1}),
        ({"rename": {"a": "b"}}, {"b": 2, "a": 1}, {"b": 1}),
        ({"rename": {"a": "b"}}, {"a": 1, "b": 2}, {"b": 1}),
        ({"rename": {"a": "b"}}, {"b": 2}, {"b": 2}),
        ({"rename": {"a": "b", "b": "a"}}, {"a": 1, "b": 2}, {"b": 1, "a": 2}),
        ({"values": {"a": {"x": None, "1": "one"}}}, {"a": "x"}, {"a": None}),
        ({"values": {"a": {"x": None, "1": "one"}}}, {"a": 1}, {"a": 1}),
        ({"values": {"a": {"x": 0}}}, {"a": "y"}, {"a": "y"}),
        ({"default": {"a": 0}}, {"a": None}, {"a": None}),
        ({"default": {"a": 0}}, {}, {"a": 0}),
        (
            {"remove": ["c"], "rename": {"a": "b"}, "values": {"b": {"x": "y"}}, "default": {"c": 1}},
            {"a": "x", "c": 0},
            {"b": "y", "c": 1},
        ),
    ],
)
def test_what_an_upcaster_makes(upcast: dict[str, Any], payload: dict[str, Any], made: dict[str, Any]) -> None:
    check_upcast(upcast)
    before = dict(payload)
    assert upcasted([upcast], payload) == made
    assert payload == before


def test_upcasters_follow_each_other() -> None:
    assert upcasted([{"rename": {"a": "b"}}, {"rename": {"b": "c"}}], {"a": 1}) == {"c": 1}
