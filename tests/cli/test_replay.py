"""`ledger replay` and `ledger verify`: what is found in a damaged ledger, and what-if."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Run

DIGEST = "70d34ee24b0db39db8b691fd6e28f780f5f5178008b6db45228dcdec23c198d9"


def test_verified(world: Path, ledger: Run) -> None:
    assert ledger("replay", "--verify").out == (
        f"main: 4 commits of 1 run recomputed, all equal\nbranch digest {DIGEST}\n"
    )
    part = ledger("replay", "--verify", "--from", "10", "--to", "30", "--expect", DIGEST[:12], "--json").json
    assert part == {
        "branch": "main",
        "ok": True,
        "digest": DIGEST,
        "runs": 1,
        "skippedRuns": 0,
        "commits": 2,
        "difference": None,
    }


def test_unexpected_digest(world: Path, ledger: Run) -> None:
    ran = ledger("replay", "--verify", "--expect", "0" * 64, "--json", code=4)
    assert ran.json["difference"]["what"] == "digest"
    assert ran.err == (
        f"ledger: main was expected to have the branch digest {'0' * 64}, and has {DIGEST}: if it went on since, "
        "note that one; if not, its log was cut short: restore refs/main from a copy\n"
    )


def _more_activity(table: pa.Table) -> pa.Table:
    place = table.column_names.index("activity")
    values = [value + 1 if row == 3 else value for row, value in enumerate(table["activity"].to_pylist())]
    return table.set_column(place, table.schema.field(place), pa.array(values))


@pytest.fixture
def damaged(world: Path) -> Path:
    """A tick in a segment has another activity than it came with."""
    return _changed(world, "segments", _more_activity)


def _changed(world: Path, folder: str, change: Callable[[pa.Table], pa.Table]) -> Path:
    (path,) = (world / folder).rglob("*.parquet")
    table = pq.read_table(path, partitioning=None)
    path.chmod(0o644)
    pq.write_table(change(table), path)
    return path


def test_first_difference_region_by_region(damaged: Path, ledger: Run) -> None:
    ran = ledger("replay", "--verify", code=4)
    assert ran.out.startswith("main: 0 commits of 1 run compared before a difference\n")
    table = [re.split(r"  +", line.strip()) for line in ran.out.splitlines()]
    assert ["region", "exact sum", "stored", "recomputed"] in table
    row = next(row for row in table if row[1:2] == ["activity"])
    assert int(row[3]) - int(row[2]) == 10**9
    assert "`ledger verify`" in ran.err
    found = ledger("replay", "--verify", "--json", code=4).json["difference"]
    assert set(found) == {"what", "branch", "move", "message", "stored", "recomputed", "header", "regions"}
    assert [set(each) for each in found["regions"]] == [{"region", "stored", "recomputed"}]


def test_a_change_below_the_range_is_not_blamed_on_a_commit_within_it(damaged: Path, ledger: Run) -> None:
    ran = ledger("replay", "--verify", "--from", "20", "--json", code=4)
    found = ran.json["difference"]
    assert (found["stored"]["epochStart"], list(found["header"]), found["regions"]) == (20, ["parents"], [])
    assert "has other parents and is the same otherwise: the difference lies below tick 20" in found["message"]
    within = ledger("replay", "--verify", "--from", "0", "--json", code=4).json["difference"]
    assert "comes out of the events as" in within["message"]


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_move_is_noticed(missing: int, world: Path, ledger: Run) -> None:
    ledger("tag", "x")
    for _ in range(3):
        ledger("commit")
    (world / "refs" / "main" / f"{missing:020d}.json").unlink()
    ran = ledger("replay", "--verify", "--json", code=4)
    found = ran.json["difference"]
    assert (found["what"], found["move"]) == ("file", missing)
    assert found["message"].startswith(f"move {missing} of main is missing, later ones are there")
    ledger("verify", code=4)


def test_findings(damaged: Path, ledger: Run) -> None:
    ran = ledger("verify", code=4)
    assert "its SHA-256 is not the one in the log" in ran.out
    assert damaged.name in ran.out
    assert "1 finding" in ran.err
    report = ledger("verify", "--json", code=4).json
    assert set(report) == {"ok", "refs", "moves", "files", "bytes", "commits", "findings"}
    assert [set(each) for each in report["findings"]] == [{"file", "what", "nextStep"}]


def test_a_missing_file_is_an_error_of_one_line(world: Path, ledger: Run) -> None:
    for path in (world / "commits").rglob("*.parquet"):
        path.unlink()
    ledger("verify", code=4)
    for command in (["log"], ["show", "main"], ["gamma"], ["diff", "main", "20"], ["sql", "FROM commits"]):
        assert ledger(*command, code=1).err


def test_whole(world: Path, ledger: Run) -> None:
    said = ledger("verify").out
    assert re.fullmatch(r"1 ref, 3 moves, 2 files \([\d ]+ bytes\) and 4 commits read: all as written\n", said)
    assert ledger("verify", "--branch", "main", "--json").json["findings"] == []
    assert "there is no branch 'nope'" in ledger("verify", "--branch", "nope", code=2).err


def test_what_if(world: Path, ledger: Run) -> None:
    said = ledger("replay", "--fork", "coarse", "--interval", "20").out
    assert said == "made 2 commits with 5 entries on coarse; next: `ledger diff main coarse`\n"
    keys = {"branch", "commits", "entries", "watermark", "heads", "policy"}
    assert set(ledger("replay", "--fork", "c", "--from", "20", "--interval", "5", "--json").json) == keys


def test_what_if_is_as_final_as_the_last_run_with_news(world: Path, ledger: Run) -> None:
    ledger("commit")
    assert ledger("replay", "--fork", "same").out.startswith("made 4 commits")
    assert ledger("diff", "main", "same", "--first").out.endswith("both are the same chains\n")
    open_tick = '{"entityId":"a","tickId":47,"x":1,"y":1,"activity":1}'
    ledger("ingest", "-", stdin=open_tick)
    ledger("commit")
    assert ledger("replay", "--fork", "open").out.startswith("made 4 commits")
    ledger("replay", "--verify")


def test_errors(world: Path, ledger: Run) -> None:
    assert "`ledger replay --verify`" in ledger("replay", code=2).err
    assert "`ledger replay --verify`" in ledger("replay", "--verify", "--fork", "x", code=2).err
    assert "leave them out" in ledger("replay", "--fork", "x", "--to", "3", code=2).err
    assert "with --verify give a tick" in ledger("replay", "--verify", "--from", "main", code=2).err
    assert "go with --fork" in ledger("replay", "--verify", "--interval", "3", code=2).err
    assert "at least 8" in ledger("replay", "--verify", "--expect", "ab", code=2).err
    assert "exists" in ledger("replay", "--fork", "main", code=2).err
