"""Every command says what it does, with an example that runs; the overview needs no data engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ledger_cli.cli.main import COMMANDS
from ledger_cli.core.world import PROTOCOL
from tests.cli.conftest import Run, make_forked
from tests.cli.walk import Walked, walk
from tests.conftest import Once

ROOT = Path(__file__).resolve().parents[2]
ALL = list(walk())
TYPES = re.compile(r"<(?:str|int|bool|list)\b[^>]*>")
ENGINES = {"duckdb", "numpy", "pyarrow", "altair", "polars", "fsspec", "ledger_cli.api"}


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_it_is_documented(each: Walked, ledger: Run) -> None:
    assert each.examples, "an `Example:` paragraph is missing"
    assert all(example.startswith(f"ledger {each.words[0]}") for example in each.examples)
    assert all(parameter.help for parameter in each.parameters)
    shown = ledger(*each.words, "--help").out
    assert "Example:" in shown
    assert "Usage: ledger" in shown
    assert not TYPES.findall(shown), "what a parameter takes has a name, not a type of Python"
    assert not re.search(r"[{}]|\[\[", shown.splitlines()[0])


_OF_NO_BRANCH = (
    "init", "simulate", "run", "branch", "schema", "reconcile", "copy", "stores", "compact", "restore",
)  # fmt: skip


@pytest.mark.parametrize("each", [each for each in ALL if not each.group], ids=lambda each: each.name)
def test_what_every_command_takes(each: Walked) -> None:
    names = {name for parameter in each.parameters for name in parameter.opts}
    assert "--json" in names
    assert any(paragraph.startswith("JSON") for paragraph in each.paragraphs)
    if each.words[0] not in ("init", "simulate", "copy", "stores"):
        assert "--ledger" in names
    if each.words[0] not in _OF_NO_BRANCH:
        assert "--branch" in names


def make_all_named(ledger: Run, home: Path) -> None:
    forked = make_forked(ledger, home)
    ticks = forked / "ticks.jsonl.zst"
    (forked / "more").mkdir()
    ledger("simulate", forked / "ticks.jsonl", "--entities", "3", "--ticks", "50", "--seed", "7")
    sizes = ("--entities", "3", "--ticks", "50", "--seed", "7")
    ledger("simulate", ticks, *sizes)
    ledger("simulate", forked / "more" / "a.parquet", *sizes, "--first-tick", "50")
    ledger("fork", "old", "--ledger", forked)
    ledger("init", forked.parent / "other-ledger", "--regions", "grid:10", "--interval", "10")
    event = {"entityId": "door-7", "type": "building.opened.v1", "payload": {"open": True}}
    (forked / "events.jsonl").write_text(json.dumps({**event, "handshake": {"protocol": PROTOCOL}}))
    for version in (1, 2):
        ledger("schema", "register", f"building.opened.v{version}", "--ledger", forked)
    ledger("schema", "register", "building.opened.v1", "--ledger", forked.parent / "other-ledger")
    shutil.copy(forked / "events.jsonl", forked / "theirs.jsonl")
    (forked / "opened.json").write_text(json.dumps({"type": "object"}))
    ledger("world", "apply", forked / "events.jsonl", "--ledger", forked)
    ledger("snapshot", "create", "--ledger", forked)
    ledger("archive", "--before", "20", "--ledger", forked)
    ledger("world", "subscribe", "physics", "--ledger", forked)
    for name in ("recipes", "fixtures"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, forked / name)


@pytest.fixture
def prepared(tmp_path: Path, ledger: Run, once: Once, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples name: files of ticks, events and a schema, two branches, door-7, the recipes, a ledger."""
    once(lambda: make_all_named(ledger, tmp_path))
    # Moves are made in another year here than events, and nobody acknowledges any.
    monkeypatch.setenv("LEDGER_MAX_SKEW", "1e9")
    monkeypatch.setenv("LEDGER_SNAPSHOT_WAIT", "0")
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


EXAMPLES = sorted({example for each in ALL for example in each.examples})


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs(example: str, prepared: Path, ledger: Run) -> None:
    words = shlex.split(example)
    assert words[0] == "ledger"
    if words[1] == "commit":
        # A policy is for a branch without commits.
        ledger("init", prepared / "fresh")
        ledger("ingest", prepared / "ticks.jsonl.zst", "--ledger", prepared / "fresh")
        words += ["--ledger", "fresh"]
    if words[1] == "copy":
        words[2] = "."  # we are in the ledger
    if words[1] == "ingest":
        words = [each.replace("more/*.parquet", str(prepared / "more" / "*.parquet")) for each in words]
    if "follow" in words or "--follow" in words:
        words += ["--idle", "1s"]
    ran = ledger(*words[1:])
    assert ran.out


def test_overview(ledger: Run) -> None:
    shown = ledger("--help").out
    assert all(f" {name} " in shown for name in COMMANDS)
    assert ledger("--version").out.startswith("ledger")


def test_the_overview_needs_no_engine() -> None:
    code = (
        "import sys\nfrom ledger_cli.cli.main import main\nmain(['--help'])\n"
        f"print(sorted({ENGINES!r} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stderr.strip() == "[]"


def test_the_help_of_a_command_needs_no_engine() -> None:
    calls = [[*each.words, "--help"] for each in ALL]
    code = (
        f"import sys\nfrom ledger_cli.cli.main import main\nfor call in {calls!r}: main(call)\n"
        f"print(sorted({ENGINES!r} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("ledger sn", ["snapshot"]), ("ledger snapshot pr", ["prune"]), ("ledger log --gr", ["--graph"])],
)
def test_tab_completes(typed: str, offered: list[str]) -> None:
    told = {"_LEDGER_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert completed(told).split() == offered


def test_tab_lists_the_commands_and_loads_none() -> None:
    told = {"_LEDGER_COMPLETE": "complete_bash", "COMP_WORDS": "ledger ", "COMP_CWORD": "1"}
    code = (
        "import atexit, sys\nfrom ledger_cli.cli.main import main\n"
        "atexit.register(lambda: print([name for name in sys.modules if '.commands.' in name], file=sys.stderr))\n"
        "main([])\n"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.split() == list(COMMANDS)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_has_its_script(shell: str) -> None:
    assert f"complete_{shell}" in completed({"_LEDGER_COMPLETE": f"source_{shell}"})


def completed(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "ledger_cli"]
    ran = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout
