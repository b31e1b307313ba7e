"""Finds where the elements of one JSON array end, block by block, without a loop over bytes or elements.

What is inside a string follows from the parity of the quotes before it, an escaped quote from the parity of
the backslashes before it, and the nesting from a running sum over the brackets outside strings. All three are
carried from block to block, so that every byte is looked at once however the blocks are cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

_QUOTE, _COMMA, _BACKSLASH = 34, 44, 92
_CASE = 0x20
_OPENING, _CLOSING = ord("{"), ord("}")
"""With `_CASE` set, square brackets are curly ones."""
_CACHED = 1 << 17
"""Bytes looked at together: the arrays made of them stay in the processor's cache."""
_WORD = 64
_ALL = np.uint64(2**64 - 1)


def _steps() -> npt.NDArray[np.int8]:
    steps = np.zeros(256, np.int8)
    steps[[ord("["), ord("{")]] = 1
    steps[[ord("]"), ord("}")]] = -1
    return steps


_STEPS = _steps()


@dataclass
class ArrayScan:
    """Where a scan stands, just behind the array's opening bracket at first."""

    depth: int = 1
    in_string: bool = False
    escaped: bool = False
    """The next byte is escaped by a backslash before it."""

    def separators(self, data: Bytes) -> tuple[Positions, int | None]:
        """Positions of the commas between elements, and of the bracket that closes the array.

        Where the array closes, the scan is over: what follows is not looked at.
        """
        found: list[Positions] = []
        for at in range(0, len(data), _CACHED):
            commas, close = self._scan(data[at : at + _CACHED])
            found.append(commas + at)
            if close is not None:
                return np.concatenate(found), at + close
        return np.concatenate(found) if found else np.empty(0, np.int64), None

    def _scan(self, data: Bytes) -> tuple[Positions, int | None]:
        inside = self._inside_strings(data)
        outside = np.unpackbits(_packed_brackets(data) & ~inside, bitorder="little")
        brackets = np.flatnonzero(outside.view(np.bool_))
        depths = np.cumsum(_STEPS[data[brackets]], dtype=np.int64)
        depths += self.depth
        closing = np.flatnonzero(depths == 0)
        close = int(brackets[closing[0]]) if len(closing) else None
        if close is not None:
            brackets, depths = brackets[: closing[0]], depths[: closing[0]]
        end = len(data) if close is None else close
        between = _between_elements(brackets, depths, self.depth, end)
        commas = between[data[between] == _COMMA]
        commas = commas[inside[commas >> 3] >> (commas & 7).astype(np.uint8) & 1 == 0]
        self.depth = int(depths[-1]) if len(depths) else self.depth
        return commas, close

    def _inside_strings(self, data: Bytes) -> Bytes:
        """A bit for each byte, from the lowest up: whether it is part of a string (its opening quote is)."""
        quotes = data == _QUOTE
        backslashes = data == _BACKSLASH
        if self.escaped or backslashes.any():
            quotes[self._escaped(backslashes)] = False
        packed = np.zeros(-(-len(data) // _WORD) * 8, np.uint8)
        packed[: -(-len(data) // 8)] = np.packbits(quotes, bitorder="little")
        words = packed.view("<u8")
        for shift in (1, 2, 4, 8, 16, 32):  # each bit becomes the parity of those up to it
            words ^= words << np.uint64(shift)
        open_behind = np.bitwise_xor.accumulate(words >> np.uint64(_WORD - 1))
        open_behind ^= np.uint64(self.in_string)
        words[1:] ^= open_behind[:-1] * _ALL
        words[0] ^= np.uint64(self.in_string) * _ALL
        self.in_string = bool(open_behind[-1])
        return packed[: -(-len(data) // 8)]

    def _escaped(self, backslashes: npt.NDArray[np.bool_]) -> Positions:
        """Positions of the bytes behind runs of an odd number of backslashes."""
        if self.escaped:
            backslashes[0] = False
        places = np.flatnonzero(backslashes)
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        starts = places[np.concatenate(([0], breaks))] if len(places) else places
        ends = places[np.concatenate((breaks - 1, [-1]))] + 1 if len(places) else places
        escaped = ends[(ends - starts) % 2 == 1]
        if self.escaped:
            escaped = np.concatenate(([0], escaped))
        self.escaped = bool(len(escaped)) and int(escaped[-1]) == len(backslashes)
        within: Positions = escaped[:-1] if self.escaped else escaped
        return within


def _packed_brackets(data: Bytes) -> Bytes:
    folded = data | _CASE
    brackets = folded == _OPENING
    brackets |= folded == _CLOSING
    return np.packbits(brackets, bitorder="little")


def _between_elements(brackets: Positions, depths: Positions, depth: int, end: int) -> Positions:
    """The positions outside of all nested brackets: few, where the elements are objects."""
    starts = np.concatenate(([0], brackets + 1))
    lengths = np.concatenate((brackets, [end])) - starts
    outside = np.concatenate(([depth], depths)) == 1
    starts, lengths = starts[outside], lengths[outside]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places: Positions = np.repeat(starts, lengths) + within
    return places
