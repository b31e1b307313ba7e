"""Events with one key: which is kept, which are equal to it, which contradict it (DESIGN, invariant 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ledger_cli.core.tick_json import Tick


@dataclass(frozen=True)
class Contender:
    """One of several rows with the same key. `place` tells them apart; `stored`: it is in the ledger already."""

    tick: Tick
    stored: bool
    place: tuple[int, int]


def kept_and_left(contenders: Sequence[Contender]) -> tuple[Contender, list[Contender], list[Contender]]:
    """The row that is kept, those equal to it, and those that contradict it.

    What is stored stays. Else the first by (timestamp, null last; canonical JSON text) is kept.
    """
    texts = {contender.place: contender.tick.canonical() for contender in contenders}

    def order(contender: Contender) -> tuple[bool, float, str, tuple[int, int]]:
        timestamp = contender.tick.timestamp
        instant = math.inf if timestamp is None else timestamp
        return (not contender.stored, instant, texts[contender.place], contender.place)

    kept, *others = sorted(contenders, key=order)
    equal = [each for each in others if texts[each.place] == texts[kept.place]]
    return kept, equal, [each for each in others if texts[each.place] != texts[kept.place]]
