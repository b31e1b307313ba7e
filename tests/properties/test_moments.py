"""Moments are exact: merging is associative and commutative, statistics are correctly rounded, thresholds exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core import statistics
from ledger_cli.core.moments import (
    MomentOverflow,
    Moments,
    carried,
    concat,
    decimals,
    integers,
    limbs_of,
    limbs_of_integers,
)
from ledger_cli.core.policy import Rule
from ledger_cli.core.thresholds import first_passed

SUM = st.integers(-(2**100), 2**100)
Row = tuple[int, int, int, int, int]
"""region, n and the three sums."""
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2**40), SUM, SUM, SUM), min_size=1, max_size=12)


def moments(rows: list[Row]) -> Moments:
    return Moments(
        np.array([row[0] for row in rows]),
        np.zeros(len(rows), dtype=np.int64),
        np.array([row[1] for row in rows]),
        np.stack([limbs_of_integers([row[place] for row in rows]) for place in (2, 3, 4)], axis=1),
    )


def merged(*parts: Moments) -> dict[int, tuple[int, ...]]:
    rows = concat(parts)
    summed, _ = rows.grouped(np.zeros(len(rows), dtype=np.int64), rows.region)
    sums = [integers(carried(summed.limbs[:, place])) for place in range(3)]
    return {
        region: (n, *values)
        for region, n, *values in zip(summed.region.tolist(), summed.n.tolist(), *sums, strict=True)
    }


def plain(rows: list[Row]) -> dict[int, tuple[int, ...]]:
    return {
        region: tuple(sum(row[place] for row in rows if row[0] == region) for place in (1, 2, 3, 4))
        for region in sorted({row[0] for row in rows})
    }


@given(ROWS, ROWS, ROWS)
def test_merging_is_adding_in_any_order_and_grouping(a: list[Row], b: list[Row], c: list[Row]) -> None:
    x, y, z = moments(a), moments(b), moments(c)
    expected = plain(a + b + c)
    assert merged(x, y, z) == merged(z, y, x) == merged(y, x, z) == expected
    left, _ = concat([x, y]).grouped(np.zeros(len(a) + len(b), dtype=np.int64), concat([x, y]).region)
    assert merged(left, z) == expected


@given(st.lists(st.integers(-(2**127), 2**127 - 1), max_size=8))
def test_limbs_keep_every_128_bit_integer(values: list[int]) -> None:
    limbs = limbs_of_integers(values)
    assert integers(limbs) == values
    assert integers(limbs_of(decimals(limbs))) == values


def test_a_sum_beyond_128_bits_is_an_error() -> None:
    rows = moments([(0, 1, 2**126, 0, 0), (0, 1, 2**126, 0, 0)])
    with pytest.raises(MomentOverflow, match="128 bits"):
        rows.grouped(np.zeros(2, dtype=np.int64), rows.region)


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=20), st.integers(0, 2**100))
def test_statistics_are_the_fractions_correctly_rounded(activities: list[int], weight: int) -> None:
    n, total, squares = len(activities), sum(activities), sum(a * a for a in activities)
    scale = 10**9
    mean = Fraction(total, n * scale)
    variance = Fraction(squares, n * scale * scale) - mean * mean
    assert statistics.weight(weight) == float(Fraction(weight, scale))
    assert statistics.mean(n, total) == float(mean)
    assert statistics.variance(n, total, squares) == float(variance)


def _first_by_definition(events: list[tuple[int, int, int]], rule: Rule, decide_from: int) -> int | None:
    """The first tick at or after `decide_from` behind which a threshold is passed, in fractions."""
    for tick in sorted({event[0] for event in events}):
        so_far = [event for event in events if event[0] <= tick]
        if tick < decide_from:
            continue
        if rule.max_size is not None and len(so_far) > rule.max_size:
            return tick
        for region in {event[1] for event in so_far}:
            values = [Fraction(event[2], 10**9) for event in so_far if event[1] == region]
            mean = sum(values) / len(values)
            variance = sum(value * value for value in values) / len(values) - mean * mean
            if rule.max_mean is not None and mean > rule.max_mean:
                return tick
            if rule.max_variance is not None and variance > rule.max_variance:
                return tick
    return None


LIMIT = st.sampled_from([None, Fraction(0), Fraction(3, 10), Fraction(1, 2), Fraction(1), Fraction(10**6)])
ACTIVITY = st.sampled_from([0, 1, 299_999_999, 300_000_000, 300_000_001, 10**9, 10**15 - 1, 10**15])
EVENTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), ACTIVITY), min_size=1, max_size=60)


@settings(max_examples=400)
@given(EVENTS, LIMIT, LIMIT, st.one_of(st.none(), st.integers(0, 20)), st.integers(0, 14), st.integers(1, 64))
def test_thresholds_are_decided_exactly(
    events: list[tuple[int, int, int]],
    max_mean: Fraction | None,
    max_variance: Fraction | None,
    max_size: int | None,
    decide_from: int,
    rows_guess: int,
) -> None:
    rule = Rule(max_mean=max_mean, max_variance=max_variance, max_size=max_size)
    events = sorted(events)
    rows = moments([(region, 1, activity, activity**2, 0) for _, region, activity in events])
    rows = Moments(rows.region, np.array([event[0] for event in events]), rows.n, rows.limbs)
    passed = first_passed(rows, rule, decide_from, rows_guess, ["a", "b", "c", "d"])
    assert (None if passed is None else passed.tick) == _first_by_definition(events, rule, decide_from)
    if passed is not None:
        assert passed.rows == sum(event[0] <= passed.tick for event in events)
