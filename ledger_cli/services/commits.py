"""Reading the commits of a branch."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from ledger_cli.core.policy import Policy
from ledger_cli.core.slices import CommitSlice, by_condition
from ledger_cli.services.repository import Branch, Repository

REGIONS = "len(entries)::BIGINT AS regions"
EVENTS = "coalesce(list_sum(list_transform(entries, lambda e: e.n)), 0)::BIGINT AS events"
_COUNTED = {REGIONS: "regions", EVENTS: "events"}
"""What is known of a commit without its entries, also where these are archived."""
_ENTRIES = re.compile(r"\bentries\b")


def read_commits(
    repository: Repository,
    branch: Branch,
    columns: Sequence[str],
    where: str = "",
    slices: Sequence[CommitSlice] | None = None,
) -> pa.Table:
    """SQL `columns` of the branch's commits (see `core.commit.COMMIT`), in no order.

    `slices`: only these of the branch's files. Archives are fetched only where entries themselves are asked for.
    """
    chosen = branch.commit_slices() if slices is None else slices
    if _ENTRIES.search(where) or any(_ENTRIES.search(each) for each in columns if each not in _COUNTED):
        groups = [(chosen, columns, False)]
    elif any(each in _COUNTED for each in columns):
        apart = [[each for each in chosen if repository.store.archived(each.file.file) == which] for which in (0, 1)]
        groups = [(apart[0], columns, False), (apart[1], [_COUNTED.get(each, each) for each in columns], True)]
    else:
        groups = [(chosen, columns, True)]
    tables = [
        repository.engine.over(files, f"SELECT {', '.join(named)} FROM files WHERE {condition or 'true'}", headers)
        for parts, named, headers in groups
        for condition, files in by_condition(parts, where).items()
    ]
    return pa.concat_tables(tables) if tables else repository.engine.commits([], columns, where)


def read_commits_with(
    repository: Repository, slices: Sequence[CommitSlice], sql: str, **tables: pa.Table
) -> list[pa.Table]:
    """The results of SQL over commits, which it names `{commits}`, and over Arrow tables.

    One result for each group of files that are read under one condition, each only of its own commits.
    """
    headers = not _ENTRIES.search(sql)
    return [
        repository.engine.over(
            files, sql.format(commits=f"(FROM files WHERE {condition or 'true'})"), headers, **tables
        )
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
