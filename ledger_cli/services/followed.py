"""How far files that grow were read, kept in the very move that brought what was read of them.

So nothing is read twice, however `ledger follow` ends. Where it is not known (on a fork, of a file whose beginning is
another one), a file is read from its start: what is known of it is skipped then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ledger_cli.core.history import Reached, State
from ledger_cli.errors import UsageError
from ledger_cli.ports import Tail, Taken
from ledger_cli.services.repository import Branch

FILES_KEPT = 100
"""So many files are remembered on a branch: those that were read last. Nobody follows more at once."""

Settle = Callable[[Branch], State]
"""The state of a branch, as it stands before a move, with what else the move changes."""


@dataclass
class Followed:
    """A source, and what was taken of it but is not stored yet."""

    tail: Tail
    key: str
    reached: Reached | None
    """How far it was read into the ledger, as kept there."""
    held: Taken | None = None

    def take(self, rows: int) -> Taken | None:
        """What is to be stored next: what could not be the last time, or more."""
        if self.held is None and rows > 0:
            self.held = self.tail.take(rows)
        return self.held

    def settle(self, taken: Taken) -> Settle:
        """Keeps in the ledger how far it was read with what was taken."""
        return reading(self.key, self.reached, taken.reached)

    def stored(self, taken: Taken) -> None:
        """What was taken is stored."""
        self.held, self.reached = None, taken.reached


def unchanged(branch: Branch) -> State:
    """Nothing else is changed."""
    return branch.state


def reading(name: str, before: Reached | None, reached: Reached | None) -> Settle:
    """Keep how far what is called so was read; None: that cannot be kept. `before`: how far that was until now.

    UsageError where another process reads it too: what is wrong in it would be in quarantine twice; see `still_known`.
    """
    if reached is None:
        return unchanged

    def settled(branch: Branch) -> State:
        still_known(branch, name, before)
        known = branch.state.followed.get(name)
        if known is not None and not any(_same(known, each) for each in (before, reached)):
            raise UsageError(
                f"another process follows {_path(name)} into {branch.name}: let one do it, and run this "
                "again once that one has ended"
            )
        kept = {**branch.state.followed, name: replace(reached, move=branch.seq + 1)}
        latest = sorted(kept, key=lambda each: kept[each].move)[-FILES_KEPT:]
        return replace(branch.state, followed={each: kept[each] for each in latest})

    return settled


def still_known(branch: Branch, name: str, reached: Reached | None) -> None:
    """UsageError where a branch knew how far a file was read, and does not any more: it lacks what was read before."""
    if reached is not None and name not in branch.state.followed:
        raise UsageError(
            f"{branch.name} does not know any more how far {_path(name)} was read: the branch was made again, or more "
            f"than {FILES_KEPT} files are followed into it; run this again, which reads it from its start"
        )


def check_names(names: Sequence[str]) -> None:
    """UsageError where a source is named twice, in whatever way, or there are more than are remembered."""
    found = set[str]()
    for name in names:
        path = name if name == "-" else os.path.realpath(name)
        if path in found:
            raise UsageError(f"{name} is named twice: follow it once, as ticks or as world events")
        found.add(path)
    if len(names) > FILES_KEPT:
        raise UsageError(
            f"{len(names)} sources are too many, at most {FILES_KEPT} are remembered on a branch: bring some together"
        )


def _path(name: str) -> str:
    return name.split(" ", 2)[2]


def _same(one: Reached, other: Reached | None) -> bool:
    return other is not None and (one.bytes, one.mark) == (other.bytes, other.mark)
