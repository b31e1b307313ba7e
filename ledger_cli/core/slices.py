"""Parts of chains by file: which commits of a file belong to what is asked for, and how they are read together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ledger_cli.core.history import CommitFile, State

Heights = Mapping[str, int]
"""Of each shard (its number as text), how many commits of its chain; 0 where it is not named."""


@dataclass(frozen=True)
class CommitSlice:
    """The commits of one file that lie, in the chains of their shards, from `low` to below `high` (None: all)."""

    file: CommitFile
    low: Heights = field(default_factory=dict)
    high: Heights | None = None

    @property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Of each shard of the file, the heights [first, past) that belong; none where first is not below past."""
        high = {shard: last + 1 for shard, (_, last) in self.file.heights.items()}
        if self.high is not None:
            high = {shard: min(past, self.high.get(shard, 0)) for shard, past in high.items()}
        return {s: (max(first, self.low.get(s, 0)), high[s]) for s, (first, _) in self.file.heights.items()}

    @property
    def empty(self) -> bool:
        """Whether no commit of the file belongs."""
        return all(first >= past for first, past in self.spans.values())

    @property
    def whole(self) -> bool:
        """Whether every commit of the file belongs."""
        return self.spans == {shard: (first, last + 1) for shard, (first, last) in self.file.heights.items()}

    def condition(self) -> str:
        """SQL over shard and height that keeps the commits that belong; empty for all.

        Made of the limits and not of what the file holds, so that files with the same limits are read as one.
        """
        if self.whole:
            return ""
        limits = self.spans if self.high is None else {s: (self.low.get(s, 0), high) for s, high in self.high.items()}
        parts = [f"(shard = {s} AND height >= {first} AND height < {past})" for s, (first, past) in limits.items()]
        return "(" + (" OR ".join(parts) or "false") + ")"

    def cut(self, keep: Heights) -> CommitSlice:
        """The part that remains below both limits."""
        return replace(self, high=dict(keep) if self.high is None else lower(self.high, keep))


class History:
    """The commits that a branch's moves name, as a store is asked about them."""

    def __init__(self, parts: Iterable[CommitSlice]) -> None:
        self._spans: dict[str, list[dict[int, tuple[int, int]]]] = {}
        for part in parts:
            spans = {int(shard): span for shard, span in part.spans.items()}
            self._spans.setdefault(part.file.file, []).append(spans)

    @property
    def batches(self) -> list[str]:
        """The names of its batches, oldest first."""
        return list(self._spans)

    def holds(self, batch: str, shard: int, height: int) -> bool:
        """Whether the commit at a height of a shard's chain belongs, as one of a batch."""
        return any(first <= height < past for first, past in self.spans(batch, shard))

    def spans(self, batch: str, shard: int) -> list[tuple[int, int]]:
        """The heights [first, past) of a shard's chain that belong, as those of one batch."""
        return [spans.get(shard, (0, 0)) for spans in self._spans.get(batch, ())]


def by_condition(slices: Iterable[CommitSlice], where: str = "") -> dict[str, list[str]]:
    """The files that are read under one condition (with `where`: under both), by that condition."""
    grouped: dict[str, list[str]] = {}
    for each in slices:
        both = " AND ".join(part for part in (each.condition(), where) if part)
        grouped.setdefault(both, []).append(each.file.file)
    return grouped


def heights_of(state: State) -> dict[str, int]:
    """The length of each chain that has a commit."""
    return {shard: each.commits for shard, each in state.shards.items() if each.commits}


def lower(one: Heights, other: Heights) -> dict[str, int]:
    """Of each shard the lower of two heights."""
    both = {shard: min(height, other.get(shard, 0)) for shard, height in one.items()}
    return {shard: height for shard, height in both.items() if height}
