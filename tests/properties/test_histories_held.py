"""Which of many commits belong to a history: by columns what is told commit by commit."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.history import CommitFile
from ledger_cli.core.slices import CommitSlice, History
from ledger_cli.stores.common.rows import held

_FILES = ("a", "b", "c")
_SPANS = st.dictionaries(st.integers(-2, 3), st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=3)
_ROWS = st.lists(st.tuples(st.sampled_from(range(3)), st.integers(-3, 4), st.integers(0, 7)), max_size=12)


@given(st.lists(st.tuples(st.sampled_from(_FILES[:2]), _SPANS), max_size=4), _ROWS)
def test_many_at_once_are_as_one_by_one(
    parts: list[tuple[str, dict[int, tuple[int, int]]]], asked: list[tuple[int, int, int]]
) -> None:
    history = History(
        CommitSlice(CommitFile(name, "", 0, 0, 0, 0, 0, {str(shard): span for shard, span in spans.items()}))
        for name, spans in parts
    )
    rows = pa.table(
        {
            "batch": pa.array([_FILES[of] for of, *_ in asked], pa.string()),
            "shard": pa.array([shard for _, shard, _ in asked], pa.int64()),
            "height": pa.array([height for *_, height in asked], pa.int64()),
        }
    )
    belonging = [(shard, height) for of, shard, height in asked if history.holds(_FILES[of], shard, height)]
    assert [tuple(row.values()) for row in held(rows, history).to_pylist()] == belonging
