"""The contributing entities of commits, where the setting `entity_refs` asks for them (see core.contributors).

They are in a file of their own, which the record of a batch names: it has a digest in the log, is copied and checked as
any other file, and stays where entries are archived. An engine that keeps the commits has them in a column too.

A commit's are chosen from all rows of its epoch that its run saw. So an amending commit names those of the epoch as it
stands then, and the last commit of an epoch the same as if no row had come late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.contributors import COLUMN, CONTRIBUTORS, with_contributors
from ledger_cli.core.history import ADMIN, CommitFile, ContributorsFile
from ledger_cli.core.moments import Regions
from ledger_cli.core.policy import Policy
from ledger_cli.ports import Published
from ledger_cli.services.commits import policies_of
from ledger_cli.services.repository import Repository
from ledger_cli.services.run import regions_of
from ledger_cli.services.scope import Scope, measure_of

_HEADER = ["commit_id", "shard", "height", "epoch_start", "epoch_end", "policy", "reason"]
_COMMITS = "commits/{sha256}.parquet"
_FILE = "contributors/{sha256}.parquet"
_AMENDS = "amends"


def publish(repository: Repository, scope: Scope, commits: Path, scratch: Path) -> ContributorsFile:
    """Make a file of the contributors to the commits of a run, which are in a local file."""
    most = repository.entity_refs
    path = scratch / "contributors.parquet"
    with pq.ParquetWriter(path, CONTRIBUTORS, compression="zstd") as writer:
        for table in _chosen(repository, scope, commits, most):
            writer.write_table(table)
    published = repository.store.publish(path, _FILE)
    return ContributorsFile(**vars(published), most=most)


def _chosen(repository: Repository, scope: Scope, commits: Path, most: int) -> Iterator[pa.Table]:
    """Rows of `CONTRIBUTORS`, those of a commit by region."""
    with pq.ParquetFile(commits) as file:
        headers = file.read(_HEADER)
        amended = _amended(file, headers)
    regions = regions_of(scope.policy)
    digests = headers["policy"].to_numpy(zero_copy_only=False)
    known: dict[str, Policy] = {scope.policy.digest: scope.policy}
    if (digests != scope.policy.digest).any():
        known |= policies_of(scope.before)
    for digest in dict.fromkeys(digests.tolist()):
        epochs = _epochs(headers).filter(pa.array(digests == digest))
        measure = measure_of(known[digest])
        for table in repository.engine.contributors(scope.segments, measure, epochs, regions, most):
            yield _rows(headers, _held(table, amended, regions), regions)


def _epochs(headers: pa.Table) -> pa.Table:
    """As `ports.Engine.contributors` takes them, numbered by their rows."""
    columns = [
        pa.array(np.arange(headers.num_rows)),
        *(headers[name] for name in ("shard", "epoch_start", "epoch_end")),
    ]
    return pa.table(columns, ["epoch", "shard", "start", "end"])


def _amended(file: pq.ParquetFile, headers: pa.Table) -> dict[int, pa.Array]:
    """By row, the regions of the commits that amend: of these an epoch may have more than the commit."""
    amends = pc.equal(headers["reason"], _AMENDS).to_numpy()
    found: dict[int, pa.Array] = {}
    row = 0
    for group in range(file.num_row_groups if amends.any() else 0):
        lists = file.read_row_group(group, ["entries.list.element.region"])["entries"].combine_chunks()
        for place in np.flatnonzero(amends[row : row + len(lists)]).tolist():
            found[row + place] = lists[place].values.field("region")
        row += len(lists)
    return found


def _held(table: pa.Table, amended: dict[int, pa.Array], regions: Regions) -> pa.Table:
    """The rows of regions that their commit has an entry of."""
    epoch, region = table["epoch"].to_numpy(), table["region"].to_numpy()
    kept = ~np.isin(epoch, list(amended))
    for row in np.unique(epoch[~kept]).tolist():
        kept |= (epoch == row) & np.isin(region, regions.encode_ids(amended[row]))
    return table.filter(pa.array(kept))


def _rows(headers: pa.Table, table: pa.Table, regions: Regions) -> pa.Table:
    epoch, region = table["epoch"].to_numpy(), table["region"].to_numpy()
    order = np.lexsort((regions.ranks[region], epoch))
    commits = headers.take(pa.array(epoch[order]))
    names = pa.array(regions.names, pa.string()).take(pa.array(region[order]))
    refs = table[COLUMN].combine_chunks().take(pa.array(order)).cast(CONTRIBUTORS.field(COLUMN).type)
    columns = [*(commits[name] for name in ("commit_id", "shard", "height")), names, refs]
    return pa.table(columns, schema=CONTRIBUTORS)


def publish_commits(
    repository: Repository, path: Path, contributors: ContributorsFile | None, file: str = _COMMITS
) -> Published:
    """Make a local file a batch of commits, as `Files.publish` does, with what contributed to them."""
    store = repository.store
    if contributors is not None and store.by_engine:
        batch = file.format(sha256=_digest_of(path))
        tables = told(repository, contributors, _tables(path))
        store.commits.persist_commits(batch, repository.author.now(), tables)
    return store.publish(path, file)  # an engine has the commits by now, and adds nothing


def told(
    repository: Repository, contributors: ContributorsFile | None, commits: Iterable[pa.Table]
) -> Iterable[pa.Table]:
    """Commits for an engine, with the column of what contributed to them, where a file tells that."""
    if contributors is None or not repository.store.by_engine:
        return commits
    file = repository.store.location(contributors.file)

    def with_own(table: pa.Table) -> pa.Table:
        return with_contributors(
            table, pq.read_table(file, filters=pc.field("commit_id").isin(table["commit_id"].combine_chunks()))
        )

    return map(with_own, commits)


def by_batch(repository: Repository) -> dict[str, ContributorsFile]:
    """The contributors of all batches that a move of any ref names."""
    found: dict[str, ContributorsFile] = {}
    for name in repository.store.branches():
        branch = repository.find(name)
        while branch is not None and name != ADMIN:
            found |= {each.file: each.contributors for each in branch.added.commits if each.contributors is not None}
            created = branch.state.created
            branch = repository.branch_at(name, created - 1) if created else None
    return found


def of_commit(repository: Repository, files: Iterable[CommitFile], commit_id: str) -> dict[str, list[str]] | None:
    """By region, the entities that contributed to a commit of one of some batches; None where that was not recorded."""
    for file in files:
        if file.contributors is not None:
            sql = f"SELECT region, {COLUMN} FROM files WHERE commit_id = '{commit_id}'"
            rows = repository.engine.over([file.contributors.file], sql).to_pylist()
            if rows:
                return {row["region"]: row[COLUMN] for row in rows}
    return None


def _tables(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def _digest_of(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
