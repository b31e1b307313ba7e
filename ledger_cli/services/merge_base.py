"""Where two branches part, and whether one holds all the commits of another.

A commit's digest holds the one before it, so chains that agree at a height agree below. Behind a merge two branches
share more than the beginning of their chains: all that the merge took in of the other one, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ledger_cli.core.history import Segment, State
from ledger_cli.core.jcs import text_of
from ledger_cli.core.slices import CommitSlice, Heights, heights_of
from ledger_cli.services.chains import Chains
from ledger_cli.services.commits import read_commits
from ledger_cli.services.diff import first_difference
from ledger_cli.services.fork import heads_of
from ledger_cli.services.lineage import reaching, tops
from ledger_cli.services.lookup import place_of_branch
from ledger_cli.services.repository import Branch, Repository


@dataclass(frozen=True)
class Split:
    """What two branches share: the first `keep` commits of each chain of `kept`, one of the two.

    `watermark`: up to where these were folded, None without any.
    """

    kept: Branch
    keep: Heights
    watermark: int | None
    segments: tuple[Segment, ...] = ()
    """At a merge, all that it had united: what is stored there stays."""


def split_of(repository: Repository, a: Branch, b: Branch) -> Split:
    """The last point that both have in common: a merge that took in the other's commits, or the same commits.

    It does not matter which of the two is named first.
    """
    found = [_same_commits(repository, a, b)]
    found += [split for one, other in ((a, b), (b, a)) if (split := _last_merge(repository, one, other)) is not None]
    longest = max(sum(split.keep.values()) for split in found)
    found = [split for split in found if sum(split.keep.values()) == longest]
    return found[0] if len(found) == 1 else max(found, key=lambda split: _heads_text(repository, split))


def holds(repository: Repository, branch: Branch, state: State) -> bool:
    """Whether the heads of a state are in the chains of a branch or joined by its merges."""
    missing = set(heads_of(state).values()) - _ends_in(repository, branch, state)
    return not missing or missing <= _joined(repository, branch)


def in_chains(repository: Repository, branch: Branch, state: State) -> bool:
    """Whether the heads of a state are in the chains of a branch themselves, so that whoever has it can read them."""
    return _ends_in(repository, branch, state) == set(heads_of(state).values())


def _ends_in(repository: Repository, branch: Branch, state: State) -> set[str]:
    """Those heads of a state that are in the chains of a branch: a commit has one height, wherever it is."""
    heights = {shard: each.commits - 1 for shard, each in state.shards.items() if each.head is not None}
    mine = heights_of(branch.state)
    heights = {shard: height for shard, height in heights.items() if height < mine.get(shard, 0)}
    spans = {shard: (height, height + 1) for shard, height in heights.items()}
    return _digests(repository, branch, reaching(repository, branch, spans), set(heads_of(state).values()))


def _joined(repository: Repository, branch: Branch) -> set[str]:
    """The parents of the merges of a branch."""
    return {parent for row in _merges(repository, branch, branch.commit_slices()) for parent in row["parents"]}


def _same_commits(repository: Repository, a: Branch, b: Branch) -> Split:
    mine, theirs = heights_of(a.state), heights_of(b.state)
    keep = {shard: min(height, theirs[shard]) for shard, height in mine.items() if shard in theirs}
    for parting in first_difference(
        repository, place_of_branch(repository, a.name), place_of_branch(repository, b.name)
    ):
        if str(parting.shard) in keep:
            keep[str(parting.shard)] = parting.height
    keep = {shard: height for shard, height in keep.items() if height}
    ends = [top.merged for top in tops(repository, a, keep).values()]
    reached = [each.state.watermark for each in (a, b) if each.state.watermark is not None]
    return Split(a, keep, min([max(ends), *reached]) if ends else None)


def _last_merge(repository: Repository, one: Branch, other: Branch) -> Split | None:
    """The last merge of `one` that took in commits that `other` stands on."""
    merges = _merge_moves(repository, one)
    joined: set[str] | None = None
    portion = 1  # mostly it is the last one: so few are looked at first, then more and more
    while some := list(islice(merges, portion)):
        joined = _joined(repository, other) if joined is None else joined
        named = {head for ref, _ in some for side in ref.move.merge for head in side.values()}
        held = named & joined | _digests(repository, other, other.commit_slices(), named - joined)
        for ref, heights in some:
            if any(side and held.issuperset(side.values()) for side in ref.move.merge):
                return Split(one, heights, ref.state.watermark, tuple(ref.segments()))
        portion *= 4
    return None


def _merge_moves(repository: Repository, branch: Branch) -> Iterator[tuple[Branch, Heights]]:
    """The merges in the chains of a branch, the last first, and how long the chains were after each."""
    chains = Chains(repository, branch)
    seen: set[tuple[str, int]] = set()
    rows = _merges(repository, branch, branch.commit_slices())
    for row in sorted(rows, key=lambda row: (-row["epoch_end"], -row["height"], row["shard"])):
        made = chains.made(str(row["shard"]), row["height"])
        if made is not None and (made[0], made[1].seq) not in seen:
            seen.add((made[0], made[1].seq))
            own = heights_of(branch.state)
            after = heights_of(made[1].state)
            yield (
                repository.branch_at(made[0], made[1].seq),
                {shard: min(height, own.get(shard, 0)) for shard, height in after.items()},
            )


def _merges(repository: Repository, branch: Branch, slices: Sequence[CommitSlice]) -> list[dict[str, Any]]:
    """The merge commits of some files: shard, height, epoch_end, parents. Their files hold no entries."""
    parts = [part for part in slices if not part.file.entries]
    if not parts:
        return []
    columns = ["shard", "height", "epoch_end", "parents"]
    rows: list[dict[str, Any]] = read_commits(repository, branch, columns, "len(parents) > 1", parts).to_pylist()
    return rows


def _digests(repository: Repository, branch: Branch, slices: Sequence[CommitSlice], wanted: set[str]) -> set[str]:
    """Those of some digests that are of commits in the files."""
    if not slices or not wanted:
        return set()
    listed = ", ".join(f"'{digest}'" for digest in sorted(wanted))
    return set(read_commits(repository, branch, ["digest"], f"digest IN ({listed})", slices)["digest"].to_pylist())


def _heads_text(repository: Repository, split: Split) -> str:
    ends: Mapping[str, Any] = tops(repository, split.kept, split.keep) if split.keep else {}
    return text_of({shard: top.digest for shard, top in ends.items()})


def sides_of(a: Branch, b: Branch) -> tuple[Mapping[str, str], ...]:
    """The heads of two branches by shard, the one first whose canonical JSON is lower."""
    return tuple(sorted((heads_of(a.state), heads_of(b.state)), key=text_of))
