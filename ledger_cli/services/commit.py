"""`ledger commit`: run the fold, persist what it closes, move the ref.

The engine is set to work first; what is needed to take in its answer is imported meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_cli.core.history import Added, CommitFile, Run, State
from ledger_cli.core.policy import Policy
from ledger_cli.errors import Conflict, UsageError
from ledger_cli.ports import Batches
from ledger_cli.services.repository import Branch, Repository, overtaken
from ledger_cli.services.scope import Scope

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger_cli.services.commit_file import CommitWriter
    from ledger_cli.services.contributors import Committed
    from ledger_cli.services.run import RunFold

_ATTEMPTS = 10


@dataclass(frozen=True)
class CommitResult:
    """What a run of commit made. Ticks; `heads` are commit digests by shard."""

    branch: str
    commits: int
    entries: int
    watermark: int | None
    heads: Mapping[str, str]
    policy: str
    planned: pa.Table | None = None
    """With a dry run: shard, epoch_start, epoch_end, reason, regions, events and weight of each commit."""

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`; `heads` are commit ids by shard."""
        from ledger_cli.core.commit import commit_id_of

        plan = {} if self.planned is None else {"planned": self.planned.to_pylist()}
        return {
            "branch": self.branch,
            "commits": self.commits,
            "entries": self.entries,
            "watermark": self.watermark,
            "heads": {shard: commit_id_of(digest) for shard, digest in self.heads.items()},
            "policy": self.policy,
            **plan,
        }


@dataclass(frozen=True)
class CommitRequest:
    """How to run. `force`: a region whose shard is closed now, complete or not."""

    policy: Policy
    final: bool = False
    force: str | None = None
    why: str = ""
    created: int | None = None
    """Only on the branch that this move began: its name may have been given anew."""
    watermark: int | None = None
    """Fold up to this tick; None: as far as the highest tick and the lateness allow."""

    def __post_init__(self) -> None:
        """UsageError where it asks for what no run does."""
        if self.final and self.force is not None:
            raise UsageError("--final closes every shard, --force one: give one of them")

    @property
    def shards(self) -> Sequence[int]:
        """The shards it commits."""
        return range(self.policy.shards) if self.force is None else [self.policy.shard_of(self.force)]

    def run_on(self, before: Branch) -> Run:
        """The run on a branch as it stands."""
        shard = None if self.force is None else self.policy.shard_of(self.force)
        return Run(before.seq, self.final, shard, before.state.runs, self.watermark)


def commit(repository: Repository, branch: str, request: CommitRequest) -> CommitResult:
    """Fold what is new on a branch into commits. Conflict where another process committed meanwhile."""
    with repository.store.commits.leading(branch, request.shards):
        return _led(repository, branch, request)


def _led(repository: Repository, branch: str, request: CommitRequest) -> CommitResult:
    before = repository.branch(branch)
    if request.created is not None and before.state.created != request.created:
        raise Conflict(f"branch {branch} was deleted and made again meanwhile: nothing was committed, run it again")
    scope = Scope(before, request.policy, request.run_on(before))
    with contextlib.closing(scope.begin(repository.engine)) as begun:
        return _committed(repository, before, scope, request, begun)


def _committed(
    repository: Repository, before: Branch, scope: Scope, request: CommitRequest, begun: Batches
) -> CommitResult:
    import numpy.ma  # noqa: F401 - pyarrow wants it at its first array

    from ledger_cli.services import tiles  # noqa: F401 - wanted when all else is done
    from ledger_cli.services.commit_file import CommitWriter
    from ledger_cli.services.run import RunFold

    fold = RunFold(repository, scope, begun)
    tables, committed = fold.tables(), None
    if repository.entity_refs:
        from ledger_cli.services.contributors import Committed

        committed = Committed()
        tables = committed.noted(tables)
    with repository.store.scratch() as scratch:
        written = CommitWriter(scratch).write(tables)
        _check_forced(repository, before.name, fold, request)
        added = Added()
        if written.commits:
            added = Added(commits=(_published(repository, scope, written, committed, scratch),))
        after = _moved(repository, before, fold, request, added, scratch)
    heads = {shard: each.head for shard, each in after.state.shards.items() if each.head is not None}
    digest = request.policy.digest
    return CommitResult(before.name, written.commits, written.entries, after.state.watermark, heads, digest)


def _published(
    repository: Repository, scope: Scope, written: CommitWriter, committed: Committed | None, scratch: Path
) -> CommitFile:
    """Make what was written a batch of the ledger, with its contributors where these are asked for."""
    if committed is None:
        published = repository.store.publish(written.path, "commits/{sha256}.parquet")
        return replace(written.as_file(), **vars(published))
    from ledger_cli.services import contributors

    found = contributors.publish(repository, scope, committed, scratch)
    published = contributors.publish_commits(repository, written.path, found)
    return replace(written.as_file(), **vars(published), contributors=found)


def plan(repository: Repository, branch: str, request: CommitRequest) -> CommitResult:
    """What `commit` would do, and why each epoch closes; nothing is changed."""
    import pyarrow as pa

    from ledger_cli.core.commit import COMMIT
    from ledger_cli.services.run import RunFold

    before = repository.branch(branch)
    fold = RunFold(repository, Scope(before, request.policy, request.run_on(before)))
    tables = [repository.engine.query(_PLAN, made=table) for table in fold.tables()]
    _check_forced(repository, before.name, fold, request)
    empty = repository.engine.query(_PLAN, made=COMMIT.empty_table())
    planned = pa.concat_tables([empty, *tables])
    state = fold.state
    heads = {shard: each.head for shard, each in state.shards.items() if each.head is not None}
    regions: int = sum(planned["regions"].to_pylist())
    return CommitResult(branch, planned.num_rows, regions, state.watermark, heads, request.policy.digest, planned)


def _check_forced(repository: Repository, branch: str, fold: RunFold, request: CommitRequest) -> None:
    """UsageError where the region to be closed is none: a slip would close the shard of another one."""
    from ledger_cli.services.gamma import gamma

    region = request.force
    if region is not None and not fold.met(region) and not gamma(repository, branch, region).table.num_rows:
        raise UsageError(
            f"nothing ever fell into region {region!r} on {branch}: `ledger gamma` lists the regions with commits"
        )


_PLAN = """
    SELECT shard, epoch_start, epoch_end, reason, len(entries) AS regions,
           coalesce(list_sum(list_transform(entries, lambda e: e.n)), 0)::BIGINT AS events,
           coalesce(list_sum(list_transform(entries, lambda e: e.weight_value)), 0)::DOUBLE AS weight
    FROM made ORDER BY epoch_end, shard"""


def _moved(
    repository: Repository,
    before: Branch,
    fold: RunFold,
    request: CommitRequest,
    added: Added,
    scratch: Path,
) -> Branch:
    """Move the ref; where only ticks and world events came in meanwhile, the run stands, on what it saw."""
    from ledger_cli.services.entity_state import refresh
    from ledger_cli.services.tiles import write_tiles

    run, latest = request.run_on(before), before
    entities = refresh(repository, before)
    tiles = write_tiles(repository, before, added, scratch)
    for _ in range(_ATTEMPTS):
        kept = replace(
            fold.state,
            rows=latest.state.rows,
            highest_tick=latest.state.highest_tick,
            world=latest.state.world,
            waiting=latest.state.waiting,
            created=latest.state.created,
            transactions=latest.state.transactions,
            followed=latest.state.followed,
            tiles=tiles,
            entities=entities,
        )
        try:
            return repository.advance(before.name, latest, _kind(request), kept, request.why, added, run)
        except Conflict:
            latest = repository.branch(before.name)
            if _folded(latest.state) != _folded(before.state):
                raise Conflict(
                    f"another process committed on {before.name} meanwhile: nothing was changed, run it again"
                ) from None
    raise overtaken(f"branch {before.name}")


def _kind(request: CommitRequest) -> str:
    return "commit" if request.force is None else "force"


def _folded(state: State) -> tuple[object, ...]:
    """What a run stands on: where it is the same, the run is as good as before."""
    return (state.created, state.runs, state.deleted)
