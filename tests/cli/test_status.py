"""`ledger status`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

STATUS = """\
branch         main
rows           45 in 1 segment
highest tick   38
watermark      40
rows waiting   0 at or above the watermark, 0 late
quarantined    0
commits        4
last run       commit made 4 commits, final, 2026-01-01 00:02 UTC by tester@host
policy         strategy fixed (interval 10); regions grid (cell 10); weight linear; base-weight 1; shards 1; lateness 0
policy digest  09e416c00d95df0e40ad966090d29ddb3e98abcdabd901ca0c13cbae6a6e2a8c
branch digest  70d34ee24b0db39db8b691fd6e28f780f5f5178008b6db45228dcdec23c198d9
moves          3
world          –
forks          hybrid
tags           baseline

shard  commits  head digest   open since tick
─────────────────────────────────────────────
    0        4  ad1ce223bd53               40
"""

KEYS = {
    "branch", "parent", "moves", "rows", "segments", "highestTick", "watermark", "policy", "policyDigest", "commits",
    "shards", "rowsOpen", "rowsLate", "quarantined", "lastRun", "digest", "forks", "tags", "world",
    "transactions", "warnings", "archives",
}  # fmt: skip


def test_text(forked: Path, ledger: Run) -> None:
    assert ledger("status").out == STATUS


def test_of_a_fork(forked: Path, ledger: Run) -> None:
    assert ledger("status", "--branch", "hybrid").out.startswith("branch         hybrid (a fork of main)\n")


def test_json(world: Path, ledger: Run) -> None:
    found = ledger("status", "--json").json
    assert set(found) == KEYS
    assert set(found["shards"]["0"]) == {"head", "commits", "start"}


def test_of_an_empty_ledger(tmp_path: Path, ledger: Run) -> None:
    ledger("init", tmp_path / "new")
    text = ledger("status", "--ledger", tmp_path / "new").out
    assert "watermark      not set\n" in text
    assert "last run       –\n" in text


def test_errors(tmp_path: Path, world: Path, ledger: Run) -> None:
    assert "there is no branch 'nope'" in ledger("status", "--branch", "nope", code=2).err
    assert "`ledger init" in ledger("status", "--ledger", tmp_path / "none", code=2).err


def test_a_policy_is_named_as_its_options_are(world: Path, ledger: Run) -> None:
    ledger("fork", "other", "--strategy", "hybrid", "--min-interval", "3", "--max-size", "9", "--base-weight", "2")
    shown = ledger("status", "--branch", "other").out
    assert "strategy hybrid (max-size 9, min-interval 3); " in shown
    assert "base-weight 2; " in shown
    assert ledger("status", "--branch", "other", "--json").json["policy"]["strategy"]["minInterval"] == 3
