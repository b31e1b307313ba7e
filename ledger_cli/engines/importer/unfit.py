"""Rows with values that Arrow holds and DuckDB does not: it would refuse the whole file for one of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

Rows = npt.NDArray[np.int64]

_MICROSECONDS = {"s": 10**6, "ms": 10**3}
_INT64_MAX = 2**63 - 1


def unfit_rows(table: pa.Table) -> dict[int, str]:
    """The rows with a time beyond 64 bits of microseconds or a key twice in one map, each with the reason."""
    found: dict[int, str] = {}
    for column in table.columns:
        if _may_be_unfit(column.type):
            first = 0
            for array in column.chunks:
                _look(array, np.arange(first, first + len(array)), found)
                first += len(array)
    return found


def _may_be_unfit(of_type: pa.DataType) -> bool:
    if pa.types.is_timestamp(of_type) or pa.types.is_duration(of_type):
        return of_type.unit in _MICROSECONDS
    if pa.types.is_map(of_type):
        return True
    return any(_may_be_unfit(of_type.field(place).type) for place in range(of_type.num_fields))


def _look(array: pa.Array, rows: Rows, found: dict[int, str]) -> None:
    """Find the unfit values of an array, whose places belong to `rows`."""
    of_type = array.type
    if not _may_be_unfit(of_type):
        return
    if pa.types.is_struct(of_type):
        for place in range(of_type.num_fields):
            _look(pa.compute.struct_field(array, place), rows, found)
    elif pa.types.is_map(of_type):
        entries = array.cast(pa.list_(pa.struct([("key", of_type.key_type), ("value", of_type.item_type)])))
        parents = pa.compute.list_parent_indices(entries).to_numpy()
        flat = pa.compute.list_flatten(entries)
        keys = pa.compute.struct_field(flat, 0).dictionary_encode().indices.to_numpy()
        _, firsts = np.unique(np.stack([parents, keys]), axis=1, return_index=True)
        again = np.delete(np.arange(len(keys)), firsts)
        found.update(dict.fromkeys(rows[parents[again]].tolist(), "broken_json"))
        _look(flat, rows[parents], found)
    elif of_type.num_fields:
        parents = pa.compute.list_parent_indices(array).to_numpy()
        _look(pa.compute.list_flatten(array), rows[parents], found)
    else:
        counts = array.cast(pa.int64()).drop_null().to_numpy()
        places = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
        limit = _INT64_MAX // _MICROSECONDS[of_type.unit]
        beyond = (counts > limit) | (counts < -limit)
        found.update(dict.fromkeys(rows[places[beyond]].tolist(), "bad_timestamp"))
