"""`init --store`, `stores`, `copy` and `diff --with`: a ledger is the same one whatever keeps its commits and refs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger_cli.wiring import ledgers
from tests.cli.conftest import Run
from tests.stores.engines import ELSEWHERE, NAMES, place

FIXTURES = Path(__file__).parents[2] / "fixtures"
RECIPES = Path(__file__).parents[2] / "recipes"
NO_ENGINES = {"memory", "directory", *ELSEWHERE, "ceph"}
STORES = ["elsewhere", *(name for name in NAMES if name not in NO_ENGINES)]
POLICY = ["--regions", "grid:25", "--shards", "2", "--interval", "10", "--weight", "nonlinear:0.7,0.3"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ledgers.COMMIT_STORES, "elsewhere", "tests.stores.elsewhere:Elsewhere")


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "elsewhere":
        yield "elsewhere:///there"
    else:
        with place(request.param) as given:
            yield given


def filled(ledger: Run, home: Path, *options: str) -> None:
    """A ledger with commits of three runs, a fork and a tag."""
    ledger("init", home, *POLICY, *options)
    for name in sorted((FIXTURES / "batches").iterdir()):
        ledger("ingest", name, "--ledger", home)
        ledger("commit", "--ledger", home)
    ledger("commit", "--final", "--ledger", home)
    ledger("fork", "other", "--from", "20", "--ledger", home)
    ledger("commit", "--branch", "other", "--force", "--region", "0:0", "--ledger", home)
    newest = ledger("log", "--limit", "1", "--ledger", home, "--json").json[0]["commitId"]
    ledger("tag", "noon", newest, "--ledger", home)


def answers(ledger: Run, home: Path) -> list[object]:
    """What the commands that look say of a ledger."""
    asked = [
        ("log", "--entries"),
        ("log", "--region", "0:0", "--limit", "3"),
        ("log", "--branch", "other"),
        ("gamma",),
        ("gamma", "--branch", "other", "--region", "0:0", "--window", "20"),
        ("diff", "main", "other"),
        ("sql", "SELECT region, sum(n) AS n FROM commit_entries GROUP BY region ORDER BY region"),
        ("branch", "list"),
    ]
    return [_timeless(ledger(*each, "--ledger", home, "--json").json) for each in asked]


def _timeless(said: object) -> object:
    if isinstance(said, dict):
        return {name: _timeless(each) for name, each in said.items() if name not in ("createdAt", "at", "created_at")}
    return [_timeless(each) for each in said] if isinstance(said, list) else said


def test_every_command_says_the_same(ledger: Run, tmp_path: Path, url: str) -> None:
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    filled(ledger, plain)
    filled(ledger, stored, "--store", url)
    assert not (stored / "commits").exists()
    assert answers(ledger, stored) == answers(ledger, plain)
    newest = ledger("log", "--limit", "1", "--ledger", stored, "--json").json[0]["commitId"]
    assert ledger("show", newest, "--ledger", stored, "--json").json["entries"]
    for branch in ("main", "other"):
        ledger("replay", "--verify", "--branch", branch, "--ledger", stored)
    verified = ledger("verify", "--ledger", stored, "--json").json
    assert (verified["ok"], verified["commits"]) == (
        True,
        ledger("verify", "--ledger", plain, "--json").json["commits"],
    )


@pytest.mark.parametrize("recipe", ["quickstart", "what-if", "partition"])
def test_recipes_end_with_the_same_ids(
    ledger: Run, tmp_path: Path, url: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_STORE", url)
    ledger("run", RECIPES / f"{recipe}.toml", "--check", "--ledger", tmp_path / "world")


def test_a_copy_is_the_same_ledger(ledger: Run, tmp_path: Path, url: str) -> None:
    plain, stored, back = tmp_path / "plain", tmp_path / "stored", tmp_path / "back"
    filled(ledger, plain)
    copied = ledger("copy", plain, stored, "--store", url, "--json").json
    assert copied["verify"]["ok"]
    assert copied["moves"] > 5
    assert ledger("copy", plain, stored, "--json").json["moves"] == 0
    ledger("diff", "--ledger", plain, "--with", stored)
    assert answers(ledger, stored) == answers(ledger, plain)
    ledger("copy", stored, back)
    ledger("diff", "--ledger", plain, "--with", back)
    ledger("verify", "--ledger", back)
    ledger("replay", "--verify", "--ledger", back)
    # What goes on in one of them shows, and the copy can be brought up to date, but not back.
    ledger("commit", "--force", "--region", "0:0", "--branch", "other", "--ledger", stored)
    ledger("fork", "third", "--ledger", stored)
    apart = ledger("diff", "--ledger", stored, "--with", back, "--json", code=4).json["differences"]
    assert "third" in [each["ref"] for each in apart]
    assert ledger("copy", stored, back, "--json").json["moves"] >= 1
    ledger("diff", "--ledger", stored, "--with", back)
    assert "went on alone" in ledger("copy", plain, stored, code=2).err


def test_the_engine_has_the_state_of_entities(ledger: Run, tmp_path: Path, url: str) -> None:
    home = tmp_path / "stored"
    filled(ledger, home, "--store", url)
    late = '{"entityId":"late","tickId":7,"x":0,"y":0,"activity":0.5,"meta":{"a":1}}'
    ledger("ingest", "-", "--format", "jsonl", "--ledger", home, stdin=late)
    ledger("commit", "--ledger", home)
    again = '{"entityId":"late","tickId":3,"x":0,"y":0,"activity":0.25}'
    ledger("ingest", "-", "--format", "jsonl", "--ledger", home, stdin=again)
    ledger("commit", "--ledger", home)
    sql = "SELECT entity_id, last_tick, activity, activity_history AS history FROM entity_state ORDER BY entity_id"
    expected = ledger("sql", sql, "--ledger", home, "--json").json
    store = ledgers.make_commit_store(url, home)
    rows = store.entity_state().to_pylist()
    store.close()
    assert [row["entity_id"] for row in rows] == [each["entity_id"] for each in expected]
    for row, each in zip(rows, expected, strict=True):
        assert (row["last_tick"], row["activity"]) == (each["last_tick"], each["activity"])
        assert [activity for _, activity in json.loads(row["activity_history"])] == each["history"]
    found = {row["entity_id"]: row for row in rows}["late"]
    assert (found["activity_history"], found["metadata"]) == ("[[3,0.25],[7,0.5]]", '{"a":1}')


def test_a_store_keeps_one_ledger(ledger: Run, tmp_path: Path, url: str) -> None:
    url = url.replace(":///", f":///{tmp_path}/")
    ledger("init", tmp_path / "one", "--store", url)
    ledger("ingest", next((FIXTURES / "batches").iterdir()), "--ledger", tmp_path / "one")
    ledger("commit", "--final", "--ledger", tmp_path / "one")
    refused = ledger("init", tmp_path / "two", "--store", url, code=2)
    assert "keeps a ledger already" in refused.err
    assert not (tmp_path / "two" / "ledger.toml").exists()


def test_a_fresh_machine_reads_what_another_wrote(ledger: Run, tmp_path: Path, url: str) -> None:
    home = tmp_path / "stored"
    filled(ledger, home, "--store", url)
    said = answers(ledger, home)
    shutil.rmtree(home / "cache")
    assert answers(ledger, home) == said


def test_copies_are_bounded(ledger: Run, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "stored"
    filled(ledger, home, "--store", url)
    said = answers(ledger, home)
    assert [*(home / "cache").rglob("*.parquet")]
    shutil.rmtree(home / "cache")
    monkeypatch.setenv("LEDGER_CACHE_SIZE", "1B")
    assert answers(ledger, home) == said, "what was thrown out while it was read is there for its reader"
    assert not [*(home / "cache").rglob("*.parquet")]


def test_unknown_stores(ledger: Run, tmp_path: Path) -> None:
    assert "no store for oracle://" in ledger("init", tmp_path / "w", "--store", "oracle://x", code=2).err
    assert not (tmp_path / "w").exists()


def test_stores_are_listed(ledger: Run) -> None:
    listed = ledger("stores", "--json").json
    assert [each["url"] for each in listed] == ["PATH", "s3://", *(f"{scheme}://" for scheme in ledgers.COMMIT_STORES)]
    assert "Parquet" in ledger("stores").out
    assert all(each["durable"] for each in listed)
