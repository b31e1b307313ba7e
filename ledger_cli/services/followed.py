"""How far files that grow were read, kept in the very move that brought what was read of them.

So nothing is read twice, however `ledger follow` ends. Where it is not known (on a fork, of a file whose beginning is
another one), a file is read from its start: what is known of it is skipped then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ledger_cli.core.history import Reached, State
from ledger_cli.services.repository import Branch

FILES_KEPT = 100
"""So many files are remembered: those that were read last."""

Settle = Callable[[Branch], State]
"""The state of a branch, as it stands before a move, with what else the move changes."""


def unchanged(branch: Branch) -> State:
    """Nothing else is changed."""
    return branch.state


def reading(name: str, reached: Reached | None) -> Settle:
    """Keep how far what is called so was read; None: that cannot be kept."""
    if reached is None:
        return unchanged

    def settled(branch: Branch) -> State:
        known = {**branch.state.followed, name: replace(reached, move=branch.seq + 1)}
        latest = sorted(known, key=lambda each: known[each].move)[-FILES_KEPT:]
        return replace(branch.state, followed={each: known[each] for each in latest})

    return settled
