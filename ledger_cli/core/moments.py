"""Moments: exact integer sums per (region, tick), as columns.

The three sums (Σq, Σq², Σw) are signed 128-bit integers. In Arrow they travel as decimal128(38, 0), whose
buffer is the plain two's complement; here they are held as four 32-bit limbs in int64, so that NumPy adds up
to 2³¹ rows exactly and an overflow of the 128 bits is noticed, never wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger_cli.core.policy import shard_of
from ledger_cli.errors import MomentOverflow

Ints = npt.NDArray[np.int64]
SUMS = ("activity", "activity2", "weight")
"""The sums of one row, in the order of `Moments.limbs`: Σq(activity), Σq(activity)², Σq(base_weight × f)."""

_MASK = np.int64(0xFFFFFFFF)
_DECIMAL = pa.decimal128(38, 0)


def limbs_of(column: pa.Array) -> Ints:
    """(rows, 4) limbs of a decimal128 column without nulls, least significant first."""
    raw = np.frombuffer(column.buffers()[1], dtype=np.uint32)
    parts = raw[column.offset * 4 : (column.offset + len(column)) * 4].reshape(-1, 4)
    limbs = parts.astype(np.int64)
    limbs[:, 3] = parts[:, 3].view(np.int32)
    return limbs


def carried(limbs: Ints) -> Ints:
    """Limbs normalised to 32 bits each (last axis); the top one keeps the sign. MomentOverflow beyond 128 bits."""
    result = limbs.copy()
    for place in range(3):
        result[..., place + 1] += result[..., place] >> 32
        result[..., place] &= _MASK
    top = result[..., 3]
    if top.size and (int(top.max()) > 0x7FFFFFFF or int(top.min()) < -0x80000000):
        raise MomentOverflow
    return result


def decimals(limbs: Ints) -> pa.Array:
    """The decimal128 column of normalised (rows, 4) limbs."""
    packed = (limbs & _MASK).astype(np.uint32)
    return pa.Array.from_buffers(_DECIMAL, len(packed), [None, pa.py_buffer(packed.tobytes())])


def integers(limbs: Ints) -> list[int]:
    """Python integers of normalised (rows, 4) limbs."""
    raw = (limbs & _MASK).astype(np.uint32).tobytes()
    return [int.from_bytes(raw[at : at + 16], "little", signed=True) for at in range(0, len(raw), 16)]


def limbs_of_integers(values: Iterable[int]) -> Ints:
    """(rows, 4) limbs of Python integers. MomentOverflow beyond 128 bits."""
    try:
        raw = b"".join(value.to_bytes(16, "little", signed=True) for value in values)
    except OverflowError as error:
        raise MomentOverflow from error
    parts = np.frombuffer(raw, dtype=np.uint32).reshape(-1, 4)
    limbs = parts.astype(np.int64)
    limbs[:, 3] = parts[:, 3].view(np.int32)
    return limbs


class Regions:
    """The regions met so far: a code for each id, its shard, and its place in code point order."""

    def __init__(self, shards: int, normalise: Callable[[str | None], str] | None = None) -> None:
        """`normalise` makes the region id of what the engine returns, where that is not the id yet."""
        self._shards = shards
        self._normalise = normalise
        self._codes: dict[str, int] = {}
        self.names: list[str] = []
        self.shard_of_code: Ints = np.empty(0, dtype=np.int64)
        self._ranks: Ints = np.empty(0, dtype=np.int64)

    def encode(self, column: pa.Array) -> Ints:
        """Codes of a column of what the engine returns; new regions are added."""
        return self._encode(column, self._normalise)

    def encode_ids(self, column: pa.Array) -> Ints:
        """Codes of a column of region ids; new regions are added."""
        return self._encode(column, None)

    def _encode(self, column: pa.Array, normalise: Callable[[str | None], str] | None) -> Ints:
        encoded = column.dictionary_encode(null_encoding="encode")
        local = encoded.dictionary.to_pylist()
        if normalise is not None:
            local = [normalise(value) for value in local]
        fresh = [name for name in dict.fromkeys(local) if name not in self._codes]
        if fresh:
            for name in fresh:
                self._codes[name] = len(self.names)
                self.names.append(name)
            added = np.array([shard_of(name, self._shards) for name in fresh], dtype=np.int64)
            self.shard_of_code = np.concatenate([self.shard_of_code, added])
        mapping = np.array([self._codes[name] for name in local], dtype=np.int64)
        return mapping[encoded.indices.to_numpy(zero_copy_only=False)] if len(column) else mapping[:0]

    @property
    def ranks(self) -> Ints:
        """Rank of each code among the ids sorted by code point."""
        if len(self._ranks) != len(self.names):
            order = np.array(sorted(range(len(self.names)), key=self.names.__getitem__), dtype=np.int64)
            self._ranks = np.empty(len(order), dtype=np.int64)
            self._ranks[order] = np.arange(len(order))
        return self._ranks


@dataclass(frozen=True)
class Moments:
    """Rows of moments as columns: `region` codes, `tick`, `n`, and `limbs` of shape (rows, 3, 4)."""

    region: Ints
    tick: Ints
    n: Ints
    limbs: Ints

    def __len__(self) -> int:
        return len(self.tick)

    def __getitem__(self, rows: slice | Ints | npt.NDArray[np.bool_]) -> Moments:
        return Moments(self.region[rows], self.tick[rows], self.n[rows], self.limbs[rows])

    @staticmethod
    def empty() -> Moments:
        """No rows."""
        none = np.empty(0, dtype=np.int64)
        return Moments(none, none, none, np.empty((0, 3, 4), dtype=np.int64))

    @staticmethod
    def from_arrow(table: pa.Table | pa.RecordBatch, regions: Regions) -> Moments:
        """Of columns region, tick, n and the three `SUMS` (decimal128)."""
        if isinstance(table, pa.Table):
            batches = table.combine_chunks().to_batches()
            if len(batches) != 1:
                return concat(Moments.from_arrow(batch, regions) for batch in batches)
            table = batches[0]
        limbs = np.stack([limbs_of(table.column(name)) for name in SUMS], axis=1)
        return Moments(
            regions.encode(table.column("region")),
            table.column("tick").to_numpy(zero_copy_only=False).astype(np.int64, copy=False),
            table.column("n").to_numpy(zero_copy_only=False).astype(np.int64, copy=False),
            limbs,
        )

    def grouped(self, key: Ints, order: Ints) -> tuple[Moments, Ints]:
        """Sums over equal keys, in ascending (key, order); and the key of each row of the result.

        `order` is the secondary sort, equal for rows that are to be added (the region's rank). The first
        row's region and tick stand for the group.
        """
        if not len(self):
            return self, key
        arranged = np.lexsort((order, key))
        key, order, rows = key[arranged], order[arranged], self[arranged]
        starts = np.flatnonzero(np.r_[True, (key[1:] != key[:-1]) | (order[1:] != order[:-1])])
        if len(starts) == len(rows):
            return rows, key
        return (
            Moments(
                rows.region[starts],
                rows.tick[starts],
                np.add.reduceat(rows.n, starts),
                carried(np.add.reduceat(rows.limbs, starts, axis=0)),
            ),
            key[starts],
        )


def concat(parts: Iterable[Moments]) -> Moments:
    """All rows of all parts, in order."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return Moments.empty()
    if len(kept) == 1:
        return kept[0]
    return Moments(
        np.concatenate([part.region for part in kept]),
        np.concatenate([part.tick for part in kept]),
        np.concatenate([part.n for part in kept]),
        np.concatenate([part.limbs for part in kept]),
    )
