"""How far files that grow were read, kept in the very move that brought what was read of them.

So nothing is read twice, however `ledger follow` ends. Where it is not known (on a fork, of a file whose beginning is
another one), a file is read from its start: what is known of it is skipped then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ledger_cli.core.history import Reached, State
from ledger_cli.errors import UsageError
from ledger_cli.services.repository import Branch

FILES_KEPT = 100
"""So many files are remembered on a branch: those that were read last. Nobody follows more at once."""

Settle = Callable[[Branch], State]
"""The state of a branch, as it stands before a move, with what else the move changes."""


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


def _path(name: str) -> str:
    return name.split(" ", 2)[2]


def _same(one: Reached, other: Reached | None) -> bool:
    return other is not None and (one.bytes, one.mark) == (other.bytes, other.mark)
