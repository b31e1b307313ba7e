"""The contributing entities of commits, where the setting `entity_refs` asks for them (see core.contributors).

They are in a file of their own, which the record of a batch names: it has a digest in the log, is copied and checked as
any other file, and stays where entries are archived. An engine that keeps the commits has them in a column too.

A commit's are chosen from all rows of its epoch that its run saw. So an amending commit names those of the epoch as it
stands then, and the last commit of an epoch the same as if no row had come late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger_cli.core.commit import COMMIT, in_chain_order
from ledger_cli.core.contributors import COLUMN, CONTRIBUTORS, with_contributors
from ledger_cli.core.history import CommitFile, ContributorsFile
from ledger_cli.core.moments import Regions
from ledger_cli.core.policy import Policy
from ledger_cli.errors import Corrupt
from ledger_cli.ports import Published
from ledger_cli.services.commits import policies_of
from ledger_cli.services.repository import Repository
from ledger_cli.services.run import regions_of
from ledger_cli.services.scope import Scope, measure_of

_HEADER = ["commit_id", "shard", "height", "epoch_start", "epoch_end", "policy", "reason"]
_COMMITS = "commits/{sha256}.parquet"
_FILE = "contributors/{sha256}.parquet"
_AMENDS = "amends"


class Committed:
    """The commits of a run as they are made: what contributors are chosen by. Without their entries, so few bytes."""

    def __init__(self) -> None:
        self._headers = [COMMIT.empty_table().select(_HEADER)]
        self._rows = 0
        self.amended: dict[int, pa.Array] = {}
        """By row, the regions of the commits that amend: of these an epoch may have more than the commit."""

    @property
    def headers(self) -> pa.Table:
        """Those of all commits so far."""
        return pa.concat_tables(self._headers)

    def noted(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass on rows of `core.commit.COMMIT`."""
        for table in tables:
            self._headers.append(table.select(_HEADER))
            for place in np.flatnonzero(pc.equal(table["reason"], _AMENDS).to_numpy()).tolist():
                regions = table["entries"][place].values.field("region").to_pylist()  # a slice would hold the table
                self.amended[self._rows + place] = pa.array(regions, pa.string())
            self._rows += table.num_rows
            yield table


def publish(repository: Repository, scope: Scope, committed: Committed, scratch: Path) -> ContributorsFile:
    """Make a file of the contributors to the commits of a run."""
    most = repository.entity_refs
    path = scratch / "contributors.parquet"
    with pq.ParquetWriter(path, CONTRIBUTORS, compression="zstd") as writer:
        for table in _chosen(repository, scope, committed, most):
            writer.write_table(table)
    published = repository.store.publish(path, _FILE)
    return ContributorsFile(**vars(published), most=most)


def wrong(
    repository: Repository, scope: Scope, committed: Committed, file: ContributorsFile, whole: bool
) -> str | None:
    """What a file says otherwise than the ticks do, which are asked anew; None: nothing. Bounded memory.

    `committed`: the commits that are looked at; `whole`: they are all that the file may tell of.
    """
    try:
        if not pq.read_schema(repository.store.location(file.file)).equals(CONTRIBUTORS):
            return "has other columns than a file of contributors"
        rows = 0
        for table in _chosen(repository, scope, committed, file.most):
            rows += table.num_rows
            found = repository.engine.over([file.file], _OTHERWISE, chosen=table).to_pylist()
            if found:
                return _told_otherwise(**found[0])
        mine = "" if whole else "WHERE commit_id IN (SELECT commit_id FROM made)"
        counted = repository.engine.over([file.file], f"SELECT count(*) FROM files {mine}", made=committed.headers)
    except (Corrupt, OSError, pa.ArrowException) as error:
        return f"cannot be read ({str(error).partition(chr(10))[0]})"
    more = counted[0][0].as_py() - rows
    return f"tells of {more} entries more than there are" if more else None


def _told_otherwise(commit_id: str, region: str, told: list[str] | None, right: list[str]) -> str:
    where = f"region {region} of commit {commit_id}"
    if told == right:
        return f"puts {where} at another shard or height"
    return f"names {'no contributors' if told is None else told} to {where}, the ticks give {right}"


_OTHERWISE = f"""
    SELECT chosen.commit_id AS commit_id, chosen.region AS region, files.{COLUMN} AS told, chosen.{COLUMN} AS right
    FROM chosen LEFT JOIN files ON chosen.commit_id = files.commit_id AND chosen.region = files.region
    WHERE (chosen.shard, chosen.height, chosen.{COLUMN}) IS DISTINCT FROM (files.shard, files.height, files.{COLUMN})
    ORDER BY chosen.height, chosen.shard, chosen.region LIMIT 1"""


def _chosen(repository: Repository, scope: Scope, committed: Committed, most: int) -> Iterator[pa.Table]:
    """Rows of `CONTRIBUTORS`, those of a commit by region."""
    headers, amended = committed.headers, committed.amended
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
        tables = told(repository, contributors, in_chain_order(partial(_tables, path)))
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
        for branch in repository.lives(name):
            found |= {each.file: each.contributors for each in branch.added.commits if each.contributors is not None}
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


def _tables(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns)


def _digest_of(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
