"""Every store keeps the contract of `ports.CommitStore`: what it answers is what the reference in memory answers."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger_cli.core.contributors import with_contributors
from ledger_cli.core.events import ENTITY_STATE
from ledger_cli.errors import Conflict, Corrupt
from ledger_cli.ports import CommitStore, TickRange
from ledger_cli.stores.common.parquet_commits import ParquetCommits
from tests.memory_store import MemoryStore
from tests.stores.engines import NAMES, Open, fresh
from tests.stores.histories import AT, REGIONS, chain, contributors_to, file_of, found_in, history, rows_of


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def opens(engine: str, tmp_path: Path) -> Iterator[Open]:
    with fresh(engine, tmp_path) as opening:
        yield opening


@pytest.fixture
def store(opens: Open) -> CommitStore:
    return opens()


def entity(name: str, tick: int, activity: float = 0.5) -> dict[str, Any]:
    return {
        "entity_id": name,
        "last_tick": tick,
        "activity": activity,
        "activity_history": f"[[{tick},{activity}]]",
        "metadata": '{"ü":1}',
    }


def begun(store: CommitStore, given: str = AT) -> dict[str, str]:
    """When batches were begun, in place of the time of the disk what was given."""
    files = isinstance(store, ParquetCommits)
    return {batch: given if files and at > given else at for batch, at in store.batches().items()}


# -- refs ---------------------------------------------------------------------------------------------------


WITHOUT_REFS = {"chdb"}
"""Engines without a compare-and-set: their ledgers keep refs in files of their directory."""
_with_refs = pytest.mark.parametrize("engine", [name for name in NAMES if name not in WITHOUT_REFS], indirect=True)


def test_who_keeps_refs_says_so(engine: str, store: CommitStore) -> None:
    assert store.capabilities.refs == (engine not in WITHOUT_REFS)


@_with_refs
def test_a_ref_is_the_moves_written_to_it(store: CommitStore, opens: Open) -> None:
    assert store.branches() == []
    assert (store.latest_seq("main"), store.read_ref("main", 0), store.move_numbers("main")) == (-1, None, [])
    moves = [f'{{"seq":{seq},"ä":"\'"}}\n'.encode() for seq in range(5)]
    for seq, move in enumerate(moves):
        store.advance_ref("main", seq, move)
    store.advance_ref("admin", 0, b"\x00\xff")
    store = opens()
    assert store.branches() == ["admin", "main"]
    assert [store.read_ref("main", seq) for seq in range(6)] == [*moves, None]
    assert store.read_ref("admin", 0) == b"\x00\xff"
    assert (store.latest_seq("main"), store.latest_seq("main", 3), store.move_numbers("main")) == (4, 4, [*range(5)])


@_with_refs
def test_who_comes_second_loses(store: CommitStore) -> None:
    store.advance_ref("main", 0, b"first")
    with pytest.raises(Conflict):
        store.advance_ref("main", 0, b"second")
    with pytest.raises(Conflict):
        store.advance_ref("main", 2, b"too far")
    assert store.read_ref("main", 0) == b"first"
    assert store.move_numbers("main") == [0]


@_with_refs
def test_of_many_writers_exactly_one_wins(store: CommitStore) -> None:
    for seq in range(5):
        won: list[int] = []

        def write(number: int, seq: int = seq, won: list[int] = won) -> None:
            try:
                store.advance_ref("main", seq, f"{seq} {number}".encode())
            except Conflict:
                return
            won.append(number)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for each in writers:
            each.start()
        for each in writers:
            each.join()
        assert len(won) == 1
        assert store.read_ref("main", seq) == f"{seq} {won[0]}".encode()


# -- commits ------------------------------------------------------------------------------------------------


def test_a_batch_comes_back_as_it_was(store: CommitStore, opens: Open) -> None:
    tables = [chain("a", 0, range(4), REGIONS), chain("a", 3, range(2, 9), REGIONS)]
    store.persist_commits("commits/one.parquet", AT, tables)
    store = opens()
    assert rows_of(pa.concat_tables(store.read_commits("commits/one.parquet"))) == rows_of(pa.concat_tables(tables))
    assert begun(store) == {"commits/one.parquet": AT}
    with pytest.raises(Corrupt, match="two"):
        list(store.read_commits("commits/two.parquet"))


def test_persisting_twice_is_once(store: CommitStore) -> None:
    table = chain("a", 0, range(5))
    for _ in range(2):
        store.persist_commits("commits/one.parquet", AT, [table])
    # The same commits again in another batch, with some more.
    store.persist_commits("commits/two.parquet", AT, [chain("a", 0, range(3, 8))])
    assert rows_of(pa.concat_tables(store.read_commits("commits/one.parquet"))) == rows_of(table)
    both = pa.concat_tables(store.read_commits("commits/two.parquet"))
    assert rows_of(both) == rows_of(chain("a", 0, range(3, 8)))
    found = store.query_commits_by_region(
        history(file_of("commits/one.parquet", table), file_of("commits/two.parquet", both)), REGIONS[0], TickRange()
    )
    assert len(set(found["commit_id"].to_pylist())) == found.num_rows


def test_an_empty_batch(store: CommitStore) -> None:
    store.persist_commits("commits/none.parquet", AT, [])
    assert sum(table.num_rows for table in store.read_commits("commits/none.parquet")) == 0


def test_commits_are_the_same_with_their_contributors(store: CommitStore) -> None:
    table = pa.concat_tables([chain("a", 0, range(6), REGIONS), chain("a", 1, range(3), REGIONS)])
    told = with_contributors(table, contributors_to(table))
    batch = "commits/one.parquet"
    for _ in range(2):
        store.persist_commits(batch, AT, [told])
        assert rows_of(pa.concat_tables(store.read_commits(batch))) == rows_of(table)
    row = table.to_pylist()[3]
    assert found_in(store, history(file_of(batch, table)), row["commit_id"]) == [row]
    gone = table["commit_id"].to_pylist()[2:7]
    store.archive_commits(batch, gone)
    store.restore_commits(batch, [told])
    assert rows_of(pa.concat_tables(store.read_commits(batch))) == rows_of(table)


def test_only_what_a_history_names_is_found(store: CommitStore) -> None:
    mine, other = chain("a", 0, range(6), ["r"], seed=1), chain("b", 0, range(6), ["r"], seed=1)
    store.persist_commits("commits/a.parquet", AT, [mine])
    store.persist_commits("commits/b.parquet", AT, [other])
    one = history(file_of("commits/a.parquet", mine))
    for row in mine.to_pylist():
        assert found_in(store, one, row["commit_id"]) == [row]
    assert store.query_commit(one, other["commit_id"][0].as_py()) is None
    cut = history(file_of("commits/a.parquet", mine), keep={"0": 2})
    assert store.query_commit(cut, mine["commit_id"][1].as_py()) is not None
    assert store.query_commit(cut, mine["commit_id"][2].as_py()) is None
    found = store.query_commits_by_region(one, "r", TickRange())
    assert set(found["commit_id"].to_pylist()) <= set(mine["commit_id"].to_pylist())


def test_batches_that_no_move_names_can_be_removed(store: CommitStore) -> None:
    table = chain("a", 0, range(4))
    store.persist_commits("commits/a.parquet", AT, [table])
    store.persist_commits("commits/b.parquet", AT, [chain("a", 0, range(2, 6))])
    store.remove_batch("commits/b.parquet")
    store.remove_batch("commits/b.parquet")
    assert list(store.batches()) == ["commits/a.parquet"]
    assert rows_of(pa.concat_tables(store.read_commits("commits/a.parquet"))) == rows_of(table)


def test_a_batch_that_is_persisted_again_is_begun_anew(store: CommitStore) -> None:
    """Who removes what a killed job left leaves it to whoever runs that job again."""
    table, earlier, later = chain("a", 0, range(4)), "2001-02-03T04:05:06.078Z", "2002-03-04T05:06:07.089Z"
    store.persist_commits("commits/a.parquet", earlier, [table])
    assert not store.remove_batch("commits/a.parquet", earlier)
    store.persist_commits("commits/a.parquet", later, [table])
    assert begun(store, later) == {"commits/a.parquet": later}
    assert not store.remove_batch("commits/a.parquet", later)
    assert rows_of(pa.concat_tables(store.read_commits("commits/a.parquet"))) == rows_of(table)
    assert store.remove_batch("commits/a.parquet")
    assert store.batches() == {}
    assert not store.remove_batch("commits/a.parquet")


def test_ranges_of_ticks(store: CommitStore) -> None:
    table = chain("a", 0, range(20), ["r"])
    store.persist_commits("commits/a.parquet", AT, [table])
    reference = MemoryStore()
    reference.persist_commits("commits/a.parquet", AT, [table])
    named = history(file_of("commits/a.parquet", table))
    for ticks in [(None, None), (30, 60), (39, 40), (40, 41), (None, 10), (195, None), (500, 600), (45, 45)]:
        asked = named, "r", TickRange(*ticks)
        assert store.query_commits_by_region(*asked).equals(reference.query_commits_by_region(*asked)), ticks


# -- entities -----------------------------------------------------------------------------------------------


def test_entity_state_keeps_the_latest(store: CommitStore, opens: Open) -> None:
    def upsert(*rows: dict[str, Any]) -> None:
        store.upsert_entity_state(pa.Table.from_pylist(list(rows), ENTITY_STATE))

    assert store.entity_state().num_rows == 0
    upsert(entity("E1", 5), entity("Ä", 2**52, 1e6), entity("E'2", 0, 0.0))
    upsert(entity("E1", 4, 9.0), entity("E3", 1))
    upsert(entity("E3", 1, 0.25))
    store = opens()
    expected = [entity("E'2", 0, 0.0), entity("E1", 5), entity("E3", 1, 0.25), entity("Ä", 2**52, 1e6)]
    assert store.entity_state().to_pylist() == expected
    assert store.entity_state(["E3", "E9", "E1"]).to_pylist() == [expected[1], expected[2]]


# -- random histories ---------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "b"])
_BATCHES = st.sampled_from(["commits/0.parquet", "commits/1.parquet", "commits/2.parquet", "commits/3.parquet"])


class Histories(RuleBasedStateMachine):
    """The same acts on a store and on the reference; what is asked of both is answered alike."""

    engine = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._fresh = fresh(self.engine, Path(self._directory.name))
        self.opens = self._fresh.__enter__()
        self.store = self.opens()
        self.reference = MemoryStore()
        self.tables: dict[str, list[pa.Table]] = {}
        self.archived: set[str] = set()

    def teardown(self) -> None:
        self._fresh.__exit__(None, None, None)
        self._directory.cleanup()

    @rule(batch=_BATCHES, name=_NAMES, low=st.integers(0, 6), size=st.integers(1, 6), shards=st.integers(1, 3))
    def persist(self, batch: str, name: str, low: int, size: int, shards: int) -> None:
        tables = self.tables.get(batch)
        if tables is None:
            tables = [chain(name, shard, range(low, low + size), REGIONS) for shard in range(shards)]
        if self.archived & set(pa.concat_tables(tables)["commit_id"].to_pylist()):
            return  # see `archive`
        for each in (self.store, self.reference):
            each.persist_commits(batch, AT, tables)
        self.tables[batch] = tables

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        batch = data.draw(st.sampled_from(sorted(self.tables)))
        for each in (self.store, self.reference):
            each.remove_batch(batch)
        del self.tables[batch]

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), back=st.booleans())
    def archive(self, data: st.DataObject, back: bool) -> None:
        batch = data.draw(st.sampled_from(sorted(self.tables)))
        # Whether the entries of a commit that is in other batches too are dropped there as well is the store's affair.
        elsewhere = {
            each
            for name, tables in self.tables.items()
            if name != batch
            for each in pa.concat_tables(tables)["commit_id"]
        }
        table = pa.concat_tables(self.tables[batch])
        table = table.filter(pa.array([each not in elsewhere for each in table["commit_id"]]))
        if not table.num_rows:
            return
        ids = data.draw(st.lists(st.sampled_from(table["commit_id"].to_pylist()), unique=True))
        self.archived |= set(ids)
        for each in (self.store, self.reference):
            if back:
                each.restore_commits(batch, [table])
            else:
                each.archive_commits(batch, ids)

    @rule()
    def open_again(self) -> None:
        self.store = self.opens()

    @rule(
        data=st.data(),
        region=st.sampled_from(REGIONS),
        keep=st.none() | st.dictionaries(st.sampled_from(["0", "1", "2"]), st.integers(0, 8)),
        start=st.none() | st.integers(0, 90),
        end=st.none() | st.integers(0, 120),
    )
    def ask(
        self, data: st.DataObject, region: str, keep: dict[str, int] | None, start: int | None, end: int | None
    ) -> None:
        named = data.draw(st.lists(st.sampled_from(sorted(self.tables)), unique=True)) if self.tables else []
        asked = history(*(file_of(batch, *self.tables[batch]) for batch in named), keep=keep)
        ranged = asked, region, TickRange(start, end)
        assert self.store.query_commits_by_region(*ranged).equals(self.reference.query_commits_by_region(*ranged))
        tiles = [each.read_projection_tile(asked, region) for each in (self.store, self.reference)]
        assert tiles[0].equals(tiles[1])
        for table in (table for batch in named for table in self.tables[batch]):
            commit_id = table["commit_id"][0].as_py()
            found = [found_in(each, asked, commit_id) for each in (self.store, self.reference)]
            assert found[0] == found[1]

    @invariant()
    def batches_are_alike(self) -> None:
        assert begun(self.store) == self.reference.batches()
        for batch in self.tables:
            found = [rows_of(pa.concat_tables(each.read_commits(batch))) for each in (self.store, self.reference)]
            assert found[0] == found[1]
            counts = [each.read_counts(batch).sort_by("commit_id") for each in (self.store, self.reference)]
            assert counts[0].equals(counts[1])


SLOW = {"cassandra", "ceph", "chdb", "s3"}
"""Engines that take seconds for a history: they get fewer, others at each run."""


def test_random_histories(engine: str) -> None:
    case = type("Case", (Histories,), {"engine": engine})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    rounds = settings(max_examples=5 if engine in SLOW else 15, stateful_step_count=12, suppress_health_check=checks)
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(case, settings=rounds)
