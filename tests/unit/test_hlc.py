"""Hybrid logical clocks: the published vectors, the order of readings, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.hlc import Hlc, node_name, receive, send
from ledger_cli.errors import ClockError

_FOREVER = 10**18
_READINGS = st.builds(
    Hlc,
    st.integers(0, 253402300799999999),
    st.integers(0, 0xFFFF),
    st.text("abcXYZ019._-", min_size=1, max_size=8),
)


def test_published_steps(shared: Path) -> None:
    walked = 0
    for source in json.loads((shared / "vectors" / "hlc" / "hlc_vectors.json").read_text())["sources"]:
        cases = source.get("cases") or {"steps": source["steps"]}
        for name, steps in cases.items():
            clock = Hlc(0, 0, "here")
            for now, event, remote, expected in steps:
                if event == "send":
                    clock = send(clock, now, _FOREVER)
                else:
                    clock = receive(clock, Hlc(*remote, "there"), now, _FOREVER)
                assert clock == (*expected, "here"), (source["name"], name)
                walked += 1
    assert walked == 39


def test_the_counter_of_one_microsecond_is_used_up() -> None:
    clock = Hlc(0, 0, "here")
    for _ in range(65536):
        clock = send(clock, 40, _FOREVER)
    assert clock == (40, 0xFFFF, "here")
    with pytest.raises(ClockError, match="more slowly"):
        send(clock, 40, _FOREVER)
    assert send(clock, 41, _FOREVER) == (41, 0, "here")


def test_a_clock_too_far_ahead_is_refused() -> None:
    five_minutes = 300_000_000
    here = Hlc(1_000, 0, "here")
    assert receive(here, Hlc(five_minutes + 1_000, 7, "there"), 1_000, five_minutes).counter == 8
    with pytest.raises(ClockError, match=r"node there is 300\.0 s ahead.*max_drift"):
        receive(here, Hlc(five_minutes + 1_001, 7, "there"), 1_000, five_minutes)
    with pytest.raises(ClockError, match="node here"):
        send(Hlc(five_minutes + 1, 0, "here"), 0, five_minutes)


@given(st.lists(_READINGS, min_size=2, max_size=6))
def test_texts_sort_as_readings_and_come_back(readings: list[Hlc]) -> None:
    assert [Hlc.parse(str(each)) for each in readings] == readings
    assert sorted(map(str, readings)) == list(map(str, sorted(readings)))
    for each in readings:
        assert Hlc.of_number(each.number, each.node) == each


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.booleans()), max_size=30))
def test_effects_come_after_their_causes(steps: list[tuple[int, int, bool]]) -> None:
    """Four nodes with wall clocks of their own; a message always carries the last reading of its sender."""
    clocks = [Hlc(0, 0, f"n{node}") for node in range(4)]
    for number, (node, now, message) in enumerate(steps):
        before, sender = clocks[node], clocks[(node + 1 + number) % 4]
        clocks[node] = receive(before, sender, now, _FOREVER) if message else send(before, now, _FOREVER)
        assert clocks[node] > before
        assert not message or clocks[node].number > sender.number


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "invalid",
        "1969-1-1T0:0:0.0Z-0-0-0",
        "1969-12-31T23:59:59.999999Z-0000-a",
        "10000-01-01T00:00:00.000000Z-FFFF-a",
        "9999-12-31T23:59:59.999999Z-10000-a",
        "2026-02-30T00:00:00.000000Z-0000-a",
        "2026-01-01T00:00:00.000000Z-00ff-a",
        "2026-01-01T00:00:00.000000Z-00FF-",
        "2026-01-01T00:00:00.000000Z-00FF-a b",
        "2026-01-01T00:00:00.000000Z-00FF-" + "a" * 65,
        "2026-01-01T00:00:00.000Z-00FF-a",
    ],
)
def test_what_is_no_reading(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no hybrid clock reading|before 1970|out of range|month|day"):
        Hlc.parse(text)


def test_names_of_nodes() -> None:
    assert node_name("dc-1.a_b") == "dc-1.a_b"
    for name in ("", "a b", "ü", "a" * 65):
        with pytest.raises(ValueError, match="cannot be a node"):
            node_name(name)
