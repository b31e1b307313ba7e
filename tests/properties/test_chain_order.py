"""Commits as a run made them, put in the order that stores are given them in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core import commit
from tests.stores.histories import REGIONS, chain

SHARDS = st.lists(st.integers(0, 3), max_size=12)


@given(turns=SHARDS, sizes=st.lists(st.integers(1, 5)), at_once=st.sampled_from([1, 9, 10**6]))
def test_every_commit_comes_once_and_in_order(turns: list[int], sizes: list[int], at_once: int) -> None:
    heights = [turns[:at].count(shard) for at, shard in enumerate(turns)]
    rows = [chain("a", shard, range(height, height + 1), REGIONS) for shard, height in zip(turns, heights, strict=True)]
    made = pa.concat_tables([commit.COMMIT.empty_table(), *rows])
    cuts = [0, *(sum(sizes[: at + 1]) for at in range(len(sizes))), made.num_rows]

    def read(columns: Sequence[str] | None) -> Iterator[pa.Table]:
        for first, past in zip(cuts, [*cuts[1:], made.num_rows], strict=True):
            table = made.slice(first, max(0, past - first))
            yield table if columns is None else table.select(list(columns))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "_SORTED_AT_ONCE", at_once)
        found = pa.concat_tables([commit.COMMIT.empty_table(), *commit.in_chain_order(read)])
    assert found.equals(made.sort_by([("shard", "ascending"), ("height", "ascending")]))
