"""Where the commits of a branch come from: whose move made them, and where its chains can be cut.

A chain is read from its newest file, and only as far as needed, so that what is asked of the present does not
grow with the past.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ledger_cli.core.commit import MERGE
from ledger_cli.core.slices import CommitSlice, lower
from ledger_cli.errors import Corrupt
from ledger_cli.services.chains import Chains
from ledger_cli.services.commits import read_commits
from ledger_cli.services.repository import Branch, Repository

_WALK = 64
_WINDOW = 4
"""Commits that are looked at first for the last one of the fold; then 16 times as many, and so on."""
_LATE = ("late", "amends")


@dataclass(frozen=True)
class OwnedSlice:
    """Commits of one file that belong to a branch, and the ref whose move added the file."""

    part: CommitSlice
    ref: str


@dataclass(frozen=True)
class Top:
    """The end of a chain: the digest of its last commit, the highest end of its epochs, and that of its merges too."""

    digest: str
    end: int
    merged: int


def owned_slices(branch: Branch) -> list[OwnedSlice]:
    """`Branch.commit_slices` with the ref that each file came by, oldest first."""
    found: list[OwnedSlice] = []
    one: Branch | None = branch
    keep: Mapping[str, int] | None = None
    while one is not None:
        base = one.state.base
        listed = base is not None and base.listed  # what the first move lists came by older refs
        own = [file for file in one.added.commits if not listed or file.arrival > one.state.created]
        slices = [CommitSlice(file) if keep is None else CommitSlice(file).cut(keep) for file in own]
        found = [OwnedSlice(part, one.name) for part in slices if not part.empty] + found
        if base is None or not base.keep:
            return found
        keep = base.keep if keep is None else lower(base.keep, keep)
        one = one.chain_parent
    return found


def holding(branch: Branch, shard: str, height: int) -> list[OwnedSlice]:
    """The files that a commit may be in, by its place in a chain."""
    return [
        each
        for each in owned_slices(branch)
        if (span := each.part.file.heights.get(shard)) is not None and span[0] <= height <= span[1]
    ]


def newest_slices(repository: Repository, branch: Branch) -> Iterator[CommitSlice]:
    """The commits of a branch by file, newest first, reading no more of its log than is asked for."""
    below = max(branch.state.created, branch.seq - _WALK + 1)
    for seq in range(branch.seq, below - 1, -1):
        move = branch.move if seq == branch.seq else repository.move(branch.name, seq)
        yield from (CommitSlice(file) for file in reversed(move.added.arrived(seq).commits))
    if below > branch.state.created:
        older = [file for file in branch.added.commits if file.arrival < below]
        yield from (CommitSlice(file) for file in reversed(older))
    base, parent = branch.state.base, branch.chain_base
    if base is not None and parent is not None and base.keep:
        shared = (part.cut(base.keep) for part in newest_slices(repository, parent))
        yield from (part for part in shared if not part.empty)


def made_at(repository: Repository, branch: Branch, shard: str, height: int) -> Branch:
    """The branch, or the ancestor that it has the commit from, as of the move that made the commit."""
    made = Chains(repository, branch).made(shard, height)
    if made is None:
        raise Corrupt(f"no move of {branch.name} made the commit {height} of shard {shard}: run `ledger verify`")
    return repository.branch_at(made[0], made[1].seq)


def tops(repository: Repository, branch: Branch, keep: Mapping[str, int]) -> dict[str, Top]:
    """The end of each chain of a branch if it had the first `keep` commits alone."""
    found: dict[str, Top] = {}
    window = _WINDOW
    while len(found) < len(keep):
        spans = {s: (max(0, last - window), last) for s, last in keep.items() if s not in found}
        found |= _tops(repository, branch, spans)
        window *= 16
    return found


def _tops(repository: Repository, branch: Branch, spans: Mapping[str, tuple[int, int]]) -> dict[str, Top]:
    """Those ends that can be told from the heights [first, last) of each shard.

    A commit of the fold ends above all before it; late ones may end anywhere below it. So the highest end is
    that of the last commit of the fold, or of a late one behind it. A merge, [W, W), ends no epoch.
    """
    condition = " OR ".join(
        f"(shard = {shard} AND height >= {first} AND height < {last})" for shard, (first, last) in spans.items()
    )
    columns = ["shard", "height", "digest", "epoch_end", "reason"]
    table = read_commits(repository, branch, columns, f"({condition})", reaching(repository, branch, spans))
    table = table.sort_by([("shard", "ascending"), ("height", "ascending")])
    shards = table["shard"].to_numpy()
    found = {}
    for shard, (first, _) in spans.items():
        mine = table.slice(int(np.searchsorted(shards, int(shard))), int((shards == int(shard)).sum()))
        reasons = mine["reason"].to_pylist()
        folded = [place for place, reason in enumerate(reasons) if reason not in (*_LATE, MERGE)]
        if folded or first == 0:
            behind = mine["epoch_end"].to_numpy()[folded[-1] if folded else 0 :]
            ends = behind[[reason != MERGE for reason in reasons[folded[-1] if folded else 0 :]]]
            found[shard] = Top(mine["digest"][-1].as_py(), int(ends.max()), int(behind.max()))
    return found


def reaching(repository: Repository, branch: Branch, spans: Mapping[str, tuple[int, int]]) -> Sequence[CommitSlice]:
    """The newest files that hold those heights."""
    missing = {shard: first for shard, (first, _) in spans.items()}
    chosen = []
    for part in newest_slices(repository, branch):
        heights = part.file.heights
        if any(s in heights and heights[s][0] < last and heights[s][1] >= first for s, (first, last) in spans.items()):
            chosen.append(part)
        missing = {s: first for s, first in missing.items() if s not in heights or heights[s][0] > first}
        if not missing:
            break
    return chosen
