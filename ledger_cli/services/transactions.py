"""Events of two ledgers in one act, all or none: two-phase commit, whose coordinator may be killed at any step.

The ledger where the command runs coordinates. Each step is one move of one ref:

1. here: the transaction is begun;
2. there: its events are judged, promised, and their entities locked;
3. here: the events are applied, and with them, in the same move, the transaction is committed: the decision;
4. there: the promised events are applied, and the promise is gone;
5. here: the transaction is over, and nothing is left of it.

Until the decision anybody may give it up, by taking away what step 1 has left: then step 3 cannot be made any more, and
a promise of which the coordinator knows nothing is void. After it, anybody may do what is left. So whoever finds a
transaction under way can end it from what the two refs say, at any time, and several may do so at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from ledger_cli.core.history import PreparedFile, State, Transaction
from ledger_cli.core.world import WorldEvent, hashes_of
from ledger_cli.core.world_batch import read_events
from ledger_cli.errors import Conflict, LedgerError, UsageError
from ledger_cli.services.prepared import Part, prepared_lines, with_transaction
from ledger_cli.services.repository import ATTEMPTS, Branch, Repository, overtaken
from ledger_cli.services.world import World
from ledger_cli.services.world_apply import ApplyRequest, ApplyResult, apply
from ledger_cli.services.world_judge import Rules

Outcome = Literal["carried out", "given up", "undecided", "unreachable"]


@dataclass(frozen=True)
class Side:
    """One of the two ledgers. `location`: where the other one finds it."""

    repository: Repository
    location: str
    branch: str
    world: Callable[[Branch], World]
    """The present world of a branch."""
    rules: Callable[[bool], Rules]
    """What its events are judged by; True: those that were judged already, and are taken as they are."""

    def latest(self) -> Branch:
        """The branch as it stands."""
        return self.repository.branch(self.branch)

    def known(self, name: str) -> Transaction | None:
        """A transaction, if it is under way here."""
        # A branch cannot be deleted before its transactions are over.
        found = self.repository.find(self.branch)
        return None if found is None else found.state.transactions.get(name)

    def apply(
        self, lines: Sequence[bytes], source: str, why: str, part: Part | None, judged: bool = False
    ) -> ApplyResult:
        """Apply events, all or none."""
        world = self.world(self.latest())
        request = ApplyRequest(self.branch, lines, source, atomic=True, why=why, part=part)
        return apply(self.repository, world, request, self.rules(judged))


Open = Callable[[str, str], AbstractContextManager[Side]]
"""The side of a ledger by its location and branch. LedgerError where it cannot be opened."""


@dataclass(frozen=True)
class Together:
    """What became of events of two ledgers. `transaction`: None where all were known already."""

    transaction: str | None
    here: ApplyResult
    there: ApplyResult

    @property
    def refused(self) -> bool:
        """Whether nothing was applied, since an event was refused."""
        return bool(self.here.refused or self.there.refused)

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**self.here.to_json(), "transaction": self.transaction, "with": self.there.to_json()}


@dataclass(frozen=True)
class Ended:
    """What became of a transaction that was found under way. `ledger`: the other one."""

    transaction: str
    ledger: str
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self)}


def apply_together(
    here: Side,
    there: Side,
    ours: Sequence[bytes],
    theirs: Sequence[bytes],
    name: str,
    until: int,
    sources: tuple[str, str],
    why: str = "",
) -> Together:
    """Apply events of two ledgers, all of both or none. `name`: of the transaction; `until`: µs, see `Transaction`.

    UsageError where both are one ledger, or one has no events.
    """
    if here.repository.identity == there.repository.identity and here.location == there.location:
        raise UsageError(f"{there.location} is this ledger: put all events into one file, and use --atomic")
    for source, lines in zip(sources, (ours, theirs), strict=True):
        if not any(line and not line.isspace() for line in lines):
            raise UsageError(f"{source} has no events: apply the other file alone")
    if _all_known(here, ours) and _all_known(there, theirs):
        return Together(None, here.apply(ours, sources[0], why, None), there.apply(theirs, sources[1], why, None))
    why = why or f"transaction {name}"
    begun = Transaction("begun", there.location, there.repository.identity, there.branch, until)
    _begin(here, name, begun, why)
    try:
        promised = _prepare(there, here, theirs, name, until, sources[1], why)
        if promised.refused:
            done = ApplyResult(here.branch)
        else:
            done = here.apply(ours, sources[0], why, Part(name, "world", _deciding(name)))
    except LedgerError:
        with suppress(LedgerError):
            _end(name, here, there)
        raise
    try:
        carried_out = _end(name, here, there)
    except LedgerError as error:
        raise LedgerError(f"{error} (transaction {name}; once that is done, `ledger world recover` ends it)") from error
    return Together(name, done, carried_out or promised)


def recover(here: Side, open_other: Open, now: int, force: bool = False) -> list[Ended]:
    """End the transactions under way on a branch as far as they are decided, or their time is over; `force`: all.

    What cannot be ended since the other ledger cannot be opened stays as it is. `now`: µs since 1970.
    """
    ended = []
    for name, mine in sorted(here.latest().state.transactions.items()):
        with ExitStack() as opened:
            try:
                there = opened.enter_context(open_other(mine.ledger, mine.branch))
                known = there.repository.identity == mine.identity
            except LedgerError:
                known = False
            ended.append(Ended(name, mine.ledger, _outcome(name, here, mine, there if known else None, now, force)))
    return ended


def _outcome(name: str, here: Side, mine: Transaction, there: Side | None, now: int, force: bool) -> Outcome:
    coordinates = mine.stage != "prepared"
    if there is None:
        if mine.stage != "begun" or not (force or now > mine.until):
            return "unreachable"
        # Nothing can be promised there that this ledger would still decide for.
        _forget(here, name, "begun")
        return "given up" if here.known(name) is None else "unreachable"
    coordinator, other = (here, there) if coordinates else (there, here)
    decision = coordinator.known(name)
    if decision is not None and decision.stage == "begun" and not (force or now > decision.until):
        return "undecided"
    return "given up" if _end(name, coordinator, other) is None else "carried out"


def _end(name: str, coordinator: Side, other: Side) -> ApplyResult | None:
    """Give a transaction up where it is not decided yet, else do what is left; None: it was given up."""
    _forget(coordinator, name, "begun")
    if coordinator.known(name) is None:
        _forget(other, name, "prepared")
        return None
    made = _carry_out(other, name)
    _forget(coordinator, name, "committed")
    return made


def _begin(side: Side, name: str, begun: Transaction, why: str) -> None:
    _change(side, "begin", why, lambda state: with_transaction(state, name, begun))


def _forget(side: Side, name: str, stage: str) -> None:
    """Take a transaction away where it is at a stage; nothing where it is at another one, or not there."""

    def without(state: State) -> State:
        known = state.transactions.get(name)
        return state if known is None or known.stage != stage else with_transaction(state, name, None)

    _change(side, "end", f"transaction {name}", without)


def _change(side: Side, kind: str, why: str, change: Callable[[State], State]) -> None:
    """Move the ref of a branch to another state; a race is run again, since `change` is made anew."""
    for _ in range(ATTEMPTS):
        branch = side.repository.find(side.branch)
        if branch is None or change(branch.state) == branch.state:
            return
        with suppress(Conflict):
            side.repository.advance(branch.name, branch, kind, change(branch.state), why)
            return
    raise overtaken(f"branch {side.branch} of {side.location}")


def _prepare(
    there: Side, here: Side, lines: Sequence[bytes], name: str, until: int, source: str, why: str
) -> ApplyResult:
    """Have events judged and promised; what is refused goes to quarantine, and nothing is promised."""
    with there.repository.store.scratch() as scratch:
        path = scratch / "prepared.jsonl"
        path.write_bytes(b"\n".join(lines))
        published = there.repository.store.publish(path, "segments/prepared-{sha256}.jsonl")
    # What constraints say of one entity may hang on others.
    whole = there.rules(False).constraints is not None
    identity = here.repository.identity
    file = PreparedFile(**vars(published))
    promise = Transaction("prepared", here.location, identity, here.branch, until, file, whole)
    return there.apply(lines, source, why, Part(name, "prepare", lambda state: with_transaction(state, name, promise)))


def _deciding(name: str) -> Callable[[State], State]:
    def decided(state: State) -> State:
        known = state.transactions.get(name)
        if known is None or known.stage != "begun":
            raise LedgerError(f"transaction {name} took too long and was given up; nothing was applied, run it again")
        return with_transaction(state, name, replace(known, stage="committed"))

    return decided


def _carry_out(side: Side, name: str) -> ApplyResult:
    """Apply what was promised; nothing where that was done already."""
    promise = side.known(name)
    if promise is None:
        return ApplyResult(side.branch)
    lines = prepared_lines(side.repository, promise)
    part = Part(name, "world", lambda state: with_transaction(state, name, None))
    made = side.apply(lines, f"transaction {name}", "", part, judged=True)
    if made.refused:
        raise LedgerError(
            f"what {side.location} has promised to transaction {name} cannot be applied there: "
            f"{made.refused[0].detail}; it stays promised, `ledger world recover` tries again"
        )
    return made


def _all_known(side: Side, lines: Sequence[bytes]) -> bool:
    """Whether all events were applied before, so that there is nothing to be decided."""
    events = read_events([line for line in lines if line and not line.isspace()], {}).found
    ids = [event.event_id for event in events if isinstance(event, WorldEvent)]
    return len(ids) == len(events) and side.world(side.latest()).known(hashes_of(ids)).keys() >= set(ids)
