"""What a user can do wrong: one line on stderr that names the next step, and the right exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ledger_cli
from ledger_cli import errors
from ledger_cli.cli import main as command_line
from ledger_cli.services.repository import Repository
from ledger_cli.stores.directory import DirectoryStore
from tests.cli.conftest import Run

FIXTURES = Path(__file__).parents[2] / "fixtures"

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
READERS = (["log"], ["show", "main"], ["status"], ["gamma"], ["sql", "FROM ticks"], ["verify"], ["branch", "list"])


def test_unknown_command(ledger: Run) -> None:
    assert ledger("lgo", code=2).err == (
        "ledger: there is no command 'lgo', did you mean `ledger log`: `ledger --help` lists them all\n"
    )


def test_unknown_option(ledger: Run) -> None:
    assert ledger("log", "--nope", code=2).err.endswith("`ledger log --help` shows what there is\n")
    assert ledger("branch", "list", "--nope", code=2).err.endswith("`ledger branch list --help` shows what there is\n")
    assert "no --ledger before the command: options come after it" in ledger("--ledger", "x", "log", code=2).err


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


def test_a_damaged_move_of_admin(ledger: Run, world: Path) -> None:
    ledger("tag", "first", "main")
    (move,) = (world / "refs" / "admin").glob("*.json")
    move.chmod(0o644)
    move.write_text(move.read_text()[:-9])
    for command in (["sql", "FROM ticks"], ["gamma"], ["archive", "--before", "9"], ["compact"]):
        assert f"refs/admin/{move.name} is damaged: restore it" in ledger(*command, code=1).err
    for options in ([], ["--archives"]):
        assert f"refs/admin/{move.name}" in ledger("verify", *options, code=4).out


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_ledger_without_permission(
    command: list[str], ledger: Run, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "refs")

    # Root may read everything: so the refusal is made here.
    monkeypatch.setattr(DirectoryStore, "read_ref", refuse)
    monkeypatch.setattr(DirectoryStore, "branches", refuse)
    assert "ermission denied" in ledger(*command, code=1).err


def test_a_store_that_has_lost_all(ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = tmp_path / "new"
    ledger("init", new, "--store", "sqlite:///commits.sqlite")
    monkeypatch.setenv("LEDGER_STORE", "sqlite:///elsewhere.sqlite")
    for command in (["log"], ["status"], ["commit"], ["ingest", FIXTURES / "ticks.jsonl"], ["fork", "main"]):
        told = ledger(*command, "--ledger", new, code=2).err
        assert "no move at all" in told
        assert "LEDGER_STORE" in told
    found = ledger("verify", "--ledger", new, "--json", code=4).json
    assert [each["file"] for each in found["findings"]] == ["refs"]


def test_an_init_that_was_cut_off_is_run_again(ledger: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, store = tmp_path / "new", ("--store", "sqlite:///commits.sqlite")
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "create_branch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ledger("init", new, *store, code=130)
    assert "run it again as it was" in ledger("log", "--ledger", new, code=2).err
    assert "is a ledger already" in ledger("init", new, *store, "--shards", "2", code=2).err
    ledger("init", new, *store)
    assert ledger("log", "--ledger", new).err
    assert "ledger already" in ledger("init", new, *store, code=2).err
    assert "is a ledger already" in ledger("init", new, code=2).err


def test_a_branch_without_commits(ledger: Run, tmp_path: Path) -> None:
    new = tmp_path / "new"
    ledger("init", new)
    ran = ledger("log", "--ledger", new)
    assert (ran.out, ran.err) == (
        "no commits here\n",
        "nothing is on main yet: next `ledger ingest FILE`, then `ledger commit`\n",
    )
    for words in (
        ["gamma"],
        ["gamma", "--region", "0:0"],
        ["gamma", "--json"],
        ["log", "--graph"],
        ["diff", "main", "5"],
    ):
        assert ledger(*words, "--ledger", new).err == ran.err
    assert ledger("log", "--graph", "--ledger", new).out == "no commits here\n"
    assert "run `ledger commit`" in ledger("show", "main", "--ledger", new, code=2).err
    assert "run `ledger commit`" in ledger("tag", "v1", "--ledger", new, code=2).err
    assert ledger("gamma", "--ledger", new).out
    assert ledger("gamma", "--map", "--ledger", new).out
    assert ledger("gamma", "--json", "--ledger", new).json["regions"] == []
    assert ledger("replay", "--verify", "--ledger", new).code == 0
    assert ledger("diff", "main", "5", "--ledger", new).out == "A = main, B = 5\nno difference in 0 regions\n"
    (tmp_path / "a.jsonl").write_text('{"entityId":"a","tickId":1,"x":0,"y":0,"activity":1}\n')
    ledger("ingest", tmp_path / "a.jsonl", "--ledger", new)
    assert ledger("log", "--ledger", new).err == "nothing is committed on main yet: next `ledger commit`\n"
    ledger("commit", "--ledger", new)
    assert "or `ledger commit --final` where nothing more comes" in ledger("log", "--ledger", new).err


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
    assert ledger_cli.__all__ == ["Ledger", "LedgerError", "__version__"]
    assert all(getattr(ledger_cli, name) for name in ledger_cli.__all__)
    assert sorted(ledger_cli.__all__) == dir(ledger_cli)
    with pytest.raises(AttributeError, match="nothing"):
        _ = ledger_cli.nothing


WRONG = {
    "LEDGER_THREADS": ("-1", "abc", "100000", "1.5"),
    "LEDGER_MEMORY": ("-5GiB", "abc", "0", "0GiB", "12", "1 parsec"),
}


@pytest.mark.parametrize(("variable", "value"), [(name, each) for name, values in WRONG.items() for each in values])
def test_wrong_limits_of_the_machine(
    variable: str, value: str, world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert f"{variable}='{value}' in the environment must be " in ledger("gamma", code=2).err
    monkeypatch.delenv(variable)
    name = variable.removeprefix("LEDGER_").lower()
    written = value if value in ("-1", "100000", "1.5", "12", "0") else f'"{value}"'
    (world / "ledger.toml").write_text(f"[engine]\n{name} = {written}\n")
    told = ledger("gamma", code=2).err
    assert f"{name} = " in told
    assert "correct ledger.toml" in told


def test_right_limits_of_the_machine(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads, memory in (("0", "0.5GiB"), ("3", "300MB"), ("1", "1 GB")):
        monkeypatch.setenv("LEDGER_THREADS", threads)
        monkeypatch.setenv("LEDGER_MEMORY", memory)
        assert ledger("gamma").out


def test_lists_in_the_environment(world: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("50,500", "[50, 500]", " 50, 500 "):
        monkeypatch.setenv("LEDGER_HALF_LIVES", text)
        assert ledger("gamma", "--half-life", "50").out
    for text in ("fifty", "[50", "[0]", "['50']"):
        monkeypatch.setenv("LEDGER_HALF_LIVES", text)
        assert f"LEDGER_HALF_LIVES={text!r} in the environment must be a list of" in ledger("gamma", code=2).err


def test_a_strategy_that_lacks_its_interval(tmp_path: Path, ledger: Run) -> None:
    told = ledger("init", tmp_path / "new", "--strategy", "hybrid", "--max-size", "5", code=2).err
    assert "--min-interval TICKS" in told


def test_standard_input_that_is_no_json(world: Path, ledger: Run) -> None:
    table = "entityId,tickId,x,y,activity\ne,900,1,2,0.5\n"
    assert "give --format jsonl|" in ledger("ingest", "-", stdin=table, code=2).err
    assert ledger("ingest", "-", "--format", "csv", "--json", stdin=table).json["stored"] == 1
    assert ledger("ingest", "-", "--json", stdin="").json["read"] == 0


@pytest.mark.parametrize("delay", [0, 0.03, 0.06, 0.1, 0.2])
def test_interrupted_while_it_starts(delay: float, world: Path) -> None:
    # What Python does before our handler is there cannot be changed: so that is waited for.
    code = (
        "import signal, sys, runpy; sys.argv = ['ledger', 'gamma']; real = signal.signal\n"
        "def told(*given):\n"
        "    signal.signal = real; real(*given); print('ours', flush=True)\n"
        "signal.signal = told; runpy.run_module('ledger_cli', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) in (
        (command_line.INTERRUPTED, "ledger: interrupted; nothing half-done is visible, run it again\n"),
        (0, ""),
    )
    assert process.returncode or delay > 0.1, "it was not even imported by then"
