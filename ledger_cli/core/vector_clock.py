"""Vector clocks: which moves of which histories a branch's world has taken in.

The ref of a branch is a sequential history: its moves are numbered, and one follows on the other. So a clock that
holds the last move taken in of each tells exactly what happened before what: one clock holds another where it is as
high everywhere, and two that do not hold each other are of branches that went on apart (Fidge, Mattern; 1988).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ledger_cli.core.history import MAIN

Order = Literal["equal", "before", "after", "concurrent"]

_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}~[0-9a-f]{8}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?):([0-9]{1,19})")


def writer_name(node: str, ledger: str, branch: str) -> str:
    """What the history of a branch is called in clocks: `node~ledger`, and `/branch` where it is not `main`.

    `ledger`: 8 hex digits. Two ledgers at one node differ in these, two copies of one ledger in their nodes.
    """
    return f"{node}~{ledger}" + f"/{branch}" * (branch != MAIN)


@dataclass(frozen=True)
class VectorClock:
    """The last move taken in of each history, by its writer's name (see `writer_name`)."""

    moves: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """`dc-1~0a1b2c3d:12,dc-2~4e5f6071:7`; empty where nothing was taken in."""
        return ",".join(f"{name}:{move}" for name, move in sorted(self.moves.items()))

    @staticmethod
    def parse(text: str) -> VectorClock:
        """Of `str`. ValueError where it is none."""
        moves: dict[str, int] = {}
        for part in text.split(",") if text else []:
            found = _ENTRY.fullmatch(part)
            if found is None or found[1] in moves:
                raise ValueError(f"{text!r} is no vector clock like dc-1~0a1b2c3d:12,dc-2~4e5f6071:7")
            moves[found[1]] = int(found[2])
        return VectorClock(moves)

    def ticked(self, writer: str, move: int) -> VectorClock:
        """After a move of a writer's own."""
        return self.merged(VectorClock({writer: move}))

    def merged(self, other: VectorClock) -> VectorClock:
        """Of what has taken in all that either has."""
        moves = dict(self.moves)
        for name, move in other.moves.items():
            moves[name] = max(move, moves.get(name, move))
        return VectorClock(moves)

    def lacks(self, other: VectorClock) -> VectorClock:
        """The part of another clock that this one does not hold."""
        return VectorClock({name: move for name, move in other.moves.items() if self.moves.get(name, -1) < move})

    def holds(self, other: VectorClock) -> bool:
        """Whether all that the other one has taken in was taken in here."""
        return not self.lacks(other).moves

    def compare(self, other: VectorClock) -> Order:
        """`before` where the other one holds this one and more, `concurrent` where neither holds the other."""
        if self.holds(other):
            return "equal" if other.holds(self) else "after"
        return "before" if other.holds(self) else "concurrent"
