"""`ledger doctor`: whether a ledger could be relied on tomorrow, found out today.

It changes nothing; see `leftovers` for what is swept beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ledger_cli.errors import LedgerError
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.snapshot_restore import damages, drill
from ledger_cli.services.snapshots import Reducers, newest_of
from ledger_cli.services.world_health import Limits, health
from ledger_cli.services.world_log import log_length


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it is as it should be, and what was found."""

    name: str
    ok: bool
    found: str

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


@dataclass(frozen=True)
class Diagnosis:
    """All that was looked at."""

    branch: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"ok": self.ok, "branch": self.branch, "checks": [check.to_json() for check in self.checks]}


def diagnose(
    repository: Repository, reducers: Reducers, branch_name: str, limits: Limits, clock: Callable[[], int]
) -> Diagnosis:
    """Look at a branch: clocks, modules, the newest snapshot, and a drill of snapshot and restore. `clock`: µs."""
    branch = repository.branch(branch_name)
    if not log_length(branch):
        none = Check("world", True, "no world events yet: there is nothing to look at")
        return Diagnosis(branch_name, (none, *_under_way(branch, clock())))
    checks = [*_keeping_up(repository, branch, limits), *_under_way(branch, clock()), _newest(repository, branch)]
    return Diagnosis(branch_name, (*checks, _drilled(repository, reducers, branch, clock)))


def _keeping_up(repository: Repository, branch: Branch, limits: Limits) -> Iterator[Check]:
    try:
        found = health(repository, branch, limits)
    except LedgerError as error:
        yield Check("clocks and modules", False, str(error))
        return
    for node in found.nodes:
        way = "ahead of" if node.skew > 0 else "behind"
        told = f"{abs(node.skew):.1f} s {way} this ledger's clock; {limits.skew:g} s are allowed"
        yield Check(f"clock of {node.node}", node.ok, told)
    for module in found.modules:
        told = f"{module.subscription.lag} events behind; {limits.lag} are allowed"
        yield Check(f"module {module.subscription.module}", module.ok, told)


def _under_way(branch: Branch, now: int) -> Iterator[Check]:
    for name, each in sorted(branch.state.transactions.items()):
        told = f"{each.stage}, with {each.ledger}: `ledger world recover` ends it"
        yield Check(f"transaction {name}", now <= each.until, told)


def _newest(repository: Repository, branch: Branch) -> Check:
    newest = newest_of(repository, branch)
    if newest is None:
        return Check("newest snapshot", True, "there is none: `ledger snapshot create` makes one")
    wrong = [f"{file}: {what}" for file, what in damages(repository, newest)]
    since = log_length(branch) - newest.events
    return Check("newest snapshot", not wrong, "; ".join(wrong) or f"{newest.id} is whole, {since} events ago")


def _drilled(repository: Repository, reducers: Reducers, branch: Branch, clock: Callable[[], int]) -> Check:
    try:
        with repository.store.scratch() as scratch:
            done = drill(repository, reducers, branch, scratch, clock)
    except LedgerError as error:
        return Check("snapshot drill", False, str(error))
    told = (
        f"{done.entities} entities by {done.events} events: snapshot in {done.snapshot:.1f} s, "
        f"restore in {done.restore:.1f} s, replay from nothing in {done.replay:.1f} s, "
    )
    return Check("snapshot drill", done.ok, told + ("all alike" if done.ok else "and the states differ"))
