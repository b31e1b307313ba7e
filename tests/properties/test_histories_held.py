"""Which of many commits belong to a history: by columns what is told commit by commit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.history import CommitFile
from ledger_cli.core.slices import CommitSlice, History

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
    batch, shard, height = np.array(asked, np.int64).reshape(-1, 3).T
    told = history.held(_FILES, batch.astype(np.int32), shard, height)
    assert told.tolist() == [history.holds(_FILES[of], *place) for of, *place in asked]
