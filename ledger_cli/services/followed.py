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
"""So many files are remembered: those that were read last."""

Settle = Callable[[Branch], State]
"""The state of a branch, as it stands before a move, with what else the move changes."""


def unchanged(branch: Branch) -> State:
    """Nothing else is changed."""
    return branch.state


def reading(name: str, before: Reached | None, reached: Reached | None) -> Settle:
    """Keep how far what is called so was read; None: that cannot be kept. `before`: how far that was until now.

    UsageError where another process reads it too: what is wrong in it would be in quarantine twice.
    """
    if reached is None:
        return unchanged

    def settled(branch: Branch) -> State:
        known = branch.state.followed.get(name)
        if known is not None and not any(_same(known, each) for each in (before, reached)):
            raise UsageError(
                f"another process follows {name.split(' ', 2)[2]} into {branch.name}: let one do it, and run this "
                "again once that one has ended"
            )
        kept = {**branch.state.followed, name: replace(reached, move=branch.seq + 1)}
        latest = sorted(kept, key=lambda each: kept[each].move)[-FILES_KEPT:]
        return replace(branch.state, followed={each: kept[each] for each in latest})

    return settled


def _same(one: Reached, other: Reached | None) -> bool:
    return other is not None and (one.bytes, one.mark) == (other.bytes, other.mark)
