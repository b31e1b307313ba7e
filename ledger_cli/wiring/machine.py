"""This machine: its clock and its patience, its names, the keys that are on it."""

from __future__ import annotations

import getpass
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ledger_cli.config.settings import FILE_NAME
from ledger_cli.errors import UsageError

if TYPE_CHECKING:
    from threading import Event

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 0.2
_Found = TypeVar("_Found")


def clock() -> int:
    """The wall clock of this machine, in µs since 1970."""
    return time.time_ns() // 1000


def now() -> str:
    """The time of a move, RFC 3339 UTC in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_before(seconds: int) -> str:
    """The time so long ago, as `now` writes it."""
    then = datetime.fromisoformat(now()) - timedelta(seconds=seconds)
    return then.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def patience(seconds: float) -> Iterator[None]:
    """Something to look at what others do by: at once, then a few times a second, until the time is up."""
    end = time.monotonic() + seconds
    yield
    while time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        yield


def until(stop: Event, every: float, idle: float | None, look: Callable[[], Iterator[_Found]]) -> Iterator[_Found]:
    """What `look` finds, again and again, until `stop` is set or it found nothing for so many seconds."""
    last = time.monotonic()
    while True:
        for each in look():
            yield each
            last = time.monotonic()
        left = every if idle is None else min(every, last + idle - time.monotonic())
        if stop.is_set() or left <= 0:
            return
        stop.wait(left)


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, at most so long; whether it does."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= end:
            return False
        time.sleep(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))
    return True


def transaction_name() -> str:
    """A name that no other transaction has."""
    return uuid.uuid4().hex[:16]


def node(name: str | None) -> str:
    """The name of this node in clock readings; None: this machine's. UsageError where it cannot be one."""
    from ledger_cli.core.hlc import node_name

    if name is None:
        return re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename)[:64] or "node"
    try:
        return node_name(name)
    except ValueError as error:
        raise UsageError(f"node in {FILE_NAME}: {error}") from error


def module_keys(places: Sequence[str], environment: Mapping[str, str] = os.environ) -> dict[str, bytes]:
    """The keys that modules sign with, from `MODULE=env:VARIABLE` or `MODULE=file:PATH`. UsageError without one."""
    keys = {}
    for place in places:
        module, _, where = place.partition("=")
        kind, _, name = where.partition(":")
        if not module or kind not in ("env", "file") or not name:
            raise UsageError(f"keys in {FILE_NAME}: write {place!r} as MODULE=env:VARIABLE or MODULE=file:PATH")
        try:
            key = environment.get(name, "").encode() if kind == "env" else Path(name).read_bytes().strip()
        except OSError as error:
            raise UsageError(f"the key of module {module} cannot be read from {name}: {error.strerror}") from error
        if not key:
            raise UsageError(f"the key of module {module} is empty: put it into {name}, or take it out of {FILE_NAME}")
        keys[module] = key
    return keys


def author() -> str:
    """Who moves refs: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"
