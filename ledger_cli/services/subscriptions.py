"""`ledger world subscribe`, `poll` and `ack`: modules meet only through events, each at its own pace.

A subscription is kept in the ref `admin`: which types a module listens to on a branch, and its cursor, a position
of the branch's log. What is polled is polled again until it is acknowledged, so that every event is dealt with at
least once, and in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger_cli.core.history import ADMIN, State, Subscription
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.world_log import ANY_TYPE, POSITION, count_after, log_after, log_length, shared_length
from ledger_cli.services.world_query import Transition

_MODULE = re.compile(r"[a-z][a-z0-9_]{0,63}(\.[a-z][a-z0-9_]{0,63}){0,7}")
_TYPES = re.compile(r"[a-z0-9_.]*\*[a-z0-9_.*]*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\.v[1-9][0-9]*")


@dataclass(frozen=True)
class SubscriptionView:
    """A subscription as it stands. `lag`: the events of its types that it has not acknowledged yet."""

    module: str
    branch: str
    types: tuple[str, ...]
    cursor: int
    lag: int

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {**vars(self), "types": list(self.types)}


@dataclass(frozen=True)
class Delivery:
    """An event with its position in the log of the branch."""

    position: int
    event: Transition

    def to_json(self) -> dict[str, Any]:
        """As printed: the event as it was sent, with its position, version and clock reading."""
        return {"position": self.position, **self.event.to_json()}


@dataclass(frozen=True)
class Polled:
    """The next events for a module. `up_to`: the position up to which these are all of its types."""

    module: str
    branch: str
    cursor: int
    up_to: int
    events: tuple[Delivery, ...]

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        events = [each.to_json() for each in self.events]
        return {
            "module": self.module,
            "branch": self.branch,
            "cursor": self.cursor,
            "upTo": self.up_to,
            "events": events,
        }


def subscriptions(repository: Repository, branch: Branch) -> list[Subscription]:
    """Those on a branch, by module; not those on a deleted branch of its name."""
    admin = repository.find(ADMIN)
    known: Mapping[str, Subscription] = {} if admin is None else admin.state.subscriptions
    here = (_carried(repository, branch, each) for each in known.values() if each.branch == branch.name)
    return sorted((each for each in here if each is not None), key=lambda each: each.module)


def _carried(repository: Repository, branch: Branch, one: Subscription) -> Subscription | None:
    """A subscription as it stands on the branch now; None: it was on a deleted one of that name.

    A reconciliation orders anew what came after the two sides parted. A cursor behind that goes back to it: events
    come again rather than never.
    """
    if one.created == branch.state.created:
        return one
    if one.created > branch.state.created:
        return None
    before = repository.branch_at(branch.name, branch.state.created - 1)
    older = None if before.state.deleted else _carried(repository, before, one)
    if older is None:
        return None
    return replace(older, created=branch.state.created, cursor=min(older.cursor, shared_length(before, branch)))


def lag(repository: Repository, branch: Branch, one: Subscription, upto: int | None = None) -> int:
    """The events of a subscription's types behind its cursor, up to a position (None: all)."""
    end = log_length(branch) if upto is None else upto
    return count_after(repository, branch, one.cursor, one.types, end)


def views(repository: Repository, branch: Branch) -> list[SubscriptionView]:
    """The subscriptions on a branch with their lag."""
    return [view(repository, branch, each) for each in subscriptions(repository, branch)]


def view(repository: Repository, branch: Branch, one: Subscription) -> SubscriptionView:
    """A subscription with its lag."""
    return SubscriptionView(one.module, one.branch, one.types, one.cursor, lag(repository, branch, one))


def subscribe(
    repository: Repository,
    branch_name: str,
    module: str,
    types: Sequence[str] = (ANY_TYPE,),
    start: int | None = None,
    why: str = "",
) -> SubscriptionView:
    """Let a module listen to types of events behind the position `start`.

    None: from where it stands, the first event for a new one. The same again changes nothing. UsageError where the
    module or a type cannot be one, or the log has no such position.
    """
    branch = repository.branch(branch_name)
    if not _MODULE.fullmatch(module):
        raise UsageError(f"{module!r} cannot be a module: use lower-case letters, digits, '_' and '.', like physics")
    wanted = tuple(dict.fromkeys(types))
    for each in wanted:
        if not _TYPES.fullmatch(each):
            raise UsageError(f"{each!r} is no type of events: write it as building.opened.v1, or building.* for more")
    if not wanted:
        raise UsageError("no type was named: give at least one, or leave them out for all")
    if start is not None:
        _check_position(branch, start)

    def made_of(known: Subscription | None) -> Subscription:
        kept = 0 if known is None else known.cursor
        return Subscription(branch.name, branch.state.created, module, wanted, kept if start is None else start)

    known = found(repository, branch, module)
    if made_of(known) != known:
        text = why or f"{module} to {', '.join(wanted)}"
        repository.administer(
            "subscribe", text, lambda state: _with(state, made_of(_of(repository, state, branch, module)))
        )
    return view(repository, branch, _required(repository, branch, module))


def unsubscribe(repository: Repository, branch_name: str, module: str, why: str = "") -> None:
    """Take a subscription away. NotFound where there is none."""
    branch = repository.branch(branch_name)
    _required(repository, branch, module)

    def without(state: State) -> State:
        kept = {key: each for key, each in state.subscriptions.items() if key != _key(branch, module)}
        return replace(state, subscriptions=kept)

    repository.administer("unsubscribe", why or module, without)


def poll(repository: Repository, branch_name: str, module: str, limit: int) -> Polled:
    """The next events for a module; the same ones until they are acknowledged. NotFound without a subscription."""
    branch = repository.branch(branch_name)
    one = _required(repository, branch, module)
    if limit < 1:
        raise UsageError(f"{limit} events cannot be polled: ask for 1 or more")
    return _polled(repository, branch, one, one.cursor, limit)


def _polled(repository: Repository, branch: Branch, one: Subscription, first: int, limit: int) -> Polled:
    table, up_to = log_after(repository, branch, first, one.types, limit)
    events = tuple(Delivery(row.pop(POSITION), Transition(row)) for row in table.to_pylist())
    return Polled(one.module, branch.name, one.cursor, up_to, events)


class Listener:
    """A module that hears events as they come: each time those behind the ones before, acknowledged or not."""

    def __init__(self, repository: Repository, branch_name: str, module: str) -> None:
        """NotFound without a subscription."""
        self._repository = repository
        self._branch = repository.branch(branch_name)
        self._one = _required(repository, self._branch, module)
        self._heard = self._one.cursor

    def hear(self, limit: int) -> Polled:
        """The next events, at most so many.

        They come again rather than never: after a reconciliation, and where the cursor was moved back or the module
        listens to other types since, those behind the cursor.
        """
        branch = self._repository.branch(self._branch.name)
        one = _required(self._repository, branch, self._one.module)
        anew = branch.state.created != self._branch.state.created
        if anew or one.types != self._one.types or one.cursor < self._one.cursor:
            self._heard = one.cursor
        first = max(self._heard, one.cursor)
        self._branch, self._one = branch, one
        polled = _polled(self._repository, branch, one, first, limit)
        self._heard = polled.up_to
        return polled

    def acknowledge(self) -> None:
        """The module is done with all that it has heard."""
        if self._heard > self._one.cursor:
            move_on(self._repository, self._branch, self._one, self._heard, f"{self._one.module} up to {self._heard}")
            # Where that was not to be, the cursor is found behind this one, and what it lacks is heard again.
            self._one = replace(self._one, cursor=self._heard)


def ack(repository: Repository, branch_name: str, module: str, position: int, why: str = "") -> SubscriptionView:
    """A module is done with all events up to a position. A cursor goes forward alone: an older one changes nothing.

    NotFound without a subscription, UsageError where the log has no such position, or was ordered anew since.
    """
    branch = repository.branch(branch_name)
    one = _required(repository, branch, module)
    _refuse_old_positions(repository, branch, one)
    _check_position(branch, position)

    def acknowledged(state: State) -> State:
        known = _of(repository, state, branch, module)
        if known is None:
            raise _unknown(branch, module)
        return _with(state, replace(known, cursor=max(known.cursor, position)))

    if position > one.cursor:
        repository.administer("ack", why or f"{module} up to {position}", acknowledged)
    return view(repository, branch, _required(repository, branch, module))


def found(repository: Repository, branch: Branch, module: str) -> Subscription | None:
    """The subscription of a module on a branch, as it stands there now; None without one."""
    admin = repository.find(ADMIN)
    return None if admin is None else _of(repository, admin.state, branch, module)


def move_on(repository: Repository, branch: Branch, one: Subscription, position: int, why: str) -> None:
    """Acknowledge what was read for a subscription as it stood, on a branch as it stood. It is made if there is none.

    Where somebody has changed it since, or it went on in a log that was ordered anew, nothing: it is to be read again.
    """

    def moved(state: State) -> State:
        known = state.subscriptions.get(_key(branch, one.module))
        now = one if known is None else _carried(repository, branch, known)
        if now is None or now.types != one.types or not one.cursor <= now.cursor < position:
            return state
        return _with(state, replace(now, cursor=position))

    admin = repository.find(ADMIN)
    before = State() if admin is None else admin.state
    if moved(before) != before:
        repository.administer("ack", why, moved)


def _refuse_old_positions(repository: Repository, branch: Branch, one: Subscription) -> None:
    """UsageError, once, where the branch was reconciled since the last acknowledgement: it may be of the old log."""
    admin = repository.find(ADMIN)
    assert admin is not None
    if admin.state.subscriptions[_key(branch, one.module)].created != branch.state.created:
        repository.administer("subscribe", f"{one.module} after a reconciliation", lambda state: _with(state, one))
        raise UsageError(
            f"the log of {branch.name} was ordered anew by a reconciliation: nothing was acknowledged, poll again; "
            f"{one.module} goes on behind event {one.cursor}"
        )


def _check_position(branch: Branch, position: int) -> None:
    last = log_length(branch)
    if not 0 <= position <= last:
        raise UsageError(f"the log of {branch.name} has no position {position}: its last event is {last}")


def _key(branch: Branch, module: str) -> str:
    return f"{branch.name}/{module}"


def _of(repository: Repository, state: State, branch: Branch, module: str) -> Subscription | None:
    known = state.subscriptions.get(_key(branch, module))
    return None if known is None else _carried(repository, branch, known)


def _with(state: State, one: Subscription) -> State:
    return replace(state, subscriptions={**state.subscriptions, f"{one.branch}/{one.module}": one})


def _required(repository: Repository, branch: Branch, module: str) -> Subscription:
    known = found(repository, branch, module)
    if known is None:
        raise _unknown(branch, module)
    return known


def _unknown(branch: Branch, module: str) -> NotFound:
    return NotFound(
        f"{module!r} is not subscribed on {branch.name}: `ledger world subscribe {module}` does it, "
        "`ledger world subscribe` lists those that are"
    )
