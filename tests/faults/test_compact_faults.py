"""`compact`, killed at any instant, beside commits, readers and other compactions, and on a full disk.

LEDGER_FAULT_SEED gives other instants.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.api import Ledger
from ledger_cli.engines.common import duck_sql
from ledger_cli.errors import Conflict, Corrupt
from tests.faults.disks import SmallDisk
from tests.faults.jobs import Job, Nursery
from tests.faults.worlds import POLICY, SEED, commits, instants, is_swept, new_ledger, write_rows

SECONDS = 0.8
"""About what the undisturbed command takes; some instants lie behind its end."""
AT_ONCE = {"grace": "0s"}

Prepared = dict[str, Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, jobs: Nursery) -> Prepared:
    """A ledger of many small files, and what it holds."""
    home = tmp_path_factory.mktemp("compact")
    ledger = new_ledger(home / "before")
    names = [f"E{number}" for number in range(5)]
    for place in range(12):
        file = write_rows(home / f"{place}.jsonl", range(place * 20, place * 20 + 20), names, spoiled=50)
        with Ledger.open(ledger) as opened:
            opened.ingest(file)
            opened.commit(**(POLICY if not place else {}))
    late = write_rows(home / "late.jsonl", range(240, 280), names)
    found: Prepared = {"before": ledger, "late": str(late), "commits": commits(ledger), "rows": ticks(ledger)}
    after = copied(found, home / "after")
    jobs.finish(Job(after, "ingest", [str(late)]), Job(after, "commit", options={"final": True}))
    return {**found, "commits_late": commits(after), "rows_late": ticks(after)}


def ticks(root: Path) -> list[Any]:
    with Ledger.open(root) as ledger:
        return ledger.sql("SELECT * FROM ticks ORDER BY ALL").to_pylist()


def copied(prepared: Prepared, path: Path) -> Path:
    shutil.copytree(prepared["before"], path)
    return path


def holds_all(prepared: Prepared, ledger: Path) -> None:
    assert commits(ledger) == prepared["commits"]
    assert ticks(ledger) == prepared["rows"]


def ends_as_undisturbed(jobs: Nursery, prepared: Prepared, ledger: Path) -> None:
    jobs.finish(Job(ledger, "compact", options=AT_ONCE))
    assert is_swept(ledger)
    assert not [*(ledger / "segments").iterdir(), *(ledger / "commits").iterdir()]
    holds_all(prepared, ledger)
    jobs.finish(Job(ledger, "ingest", [prepared["late"]]), Job(ledger, "commit", options={"final": True}))
    assert commits(ledger) == prepared["commits_late"]
    assert ticks(ledger) == prepared["rows_late"]


@pytest.mark.parametrize("instant", instants(8, SECONDS, SEED, soak=100))
def test_killed(jobs: Nursery, prepared: Prepared, tmp_path: Path, instant: float) -> None:
    ledger = copied(prepared, tmp_path / "world")
    jobs.run(Job(ledger, "compact", options=AT_ONCE), kill_after=instant)
    holds_all(prepared, ledger)
    ends_as_undisturbed(jobs, prepared, ledger)


def test_killed_again_and_again_on_one_ledger(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    ledger = copied(prepared, tmp_path / "world")
    for place in range(10):
        jobs.run(Job(ledger, "compact", options=AT_ONCE), kill_after=0.06 * place)
    ends_as_undisturbed(jobs, prepared, ledger)


def test_beside_ingests_commits_and_readers(jobs: Nursery, prepared: Prepared, tmp_path: Path) -> None:
    for place in range(4):
        ledger = copied(prepared, tmp_path / f"world-{place}")
        ingesting, committing = (
            Job(ledger, "ingest", [prepared["late"]]),
            Job(ledger, "commit", options={"final": True}),
        )
        compacting = Job(ledger, "compact", options=AT_ONCE)
        readers = [Job(ledger, "replay"), Job(ledger, "sql", ["SELECT count(*), sum(activity) FROM ticks"])]
        outcomes = jobs.run(*[ingesting, committing, compacting, *readers, committing][place % 2 :], compacting)
        errors = [outcome.error for outcome in outcomes if outcome.error]
        assert all(error.startswith("Conflict: ") for error in errors), errors
        jobs.finish(ingesting, committing, compacting)
        assert commits(ledger) == prepared["commits_late"]
        assert ticks(ledger) == prepared["rows_late"]


@pytest.mark.parametrize("processes", [2, 4])
def test_several_at_once(jobs: Nursery, prepared: Prepared, tmp_path: Path, processes: int) -> None:
    ledger = copied(prepared, tmp_path / "world")
    outcomes = jobs.run(*[Job(ledger, "compact", options=AT_ONCE)] * processes)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    assert len(errors) < processes
    assert all(error.startswith("Conflict: ") for error in errors), errors
    holds_all(prepared, ledger)
    ends_as_undisturbed(jobs, prepared, ledger)


def test_a_full_disk(jobs: Nursery, prepared: Prepared, small_disk: SmallDisk) -> None:
    ledger = copied(prepared, small_disk.path / "world")
    small_disk.leave(16)
    (outcome,) = jobs.run(Job(ledger, "compact", options=AT_ONCE))
    assert outcome.error.startswith("NotWritten: the ledger cannot be written"), outcome.error
    assert not (ledger / "packs").exists()
    assert is_swept(ledger)
    small_disk.leave(100 << 10)
    ends_as_undisturbed(jobs, prepared, ledger)


# -- rows that are taken while packs go away ---------------------------------------------------------------

ROWS = 6_000
FILES = 40


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with packs of more rows than DuckDB reads ahead: the last ones are opened when they are come to."""
    home = tmp_path_factory.mktemp("packed")
    root = home / "world"
    with Ledger.create(root, regions="grid:10", interval=5) as ledger:
        for part in range(FILES):
            ledger.ingest(_many(home / "ticks.parquet", part * ROWS, ROWS))
        most = max(path.stat().st_size for path in (root / "segments").iterdir())
        ledger.compact(below="1GiB", target=most + 1, grace="0s")
    assert len(packs(root)) == FILES // 2
    return root


def _many(path: Path, first: int, count: int) -> str:
    number = np.arange(first, first + count)
    columns = {"entityId": [f"{each:060}" for each in number], "tickId": number, "x": number * 0.7, "y": number * 0.3}
    pq.write_table(pa.table({**columns, "activity": np.ones(count)}), path)
    return str(path)


def packs(root: Path) -> set[str]:
    return {path.name for path in (root / "packs").iterdir()}


def _replaced(root: Path) -> None:
    """What another process does meanwhile: the packs go into another one, and away."""
    before = packs(root)
    with Ledger.open(root) as ledger:
        for part in range(5):
            ledger.ingest(_many(root.parent / "more.parquet", (2 * FILES + part) * ROWS, 10))
        ledger.compact(below="1GiB", grace="0s")
        ledger.compact(below="1GiB", grace="0s")
    assert not before & packs(root)


def _taken(root: Path, patch: pytest.MonkeyPatch) -> list[int]:
    """The ticks that a query gives, whose packs are replaced after its first rows."""
    patch.setattr(duck_sql, "_BATCH_ROWS", 1_000)
    patch.setenv("LEDGER_THREADS", "1")
    with Ledger.open(root) as ledger, ledger.sql_answer("SELECT * FROM ticks") as answer:
        found = next(answer.batches)["tick_id"].to_pylist()
        assert len(found) < ROWS * FILES
        _replaced(root)
        for batch in answer.batches:
            found += batch["tick_id"].to_pylist()
        return found


def test_a_query_goes_on_in_a_pack_that_was_replaced_and_taken_away(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "world"))
    assert sorted(_taken(root, monkeypatch)) == list(range(FILES * ROWS))
    with Ledger.open(root) as ledger:
        assert ledger.sql("SELECT count(*) AS n FROM ticks").to_pylist() == [{"n": FILES * ROWS + 50}]


def test_a_query_whose_pack_is_gone_says_so(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more packs than can be held open; unless DuckDB has opened all of them before the first rows."""
    root = Path(shutil.copytree(packed, tmp_path / "world"))
    monkeypatch.setattr(duck_sql, "_HELD_MAX", 0)
    try:
        said, rows = "", sorted(_taken(root, monkeypatch))
    except Conflict as error:
        said, rows = str(error), []
    told = re.match(r"packs/\S+ was replaced by a larger pack, .* run the query again", said)
    assert told or rows == list(range(FILES * ROWS))
    monkeypatch.undo()
    with Ledger.open(root) as ledger:
        assert ledger.sql("SELECT count(*) AS n FROM ticks").to_pylist() == [{"n": FILES * ROWS + 50}]


def test_a_pack_that_is_missing_is_not_taken_for_one_that_was_replaced(packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "world"))
    for path in (root / "packs").iterdir():
        path.unlink()
    with Ledger.open(root) as ledger, pytest.raises(Corrupt):
        ledger.sql("SELECT count(*) AS n FROM ticks")
