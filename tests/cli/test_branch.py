"""`ledger branch` and `ledger fork`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

LISTED = """\
branch  parent  commits  rows  watermark  digest        made (UTC)
────────────────────────────────────────────────────────────────────────
main    –             4    45         40  70d34ee24b0d  2026-01-01 00:00
hybrid  main          6    45         40  617609dcb3c7  2026-01-01 00:04
"""

KEYS = {
    "branch", "parent", "heads", "commits", "watermark", "rows", "policy", "digest", "createdAt", "createdBy", "why",
}  # fmt: skip


def test_list(forked: Path, ledger: Run) -> None:
    assert ledger("branch", "list").out == LISTED
    assert [(set(each), each["branch"]) for each in ledger("branch", "list", "--json").json] == [
        (KEYS, "main"),
        (KEYS, "hybrid"),
    ]


def test_delete(forked: Path, ledger: Run) -> None:
    said = ledger("branch", "delete", "hybrid").out
    assert said == 'deleted the branch hybrid; `ledger sql "FROM refs"` still shows its moves\n'
    assert [each["branch"] for each in ledger("branch", "list", "--json").json] == ["main"]
    assert "there is no branch 'hybrid'" in ledger("branch", "delete", "hybrid", code=2).err
    assert "(branches: main): did you mean main?" in ledger("log", "--branch", "mian", code=2).err
    assert "main cannot be deleted" in ledger("branch", "delete", "main", code=2).err


def test_a_branch_that_a_tag_needs_is_not_deleted(forked: Path, ledger: Run) -> None:
    own = ledger("log", "--branch", "hybrid", "--json").json[0]["commitId"]
    ledger("tag", "kept", own, "--branch", "hybrid")
    ledger("tag", "shared", "main")
    refused = ledger("branch", "delete", "hybrid", code=2).err
    assert "tag 'kept' names a commit of this branch alone" in refused
    assert "`ledger tag --delete kept`" in refused
    ledger("fork", "other", "--from", "kept")
    assert ledger("branch", "delete", "hybrid").out
    assert {each["tag"]: each["commitId"] for each in ledger("tag", "--json").json}["kept"] == own


def test_the_words_of_other_commands_name_no_branch_or_tag(world: Path, ledger: Run) -> None:
    assert "`ledger branch list`" in ledger("fork", "list", code=2).err
    assert "`ledger tag` alone lists the tags" in ledger("tag", "list", code=2).err
    assert ledger("tag", "--json").json == []


def test_fork(world: Path, ledger: Run) -> None:
    said = ledger("fork", "trial", "--from", "20").out
    assert said == "trial begins with 2 commits of main; next: `ledger commit --branch trial`\n"
    ledger("tag", "baseline")
    made = ledger("fork", "other", "--from", "baseline", "--weight", "softfloor:0.5", "-m", "to see", "--json").json
    assert set(made) == KEYS
    assert (made["parent"], made["commits"], made["why"]) == ("main", 4, "to see")


def test_fork_of_a_fork(forked: Path, ledger: Run) -> None:
    assert ledger("fork", "deeper", "--branch", "hybrid", "--json").json["parent"] == "hybrid"


def test_errors(forked: Path, ledger: Run) -> None:
    assert "branch 'hybrid' exists" in ledger("fork", "hybrid", code=2).err
    assert "is a tag" in ledger("fork", "baseline", code=2).err
    assert "cannot be a name" in ledger("fork", "a/b", code=2).err
    assert "nothing is called 'nope'" in ledger("fork", "x", "--from", "nope", code=2).err
    assert ledger("fork", "x", "--strategy", "sometimes", code=2).err
    assert "--max-mean 'much' must be a number" in ledger("fork", "x", "--max-mean", "much", code=2).err
    assert "Missing argument 'NAME'" in ledger("branch", "delete", code=2).err
    assert [each["branch"] for each in ledger("branch", "list", "--json").json] == ["main", "hybrid"]
