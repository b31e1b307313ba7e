"""Where the open epoch of a shard first passes a threshold: exact, at the speed of floats.

The comparison is between rationals. Sums are carried as integer limbs, turned into binary64 with a relative
error below 10⁻¹⁴, and compared with a margin of 10⁻¹²; the few rows inside the margin are compared again in
Python's integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from ledger_cli.core.moments import Ints, Moments, carried, integers
from ledger_cli.core.policy import SCALE, Rule

_MARGIN = 1e-12
_OUT_OF_REACH = Fraction(2**127)
"""No mean or variance of sums that fit into 128 bits is above it: a higher limit is as good as this one."""
_LIMB_VALUE = 2.0 ** (32 * np.arange(4))
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Passed:
    """The first tick after which a threshold is passed, the number of rows up to its end, and why."""

    tick: int
    rows: int
    reason: str


def first_passed(rows: Moments, rule: Rule, decide_from: int, rows_guess: int, names: list[str]) -> Passed | None:
    """The first tick >= `decide_from` after which a threshold of `rule` is passed, all `rows` being one epoch.

    `rows` are in tick order. Looked at in growing windows, the first about `rows_guess` rows, so that the cost
    stays linear in the rows of the epochs found.
    """
    first = int(np.searchsorted(rows.tick, decide_from))
    size = max(rows_guess, 2 * first + 16)
    while first < len(rows):
        upto = len(rows)
        if size < upto:
            upto = int(np.searchsorted(rows.tick, rows.tick[size - 1], side="right"))
        passed = _in_window(rows[:upto], rule, first, names)
        if passed is not None or upto == len(rows):
            return passed
        size = upto * 2
    return None


def _in_window(rows: Moments, rule: Rule, first: int, names: list[str]) -> Passed | None:
    best: tuple[int, str] | None = None
    if rule.max_size is not None:
        above = int(np.searchsorted(np.cumsum(rows.n), rule.max_size, side="right"))
        if above < len(rows):
            best = int(rows.tick[max(above, first)]), f"size > {rule.max_size}"
    if rule.max_mean is not None or rule.max_variance is not None:
        updates = _Updates(rows, int(rows.tick[first]), with_squares=rule.max_variance is not None)
        for name, limit in (("mean", rule.max_mean), ("variance", rule.max_variance)):
            before = _NEVER if best is None else best[0]
            found = None if limit is None else updates.first_above(name, limit, before)
            if found is not None:
                best = found[0], f"{name} of {names[found[1]]} > {float(limit or 0):g}"
    if best is None:
        return None
    return Passed(best[0], int(np.searchsorted(rows.tick, best[0], side="right")), best[1])


class _Updates:
    """The state of each region after each of its rows: it holds until the region's next row."""

    def __init__(self, rows: Moments, decide_from: int, with_squares: bool) -> None:
        order = np.argsort(rows.region, kind="stable")
        self._region = rows.region[order]
        tick = rows.tick[order]
        changes = np.flatnonzero(self._region[1:] != self._region[:-1]) + 1
        group_start = np.zeros(len(tick), dtype=np.int64)
        group_start[changes] = changes
        group_start = np.maximum.accumulate(group_start)
        self._n = _running(rows.n[order], group_start)
        self._limbs = _running(rows.limbs[order][:, : 1 + with_squares], group_start)
        next_tick = np.full(len(tick), _NEVER)
        next_tick[:-1] = tick[1:]
        next_tick[changes - 1] = _NEVER
        self._at = np.maximum(tick, decide_from)
        self._live = self._at < next_tick

    def first_above(self, name: str, limit: Fraction, before: int) -> tuple[int, int] | None:
        """(tick, region) of the first state before the tick `before` whose mean or variance exceeds `limit`."""
        certain, doubtful = self._compare(name, limit)
        best: tuple[int, int] | None = None
        live = self._live & (self._at < before)
        hits = np.flatnonzero(live & certain)
        if len(hits):
            row = int(hits[np.argmin(self._at[hits])])
            best = int(self._at[row]), int(self._region[row])
            live &= self._at < best[0]
        close = np.flatnonzero(live & doubtful)
        for row in close[np.argsort(self._at[close], kind="stable")].tolist():
            if self._exactly_above(name, limit, row):
                return int(self._at[row]), int(self._region[row])
        return best

    def _compare(self, name: str, limit: Fraction) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        n, bar = self._n.astype(np.float64), float(min(limit, _OUT_OF_REACH)) * SCALE
        activity = self._limbs[:, 0] @ _LIMB_VALUE
        if name == "mean":
            value, bound = activity, n * bar
            margin = _MARGIN * (value + bound)
        else:
            squares = n * (self._limbs[:, 1] @ _LIMB_VALUE)
            value, bound = squares - activity * activity, n * n * (bar * SCALE)
            margin = _MARGIN * (2 * squares + bound)
        certain = value > bound + margin
        return certain, ~certain & (value >= bound - margin)

    def _exactly_above(self, name: str, limit: Fraction, row: int) -> bool:
        n = int(self._n[row])
        sums = integers(carried(self._limbs[row]))
        if name == "mean":
            return sums[0] * limit.denominator > limit.numerator * n * SCALE
        value = n * sums[1] - sums[0] * sums[0]
        return value * limit.denominator > limit.numerator * n * n * SCALE * SCALE


def _running(values: Ints, group_start: Ints) -> Ints:
    """Running sums along axis 0 that begin anew at each group."""
    total = np.cumsum(values, axis=0)
    shifted = np.concatenate([np.zeros_like(total[:1]), total[:-1]])
    result: Ints = total - shifted[group_start]
    return result
