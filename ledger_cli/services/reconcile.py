"""`ledger reconcile`: two branches that have parted become one history that holds the events of both.

What happened on either side since the split is folded anew from the split, and a merge commit of each chain names
the two old heads. Which side is named first does not matter to any id. A branch that is part of the other just
moves on, and one that has nothing new changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ledger_cli.core.commit import COMMIT
from ledger_cli.core.history import Added, Base, CommitFile, ContributorsFile, ShardState, State, branch_name
from ledger_cli.core.policy import Policy
from ledger_cli.core.vector_clock import VectorClock, writer_name
from ledger_cli.errors import Conflict, NeedsDecision, UsageError
from ledger_cli.ports import Importer
from ledger_cli.services.commit import CommitRequest, commit
from ledger_cli.services.commit_file import CommitWriter
from ledger_cli.services.commits import read_commits
from ledger_cli.services.contributors import publish_commits
from ledger_cli.services.cut import Cut, begun, cut_at, look_again
from ledger_cli.services.fork import delete, heads_of
from ledger_cli.services.lineage import tops
from ledger_cli.services.merge_base import Split, holds, in_chains, sides_of, split_of
from ledger_cli.services.merge_commits import joined
from ledger_cli.services.merge_decisions import NODE, undecided_json
from ledger_cli.services.merge_ticks import TickUnion, unite_ticks
from ledger_cli.services.merge_world import Judgement, WorldUnion, state_of, unite_world
from ledger_cli.services.prepared import refuse_prepared
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world import vector_clock
from ledger_cli.services.world_log import log_length, shared_length
from ledger_cli.services.world_waiting import read_waiting, united, unknown, write_waiting

KIND = "reconcile"
_ATTEMPTS = 5
_NAMES_MAX = 1000

Outcome = Literal["nothing", "advance", "merge"]


@dataclass(frozen=True)
class ReconcilePlan:
    """What a reconciliation of two branches comes to, before anything is changed."""

    a: str
    b: str
    into: str
    outcome: Outcome
    """`nothing`: b is part of a; `advance`: a is part of b, and moves on to it; `merge`: both have something new."""
    split: Split
    ticks: TickUnion
    world: WorldUnion

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "a": self.a,
            "b": self.b,
            "into": self.into,
            "outcome": self.outcome,
            "split": {
                "branch": self.split.kept.name,
                "commits": dict(sorted(self.split.keep.items())),
                "watermark": self.split.watermark,
            },
            "ticks": self.ticks.to_json(),
            "world": self.world.to_json(),
        }


@dataclass(frozen=True)
class Reconciled:
    """What became of two branches. `heads`: commit digests by shard; `kept`: the branch that has a's old history."""

    plan: ReconcilePlan
    branch: str
    heads: Mapping[str, str]
    watermark: int | None
    ticks_taken_in: int
    """Ticks under keys that a did not have."""
    kept: str | None = None

    @property
    def events_taken_in(self) -> int:
        """World events that b alone had, without those that were refused."""
        return self.plan.world.only_b - sum(each.of == "b" for each in self.plan.world.refused)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            **self.plan.to_json(),
            "branch": self.branch,
            "heads": dict(self.heads),
            "watermark": self.watermark,
            "kept": self.kept,
            "takenIn": {"ticks": self.ticks_taken_in, "worldEvents": self.events_taken_in},
        }


@dataclass(frozen=True)
class Synced:
    """What became of a branch of this ledger, and of that of the same name of another one. `ledger`: where that is."""

    ledger: str
    here: Reconciled
    there: Reconciled

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"ledger": self.ledger, "here": self.here.to_json(), "there": self.there.to_json()}


def plan(
    repository: Repository, importer: Importer, a: str, b: str, into: str | None, judgement: Judgement, scratch: Path
) -> ReconcilePlan:
    """What `reconcile` would do. UsageError where their policies differ, or the name of the result is taken."""
    one, other = repository.branch(a), repository.branch(b)
    _one_policy(one, other)
    if into is not None and into in (*repository.branch_names(), *repository.tags):
        raise UsageError(f"{into!r} exists: choose another name for the result")
    split = split_of(repository, one, other)
    ticks = unite_ticks(repository, importer, one, other, split.segments, scratch)
    world = unite_world(repository, one, other, judgement)
    outcome = _outcome(repository, one, other, ticks, world)
    return ReconcilePlan(one.name, other.name, into or one.name, outcome, split, ticks, world)


def reconcile(
    repository: Repository,
    importer: Importer,
    a: str,
    b: str,
    judgement: Judgement,
    into: str | None = None,
    why: str = "",
) -> Reconciled:
    """Unite b with a: a moves (with `into` a new branch does), and b stays as it is.

    UsageError where the branches are one, their policies differ or the name is taken; NeedsDecision where a field is to
    be decided by a person; Conflict where one of them is moved again and again meanwhile.
    """
    for _ in range(_ATTEMPTS):
        one, other = repository.branch(a), repository.branch(b)
        if into is None:
            refuse_prepared(one, "reconciled")
        with repository.store.scratch() as scratch:
            made = plan(repository, importer, a, b, into, judgement, scratch)
            if made.outcome == "merge" and made.world.undecided:
                raise NeedsDecision(
                    "fields are to be decided by a person: fill in the choices, and go on with these as resolutions",
                    undecided_json(a, b, into, made.world.undecided),
                )
            try:
                return _carried_out(repository, made, one, other, into, why, scratch)
            except Conflict:
                if _stands(repository, one) and _stands(repository, other):
                    raise
    raise Conflict(f"{a} and {b} are moved by many processes at once: run the command again")


def _stands(repository: Repository, branch: Branch) -> bool:
    return repository.branch(branch.name).seq == branch.seq


def _one_policy(a: Branch, b: Branch) -> None:
    if a.policy is not None and b.policy is not None and a.policy.digest != b.policy.digest:
        raise UsageError(
            f"{a.name} is under the policy {a.policy.digest[:12]}, {b.name} under {b.policy.digest[:12]}: fork one of "
            f"them under the policy of the other with `ledger replay --fork NAME`, then reconcile that fork"
        )


def _outcome(repository: Repository, a: Branch, b: Branch, ticks: TickUnion, world: WorldUnion) -> Outcome:
    if not ticks.news_for_a and not world.news_for_a and holds(repository, a, b.state):
        return "nothing"
    if not ticks.news_for_b and not world.news_for_b and holds(repository, b, a.state):
        return "advance"
    return "merge"


def _carried_out(
    repository: Repository, made: ReconcilePlan, a: Branch, b: Branch, into: str | None, why: str, scratch: Path
) -> Reconciled:
    why = why or f"{a.name} with {b.name}"
    if into is not None:
        branch_name(into)
    if made.outcome == "merge":
        # Each try has a branch of its own: of several at once none builds on another's.
        target = into or f"{a.name[:80]}.merge-{uuid.uuid4().hex[:12]}"
        merged = _merged(repository, made, a, b, target, why, scratch, temporary=into is None)
    else:
        merged = b if made.outcome == "advance" else a
    if into is not None:
        if made.outcome != "merge":
            base, state = begun(repository, merged, cut_at(repository, merged, None), None)
            merged = repository.create_branch(into, KIND, why, base, state)
        return _told(made, a, merged)
    if made.outcome == "nothing":
        return _told(made, a, _with_all_of(repository, a, b, why, scratch))
    kept = None if _goes_on(repository, merged, a) else keep_old(repository, a, why)
    moved = _move_to(repository, a, merged, why, scratch)
    if made.outcome == "merge":
        delete(repository, merged.name, f"{a.name} has moved on to it")
    return replace(_told(made, a, moved), kept=kept)


def _told(made: ReconcilePlan, a: Branch, branch: Branch) -> Reconciled:
    """`a`: the branch as it was before; `branch`: the result."""
    state = branch.state
    return Reconciled(made, branch.name, heads_of(state), state.watermark, state.rows - a.state.rows)


def _goes_on(repository: Repository, branch: Branch, old: Branch) -> bool:
    """Whether the history of `old`, its commits and its log of world events, is the beginning of a branch's."""
    return in_chains(repository, branch, old.state) and shared_length(branch, old) == log_length(old)


def keep_old(repository: Repository, branch: Branch, why: str) -> str:
    """A branch that stays at what `branch` is now, named by the number of its move; one of an earlier try serves."""
    base, state = begun(repository, branch, cut_at(repository, branch, None), None)
    first = f"{branch.name[:100]}.{branch.seq}"
    for name in (first, *(f"{first}.{number}" for number in range(2, _NAMES_MAX))):
        found = repository.find(name)
        alike = {each for each in repository.store.branches() if each.casefold() == name.casefold()}
        if found is not None and not found.state.deleted and found.state.base == base:
            return name
        if name not in repository.tags and alike <= {name} and (found is None or found.state.deleted):
            repository.create_branch(name, KIND, why, base, state)
            return name
    raise UsageError(f"there are too many branches called {first}.…: delete some with `ledger branch delete`")


def _move_to(repository: Repository, branch: Branch, target: Branch, why: str, scratch: Path) -> Branch:
    """Move a branch on to the head of another one, which it then stands on as a fork does.

    What it alone has refused stays in its quarantine: no other branch may have that.
    """
    base, state = begun(repository, target, cut_at(repository, target, None), None)
    waiting = united(read_waiting(repository, each.state) for each in (branch, target))
    state = replace(_clocks_of(state, branch), waiting=write_waiting(repository, waiting, scratch))
    mine = branch.state
    moved = replace(state, created=branch.seq + 1, base=base, transactions=mine.transactions, followed=mine.followed)
    known = {file.file for file in target.quarantine()}
    added = Added(quarantine=tuple(file for file in branch.quarantine() if file.file not in known))
    return repository.advance(branch.name, branch, KIND, moved, why, added.arrived(-1))


def _with_all_of(repository: Repository, a: Branch, b: Branch, why: str, scratch: Path) -> Branch:
    """Note that a, which has all events of b already, has them: they may have come to both by themselves.

    What waits on b for a cause is no event of it yet, and may be new to a.
    """
    state = _clocks_of(a.state, b)
    fresh = unknown(repository, a, read_waiting(repository, b.state))
    if fresh:
        state = replace(
            state,
            waiting=write_waiting(repository, united([read_waiting(repository, a.state), fresh]), scratch),
        )
    return a if state == a.state else repository.advance(a.name, a, KIND, state, why)


def _clocks_of(state: State, other: Branch) -> State:
    """A state that has taken in all that another branch has."""
    if state.world is None or other.state.world is None:
        return state
    clock = VectorClock(state.world.clock).merged(vector_clock(other))
    return replace(state, world=replace(state.world, clock=clock.moves))


def _merged(
    repository: Repository,
    made: ReconcilePlan,
    a: Branch,
    b: Branch,
    name: str,
    why: str,
    scratch: Path,
    *,
    temporary: bool,
) -> Branch:
    """A new branch with the events of both, folded from the split, and the merge commits."""
    policy = a.policy or b.policy
    base, state = _begin(repository, made, a, b, policy)
    added = _added(repository, made, a, b, scratch)
    waiting = united(read_waiting(repository, each.state) for each in (a, b))
    state = replace(
        state,
        world=state_of(repository, a, b, made.world, added.world),
        waiting=write_waiting(repository, waiting, scratch),
        temporary=temporary,
    )
    state = _with_decisions(repository, state, name, made.world)
    began = repository.create_branch(name, KIND, why, base, state, added)
    reached = [each.state for each in (a, b) if each.state.watermark is not None]
    if policy is None or not reached:
        return began
    watermark = max(each.watermark for each in reached if each.watermark is not None)
    # What a final run closes may end above the watermark: the ticks up to there would be in no commit.
    whole = state.highest_tick is None or state.highest_tick < watermark
    final = whole and any(each.final and each.watermark == watermark for each in reached)
    request = CommitRequest(policy, final, None, why, began.state.created, watermark)
    commit(repository, name, request)
    return _join(repository, repository.branch(name), policy, sides_of(a, b), why, scratch)


def _with_decisions(repository: Repository, state: State, name: str, union: WorldUnion) -> State:
    """The events of a person's decisions are of neither side: this branch is the first to have them."""
    if state.world is None or not len(union.decided):
        return state
    writer = writer_name(NODE, repository.identity, name)
    clock = VectorClock(state.world.clock).ticked(writer, repository.store.latest_seq(name) + 1)
    return replace(state, world=replace(state.world, clock=clock.moves))


def _added(repository: Repository, made: ReconcilePlan, a: Branch, b: Branch, scratch: Path) -> Added:
    """All that the merged branch reads: published, but named by no move yet."""
    source = f"{a.name} with {b.name}"
    quarantine = {file.file: file for file in (*a.quarantine(), *b.quarantine())}
    added = Added(
        segments=made.ticks.files(repository),
        commits=_kept_commits(repository, made.split, scratch),
        quarantine=(
            *quarantine.values(),
            *made.ticks.quarantine(repository, source, scratch),
            *made.world.quarantine(repository, source, scratch),
        ),
        world=made.world.files(repository, scratch),
    )
    return added.arrived(-1)


def _kept_commits(repository: Repository, split: Split, scratch: Path) -> tuple[CommitFile, ...]:
    """The commits up to the split, by file; files that hold more of them are written anew without the rest."""
    files = []
    for each in split.kept.commit_slices() if split.keep else []:
        part = each.cut(split.keep)
        if part.whole:
            files.append(part.file)
        elif not part.empty:
            table = read_commits(repository, split.kept, COMMIT.names, "", [part])
            ordered = table.sort_by([("shard", "ascending"), ("height", "ascending")]).cast(COMMIT)
            files.append(_published(repository, ordered, scratch, part.file.contributors))
    return tuple(files)


def _published(
    repository: Repository, commits: pa.Table, scratch: Path, contributors: ContributorsFile | None = None
) -> CommitFile:
    """`contributors`: of a batch that has these commits among others."""
    written = CommitWriter(scratch).write(iter([commits]))
    published = publish_commits(repository, written.path, contributors)
    written.path.unlink()  # what is published may be this very file: it must not be written to again
    return replace(written.as_file(), **vars(published), contributors=contributors)


def _begin(
    repository: Repository, made: ReconcilePlan, a: Branch, b: Branch, policy: Policy | None
) -> tuple[Base | None, State]:
    """What the merged branch begins with: the chains up to the split, and the segments of both."""
    state = State(
        policy=None if policy is None else policy.to_json(),
        rows=made.ticks.rows,
        highest_tick=made.ticks.highest_tick,
        merged=max((each.state.merged for each in (a, b) if each.state.merged is not None), default=None),
    )
    kept, keep = made.split.kept, made.split.keep
    if not keep:
        return None, state
    ends = tops(repository, kept, keep)
    shards = {shard: ShardState(top.digest, keep[shard], top.end) for shard, top in sorted(ends.items())}
    again = look_again(repository, kept, Cut(kept, keep, None, False), ends, made.ticks.fresh_from)
    base = Base(kept.name, -1, kept.seq, dict(keep), again, listed=True)
    return base, replace(state, shards=shards, watermark=made.split.watermark)


def _join(
    repository: Repository,
    branch: Branch,
    policy: Policy,
    sides: tuple[Mapping[str, str], ...],
    why: str,
    scratch: Path,
) -> Branch:
    """Add the merge commits; where there are no chains there is nothing to join."""
    table, state = joined(branch.state, policy, sides)
    if state == branch.state:
        return branch
    added = Added(commits=(_published(repository, table, scratch),))
    return repository.advance(branch.name, branch, "merge", state, why, added, merge=sides)
