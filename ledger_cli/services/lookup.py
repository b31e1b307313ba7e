"""From the names people use to a place in the history: tags, branches, commits, ticks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from ledger_cli.core.commit import commit_id_of
from ledger_cli.core.events import TICK_LIMIT
from ledger_cli.core.history import MAIN
from ledger_cli.core.slices import CommitSlice, History, heights_of
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.commits import read_commits
from ledger_cli.services.lineage import newest_slices, tops
from ledger_cli.services.repository import Branch, Repository

_SHORTEST = 4
"""Characters of an id that may name a commit."""
_HEX = re.compile(rf"[0-9a-f]{{{_SHORTEST},64}}")
_TICK = re.compile(r"[0-9]{1,16}")
_LISTED = 5
_FIRST_FILES = 8
_HEADER = ["commit_id", "digest", "shard", "height", "epoch_start", "epoch_end"]


@dataclass(frozen=True)
class CommitRef:
    """A commit and its place in a chain."""

    commit_id: str
    digest: str
    shard: int
    height: int
    epoch_start: int
    epoch_end: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "commitId": self.commit_id,
            "digest": self.digest,
            "shard": self.shard,
            "height": self.height,
            "epochStart": self.epoch_start,
            "epochEnd": self.epoch_end,
        }


@dataclass(frozen=True)
class Place:
    """A point of a branch's history: its head, a commit (also by a tag), or a tick."""

    text: str
    """As it was named."""
    kind: Literal["branch", "commit", "tag", "tick"]
    branch: str
    commit: CommitRef | None = None
    tick: int | None = None


def resolve(repository: Repository, text: str | int, branch: str = MAIN, *, ticks: bool = True) -> Place:
    """The place that `text` names: a tag, a branch, a tick, or a commit by id, digest or a prefix of these.

    An int is a tick. Commits are looked for on `branch` first, then on the others. Without `ticks`, digits are part
    of an id. UsageError where a prefix is too short or fits several commits, NotFound where nothing is called so.
    """
    if not isinstance(text, str):
        return _at_tick(repository, text, branch, ticks)
    name = text.strip()
    digest = repository.tags.get(name)
    if digest is not None:
        found = find_commit(repository, digest, branch)
        if found is None:
            raise NotFound(f"tag {name!r} names the commit {digest[:12]}, which is on no branch: `ledger branch list`")
        return Place(name, "tag", found[0], found[1])
    may_be_tick = _TICK.fullmatch(name) is not None and int(name) < TICK_LIMIT
    if ticks and may_be_tick:
        return Place(name, "tick", repository.branch(branch).name, tick=int(name))
    if not _names_admin(name) and name in repository.branch_names():
        return Place(name, "branch", name)
    if may_be_tick and len(name) < _SHORTEST:
        raise _no_commit(name)
    found = find_commit(repository, name, branch)
    if found is None and may_be_tick:
        raise _no_commit(f"no commit begins with {name}, and as a number it")
    if found is None:
        raise NotFound(
            f"nothing is called {name!r} here (no tag, branch or commit): `ledger log` lists the commits, "
            f"`ledger branch list` the branches"
        )
    return Place(name, "commit", found[0], found[1])


def _at_tick(repository: Repository, tick: int, branch: str, ticks: bool) -> Place:
    if not 0 <= tick < TICK_LIMIT:
        raise UsageError(f"{tick} is no tick: give one from 0 and below 2^53, or a tag, a branch or a commit id")
    if not ticks:
        raise _no_commit(str(tick))
    return Place(str(tick), "tick", repository.branch(branch).name, tick=tick)


def _no_commit(tick: str) -> UsageError:
    return UsageError(f"{tick} is a tick: give a commit, for example one that `ledger log` lists")


def place_of_branch(repository: Repository, name: str) -> Place:
    """The head of a branch. NotFound where there is none of that name."""
    return Place(name, "branch", repository.branch(name).name)


def commit_of(repository: Repository, place: Place) -> CommitRef:
    """The commit of a place; of a branch its newest. UsageError for a tick, NotFound without commits."""
    if place.commit is not None:
        return place.commit
    if place.tick is not None:
        raise _no_commit(place.text)
    branch = repository.branch(place.branch)
    ends = tops(repository, branch, heights_of(branch.state))
    if not ends:
        raise NotFound(f"branch {place.branch} has no commits yet: run `ledger commit`")
    # As `ledger log` lists them: by the end of the epoch, then by shard.
    shard = min(ends, key=lambda each: (-ends[each].end, int(each)))
    return _in_parts(repository, branch, f"shard = {shard} AND epoch_end = {ends[shard].end}", newest=True)[0]


def find_commit(
    repository: Repository, text: str, branch: str, without: str | None = None
) -> tuple[str, CommitRef] | None:
    """The branch and commit that an id, a digest or a prefix of one names; None where there is none.

    Looked for on `branch` first, then on the others but `without`.
    """
    wanted = text.lower().replace("-", "")
    if not _HEX.fullmatch(wanted):
        if re.fullmatch(r"[0-9a-f]{1,3}", wanted):
            raise UsageError(f"{text!r} is too short to name a commit: give at least {_SHORTEST} characters of its id")
        return None
    seen: set[tuple[str, str]] = set()
    for each in _branches(repository, branch):
        if each.name == without:
            continue
        found = _fitting(repository, each, wanted, seen)
        if len(found) > 1:
            listed = ", ".join(commit.commit_id for commit in found[:_LISTED])
            more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            raise UsageError(f"{text!r} fits {len(found)} commits: give more characters ({listed}{more})")
        if found:
            return each.name, found[0]
    return None


def _branches(repository: Repository, first: str) -> Iterator[Branch]:
    yield repository.branch(first)
    yield from (repository.branch(name) for name in repository.branch_names() if name != first)


def _fitting(repository: Repository, branch: Branch, wanted: str, seen: set[tuple[str, str]]) -> list[CommitRef]:
    """The commits of a branch that an id fits, but for those of files looked at already."""
    condition = f"(starts_with(digest, '{wanted}') OR starts_with(replace(commit_id, '-', ''), '{wanted}'))"
    whole = len(wanted) == 64 or (len(wanted) == 32 and _is_commit_id(wanted))
    parts = [part for part in newest_slices(repository, branch) if (part.file.file, part.condition()) not in seen]
    seen |= {(part.file.file, part.condition()) for part in parts}
    if repository.store.by_engine and whole:
        commit_id = commit_id_of(wanted) if len(wanted) == 64 else str(UUID(wanted))
        found = repository.store.commits.query_commit(History(parts), commit_id)
        fits = found is not None and (len(wanted) == 32 or found.digest == wanted)
        return [CommitRef(*(getattr(found, name) for name in _HEADER))] if fits else []
    return _in_parts(repository, branch, condition, parts, newest=whole)


def _in_parts(
    repository: Repository,
    branch: Branch,
    condition: str,
    parts: Iterable[CommitSlice] | None = None,
    *,
    newest: bool,
) -> list[CommitRef]:
    """Commits that meet a condition; with `newest` only those of the newest files that have one."""
    listed: Sequence[CommitSlice] = list(newest_slices(repository, branch) if parts is None else parts)
    at, size = 0, _FIRST_FILES if newest else max(1, len(listed))
    found: list[CommitRef] = []
    while at < len(listed) and not (newest and found):
        table = read_commits(repository, branch, _HEADER, condition, listed[at : at + size])
        found += [CommitRef(**row) for row in table.sort_by([("height", "descending")]).to_pylist()]
        at, size = at + size, size * 4
    return found


def _is_commit_id(wanted: str) -> bool:
    return commit_id_of(wanted).replace("-", "") == wanted


def _names_admin(name: str) -> bool:
    return not name or name.startswith(".") or "/" in name
