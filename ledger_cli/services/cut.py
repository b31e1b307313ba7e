"""Where a fork leaves its parent (DESIGN, section 3): what it keeps, and what it has to look at again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ledger_cli.core.history import Base, ShardState, State
from ledger_cli.core.policy import Policy
from ledger_cli.core.slices import heights_of
from ledger_cli.errors import UsageError
from ledger_cli.services.chains import Chains
from ledger_cli.services.commits import read_commits
from ledger_cli.services.lineage import Top, made_at, tops
from ledger_cli.services.lookup import Place
from ledger_cli.services.repository import Branch, Repository


@dataclass(frozen=True)
class Cut:
    """A point of a branch's history. `origin`: the branch, or its ancestor, as of the move it starts at."""

    origin: Branch
    keep: Mapping[str, int]
    """Commits that are left of each chain."""
    watermark: int | None
    whole: bool
    """Nothing is cut off."""


def cut_at(repository: Repository, parent: Branch, at: Place | None) -> Cut:
    """The cut at a place of a branch's history; None is its head."""
    if at is None or at.kind == "branch":
        return Cut(parent, heights_of(parent.state), parent.state.watermark, True)
    if at.commit is not None:
        origin, end = made_at(repository, parent, str(at.commit.shard), at.commit.height), at.commit.epoch_end
    else:
        assert at.tick is not None
        origin, end = parent, at.tick
    keep = Chains(repository, origin).cut(end)
    reached = origin.state.watermark
    watermark = None if reached is None else min(end, reached)
    return Cut(origin, keep, watermark, keep == heights_of(origin.state) and origin is parent)


def begun(repository: Repository, parent: Branch, cut: Cut, policy: Policy | None) -> tuple[Base, State]:
    """What a fork of `parent` at a cut shares with it, and its first state. None: the parent's policy."""
    own = parent.policy
    if own is not None and policy is not None and policy.layer != own.layer:
        raise UsageError(f"branch {parent.name} is of the layer {own.layer!r}: a fork keeps it")
    chosen = own if policy is None else policy
    settings = None if chosen is None else chosen.to_json()
    world = parent.state.world
    state = State(
        policy=settings,
        rows=parent.state.rows,
        highest_tick=parent.state.highest_tick,
        world=world,
        waiting=parent.state.waiting,
        merged=parent.state.merged,
    )
    if own is None or chosen is None or not own.same_regions(chosen):
        # No chain can be shared, and nothing that was folded says anything about these shards.
        return Base(parent.name, parent.seq, parent.seq), state
    ends = tops(repository, cut.origin, cut.keep)
    shards = {shard: ShardState(top.digest, cut.keep[shard], top.end) for shard, top in sorted(ends.items())}
    commits_move = cut.origin.seq if _same_line(cut.origin, parent) else parent.state.created
    base = Base(parent.name, parent.seq, commits_move, cut.keep, look_again(repository, parent, cut, ends))
    final = parent.state.final and cut.whole
    return base, replace(state, shards=shards, watermark=cut.watermark, final=final)


def look_again(
    repository: Repository, parent: Branch, cut: Cut, ends: Mapping[str, Top], fresh: int | None = None
) -> int | None:
    """The lowest tick from which rows below the open epochs may be in none of the commits kept.

    `fresh`: the lowest tick of rows that do not come from the parent.
    """
    if not ends:
        return None
    below = max(top.end for top in ends.values())
    found = [
        *([] if fresh is None else [fresh]),
        *_unseen(repository, parent, cut.origin),
        *_cut_off(repository, cut, ends),
    ]
    return min((tick for tick in found if tick < below), default=None)


def _unseen(repository: Repository, parent: Branch, origin: Branch) -> list[int]:
    """The lowest ticks of the parent's segments that no run had looked at when the commits kept were made."""
    lowest: list[int] = []
    branch = parent
    while not _same_line(branch, origin):
        lowest += [segment.tick_min for segment in branch.added.segments]
        base = branch.state.base
        assert base is not None, "an origin is an ancestor"
        if base.segments_move < 0:
            return lowest  # it lists all segments itself
        branch = repository.branch_at(base.branch, base.segments_move)
    first = max(origin.state.folded + 1, origin.state.created)
    if first <= branch.seq:
        since = repository.added(branch.name, first, branch.move)
        lowest += [segment.tick_min for segment in since.segments]
    base = origin.state.base
    if base is not None and base.look_again is not None and origin.state.folded < origin.state.created:
        lowest.append(base.look_again)
    return lowest


def _cut_off(repository: Repository, cut: Cut, ends: Mapping[str, Top]) -> list[int]:
    """Starts of the commits that were cut off though they end below what is left of their chain."""
    if cut.keep == heights_of(cut.origin.state):
        return []
    condition = " OR ".join(
        f"(shard = {shard} AND height >= {cut.keep[shard]} AND epoch_end <= {top.end})" for shard, top in ends.items()
    )
    parts = [
        part
        for part in cut.origin.commit_slices()
        if any(
            shard in part.file.heights
            and part.file.heights[shard][1] >= cut.keep[shard]
            and part.file.epoch_min < top.end
            for shard, top in ends.items()
        )
    ]
    if not parts:
        return []
    starts: list[int] = read_commits(repository, cut.origin, ["epoch_start"], f"({condition})", parts)[
        "epoch_start"
    ].to_pylist()
    return starts


def _same_line(one: Branch, other: Branch) -> bool:
    """Whether both are one branch: the name of a deleted one can be used again, even by its own fork."""
    return (one.name, one.state.created) == (other.name, other.state.created)
