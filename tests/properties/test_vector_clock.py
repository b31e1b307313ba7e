"""Vector clocks against what they stand for: sets of moves that a branch has taken in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.vector_clock import Order, VectorClock, writer_name

WRITERS = [
    writer_name("dc-1", "0a1b2c3d", "main"),
    writer_name("dc-1", "0a1b2c3d", "night"),
    writer_name("b", "4" * 8, "main"),
]
CLOCKS = st.dictionaries(st.sampled_from(WRITERS), st.integers(0, 4)).map(VectorClock)


@given(CLOCKS, CLOCKS, CLOCKS)
def test_merging(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(a) == a
    assert a.merged(b).holds(a)
    assert a.holds(b) == (a.merged(b) == a)


@given(CLOCKS, CLOCKS)
def test_comparing(a: VectorClock, b: VectorClock) -> None:
    opposite: dict[Order, Order] = {"before": "after", "after": "before"}
    assert b.compare(a) == opposite.get(a.compare(b), a.compare(b))
    assert (a.compare(b) == "equal") == (a == b)
    assert a.merged(a.lacks(b)) == a.merged(b)


@given(CLOCKS)
def test_text(a: VectorClock) -> None:
    assert VectorClock.parse(str(a)) == a


@pytest.mark.parametrize(
    "wrong", ["a", "a:1", "a~12345678", "a~12345678:-1", "a~12345678:1,a~12345678:2", ",", "a~x:1"]
)
def test_what_is_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="no vector clock"):
        VectorClock.parse(wrong)


@dataclass
class _Process:
    """A history of its own, with the set of all moves that it has taken in beside its clock."""

    writer: str
    moves: int = -1
    taken: set[tuple[str, int]] = field(default_factory=set)
    clock: VectorClock = VectorClock()  # noqa: RUF009 - it never changes


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
def test_clocks_say_what_happened_before(steps: list[tuple[int, int]]) -> None:
    """A step of two processes: the first one takes in the other, or (both the same) makes a move of its own."""
    processes = [_Process(name) for name in WRITERS]
    for one, other in ((processes[a], processes[b]) for a, b in steps):
        if one is other:
            one.moves += 1
            one.taken.add((one.writer, one.moves))
            one.clock = one.clock.ticked(one.writer, one.moves)
        else:
            one.taken |= other.taken
            one.clock = one.clock.merged(other.clock)
        for a in processes:
            for b in processes:
                assert a.clock.holds(b.clock) == (a.taken >= b.taken)
                assert (a.clock.compare(b.clock) == "concurrent") == (not a.taken >= b.taken and not b.taken >= a.taken)
