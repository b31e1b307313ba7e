"""Which commits are archived, and which files of events: by tick, age, activity and count."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.history import CommitFile, Segment, WorldFile
from ledger_cli.core.slices import CommitSlice
from ledger_cli.services.repository import Repository

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """Which commits are to be archived: those to which all that is set applies."""

    before: int | None = None
    """Their epochs end at this tick or below."""
    made_before: str | None = None
    """They were made before this time, RFC 3339 UTC."""
    max_activity: float | None = None
    """No region's mean activity is higher."""
    but_newest: int | None = None
    """Not among the newest so many of their chain; files: of those that came on their branch."""


@dataclass(frozen=True)
class Request:
    """What is to be archived, and where to. Commits to which one of the rules applies; whole files of events."""

    to: str
    rules: tuple[Rule, ...] = ()
    branch: str | None = None
    """Only what this branch reads; None: of all, deleted ones too."""
    ticks: Rule | None = None
    """Segments of ticks all below a tick, or that came before a time."""
    world: Rule | None = None
    """Files of world events that came before a time."""
    why: str = ""


@dataclass(frozen=True)
class Batch:
    """A batch and what decides on its commits beside themselves. `parts`: of the branch asked for; None: all."""

    file: CommitFile
    made_at: str
    parts: tuple[CommitSlice, ...] | None
    lengths: Mapping[str, int]
    """Of each shard, the lengths of the longest chain that stands on the batch."""


@dataclass
class Lists:
    """What all refs name."""

    commits: dict[str, tuple[str, CommitFile]] = field(default_factory=dict)
    segments: dict[str, tuple[str, Segment]] = field(default_factory=dict)
    world: dict[str, tuple[str, WorldFile]] = field(default_factory=dict)


def all_files(repository: Repository, only: str | None) -> Lists:
    """Files by name, each with the ref whose move brought it."""
    found = Lists()
    for name in _standing_on(repository, only) if only else repository.store.branches():
        for branch in repository.lives(name):
            added = branch.added
            for commits in added.commits:
                found.commits.setdefault(commits.file, (name, commits))
            for segment in added.segments:
                found.segments.setdefault(segment.file, (name, segment))
            for world in added.world:
                found.world.setdefault(world.file, (name, world))
    if only is not None:
        # The others' own that came behind the fork are not its own.
        branch = repository.branch(only)
        read = {each.file for each in branch.segments()} | {each.file for each in branch.world_files()}
        found.segments = {file: each for file, each in found.segments.items() if file in read}
        found.world = {file: each for file, each in found.world.items() if file in read}
    return found


def _standing_on(repository: Repository, name: str) -> list[str]:
    """A branch and those that it stands on."""
    names: list[str] = []
    left = [repository.branch(name)]
    while left:
        branch = left.pop()
        if branch.name not in names:
            names.append(branch.name)
            left += [each for each in (branch.base, branch.chain_parent) if each is not None]
    return names


def batches(repository: Repository, request: Request, lists: Lists) -> Iterator[Batch]:
    """The batches that may hold commits to be archived."""
    timed = any(each.made_before is not None for each in request.rules)
    ends = [each.before for each in request.rules]
    top = max((end for end in ends if end is not None), default=None) if None not in ends else None
    lengths = _lengths(repository)
    parts: dict[str, list[CommitSlice]] = {}
    for each in repository.branch(request.branch).commit_slices() if request.branch else []:
        parts.setdefault(each.file.file, []).append(each)
    for file, (ref, record) in lists.commits.items():
        if (request.branch and file not in parts) or (top is not None and record.epoch_min > top):
            continue
        made_at = repository.move(ref, record.arrival).at if timed else ""
        yield Batch(record, made_at, tuple(parts[file]) if request.branch else None, lengths)


def _lengths(repository: Repository) -> dict[str, int]:
    longest: dict[str, int] = {}
    for name in repository.branch_names():
        for shard, chain in repository.branch(name).state.shards.items():
            longest[shard] = max(longest.get(shard, 0), chain.commits)
    return longest


def chosen(batch: Batch, rules: Sequence[Rule], table: pa.Table) -> pa.Table:
    """The commits of a batch that have entries and are to be archived."""
    there = table.filter(pc.is_valid(table["entries"])) if table["entries"].null_count else table
    wanted = np.zeros(there.num_rows, dtype=bool)
    for rule in rules:
        wanted |= _applies(rule, batch, there)
    if batch.parts is not None:
        wanted &= _within(batch.parts, there)
    return there if wanted.all() else there.filter(pa.array(wanted))


def all_chosen(batch: Batch, rules: Sequence[Rule]) -> bool:
    """Whether what is known of a batch as a whole tells that all its commits are to be archived."""
    parts = batch.parts
    return (parts is None or any(each.whole for each in parts)) and any(_applies_to_all(each, batch) for each in rules)


def _applies_to_all(rule: Rule, batch: Batch) -> bool:
    file, but_newest = batch.file, rule.but_newest
    return (
        rule.max_activity is None
        and (rule.made_before is None or batch.made_at < rule.made_before)
        and (rule.before is None or file.epoch_max <= rule.before)
        and (
            but_newest is None
            or all(last < batch.lengths.get(shard, 0) - but_newest for shard, (_, last) in file.heights.items())
        )
    )


def _applies(rule: Rule, batch: Batch, table: pa.Table) -> Bools:
    wanted = np.ones(table.num_rows, dtype=bool)
    if rule.made_before is not None and batch.made_at >= rule.made_before:
        return ~wanted
    if rule.before is not None:
        wanted &= table["epoch_end"].to_numpy() <= rule.before
    if rule.but_newest is not None:
        shards, place = np.unique(table["shard"].to_numpy(), return_inverse=True)
        ends = np.array([batch.lengths.get(str(shard), 0) for shard in shards.tolist()], dtype=np.int64)
        wanted &= table["height"].to_numpy() < ends[place] - rule.but_newest
    if rule.max_activity is not None and wanted.any():
        lists = table["entries"].combine_chunks()
        means = lists.flatten().field("activity_mean").to_numpy(zero_copy_only=False)
        high = np.zeros(table.num_rows, dtype=bool)
        high[pc.list_parent_indices(lists).to_numpy()[means > rule.max_activity]] = True
        wanted &= ~high
    return wanted


def _within(parts: Iterable[CommitSlice], table: pa.Table) -> Bools:
    shards, heights = table["shard"].to_numpy(), table["height"].to_numpy()
    inside = np.zeros(table.num_rows, dtype=bool)
    for part in parts:
        for shard, (first, past) in part.spans.items():
            inside |= (shards == int(shard)) & (heights >= first) & (heights < past)
    return inside


def whole_files(repository: Repository, request: Request, lists: Lists) -> Iterator[tuple[str, str]]:
    """Files of events that are to be archived as they are, with what they hold."""
    ticks, world = request.ticks, request.world
    if ticks is not None:
        newest = _newest(lists.segments, ticks.but_newest)
        for file, (ref, segment) in lists.segments.items():
            if file in newest:
                continue
            below = ticks.before is None or segment.tick_max < ticks.before
            if below and (ticks.made_before is None or repository.move(ref, segment.arrival).at < ticks.made_before):
                yield file, "ticks"
    if world is not None and world.made_before is not None:
        newest = _newest(lists.world, world.but_newest)
        for file, (ref, events) in lists.world.items():
            if file not in newest and repository.move(ref, events.arrival).at < world.made_before:
                yield file, "world"


def _newest(files: Mapping[str, tuple[str, Segment | WorldFile]], count: int | None) -> set[str]:
    """The files that came last, so many of each ref."""
    if not count:
        return set()
    came: dict[str, list[tuple[int, int, str]]] = {}
    for place, (file, (ref, record)) in enumerate(files.items()):
        came.setdefault(ref, []).append((record.arrival, place, file))
    return {file for some in came.values() for _, _, file in sorted(some)[-count:]}
