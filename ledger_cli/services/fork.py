"""`ledger fork`, `branch` and `tag`: new lines of history and names for its points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ledger_cli.core.history import MAIN, State, branch_name
from ledger_cli.core.jcs import digest_of
from ledger_cli.core.policy import Policy
from ledger_cli.errors import Conflict, NotFound, UsageError
from ledger_cli.services.cut import Cut, begun, cut_at
from ledger_cli.services.lookup import CommitRef, Place, commit_of, find_commit
from ledger_cli.services.prepared import refuse_prepared
from ledger_cli.services.repository import Branch, Repository


@dataclass(frozen=True)
class BranchView:
    """A branch as `branch list` shows it. `heads`: commit digests by shard; `created_at`: RFC 3339."""

    name: str
    parent: str | None
    heads: Mapping[str, str]
    commits: int
    watermark: int | None
    rows: int
    policy: str | None
    digest: str
    created_at: str
    created_by: str
    why: str

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "branch": self.name,
            "parent": self.parent,
            "heads": dict(self.heads),
            "commits": self.commits,
            "watermark": self.watermark,
            "rows": self.rows,
            "policy": self.policy,
            "digest": self.digest,
            "createdAt": self.created_at,
            "createdBy": self.created_by,
            "why": self.why,
        }


@dataclass(frozen=True)
class Tag:
    """A name for a commit. `branch` and `commit` are None where no branch holds the commit any more."""

    name: str
    digest: str
    branch: str | None = None
    commit: CommitRef | None = None

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        commit = {"digest": self.digest} if self.commit is None else self.commit.to_json()
        return {"tag": self.name, "branch": self.branch, **commit}


def branch_digest(state: State) -> str:
    """One digest of all the history that a branch holds: its heads, and how many commits they stand on."""
    return digest_of({"commits": state.commits, "shards": heads_of(state)})


def heads_of(state: State) -> dict[str, str]:
    """The digest of the last commit of each shard that has one."""
    return {shard: each.head for shard, each in state.shards.items() if each.head is not None}


def fork(
    repository: Repository,
    parent: str,
    name: str,
    at: Place | None = None,
    policy: Policy | None = None,
    why: str = "",
) -> BranchView:
    """Begin a branch that shares everything with its parent up to a place; None is the parent's head.

    Of a place on another branch, that one is the parent. No data is copied and no commit is made. UsageError
    where the name is taken or is a tag's, or the layer would change.
    """
    latest = repository.branch(parent if at is None else at.branch)
    return branch_view(repository, begin(repository, latest, name, cut_at(repository, latest, at), policy, why))


def begin(
    repository: Repository, parent: Branch, name: str, cut: Cut, policy: Policy | None, why: str, kind: str = "fork"
) -> Branch:
    """The new branch that shares with its parent what a cut leaves. UsageError where the name is taken.

    Names of branches and tags are in different refs. So whoever makes one looks once more afterwards: of two at
    once the later sees the other, and gives way.
    """
    if branch_name(name) in repository.tags:
        raise UsageError(f"{name!r} is a tag: choose another name or `ledger tag --delete {name}`")
    base, state = begun(repository, parent, cut, policy)
    made = repository.create_branch(name, kind, why, base, state)
    if name in repository.tags:
        delete(repository, name, "a tag was given its name meanwhile")
        raise Conflict(f"{name!r} was made a tag meanwhile: no branch was made, choose another name")
    return made


def branches(repository: Repository) -> list[BranchView]:
    """All branches, `main` first."""
    return [branch_view(repository, repository.branch(name)) for name in repository.branch_names()]


def branch_view(repository: Repository, branch: Branch) -> BranchView:
    """A branch as `branch list` shows it."""
    state = branch.state
    began = branch.move if branch.seq == state.created else repository.move(branch.name, state.created)
    return BranchView(
        name=branch.name,
        parent=parent_of(repository, state),
        heads=heads_of(state),
        commits=state.commits,
        watermark=state.watermark,
        rows=state.rows,
        policy=None if branch.policy is None else branch.policy.digest,
        digest=branch_digest(state),
        created_at=began.at,
        created_by=began.by,
        why=began.why,
    )


def parent_of(repository: Repository, state: State) -> str | None:
    """The branch that a branch is a fork of.

    None also of one that was reconciled: it stands on a branch that was there for the while of it, which nobody made.
    """
    base = state.base
    if base is None or repository.branch_at(base.branch, max(base.segments_move, base.commits_move)).state.temporary:
        return None
    return base.branch


def delete(repository: Repository, name: str, why: str = "") -> None:
    """Delete a branch: a move like others, so that its forks go on reading what it made.

    UsageError for `main` and where a tag names a commit of this branch alone, NotFound where there is no such branch,
    Conflict while a transaction over two ledgers is under way on it.
    """
    if name == MAIN:
        raise UsageError("main cannot be deleted: fork from it and go on there")
    latest = repository.branch(name)
    refuse_prepared(latest, "deleted")
    for tagged, digest in sorted(repository.tags.items()):
        if find_commit(repository, digest, MAIN, without=name) is None and find_commit(repository, digest, name):
            raise UsageError(
                f"tag {tagged!r} names a commit of this branch alone: `ledger tag --delete {tagged}` first, "
                f"or keep it with `ledger fork NAME --from {tagged}`"
            )
    repository.advance(name, latest, "delete", replace(latest.state, deleted=True), why)


def tag(repository: Repository, name: str, place: Place, why: str = "") -> Tag:
    """Name a commit; of a branch its newest.

    UsageError where the name is a branch's, or the tag names another commit already.
    """
    commit = commit_of(repository, place)
    if branch_name(name) in repository.branch_names():
        raise UsageError(f"{name!r} is a branch: choose another name for the tag")

    def tagged(state: State) -> State:
        known = state.tags.get(name)
        if known is not None and known != commit.digest:
            raise UsageError(f"tag {name!r} names the commit {known[:12]}: `ledger tag --delete {name}` first")
        return replace(state, tags={**state.tags, name: commit.digest})

    if repository.tags.get(name) != commit.digest:
        repository.administer("tag", why, tagged)
        if name in repository.branch_names():
            untag(repository, name, "a branch was given its name meanwhile")
            raise Conflict(f"{name!r} was made a branch meanwhile: no tag was made, choose another name")
    return Tag(name, commit.digest, place.branch, commit)


def untag(repository: Repository, name: str, why: str = "") -> None:
    """Take a tag away. NotFound where there is none."""

    def untagged(state: State) -> State:
        if name not in state.tags:
            raise NotFound(f"there is no tag {name!r} (tags: {', '.join(sorted(state.tags)) or 'none yet'})")
        return replace(state, tags={tag: digest for tag, digest in state.tags.items() if tag != name})

    if name not in repository.tags:
        untagged(State(tags=repository.tags))
    repository.administer("untag", why, untagged)


def tags(repository: Repository, branch: str = MAIN) -> list[Tag]:
    """All tags by name, with their commits; looked for on `branch` first."""
    listed = []
    for name, digest in sorted(repository.tags.items()):
        found = find_commit(repository, digest, branch)
        listed.append(Tag(name, digest) if found is None else Tag(name, digest, *found))
    return listed
