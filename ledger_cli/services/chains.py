"""Finding places in the chains of a branch by reading few of its moves and files.

From move to move of a branch the number of commits of a shard only grows, and so does the tick where its
open epoch starts, which is never below the end of a commit. A place is therefore found by bisection over the
moves, in a number of reads that grows with the logarithm of the history. The lists of all files are read only
where commits of many moves are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from ledger_cli.core.history import CHECKPOINT_EVERY, CommitFile, Move, State, Tile
from ledger_cli.core.slices import CommitSlice, Heights, heights_of, lower
from ledger_cli.services.repository import Branch, Repository

_READ_SINGLY = 200
"""Up to as many moves are read one by one, for more the lists in the checkpoints are shorter to read."""


class Chains:
    """The chains of a branch as of one of its moves."""

    def __init__(self, repository: Repository, branch: Branch) -> None:
        self._repository = repository
        self._branch = branch
        self._moves: dict[int, Move] = {branch.seq: branch.move}
        self._above: dict[tuple[int, int], dict[str, int]] = {}

    @property
    def heights(self) -> dict[str, int]:
        """The lengths of all chains."""
        return heights_of(self._branch.state)

    def cut(self, tick: int) -> dict[str, int]:
        """Of each shard, how many commits come before the first that ends above a tick."""
        found = {shard: self._cut_shard(shard, tick) for shard in self.heights}
        return {shard: height for shard, height in found.items() if height}

    def made(self, shard: str, height: int) -> tuple[str, Move] | None:
        """The move that made a commit and the branch that it moved; None where no commit is that high."""
        if self._parent is not None and height < self._shared.get(shard, 0):
            return self._parent.made(shard, height)
        seq = self._first(lambda state: _commits(state, shard) > height)
        return (self._branch.name, self._move(seq)) if seq <= self._branch.seq else None

    def reached(self, keep: Heights) -> int:
        """The number of the first move of the branch itself after which its chains have that many commits."""
        return self._first(lambda state: all(_commits(state, shard) >= height for shard, height in keep.items()))

    def tiles(self, keep: Heights) -> tuple[tuple[Tile, ...], dict[str, int]]:
        """The tiles that cover the most of the commits below `keep`, and the heights that they cover."""
        seq = self._first(lambda state: any(_commits(state, s) > keep.get(s, 0) for s in state.shards)) - 1
        if seq >= self._created and self._state(seq).tiles:
            tiles = self._state(seq).tiles
            # Each job that makes a tile covers all that was there, and some jobs make none.
            covered = sum(tile.commits for tile in tiles)
            complete = self._state(self._first(lambda state: state.commits > covered) - 1)
            if complete.commits == covered:
                return tiles, heights_of(complete)
        return ((), {}) if self._parent is None else self._parent.tiles(lower(self._shared, keep))

    def parts(self, low: Heights, high: Heights) -> list[CommitSlice]:
        """The commits from `low` to below `high`, by file, oldest first."""
        shared: list[CommitSlice] = []
        if self._parent is not None and _any_below(low, lower(self._shared, high)):
            shared = self._parent.parts(low, lower(self._shared, high))
        base = {s: max(low.get(s, 0), self._shared.get(s, 0)) for s in high}
        if not _any_below(base, high):
            return shared
        first = self._first(lambda state: any(_commits(state, s) > height for s, height in base.items()))
        last = min(self.reached(high), self._branch.seq)
        own = [CommitSlice(file, base, high) for file in self._files(first, last)]
        return shared + [part for part in own if not part.empty]

    # -- helpers ------------------------------------------------------------------------------------------

    @property
    def _created(self) -> int:
        return self._branch.state.created

    @cached_property
    def _parent(self) -> Chains | None:
        """The chains that the branch was forked from."""
        base = self._branch.chain_base if self._shared else None
        return None if base is None else Chains(self._repository, base)

    @property
    def _shared(self) -> Heights:
        """How much of the parent's chains the branch has kept."""
        base = self._branch.state.base
        return {} if base is None or base.listed else base.keep

    def _cut_shard(self, shard: str, tick: int) -> int:
        length = _commits(self._branch.state, shard)
        seq = self._first(lambda state: _may_reach(state, shard, tick))
        if seq > self._branch.seq:
            return length
        height = self._shared.get(shard, 0)
        if seq > self._created:
            height = _commits(self._state(seq - 1), shard)
        elif self._parent is not None and height:
            found = self._parent._cut_shard(shard, tick)
            if found < height:
                return found
        while height < length:
            # Late commits may come in between that end lower, so it need not be the first file.
            seq = self._first(lambda state, above=height: _commits(state, shard) > above)  # type: ignore[misc]
            lowest = self._lowest_above(seq, tick).get(shard)
            if lowest is not None:
                return lowest
            height = _commits(self._state(seq), shard)
        return length

    def _lowest_above(self, seq: int, tick: int) -> dict[str, int]:
        """Of each shard, the height of the first commit that one move added and that ends above a tick."""
        if (seq, tick) not in self._above:
            files = [file.file for file in self._files(seq, seq)]
            found = self._repository.engine.over(
                files,
                f"SELECT shard, min(height) AS height FROM files WHERE epoch_end > {tick} GROUP BY shard",
                headers=True,
            )
            self._above[seq, tick] = {str(row["shard"]): row["height"] for row in found.to_pylist()}
        return self._above[seq, tick]

    def _files(self, first: int, last: int) -> Sequence[CommitFile]:
        """The files of commits that the moves first … last added."""
        if last - first >= _READ_SINGLY:
            return [file for file in self._branch.added.commits if first <= file.arrival <= last]
        return [file for seq in range(first, last + 1) for file in self._move(seq).added.commits]

    def _first(self, holds: Callable[[State], bool]) -> int:
        """The first move after which something holds that holds from then on; the latest + 1 where none."""
        low, high, step = self._created, self._branch.seq, 1
        if not holds(self._state(high)):
            return high + 1
        while low < high:
            # Steps back from the end at first, twice as long each time: it is mostly near.
            middle = max(high - step, (low + high) // 2)
            step *= 2
            if middle % CHECKPOINT_EVERY == 0 and middle + 1 < high:
                middle += 1  # A checkpoint is long to read, and its neighbour as good.
            if holds(self._state(middle)):
                high = middle
            else:
                low = middle + 1
        return high

    def _state(self, seq: int) -> State:
        return self._move(seq).state

    def _move(self, seq: int) -> Move:
        if seq not in self._moves:
            self._moves[seq] = self._repository.move(self._branch.name, seq)
        return self._moves[seq]


def _commits(state: State, shard: str) -> int:
    each = state.shards.get(shard)
    return 0 if each is None else each.commits


def _may_reach(state: State, shard: str, tick: int) -> bool:
    """Whether a commit of a chain may end above a tick: no epoch does if the open one starts no higher, but a merge."""
    chain = state.shards.get(shard)
    if chain is None or not chain.commits:
        return False
    return chain.start is None or chain.start > tick or (state.merged is not None and state.merged > tick)


def _any_below(low: Heights, high: Heights) -> bool:
    return any(low.get(shard, 0) < height for shard, height in high.items())
