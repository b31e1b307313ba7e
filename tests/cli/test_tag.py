"""`ledger tag`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

LISTED = """\
tag    commit         branch  shard  ticks
──────────────────────────────────────────
first  7c9617b9-ff94  main        0  0…10
"""


def test_make_list_delete(world: Path, ledger: Run) -> None:
    assert ledger("tag").out == "no tags yet: `ledger tag NAME [COMMIT]` makes one\n"
    assert ledger("tag", "first", "7c9617").out == "first names 7c9617b9-ff94 of main, ticks 0…10\n"
    assert ledger("tag").out == LISTED
    assert ledger("tag", "--delete", "first").out == "took the tag first away; its commit stays\n"
    assert ledger("tag", "--json").json == []


def test_without_a_commit_it_is_the_newest(world: Path, ledger: Run) -> None:
    made = ledger("tag", "now", "--json").json
    assert set(made) == {"tag", "branch", "commitId", "digest", "shard", "height", "epochStart", "epochEnd"}
    assert made["epochEnd"] == 40
    assert ledger("tag", "--json").json == [made]
    assert ledger("tag", "--delete", "now", "--json").json == {"deleted": "now"}


def test_errors(world: Path, ledger: Run) -> None:
    ledger("tag", "v1", "main")
    assert "`ledger tag --delete v1` first" in ledger("tag", "v1", "7c9617", code=2).err
    assert "is a branch" in ledger("tag", "main", "7c9617", code=2).err
    assert "is a tick" in ledger("tag", "v2", "20", code=2).err
    assert "cannot be a name" in ledger("tag", "1", "main", code=2).err
    assert "there is no tag 'nope'" in ledger("tag", "--delete", "nope", code=2).err
    assert "ledger tag --delete NAME" in ledger("tag", "v1", "--delete", "v1", code=2).err
