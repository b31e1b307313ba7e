"""`ledger compact`: many small files become few, and nothing else is to be seen of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.api import Ledger
from tests.cli.conftest import Run
from tests.conftest import Once

ASKED = [
    ("log", "--entries"),
    ("log", "--branch", "other"),
    ("gamma",),
    ("gamma", "--branch", "other"),
    ("sql", "SELECT count(*) AS n, sum(activity) AS a FROM ticks"),
    ("sql", "SELECT region, sum(weight_sum)::VARCHAR AS w FROM commit_entries GROUP BY region ORDER BY region"),
    ("sql", "SELECT line, reason FROM quarantine ORDER BY source, line"),
    ("replay", "--verify"),
]


@pytest.fixture
def home(ledger: Run, tmp_path: Path, once: Once) -> Path:
    """Six small ingests and commits, a fork of its own way, and refused rows."""
    root = tmp_path / "world"

    def make() -> None:
        ledger("init", root, "--regions", "grid:10", "--strategy", "fixed", "--interval", "10")
        for number in range(6):
            add(ledger, root, tmp_path, number)
        ledger("fork", "other", "--from", "20", "--ledger", root)
        ledger("commit", "--branch", "other", "--final", "--ledger", root)

    once(make)
    return root


def add(ledger: Run, root: Path, directory: Path, number: int) -> None:
    rows = [
        {"entityId": f"E{each}", "tickId": number * 10 + each, "x": each * 5, "y": 1, "activity": 0.5}
        for each in range(8)
    ]
    path = directory / f"{number}.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{" * (number + 1)]) + "\n")
    ledger("ingest", path, "--allow-quarantine", "--ledger", root)
    ledger("commit", "--ledger", root)


def answers(ledger: Run, root: Path) -> list[Any]:
    return [ledger(*each, "--json", "--ledger", root).json for each in ASKED]


def files(root: Path) -> list[str]:
    folders = ("segments", "commits", "quarantine", "packs")
    return [f"{folder}/{path.name}" for folder in folders for path in sorted((root / folder).glob("*"))]


def packs(root: Path) -> list[Path]:
    return sorted((root / "packs").glob("*"))


def test_few_files_are_left_and_every_answer_stays(ledger: Run, home: Path) -> None:
    before, small = answers(ledger, home), files(home)
    done = ledger("compact", "--grace", "0s", "--json", "--ledger", home).json
    assert {each["kind"]: each["packs"] for each in done["packed"]} == {"segments": 1, "commits": 1, "quarantine": 1}
    assert sum(each["files"] for each in done["packed"]) == done["removed"] == len(small)
    assert (done["waiting"], done["dryRun"]) == (0, False)
    assert len(files(home)) == 3
    assert answers(ledger, home) == before
    assert ledger("verify", "--json", "--ledger", home).json["ok"]


def test_files_stay_for_a_day_beside_their_packs(ledger: Run, home: Path) -> None:
    small = files(home)
    first = ledger("compact", "--json", "--ledger", home).json
    assert (first["removed"], first["waiting"]) == (0, len(small))
    assert set(files(home)) > set(small)
    assert "still there" in ledger("compact", "--ledger", home).out
    second = ledger("compact", "--grace", "0s", "--json", "--ledger", home).json
    assert (second["packed"], second["removed"]) == ([], len(small))


def test_twice_does_nothing(ledger: Run, home: Path) -> None:
    ledger("compact", "--grace", "0s", "--ledger", home)
    before = files(home), sorted((home / "refs" / "admin").iterdir())
    done = ledger("compact", "--grace", "0s", "--ledger", home)
    assert done.out == "no small files to pack\n"
    assert (files(home), sorted((home / "refs" / "admin").iterdir())) == before


def test_a_dry_run_changes_nothing(ledger: Run, home: Path) -> None:
    small = files(home)
    done = ledger("compact", "--dry-run", "--json", "--ledger", home).json
    assert done["dryRun"]
    assert sum(each["files"] for each in done["packed"]) == len(small)
    assert files(home) == small
    assert "would be packed" in ledger("compact", "--dry-run", "--ledger", home).out


def test_what_comes_later_goes_into_a_pack_with_what_was_packed(ledger: Run, home: Path, tmp_path: Path) -> None:
    ledger("compact", "--grace", "0s", "--ledger", home)
    for number in range(6, 14):
        add(ledger, home, tmp_path, number)
    before = answers(ledger, home)
    ledger("compact", "--grace", "0s", "--ledger", home)
    assert len(files(home)) == 3
    assert answers(ledger, home) == before
    assert ledger("verify", "--json", "--ledger", home).json["ok"]


def test_a_file_that_is_not_small_is_left_alone(ledger: Run, home: Path) -> None:
    assert ledger("compact", "--below", "100", "--ledger", home).out == "no small files to pack\n"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("--below", "many", "no size"), ("--target", "1TB", "no size"), ("--grace", "soon", "no length of time")],
)
def test_options_that_say_nothing(ledger: Run, home: Path, option: str, value: str, told: str) -> None:
    assert told in ledger("compact", option, value, "--ledger", home, code=2).err


def test_damaged_files_are_not_packed(ledger: Run, home: Path) -> None:
    before = files(home)
    damaged = sorted((home / "segments").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert f"segments/{damaged.name}" in ledger("compact", "--grace", "0s", "--ledger", home, code=1).err
    assert files(home) == before


@pytest.mark.parametrize("kind", ["segments", "commits", "quarantine"])
def test_verify_finds_a_pack_that_was_changed(ledger: Run, home: Path, kind: str) -> None:
    ledger("compact", "--grace", "0s", "--ledger", home)
    (pack,) = (each for each in packs(home) if each.name.startswith(kind))
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.unlink()
    pack.write_bytes(data)
    found = ledger("verify", "--json", "--ledger", home, code=4).json["findings"]
    assert f"packs/{pack.name}" in {each["file"] for each in found}


def test_verify_finds_a_pack_that_is_missing(ledger: Run, home: Path) -> None:
    ledger("compact", "--ledger", home)
    before = answers(ledger, home)
    packs(home)[0].unlink()
    assert answers(ledger, home) == before, "the files themselves are there"
    found = ledger("verify", "--json", "--ledger", home, code=4).json["findings"]
    assert [each["file"].startswith("packs/commits-") for each in found] == [True] * len(found)
    assert "restore it from a copy" in ledger("compact", "--grace", "0s", "--ledger", home, code=1).err
    assert answers(ledger, home) == before, "nothing was taken away that it held"


def test_a_copy_has_the_files_again(ledger: Run, home: Path, tmp_path: Path) -> None:
    small, before = files(home), answers(ledger, home)
    ledger("compact", "--grace", "0s", "--ledger", home)
    ledger("copy", home, tmp_path / "copy")
    assert set(small) < set(files(tmp_path / "copy"))
    assert answers(ledger, tmp_path / "copy") == before
    ledger("diff", "--with", tmp_path / "copy", "--ledger", home)
    assert ledger("compact", "--grace", "0s", "--json", "--ledger", tmp_path / "copy").json["removed"] == len(small)
    assert files(tmp_path / "copy") == files(home)


def test_copies_of_what_is_packed_are_bounded(ledger: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("archive", "--before", "40", "--ticks", "--dry-run", "--ledger", home)
    before = ledger(*asked).out
    ledger("compact", "--grace", "0s", "--ledger", home)
    assert ledger(*asked).out == before
    assert [*(home / "cache").rglob("*.parquet")]
    shutil.rmtree(home / "cache")
    monkeypatch.setenv("LEDGER_CACHE_SIZE", "1B")
    assert ledger(*asked).out == before
    assert not [*(home / "cache").rglob("*.parquet")]


def test_two_compacted_ledgers_are_reconciled(ledger: Run, home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "there")
    add(ledger, tmp_path / "there", tmp_path, 6)
    add(ledger, home, tmp_path, 7)
    for root in (home, tmp_path / "there"):
        ledger("compact", "--grace", "0s", "--ledger", root)
    ledger("sync", tmp_path / "there", "--ledger", home)
    counted = ledger("sql", "SELECT count(*) AS n FROM ticks", "--json", "--ledger", home).json
    assert counted == [{"n": 64}]
    assert ledger("verify", "--json", "--ledger", home).json["ok"]


def test_a_reader_goes_on_while_files_vanish(home: Path) -> None:
    with Ledger.open(home) as reader, Ledger.open(home) as other:
        before = reader.gamma().to_json()
        rows = reader.sql("SELECT * FROM ticks ORDER BY ALL").to_pylist()
        with reader.sql_answer("SELECT * FROM ticks ORDER BY ALL") as answer:
            other.compact(grace="0s")
            assert [row for batch in answer.batches for row in batch.to_pylist()] == rows
        mine, theirs = (each.gamma(half_life=7).to_json()["regions"] for each in (reader, other))
        # Decayed weights are within 10⁻¹² of what is exact; the last bit is whichever thread was first.
        assert [{**row, "weight": pytest.approx(row["weight"], rel=1e-12)} for row in mine] == theirs
        assert reader.gamma().to_json() == before
        assert reader.sql("SELECT * FROM ticks ORDER BY ALL").to_pylist() == rows
        assert reader.replay().ok
