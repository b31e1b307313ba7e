"""What is RocksDB's own: one process at a time, kills between any two writes, and epochs of any length."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_cli.core.commit import COMMIT
from ledger_cli.errors import Conflict, Corrupt, LedgerError, MissingExtra, NotWritten, Unavailable, UsageError
from ledger_cli.ports import TickRange
from ledger_cli.stores.common import rows
from ledger_cli.stores.rocksdb import RocksStore, database, records
from tests.memory_store import MemoryStore
from tests.stores.histories import AT, LARGEST, REGIONS, chain, file_of, found_in, history, plain, rows_of

URL = "rocksdb:///commits.rocksdb"
BATCH = "commits/a.parquet"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    made = RocksStore(URL, tmp_path)
    made.create()
    yield made
    made.close()


def _child(directory: Path, program: str) -> subprocess.Popen[bytes]:
    """A process with a store `store` of its own."""
    opened = f"""
import sys; from pathlib import Path
from ledger_cli.errors import *
from ledger_cli.stores.rocksdb import RocksStore, database
from ledger_cli.stores.common import rows
from tests.stores.histories import AT, REGIONS, chain
store = RocksStore({URL!r}, Path({str(directory)!r}))
"""
    return subprocess.Popen([sys.executable, "-c", opened + program], stdout=subprocess.PIPE)


class Killed(Exception):
    """Stands for a process that ends."""


def test_a_rerun_completes_what_a_kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_ROWS_AT_ONCE", 25)
    table = chain("a", 0, range(18), REGIONS)
    mine = history(file_of(BATCH, table))
    reference = MemoryStore()
    reference.persist_commits(BATCH, AT, [table])
    write = database.Database.write
    stopped = done = 0
    while not done:
        store = RocksStore(URL, tmp_path / str(stopped))
        left = [stopped]

        def killed(self: database.Database, *given: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            write(self, *given)

        store.create()
        monkeypatch.setattr(database.Database, "write", killed)
        try:
            store.persist_commits(BATCH, AT, [table])
            store.archive_commits(BATCH, table["commit_id"].to_pylist()[3:9])
            store.restore_commits(BATCH, [table.slice(5, 10)])
            store.advance_ref("main", 0, b"move")
            store.remove_batch(BATCH)
            done = 1
        except Killed:
            stopped += 1
        monkeypatch.setattr(database.Database, "write", write)
        store.close()
        store.create()
        assert store.read_ref("main", 0) in (None, b"move")
        # Cut differently this time: what the killed call left is not what this one makes.
        store.persist_commits(BATCH, AT, [table.slice(at, 7) for at in range(0, 18, 7)])
        store.archive_commits(BATCH, table["commit_id"].to_pylist()[3:9])
        store.restore_commits(BATCH, [table])
        assert rows_of(pa.concat_tables(store.read_commits(BATCH))) == rows_of(table)
        for region in REGIONS:
            asked = mine, region, TickRange(20, 150)
            assert store.query_commits_by_region(*asked).equals(reference.query_commits_by_region(*asked))
        store.remove_batch(BATCH)
        assert store.batches() == {}
        families = ("commits", "ids", "entries")
        assert [list(store._database.scan(family, b"")) for family in families] == [[], [], []]
        store.close()
    assert stopped > 10


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    program = """
for seq in range(10**6):
    store.persist_commits(f"commits/{seq}.parquet", AT, [chain("a", 0, range(seq * 5, seq * 5 + 5), REGIONS)])
    store.advance_ref("main", seq, b"move %d" % seq)
    print(seq, flush=True)
"""
    with _child(tmp_path, program) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(20)]
        child.kill()
        last = max(int(line) for line in [*said, *child.stdout.read().split(b"\n")[:-1]])
    store = RocksStore(URL, tmp_path)
    assert store.latest_seq("main") >= last
    for seq in range(store.latest_seq("main") + 1):
        assert store.read_ref("main", seq) == b"move %d" % seq
        table = chain("a", 0, range(seq * 5, seq * 5 + 5), REGIONS)
        assert rows_of(pa.concat_tables(store.read_commits(f"commits/{seq}.parquet"))) == rows_of(table)
    store.close()


def test_of_two_processes_one_wins(tmp_path: Path) -> None:
    program = """
for seq in range(5):
    try:
        store.advance_ref("main", seq, sys.argv[0].encode() + b" NAME")
        print(seq)
    except Conflict:
        pass
    store.close()
"""
    children = [_child(tmp_path, program.replace("NAME", name)) for name in "ab"]
    won = b"".join(child.communicate()[0] for child in children).split()
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(won) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_database_that_is_open_elsewhere(store: RocksStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.1)
    other = RocksStore(URL, tmp_path)
    with pytest.raises(Unavailable, match="another process"):
        other.create()
    store.close()
    other.create()
    other.close()


def test_a_full_disk(tmp_path: Path) -> None:
    child = _child(
        tmp_path,
        """
import resource
store.create()
store.persist_commits("commits/small.parquet", AT, [chain("a", 0, range(3), REGIONS)])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
table = chain("b", 0, range(1000), REGIONS)
try:
    store.persist_commits("commits/large.parquet", AT, [table])
except NotWritten as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.persist_commits("commits/large.parquet", AT, [table])
print(sum(part.num_rows for part in store.read_commits("commits/large.parquet")))
print(sum(part.num_rows for part in store.read_commits("commits/small.parquet")))
""",
    )
    said = child.communicate()[0].decode().splitlines()
    assert len(said) == 3
    assert "nothing was stored" in said[0]
    assert said[1:] == ["1000", "3"]
    assert issubclass(NotWritten, LedgerError)


def test_an_older_schema_is_brought_up(store: RocksStore, tmp_path: Path) -> None:
    """What stands under ids is made anew of the blocks, whatever it was."""
    table = chain("a", 0, range(40))
    store.persist_commits(BATCH, AT, [table])
    store.archive_commits(BATCH, table["commit_id"].to_pylist()[:3])
    mine, before = history(file_of(BATCH, table)), [*store._database.scan("ids", b"")]
    changes = store._database.changes()
    changes.put("meta", b"schema_version", b"1")
    changes.put_all("ids", [key for key, _ in before], [b"of old"] * len(before))
    store._database.write(changes, sync=True)
    store.close()
    again = RocksStore(URL, tmp_path)
    assert [*again._database.scan("ids", b"")] == before
    assert again._database.get("meta", b"schema_version") == b"2"
    assert found_in(again, mine, table["commit_id"][39].as_py()) == table.to_pylist()[39:]
    again.close()


def test_a_newer_schema_is_refused(store: RocksStore, tmp_path: Path) -> None:
    import rocksdict

    changes = store._database.changes()
    changes.put("meta", b"schema_version", b"3")
    store._database.write(changes, sync=True)
    store._database._database.create_column_family("of_the_future", rocksdict.Options(raw_mode=True)).close()
    store.close()
    with pytest.raises(UsageError, match="install a newer ledger-cli"):
        RocksStore(URL, tmp_path).create()


@pytest.mark.parametrize("url", ["rocksdb:///", "rocksdb://", "rocksdb://name", "rocksdb:///."])
def test_urls_that_name_no_place(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rocksdb:///"):
        RocksStore(url, tmp_path)


def test_places_that_are_taken(tmp_path: Path) -> None:
    import rocksdict

    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a directory of your own"):
        RocksStore("rocksdb:///file", tmp_path).create()
    foreign = rocksdict.Rdict(str(tmp_path / "foreign"))
    foreign.create_column_family("theirs").close()
    foreign.close()
    with pytest.raises(UsageError, match="another program"):
        RocksStore("rocksdb:///foreign", tmp_path).create()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "CURRENT").write_text("nothing\n")
    with pytest.raises(Corrupt, match="from a copy"):
        RocksStore("rocksdb:///torn", tmp_path).create()
    absolute = RocksStore(f"rocksdb:///{tmp_path}/a b%20c", Path("elsewhere"))
    absolute.create()
    absolute.close()
    assert (tmp_path / "a b c" / "CURRENT").exists()


def test_without_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(MissingExtra, match=r"ledger-cli\[rocksdb\]"):
        RocksStore(URL, tmp_path).create()


def test_a_missing_move_is_told(store: RocksStore, tmp_path: Path) -> None:
    for seq in range(3):
        store.advance_ref("main", seq, b"move")
    changes = store._database.changes()
    changes.delete("moves", records.head_of("main") + records.number_of(1))
    store._database.write(changes, sync=True)
    store.close()
    assert store.move_numbers("main") == [0, 2]
    with pytest.raises(Corrupt, match="move 1 of main"):
        store.advance_ref("main", 3, b"move")
    with pytest.raises(Conflict):
        store.advance_ref("main", 2, b"move")


_EPOCHS = st.lists(
    st.tuples(st.integers(0, 2**53 - 1) | st.integers(0, 500), st.integers(1, 2**52) | st.integers(1, 20)),
    min_size=1,
    max_size=60,
)
_TICK = st.none() | st.integers(0, 520) | st.integers(0, 2**53)


@given(epochs=_EPOCHS, ranges=st.lists(st.tuples(_TICK, _TICK), min_size=1, max_size=8))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ranges_over_epochs_of_any_length(
    store: RocksStore, epochs: list[tuple[int, int]], ranges: list[tuple[int | None, int | None]]
) -> None:
    """The blocks of a region are few records each, so that most ranges meet some of them only."""
    table = chain("a", 0, range(len(epochs)), REGIONS[:2])
    starts = [min(start, 2**53 - length) for start, length in epochs]
    ends = [start + length for start, (_, length) in zip(starts, epochs, strict=True)]
    table = table.set_column(5, COMMIT.field("epoch_start"), pa.array(starts))
    table = table.set_column(6, COMMIT.field("epoch_end"), pa.array(ends))
    reference = MemoryStore()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "_RECORDS_A_BLOCK", 3)
        for each in (store, reference):
            each.remove_batch(BATCH)
            each.persist_commits(BATCH, AT, [table])
    mine = history(file_of(BATCH, table))
    for low, high in ranges:
        asked = mine, REGIONS[0], TickRange(low, high)
        assert store.query_commits_by_region(*asked).equals(reference.query_commits_by_region(*asked))


def test_sums_of_128_bits(store: RocksStore) -> None:
    rows = chain("a", 0, range(1), ["r"], seed=1).to_pylist()
    wide = {"activity": str(LARGEST), "activity2": str(-(2**127)), "weight": "-1"}
    entry = {"region": "r", "n": 1, **wide, "weight_value": -0.0, "activity_mean": 5e-324, "activity_var": 1e308}
    table = pa.Table.from_pylist([{**rows[0], "entries": [entry]}], COMMIT)
    store.persist_commits(BATCH, AT, [table])
    mine = history(file_of(BATCH, table))
    found = store.query_commits_by_region(mine, "r", TickRange()).to_pylist()[0]
    assert {name: found[name] for name in entry} == entry
    assert str(found["weight_value"]) == "-0.0"
    assert found_in(store, mine, rows[0]["commit_id"]) == table.to_pylist()


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_DIGEST = st.text("0123456789abcdef", min_size=1, max_size=4)
_ENTRIES = st.dictionaries(
    _TEXT,
    st.tuples(*[st.integers(0, 2**53), *[st.integers(-(2**127), LARGEST)] * 3, *[st.floats(allow_nan=False)] * 3]),
    max_size=4,
)


@given(
    st.lists(
        st.tuples(_TEXT, st.lists(_DIGEST, max_size=3), _TEXT, st.none() | _ENTRIES, st.integers(0, 2**31)),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
@settings(deadline=None)
def test_a_commit_alone_is_as_it_was_given(
    given_rows: list[tuple[str, list[str], str, dict[str, tuple[float, ...]] | None, int]], data: st.DataObject
) -> None:
    """Whatever is in its texts and numbers, with its entries archived or not, and wherever in a table it stands."""
    names = COMMIT.field("entries").type.value_type.names
    made = chain("a", 0, range(len(given_rows))).to_pylist()
    for row, (layer, parents, reason, entries, _) in zip(made, given_rows, strict=True):
        listed = None
        if entries is not None:
            values = [(region, n, *map(str, each[:3]), *each[3:]) for region, (n, *each) in sorted(entries.items())]
            listed = [dict(zip(names, value, strict=True)) for value in values]
        row |= {"layer": layer, "parents": parents, "reason": reason, "entries": listed}
    first = data.draw(st.integers(0, len(made) - 1))
    table = pa.Table.from_pylist(made, rows.STORED).slice(first)
    parts = [part for *_, part in given_rows][first:]
    alone = records.single_commits(table, np.array(parts, np.uint32))
    raw = records.split_ids(table["commit_id"])
    for row, part, key, value in zip(made[first:], parts, raw, alone, strict=True):
        assert records.place_in(value) == (part, row["shard"], row["height"])
        assert repr(plain(records.commit_in(key, value))) == repr(row), "also the sign of a zero"


@pytest.mark.parametrize("batches", [8, 9])
def test_a_commit_among_many_batches(store: RocksStore, batches: int) -> None:
    """With more than eight they are no longer asked one by one; all of them but one have the commit that is meant."""
    table, other = chain("a", 0, range(3)), chain("b", 0, range(3))
    names = [f"commits/{at}.parquet" for at in range(batches + 2)]
    for name in names:
        store.persist_commits(name, AT, [other if name == names[1] else table])
    files = {name: file_of(name, other if name == names[1] else table) for name in names}
    row, absent = table.to_pylist()[2], other["commit_id"][0].as_py()
    assert found_in(store, history(*(files[name] for name in names[2:])), row["commit_id"]) == [row]
    assert found_in(store, history(*(files[name] for name in names[2:])), absent) == []
    assert found_in(store, history(*(files[name] for name in names[1:-1])), row["commit_id"]) == [row]
    assert found_in(store, history(*(files[name] for name in names[2:]), keep={"0": 2}), row["commit_id"]) == []


def test_the_client_opens_it(store: RocksStore, tmp_path: Path) -> None:
    """Whoever looks into a store with rocksdict alone finds all families, in the order of their keys."""
    import rocksdict

    table = chain("a", 0, range(40), REGIONS)
    store.persist_commits(BATCH, AT, [table])
    store.close()
    options = rocksdict.Options(raw_mode=True)
    path = str(tmp_path / "commits.rocksdb")
    assert {"meta", "moves", "batches", "commits", "ids", "entries", "entity_state"} < set(
        rocksdict.Rdict.list_cf(path, options)
    )
    opened = rocksdict.Rdict(path, options)
    meta, entries = opened.get_column_family("meta"), opened.get_column_family("entries")
    assert meta[b"schema_version"] == b"2"
    found = [(records.text_of(key), len(value)) for key, value in entries.items()]
    expected = [entry["region"] for row in table.to_pylist() for entry in row["entries"]]
    assert sum(size for _, size in found) == 128 * len(expected)
    assert {region for region, _ in found} == set(expected)
    for each in (meta, entries, opened):
        each.close()
