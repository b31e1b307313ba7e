"""`Ledger.reconcile`, `fetch` and `sync`: two histories united, of one ledger or of two."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger_cli.api.ledger import Ledger
from ledger_cli.config.settings import FILE_NAME
from ledger_cli.config.types import level_of
from ledger_cli.core.history import MAIN
from ledger_cli.errors import LedgerError, NotWritten, UsageError, told_of
from ledger_cli.services.causality import refuse_gaps
from ledger_cli.services.fetch import Guard, remote_name
from ledger_cli.services.fetch import fetch as fetch_branch
from ledger_cli.services.fork import BranchView, branch_view
from ledger_cli.services.merge_decisions import decisions_of
from ledger_cli.services.merge_world import Judgement
from ledger_cli.services.other_ledger import OtherLedger
from ledger_cli.services.reconcile import Reconciled, ReconcilePlan, Synced, plan
from ledger_cli.services.reconcile import reconcile as reconcile_branches
from ledger_cli.services.world_types import field_rules, reducer_of, registered
from ledger_cli.wiring import ledgers, machine


def reconcile(
    ledger: Ledger,
    a: str,
    b: str,
    into: str | None = None,
    resolutions: Mapping[str, Any] | None = None,
    why: str = "",
) -> Reconciled:
    """Unite two branches that are here; the bus is told of what came of it."""
    ledger.world.recover(a)
    judgement = _judgement(ledger, resolutions)
    made = reconcile_branches(ledger._repository, ledger._make_importer(), a, b, judgement, into, why)
    if ledger._repository.branch(made.branch).state.waiting is not None:
        # Causes may have come that events of either side wait for.
        ledger.world.apply([], made.branch, source="reconcile")
    ledger.world._broadcaster.deliver_written(made.branch)
    return made


def plan_reconcile(
    ledger: Ledger, a: str, b: str, into: str | None, resolutions: Mapping[str, Any] | None
) -> ReconcilePlan:
    """What that would do."""
    repository = ledger._repository
    with repository.store.scratch() as scratch:
        judgement = _judgement(ledger, resolutions)
        return plan(repository, ledger._make_importer(), a, b, into, judgement, scratch)


def _judgement(ledger: Ledger, resolutions: Mapping[str, Any] | None) -> Judgement:
    decisions = {} if resolutions is None else decisions_of(resolutions, "resolutions")
    reducers = reducer_of(registered(ledger._repository))
    return Judgement(field_rules(ledger._repository), reducers, ledger.world.constraints(), decisions)


def branch_here(ledger: Ledger, place: str, remote: str | None) -> str:
    """The branch that a place names, fetched where it is another ledger's."""
    location, _, branch = place.partition("#")
    if "/" not in location and "#" not in place and not Path(location, FILE_NAME).is_file():
        if remote is not None:
            raise UsageError(f"--as names another ledger, and {place!r} is none: leave it out, or write ./{place}")
        return place
    return ledger.fetch(location, branch or MAIN, remote=remote).name


def fetch(ledger: Ledger, location: str, branch: str, remote: str | None) -> BranchView:
    """Copy a branch of another ledger."""
    remote_name(remote, "")
    with _other(location) as opened:
        return _fetch_from(opened, location, ledger, branch, remote)


def _fetch_from(opened: Ledger, location: str, ledger: Ledger, branch: str, remote: str | None) -> BranchView:
    other = OtherLedger(opened._repository, location)
    name = remote_name(remote, os.path.basename(ledgers.absolute(opened.location)))
    guard = Guard(machine.clock(), round(ledger.config["max_drift"] * 1e6))
    return branch_view(ledger._repository, fetch_branch(ledger._repository, other, branch, name, guard))


def sync(ledger: Ledger, place: str, branch: str, remote: str | None, consistency: str | None, why: str) -> Synced:
    """Let both ledgers end with the same history of a branch."""
    level = None if consistency is None else level_of(consistency)
    theirs = ledger.fetch(place, branch, remote=remote).name
    if level != "eventual":
        types = ledger.config.types_from("causal") if level is None else None
        refuse_gaps(ledger._repository, ledger._repository.branch(theirs), ledger._repository.branch(branch), types)
    untold = list[str]()

    def give() -> Reconciled:
        with _other(place) as other, told_of(place):
            # Not opened once more: there are stores that a process can open once.
            ours = _fetch_from(ledger, ledger.location, other, branch, None).name
            given = reconcile(other, branch, ours, why=why)
            untold.extend(each for each in [other.world.undelivered] if each is not None)
            return given

    if level == "strong":
        there = give()
        with _after(f"{place} has taken in what {branch} has here"):
            here = reconcile(ledger, branch, ledger.fetch(place, branch, remote=remote).name, why=why)
    else:
        here = reconcile(ledger, branch, theirs, why=why)
        with _after(f"{branch} has taken in what {place} has"):
            there = give()
    if untold:
        told = [*filter(None, [ledger.world.undelivered]), *(f"{place}: {each}" for each in untold)]
        ledger.world._broadcaster.undelivered = "; ".join(told)
    return Synced(place, here, there)


def _other(location: str) -> Ledger:
    """Another ledger. LedgerError names it where it cannot be opened."""
    with told_of(location):
        return Ledger.open(location)


@contextmanager
def _after(done: str) -> Iterator[None]:
    """What fails now does so after something that stays, and both are told."""
    try:
        yield
    except NotWritten as error:
        told = f"{error.ledger or 'this ledger'} took in nothing: {error.what}; {error.remedy} and sync again"
        raise LedgerError(f"{done}, but {told}") from error
    except LedgerError as error:
        error.args = (f"{done}, but not the other way round: {error}",)
        raise
