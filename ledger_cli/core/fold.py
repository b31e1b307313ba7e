"""The fold: moments in tick order become closed epochs (DESIGN, section 3).

Live commit, replay and verification are this one function. It is fed complete ticks in ascending order, in
batches cut anywhere between two ticks, and keeps of the past only the open epoch of each shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ledger_cli.core.moments import Ints, Moments, Regions, concat
from ledger_cli.core.policy import Rule
from ledger_cli.core.thresholds import Passed, first_passed


@dataclass
class Closed:
    """Closed epochs as columns, and their entries: rows of `entries` from offsets[i] to offsets[i + 1]."""

    shard: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    entries: Moments = field(default_factory=Moments.empty)
    offsets: Ints = field(default_factory=lambda: np.zeros(1, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.shard)


class Closer:
    """Collects closed epochs with their rows and sums the entries of all of them at once."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._closed = Closed()
        self._rows: list[Moments] = []
        self._epochs: list[Ints] = []

    def one(self, shard: int, bounds: tuple[int, int], reason: str, rows: Moments) -> None:
        """Close one epoch over all of `rows`."""
        self.many(shard, [bounds[0]], [bounds[1]], reason, rows, np.zeros(len(rows), dtype=np.int64))

    def many(
        self, shard: int, starts: list[int], ends: list[int], reason: str, rows: Moments, epoch_of_row: Ints
    ) -> None:
        """Close several epochs of a shard, row i belonging to the epoch `epoch_of_row[i]` of them."""
        base = len(self._closed)
        self._closed.shard += [shard] * len(starts)
        self._closed.start += starts
        self._closed.end += ends
        self._closed.reason += [reason] * len(starts)
        self._rows.append(rows)
        self._epochs.append(epoch_of_row + base)

    def result(self) -> Closed:
        """The closed epochs, entries sorted by region id within each."""
        if not self._rows:
            return self._closed
        rows = concat(self._rows)
        entries, epochs = rows.grouped(np.concatenate(self._epochs), self._regions.ranks[rows.region])
        self._closed.entries = entries
        self._closed.offsets = np.searchsorted(epochs, np.arange(len(self._closed) + 1))
        return self._closed


@dataclass
class _Open:
    """The open epoch of a shard: one row a region, all at the tick `start`."""

    start: int | None
    rows: Moments = field(default_factory=Moments.empty)
    last_tick: int = -1


class Fold:
    """Folds the moments of one run of a branch. See `feed` and `finish`."""

    def __init__(self, rule: Rule, regions: Regions, starts: dict[int, int | None], decide_from: int | None) -> None:
        """`starts`: where the open epoch of each shard starts (absent: the shard has had no tick yet).

        `decide_from`: the previous watermark; no threshold is decided at a tick below it.
        """
        self._rule = rule
        self._regions = regions
        self._shards = {shard: _Open(start) for shard, start in starts.items()}
        self._decide_from = -1 if decide_from is None else decide_from
        self._rows_guess = 64

    @property
    def starts(self) -> dict[int, int]:
        """Where the open epoch of each shard starts now."""
        return {shard: state.start for shard, state in self._shards.items() if state.start is not None}

    def feed(self, batch: Moments) -> Closed:
        """Add complete ticks, ascending; rows before a shard's start are left out. Returns what closed."""
        closer = Closer(self._regions)
        if len(batch):
            shard_of_row = self._regions.shard_of_code[batch.region]
            for shard in np.unique(shard_of_row).tolist():
                mine = shard_of_row == shard
                self._feed_shard(shard, batch if mine.all() else batch[mine], closer)
            self._decide_from = max(self._decide_from, int(batch.tick[-1]) + 1)
        return closer.result()

    def _feed_shard(self, shard: int, rows: Moments, closer: Closer) -> None:
        state = self._shards.setdefault(shard, _Open(None))
        if state.start is not None:
            rows = rows[int(np.searchsorted(rows.tick, state.start)) :]
        if not len(rows):
            return
        if state.start is None:
            state.start = self._rule.first_start(int(rows.tick[0]))
        state.last_tick = int(rows.tick[-1])
        rows = concat([state.rows, rows])
        by_rule = self._close_intervals if not self._rule.needs_ticks else self._close_epochs
        left = by_rule(shard, state, rows, closer)
        merged, _ = left.grouped(np.zeros(len(left), dtype=np.int64), left.region)
        state.rows = Moments(merged.region, np.full(len(merged), state.start), merged.n, merged.limbs)

    def _close_intervals(self, shard: int, state: _Open, rows: Moments, closer: Closer) -> Moments:
        assert self._rule.interval is not None
        assert state.start is not None
        ends = rows.tick - rows.tick % self._rule.interval + self._rule.interval
        whole = int(np.searchsorted(ends, state.last_tick, side="right"))
        if whole:
            unique, epoch_of_row = np.unique(ends[:whole], return_inverse=True)
            starts = np.maximum(unique - self._rule.interval, state.start)
            closer.many(shard, starts.tolist(), unique.tolist(), "interval", rows[:whole], epoch_of_row)
        # Also where nothing closed: an empty open epoch is left behind by rows of a later interval.
        state.start = self._rule.advance(state.start, state.last_tick)
        return rows[whole:]

    def _close_epochs(self, shard: int, state: _Open, rows: Moments, closer: Closer) -> Moments:
        at = 0
        while at < len(rows):
            assert state.start is not None
            cap = self._rule.latest_end(state.start)
            until = len(rows) if cap is None else int(np.searchsorted(rows.tick, cap))
            passed = self._first_passed(rows[at:until], state.start) if until > at else None
            if passed is not None:
                end, upto, reason = passed.tick + 1, at + passed.rows, passed.reason
                self._rows_guess = max(64, passed.rows * 5 // 4)
            elif until < len(rows):
                assert cap is not None
                end, upto, reason = cap, until, "max_interval"
            else:
                break
            if upto > at:
                closer.one(shard, (state.start, end), reason, rows[at:upto])
            state.start = end
            if upto < len(rows):
                state.start = self._rule.advance(end, int(rows.tick[upto]))
            at = upto
        return rows[at:]

    def _first_passed(self, rows: Moments, start: int) -> Passed | None:
        decide_from = max(start + self._rule.min_interval - 1, self._decide_from)
        return first_passed(rows, self._rule, decide_from, self._rows_guess, self._regions.names)

    def finish(self, watermark: int, final: bool = False) -> tuple[Closed, int]:
        """Close what the watermark closes, with `final` also what is open. Returns that and the new watermark."""
        closer = Closer(self._regions)
        for shard, state in self._present():
            assert state.start is not None
            end = self._rule.latest_end(state.start)
            if end is not None and watermark >= end:
                self._close_open(shard, state, end, self._cap_reason, closer)
                state.start = self._rule.advance(state.start, watermark)
        lifted = watermark
        if final:
            for shard, state in self._present():
                assert state.start is not None
                if len(state.rows):
                    capped = self._rule.latest_end(state.start)
                    end = state.last_tick + 1 if capped is None else capped
                    self._close_open(shard, state, end, "final", closer)
                    lifted = max(lifted, end)
            for _, state in self._present():
                assert state.start is not None
                state.start = self._rule.advance(state.start, lifted)
        return closer.result(), lifted

    def force(self, shard: int) -> Closed:
        """Close the open epoch of a shard at its last tick + 1, complete or not."""
        closer = Closer(self._regions)
        state = self._shards.get(shard)
        if state is not None and len(state.rows):
            self._close_open(shard, state, state.last_tick + 1, "forced", closer)
        return closer.result()

    @property
    def _cap_reason(self) -> str:
        return "interval" if self._rule.interval is not None else "max_interval"

    def _present(self) -> Iterable[tuple[int, _Open]]:
        return [(shard, state) for shard, state in sorted(self._shards.items()) if state.start is not None]

    @staticmethod
    def _close_open(shard: int, state: _Open, end: int, reason: str, closer: Closer) -> None:
        assert state.start is not None
        if len(state.rows):
            closer.one(shard, (state.start, end), reason, state.rows)
            state.rows = Moments.empty()
        state.start = end
