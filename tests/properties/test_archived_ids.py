"""Ids that are read when they are asked for are those of a list."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.archive import ReadIds

BOUNDS = st.none() | st.integers(-8, 8)


@given(
    st.lists(st.lists(st.text(max_size=2), max_size=4), max_size=4),
    st.lists(st.builds(slice, BOUNDS, BOUNDS, st.sampled_from([None, 1, 2])), max_size=6),
)
def test_parts_in_any_order(tables: list[list[str]], asked: list[slice]) -> None:
    listed = [text for each in tables for text in each]
    reads = []

    def read() -> list[pa.ChunkedArray]:
        reads.append(1)
        return [pa.chunked_array([each], pa.string()) for each in tables]

    ids = ReadIds(len(listed), read)
    assert len(ids) == len(listed)
    assert list(ids) == listed
    assert pa.array(ids).to_pylist() == listed
    for each in asked:
        assert list(ids[each]) == listed[each]
    for at in range(-len(listed), len(listed)):
        assert ids[at] == listed[at]
    reads.clear()
    assert [list(ids[at : at + 2]) for at in range(0, len(listed), 2)] == [
        listed[at : at + 2] for at in range(0, len(listed), 2)
    ]
    assert len(reads) <= 1
