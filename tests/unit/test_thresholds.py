"""Thresholds of any size are compared exactly, and without a word from the arithmetic."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest

from ledger_cli.core.moments import SUMS, Moments, limbs_of_integers
from ledger_cli.core.policy import SCALE, Rule
from ledger_cli.core.thresholds import first_passed

LARGEST = 10**6 * SCALE
"""q of the highest activity."""


def rows_of(*activities: int) -> Moments:
    """One event a tick, all in one region."""
    values = [(activity, activity**2, activity) for activity in activities]
    limbs = limbs_of_integers(value for row in values for value in row).reshape(-1, len(SUMS), 4)
    ticks = np.arange(len(activities))
    return Moments(np.zeros(len(ticks), np.int64), ticks, np.ones(len(ticks), np.int64), limbs)


@pytest.mark.parametrize("name", ["max_mean", "max_variance"])
@pytest.mark.parametrize(
    ("limit", "passed"),
    [
        (Fraction(1.7976931348623157e308), None),
        (Fraction(10**308), None),
        (Fraction(2**127), None),
        (Fraction(10**30), None),
        (Fraction(0), 1),
        (Fraction(5e-324), 1),
    ],
    ids=["highest", "1e308", "2^127", "1e30", "0", "lowest"],
)
def test_a_limit_may_have_any_size(name: str, limit: Fraction, passed: int | None) -> None:
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        found = first_passed(rows_of(0, LARGEST, 0, LARGEST), Rule(**{name: limit}), 0, 2, ["0:0"])
    assert (None if found is None else found.tick) == passed


@pytest.mark.parametrize(("name", "reached"), [("max_mean", Fraction(10**6, 2)), ("max_variance", Fraction(10**12, 4))])
def test_a_limit_that_is_just_reached_is_not_passed(name: str, reached: Fraction) -> None:
    rows = rows_of(0, LARGEST)
    assert first_passed(rows, Rule(**{name: reached}), 1, 2, ["0:0"]) is None
    passed = first_passed(rows, Rule(**{name: reached * (1 - Fraction(1, 10**30))}), 1, 2, ["0:0"])
    assert passed is not None
