"""`ledger replay`: recompute a branch from its events, to verify it or under another policy.

Every recorded run is made again from the branch as it was before it, and its ids are compared; entries are
read only where an id differs. A run starts from the recorded state, so runs can be left out, and the first
difference is the place where something was changed and not the tail that follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger_cli.core.history import ShardState, State
from ledger_cli.core.policy import Policy
from ledger_cli.core.slices import lower
from ledger_cli.errors import LedgerError, UsageError
from ledger_cli.services.chains import Chains
from ledger_cli.services.commit import CommitRequest, CommitResult, commit
from ledger_cli.services.cut import Cut, cut_at
from ledger_cli.services.fork import begin, branch_digest, delete
from ledger_cli.services.lineage import tops
from ledger_cli.services.lookup import Place
from ledger_cli.services.merge_commits import joined
from ledger_cli.services.replay_run import ReplayDifference, RunCheck, Window, changed
from ledger_cli.services.repository import Branch, Repository

_WHAT_IF = "replay"
_SHORTEST = 8


@dataclass(frozen=True)
class ReplayReport:
    """What a verification by replay found. `digest` stands for all that the branch holds."""

    branch: str
    digest: str
    runs: int
    """Runs made again."""
    skipped: int
    """Runs without a commit in the ticks asked for, or without one that this fork keeps."""
    commits: int
    """Commits compared."""
    difference: ReplayDifference | None = None

    @property
    def ok(self) -> bool:
        """Whether all is as recorded."""
        return self.difference is None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.branch,
            "ok": self.ok,
            "digest": self.digest,
            "runs": self.runs,
            "skippedRuns": self.skipped,
            "commits": self.commits,
            "difference": None if self.difference is None else self.difference.to_json(),
        }


@dataclass
class _Count:
    runs: int = 0
    skipped: int = 0
    commits: int = 0


@dataclass(frozen=True)
class _Line:
    """A branch or an ancestor, and how many commits of its chains belong to what is verified (None: all)."""

    branch: Branch
    keep: Mapping[str, int] | None = field(default=None)


def verify_replay(
    repository: Repository,
    branch: str,
    first: int | None = None,
    last: int | None = None,
    expect: str | None = None,
) -> ReplayReport:
    """Make every recorded run of a branch again, also its ancestors' up to the fork, and compare all ids.

    `first`, `last`: only commits whose epoch lies within the ticks [first, last). `expect`: the digest that
    the branch is known to have, so that a log cut short is noticed too.
    """
    found = repository.branch(branch)
    digest = branch_digest(found.state)
    count = _Count()
    difference = _gap(repository, found) or _unexpected(found, digest, expect)
    if difference is None:
        lines = _lines(repository, found)
        difference = next(_differences(repository, lines, Window(first, last), count), None)
    return ReplayReport(branch, digest, count.runs, count.skipped, count.commits, difference)


def _gap(repository: Repository, found: Branch) -> ReplayDifference | None:
    """Whether a move is missing while later ones are there: to look for the latest does not tell."""
    numbers = repository.store.move_numbers(found.name)
    missing = next((seq for seq, number in enumerate(numbers) if number != seq), None)
    if missing is None:
        return None
    return ReplayDifference(
        "file",
        found.name,
        missing,
        f"move {missing} of {found.name} is missing, later ones are there: restore refs/{found.name} from a copy",
    )


def _unexpected(found: Branch, digest: str, expect: str | None) -> ReplayDifference | None:
    if expect is None:
        return None
    if len(expect) < _SHORTEST:
        raise UsageError(f"--expect needs at least {_SHORTEST} characters of a digest: `ledger status` shows it")
    if digest.startswith(expect.lower()):
        return None
    return ReplayDifference(
        "digest",
        found.name,
        found.seq,
        f"branch {found.name} has the digest {digest}, not {expect}: its log was cut short, or it went on since",
    )


def _lines(repository: Repository, found: Branch) -> list[_Line]:
    """The branch and the ancestors that it has commits from, the oldest first."""
    lines = [_Line(found)]
    while (base := lines[0].branch.state.base) is not None and base.keep:
        parent = repository.branch_at(base.branch, base.commits_move)
        inner = lines[0].keep
        keep = base.keep if inner is None else lower(base.keep, inner)
        lines.insert(0, _Line(parent, keep))
    return lines


def _differences(
    repository: Repository, lines: list[_Line], window: Window, count: _Count
) -> Iterator[ReplayDifference]:
    for line in lines:
        if window.all:
            yield from _begun_wrong(repository, line.branch)
        yield from _in_line(repository, line, window, count)


def _in_line(repository: Repository, line: _Line, window: Window, count: _Count) -> Iterator[ReplayDifference]:
    name, last = line.branch.name, line.branch.seq
    if line.keep is not None:
        last = min(last, Chains(repository, line.branch).reached(line.keep))
    before = repository.branch_at(name, line.branch.state.created)
    for seq in range(before.seq + 1, last + 1):
        _ = before.added  # read once, and then handed on from move to move
        after = repository.branch_at(name, seq)
        after.adopt(before)
        if after.move.run is not None:
            check = RunCheck(repository, before, after, window, line.keep)
            if check.concerned:
                count.runs += 1
                yield from check.differences()
                count.commits += check.compared
            else:
                count.skipped += 1
        elif after.move.merge:
            yield from _joined_wrong(before, after)
        elif names := changed(before.state, after.state):
            message = f"a move that is no run records another {names}: run `ledger verify`"
            yield ReplayDifference("state", name, seq, message)
        before = after


def _joined_wrong(before: Branch, after: Branch) -> Iterator[ReplayDifference]:
    """Whether merge commits are those of the heads that they join."""
    policy = after.policy
    if policy is None:
        yield ReplayDifference("state", after.name, after.seq, "a merge records no policy: run `ledger verify`")
        return
    names = changed(joined(before.state, policy, after.move.merge)[1], after.state)
    if names:
        message = f"the merge records another {names} than the heads that it joins give: run `ledger verify`"
        yield ReplayDifference("state", after.name, after.seq, message)


def _begun_wrong(repository: Repository, branch: Branch) -> Iterator[ReplayDifference]:
    """Whether a fork began where the chains that it keeps end."""
    base, parent = branch.state.base, branch.chain_parent
    if base is None or parent is None:
        return
    ends = tops(repository, parent, base.keep)
    wanted = {shard: ShardState(top.digest, base.keep[shard], top.end) for shard, top in ends.items()}
    state = repository.move(branch.name, branch.state.created).state
    if dict(state.shards) != wanted:
        yield ReplayDifference(
            "state",
            branch.name,
            branch.state.created,
            f"branch {branch.name} does not begin at the commits of {base.branch} that it keeps",
        )


def what_if(
    repository: Repository,
    parent: str,
    name: str,
    policy: Policy,
    at: Place | None = None,
    why: str = "",
) -> CommitResult:
    """The events of a branch under another policy: a fork from the first tick, or from a place, and a run.

    The run is as final as the parent's last one that folded anything. UsageError where the name is taken; a what-if
    that was killed before its run is made anew. Where the run fails, the fork is deleted again.
    """
    _clear_unfinished(repository, name)
    latest = repository.branch(parent if at is None else at.branch)
    cut = Cut(latest, {}, None, False) if at is None else cut_at(repository, latest, at)
    made = begin(repository, latest, name, cut, policy, why, _WHAT_IF)
    try:
        return commit(repository, name, CommitRequest(policy, _final(latest.state), None, why, made.state.created))
    except LedgerError:
        # Another process may have made the name anew meanwhile: what is deleted is only our own.
        found = repository.find(name)
        if found is not None and found.state.created == made.state.created and _unfinished(found.state, found):
            delete(repository, name, "its run failed")
        raise


def _final(state: State) -> bool:
    """Whether the last run of a branch was final, or one before it that nothing has come after.

    A run that is not final never lifts the watermark above the highest tick.
    """
    if state.final or state.watermark is None or state.highest_tick is None:
        return state.final
    return state.watermark > state.highest_tick


def _clear_unfinished(repository: Repository, name: str) -> None:
    found = repository.find(name)
    if found is None or found.state.deleted or not _unfinished(found.state, found):
        return
    delete(repository, name, "it was begun and never run")


def _unfinished(state: State, found: Branch) -> bool:
    return found.seq == state.created and found.move.kind == _WHAT_IF
