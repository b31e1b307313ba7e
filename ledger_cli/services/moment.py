"""Moments of a world: what `--at`, `--from` and `--to` name.

A moment is a set of world events: those that a branch had after one of its moves, as far as a clock reading. A
reading or a time is a bound on the readings of all events known now. A commit, tag or tick is what was known then:
the events that the branch had when the run was recorded, whatever came in later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ledger_cli.core.events import TICK_LIMIT
from ledger_cli.core.history import MAIN
from ledger_cli.core.hlc import COUNTER_BITS, Hlc
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.lineage import made_at
from ledger_cli.services.lookup import Place, find_commit
from ledger_cli.services.repository import Branch, Repository

Kind = Literal["now", "hlc", "time", "commit", "tag", "tick"]
FORMS = "a time (2026-01-29T19:21:00Z, or a date), a clock reading, a commit, a tag or a tick"

_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?")
_DATE_LENGTH = len("2026-01-29")
_TICK = re.compile(r"[0-9]{1,16}")
_PREFIX = re.compile(r"[0-9a-f]{4}[0-9a-f-]*", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_NODE = "~"
"""Sorts behind every name that a node may have."""


@dataclass(frozen=True)
class Moment:
    """A point of the world of a branch."""

    text: str | None
    """As a user could name it: a full commit id, a time in UTC; None: now."""
    kind: Kind
    name: str
    """The branch that was asked, or that has the commit."""
    branch: Branch
    """The branch, or its ancestor, as of the move that counts."""
    last: Hlc | None = None
    """The highest reading in it; None: all events of `branch`."""
    first: Hlc | None = None
    """As the beginning of a range: its lowest reading; None: what `branch` has not."""


def moment_of(repository: Repository, text: str | None, branch: str = MAIN) -> Moment:
    """The moment of a branch that `text` names; None is now. `KIND:` in front says what is meant.

    UsageError where it may be two things, NotFound where nothing is called so, or no run has got to the tick.
    """
    if text is None:
        return Moment(None, "now", branch, repository.branch(branch))
    given = text.strip()
    kind, colon, rest = given.partition(":")
    if colon and kind in _READERS:
        found = _READERS[kind](repository, rest, branch)
        if found is None:
            raise NotFound(f"there is no {kind} {rest!r} here: give {FORMS}")
        return found
    meant = [reader for kind, reader in _READERS.items() if _may_be(repository, kind, given)]
    if len(meant) > 1:
        _refuse_two(repository, given, branch)
    for reader in meant:
        found = reader(repository, given, branch)
        if found is not None:
            return found
    if given in repository.branch_names():
        raise UsageError(f"{given!r} is a branch, no moment: use --branch {given}")
    raise NotFound(f"there is no moment {given!r}: give {FORMS}")


def moment_of_place(repository: Repository, place: Place) -> Moment:
    """The world at a place of the history; of a tick that no run has got to yet, as it stands."""
    if place.commit is not None:
        return _of_commit(repository, place)
    branch = repository.branch(place.branch)
    if place.tick is not None:
        reached = _run_that_reached(repository, branch, place.tick)
        return Moment(place.text, "tick", place.branch, branch if reached is None else reached)
    return Moment(None, "now", place.branch, branch)


def _of_commit(repository: Repository, place: Place) -> Moment:
    commit = place.commit
    assert commit is not None
    origin = made_at(repository, repository.branch(place.branch), str(commit.shard), commit.height)
    tag = place.kind == "tag"
    return Moment(place.text if tag else commit.commit_id, "tag" if tag else "commit", place.branch, origin)


# -- what a text may be -----------------------------------------------------------------------------------


def _may_be(repository: Repository, kind: str, text: str) -> bool:
    if kind == "tag":
        return text in repository.tags
    if kind == "commit":
        return _PREFIX.fullmatch(text) is not None and not _TIME.fullmatch(text)
    if kind == "tick":
        return _TICK.fullmatch(text) is not None
    return _TIME.fullmatch(text) is not None if kind == "time" else _is_reading(text)


def _refuse_two(repository: Repository, text: str, branch: str) -> None:
    """UsageError where a text means two things: digits may begin a commit, and a tag may be called like either."""
    ways = []
    for kind in _READERS:
        if not _may_be(repository, kind, text):
            continue
        try:
            there = kind != "commit" or find_commit(repository, text, branch) is not None
        except UsageError:
            there = True
        if there:
            ways.append(f"{kind}:{text}")
    if len(ways) > 1:
        raise UsageError(f"{text!r} may be several things here: say {' or '.join(ways)}")


def _is_reading(text: str) -> bool:
    try:
        Hlc.parse(text)
    except ValueError:
        return False
    return True


# -- one reader a kind ------------------------------------------------------------------------------------


def _reading(repository: Repository, text: str, branch: str) -> Moment:
    try:
        reading = Hlc.parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Moment(str(reading), "hlc", branch, repository.branch(branch), reading, reading)


def _time(repository: Repository, text: str, branch: str) -> Moment:
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError("use 2026-01-29T19:21:00Z, or a date")
        date = len(text) == _DATE_LENGTH
        if not date and found[1] is None:
            raise ValueError(f"its zone is missing: use {text}Z")
        when = datetime.fromisoformat(f"{text}T00:00:00+00:00" if date else text.upper())
        wall = (when - _EPOCH) // timedelta(microseconds=1)
        if wall < 0:
            raise ValueError("it lies before 1970")
        told = (_EPOCH + timedelta(microseconds=wall)).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no time: {error}") from error
    last, first = Hlc(wall, (1 << COUNTER_BITS) - 1, _LAST_NODE), Hlc(wall, 0, "")
    return Moment(told, "time", branch, repository.branch(branch), last, first)


def _tag(repository: Repository, text: str, branch: str) -> Moment | None:
    digest = repository.tags.get(text)
    if digest is None:
        return None
    found = find_commit(repository, digest, branch)
    if found is None:
        raise NotFound(f"tag {text!r} names the commit {digest[:12]}, which is on no branch: `ledger branch list`")
    return _of_commit(repository, Place(text, "tag", *found))


def _commit(repository: Repository, text: str, branch: str) -> Moment | None:
    found = find_commit(repository, text, branch)
    return None if found is None else _of_commit(repository, Place(text, "commit", *found))


def _tick(repository: Repository, text: str, branch: str) -> Moment:
    if not _TICK.fullmatch(text) or int(text) >= TICK_LIMIT:
        raise UsageError(f"{text!r} is no tick: ticks are whole numbers below 2^53")
    asked = repository.branch(branch)
    reached = _run_that_reached(repository, asked, int(text))
    if reached is None:
        watermark = asked.state.watermark
        told = "nothing is committed yet" if watermark is None else f"its watermark is {watermark}"
        raise NotFound(f"no run of {branch} has got to tick {text} ({told}): run `ledger commit`, or give a time")
    return Moment(str(int(text)), "tick", branch, reached)


_READERS: dict[str, Callable[[Repository, str, str], Moment | None]] = {
    "hlc": _reading,
    "time": _time,
    "tag": _tag,
    "tick": _tick,
    "commit": _commit,
}


def _run_that_reached(repository: Repository, branch: Branch, tick: int) -> Branch | None:
    """The branch after the first run with a watermark of at least `tick`: it folded all ticks below it."""

    def reached(seq: int) -> bool:
        state = branch.state if seq == branch.seq else repository.move(branch.name, seq).state
        return state.watermark is not None and state.watermark >= tick

    if not reached(branch.seq):
        return None
    low, high = branch.state.created, branch.seq
    # A watermark never goes back.
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    if low == branch.state.created and branch.base is not None:
        inherited = _run_that_reached(repository, branch.base, tick)
        if inherited is not None:
            return inherited
    return branch if low == branch.seq else repository.branch_at(branch.name, low)
