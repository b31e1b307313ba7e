"""What a recipe promises of its branches, compared with what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger_cli.core import events, world
from ledger_cli.core.commit import commit_id_of
from ledger_cli.errors import UsageError
from ledger_cli.services.status import Status

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = ("rows", "commits", "quarantined", "heads", "world")
_REASONS = {**events.REASONS, **world.REASONS}


@dataclass(frozen=True)
class Facts:
    """What a branch holds. Of an expectation, None is what nothing is said about.

    `rows`: ticks stored; `quarantined`: ticks and world events by reason code; `heads`: the last commit's id by shard;
    `world`: the digest of the state of all entities. What a branch holds has none where there are no world events.
    """

    rows: int | None = None
    commits: int | None = None
    quarantined: Mapping[str, int] | None = None
    heads: Mapping[str, str] | None = None
    world: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As written to a recipe, and printed with `--json`."""
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in vars(self).items()}


def facts_of(status: Status, quarantined: Mapping[str, int], world_digest: str | None) -> Facts:
    """The facts of a branch as it stands."""
    heads = {shard: commit_id_of(each.head) for shard, each in status.shards.items() if each.head is not None}
    in_order = dict(sorted(heads.items(), key=lambda pair: int(pair[0])))
    return Facts(status.rows, status.commits, quarantined, in_order, world_digest)


def read_facts(tables: Any, name: str) -> dict[str, Facts]:
    """The expectations by branch. UsageError names what is wrong."""
    if not isinstance(tables, dict):
        raise UsageError(f"{name}: write an expectation as a table [expect.BRANCH]")
    return {branch: _facts(table, f"{name}, [expect.{branch}]") for branch, table in tables.items()}


def _facts(table: Any, where: str) -> Facts:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: must be a table")
    for key in table:
        if key not in _KEYS:
            raise UsageError(f"{where}: unknown key {key!r}; it may have {', '.join(_KEYS)}")
    for key in ("rows", "commits"):
        if key in table and type(table[key]) is not int:
            raise UsageError(f"{where}: {key} must be a whole number")
    for reason, rows in _table(table, "quarantined", where).items():
        if reason not in _REASONS or type(rows) is not int:
            raise UsageError(f"{where}: quarantined counts rows by reason code, not {reason} = {rows!r}")
    for shard, head in _table(table, "heads", where).items():
        if not shard.isascii() or not shard.isdecimal() or not isinstance(head, str) or not _ID.fullmatch(head):
            raise UsageError(f"{where}: heads are whole commit ids by shard, not {shard} = {head!r}")
    if "world" in table and (not isinstance(table["world"], str) or not _DIGEST.fullmatch(table["world"])):
        raise UsageError(f"{where}: world is the digest of a state, 64 digits, not {table['world']!r}")
    return Facts(**table)


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise UsageError(f"{where}: {key} must be a table")
    return found


@dataclass(frozen=True)
class FactDifference:
    """One thing that is not as the recipe says; None: not there."""

    branch: str
    what: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        expected, found = ("none" if value is None else value for value in (self.expected, self.found))
        return f"{self.branch}, {self.what}: expected {expected}, found {found}"

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


def differences(expected: Mapping[str, Facts], found: Mapping[str, Facts]) -> list[FactDifference]:
    """All that is not as expected; what nothing is said about is not compared."""
    made: list[FactDifference] = []
    for branch, facts in expected.items():
        if branch not in found:
            made.append(FactDifference(branch, "branch", "there", None))
            continue
        for what, said, is_so in _pairs(facts, found[branch]):
            if said != is_so:
                made.append(FactDifference(branch, what, said, is_so))
    return made


def _pairs(said: Facts, is_so: Facts) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = []
    if said.heads is not None:
        heads = is_so.heads or {}
        shards = sorted({*said.heads, *heads}, key=int)
        pairs += [(f"head of shard {shard}", said.heads.get(shard), heads.get(shard)) for shard in shards]
    if said.world is not None:
        pairs.append(("world", said.world, is_so.world))
    if said.commits is not None:
        pairs.append(("commits", said.commits, is_so.commits))
    if said.rows is not None:
        pairs.append(("rows", said.rows, is_so.rows))
    if said.quarantined is not None:
        refused = is_so.quarantined or {}
        reasons = sorted({*said.quarantined, *refused})
        pairs += [(f"quarantined as {each}", said.quarantined.get(each, 0), refused.get(each, 0)) for each in reasons]
    return pairs
