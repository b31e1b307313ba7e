"""What a user can do wrong: one line on stderr that names the next step, and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

import ledger_cli
from ledger_cli import errors
from ledger_cli.cli import main as command_line
from ledger_cli.stores.directory import DirectoryStore
from tests.cli.conftest import Run

READERS = (["log"], ["show", "main"], ["status"], ["gamma"], ["sql", "FROM ticks"], ["verify"], ["branch", "list"])


def test_unknown_command(ledger: Run) -> None:
    assert ledger("lgo", code=2).err == (
        "ledger: there is no command 'lgo', did you mean `ledger log`: `ledger --help` lists them all\n"
    )


def test_unknown_option(ledger: Run) -> None:
    assert ledger("log", "--nope", code=2).err.endswith("`ledger log --help` shows what there is\n")
    assert ledger("branch", "list", "--nope", code=2).err.endswith("`ledger branch list --help` shows what there is\n")


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_no_ledger(command: list[str], ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "`ledger init" in ledger(*command, code=2).err
    assert "`ledger init" in ledger(*command, "--ledger", tmp_path / "none", code=2).err
    assert "no store for redis://" in ledger(*command, "--ledger", "redis://x/y", code=2).err


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_ledger_that_cannot_be_understood(command: list[str], ledger: Run, world: Path) -> None:
    (world / "ledger.toml").write_text("regions = [")
    assert "ledger.toml" in ledger(*command, code=2).err


@pytest.mark.parametrize("command", [each for each in READERS if each != ["verify"]], ids=" ".join)
def test_a_damaged_move(command: list[str], ledger: Run, world: Path) -> None:
    move = max((world / "refs" / "main").glob("*.json"))
    move.chmod(0o644)
    move.write_text("{}")
    assert "restore it from a copy" in ledger(*command, code=1).err


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_ledger_without_permission(
    command: list[str], ledger: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "refs")

    # Root may read everything: so the refusal is made here.
    monkeypatch.setattr(DirectoryStore, "read_move", refuse)
    monkeypatch.setattr(DirectoryStore, "branches", refuse)
    assert "ermission denied" in ledger(*command, code=1).err


def test_a_branch_without_commits(ledger: Run, tmp_path: Path) -> None:
    new = tmp_path / "new"
    ledger("init", new)
    assert ledger("log", "--ledger", new).out == "no commits here\n"
    assert ledger("log", "--graph", "--ledger", new).out == "no commits here\n"
    assert "run `ledger commit`" in ledger("show", "main", "--ledger", new, code=2).err
    assert "run `ledger commit`" in ledger("tag", "v1", "--ledger", new, code=2).err
    assert ledger("gamma", "--ledger", new).out
    assert ledger("gamma", "--map", "--ledger", new).out
    assert ledger("gamma", "--json", "--ledger", new).json["regions"] == []
    assert ledger("replay", "--verify", "--ledger", new).code == 0
    assert ledger("diff", "main", "5", "--ledger", new).out == "A = main, B = 5\nno difference in 0 regions\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.LedgerError("it failed"), 1),
        (errors.UsageError("it is wrong"), 2),
        (errors.NeedsDecision("a person\nhas to decide"), 5),
        (PermissionError(13, "Permission denied", "x.csv"), 1),
    ],
)
def test_codes(raised: Exception, code: int, ledger: Run, monkeypatch: pytest.MonkeyPatch, world: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("ledger_cli.services.status.status", fail)
    assert ledger("status", code=code).err.startswith("ledger: ")


def test_interrupted(ledger: Run, monkeypatch: pytest.MonkeyPatch, world: Path) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ledger_cli.services.status.status", interrupt)
    ran = ledger("status", code=command_line.INTERRUPTED)
    assert ran.err == "ledger: interrupted; nothing half-done is visible, run it again\n"


def test_what_is_public() -> None:
    assert ledger_cli.__all__ == ["Ledger", "LedgerError"]
    assert all(getattr(ledger_cli, name) for name in ledger_cli.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = ledger_cli.nothing
