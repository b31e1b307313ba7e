"""Reading the commits of a branch."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ledger_cli.core.policy import Policy
from ledger_cli.core.slices import CommitSlice, by_condition
from ledger_cli.services.repository import Branch, Repository


def read_commits(
    repository: Repository,
    branch: Branch,
    columns: Sequence[str],
    where: str = "",
    slices: Sequence[CommitSlice] | None = None,
) -> pa.Table:
    """SQL `columns` of the branch's commits (see `core.commit.COMMIT`), in no order.

    `slices`: only these of the branch's files.
    """
    tables = [
        repository.engine.over(files, f"SELECT {', '.join(columns)} FROM files WHERE {condition or 'true'}")
        for condition, files in by_condition(branch.commit_slices() if slices is None else slices, where).items()
    ]
    return pa.concat_tables(tables) if tables else repository.engine.commits([], columns, where)


def read_commits_with(
    repository: Repository, slices: Sequence[CommitSlice], sql: str, **tables: pa.Table
) -> list[pa.Table]:
    """The results of SQL over commits, which it names `{commits}`, and over Arrow tables.

    One result for each group of files that are read under one condition, each only of its own commits.
    """
    return [
        repository.engine.over(files, sql.format(commits=f"(FROM files WHERE {condition or 'true'})"), **tables)
        for condition, files in by_condition(slices).items()
    ]


def policies_of(branch: Branch | None) -> dict[str, Policy]:
    """By digest, the policies that the branch's commits were made under, its parents' among them."""
    found: dict[str, Policy] = {}
    while branch is not None:
        if branch.policy is not None:
            found.setdefault(branch.policy.digest, branch.policy)
        branch = branch.chain_parent
    return found
