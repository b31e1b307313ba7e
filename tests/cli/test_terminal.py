"""What a person sees: widths, long tables, and text that looks like markup or steers a terminal."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ledger_cli.api import Ledger
from ledger_cli.render import output
from tests.cli.conftest import Run

WIDTHS = (80, 120)
COMMANDS = (
    "log", "log --graph", "show main", "status", "tag", "branch list", "diff main 20", "diff main hybrid --first",
    "replay --verify", "verify", "gamma", "sql 'FROM commits'",
)  # fmt: skip


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make stdout a terminal without colours, of a width."""

    def be(width: int, height: int = 40) -> None:
        def console() -> Console:
            return Console(force_terminal=True, no_color=True, width=width, height=height, highlight=False)

        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr(output, "stdout", console)
        monkeypatch.setattr(output, "on_terminal", lambda: True)
        monkeypatch.setattr("ledger_cli.cli.commands.gamma.stdout", console)

    return be


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_it_fits(command: str, width: int, forked: Path, ledger: Run, terminal: Any) -> None:
    terminal(width)
    lines = ledger(*shlex.split(command)).out.splitlines()
    assert max(map(len, lines)) <= width
    if command == "log":
        assert len(lines) == 6


def test_narrow_tables_leave_columns_out(forked: Path, ledger: Run, terminal: Any) -> None:
    terminal(80)
    assert ledger("diff", "main", "20").out.splitlines()[1].split("  ") == [
        "region", "weight A", "weight B", "Δ weight", "Δ mean", "Δ variance"
    ]  # fmt: skip
    assert "pooled" not in ledger("gamma", "--no-map").out


def test_a_terminal_gets_a_map_and_the_top(world: Path, ledger: Run, terminal: Any) -> None:
    terminal(80)
    out = ledger("gamma").out
    assert "hottest 1:0 43.8" in out
    assert out.count("gamma of main") == 1
    assert "region" in out


def test_who_waits_is_told_for_what(world: Path, ledger: Run, terminal: Any) -> None:
    terminal(80)
    Path("grown.jsonl").write_text("")
    follow = ("follow", "grown.jsonl", "--idle", "1s")
    assert "following grown.jsonl: Ctrl-C ends it" in ledger(*follow).err
    assert "Ctrl-C" not in ledger(*follow, "--json").err


def test_long_tables_are_cut_on_a_terminal(world: Path, ledger: Run, terminal: Any) -> None:
    assert len(ledger("sql", "FROM range(70)").out.splitlines()) == 73
    terminal(80)
    assert ledger("sql", "FROM range(70)").out.splitlines()[-2].rstrip() == (
        "… and 20 more rows: --limit N shows more, --format csv all"
    )


def test_wide_rows_become_lists(world: Path, ledger: Run, terminal: Any) -> None:
    terminal(80)
    out = ledger("sql", "SELECT digest, entries_digest, policy FROM commits LIMIT 2").out
    assert [line.rstrip() for line in out.splitlines() if line.startswith("row")] == ["row 1", "row 2"]


@pytest.fixture
def odd(tmp_path: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Regions whose names look like markup, an emoji, an escape sequence and HTML."""
    ticks = tmp_path / "t.jsonl"
    names = ("[red]x[/red]", ":smile:", "\x1b[31mred", "<b>&")
    rows = [
        {"entityId": "e", "tickId": tick, "x": 0, "y": 0, "activity": 1, "meta": {"region": name}}
        for tick, name in enumerate(names)
    ]
    ticks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    root = tmp_path / "odd"
    ledger("init", root, "--regions", "field:region", "--interval", "10")
    ledger("ingest", ticks, "--ledger", root)
    ledger("commit", "--final", "--ledger", root)
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("command", ["show main", "gamma", "diff main 0", "sql 'FROM commit_entries'", "gamma --map"])
def test_text_is_shown_as_it_is(command: str, odd: Path, ledger: Run) -> None:
    out = ledger(*shlex.split(command)).out
    assert "[red]x[/red]" in out
    assert ":smile:" in out
    assert "\x1b" not in out
    assert "�[31mred" in out


def test_notebook(odd: Path) -> None:
    with Ledger.open(odd) as opened:
        page = opened.log()._repr_html_()  # type: ignore[attr-defined]
        picture = opened.gamma(half_life=50)._repr_html_()  # type: ignore[attr-defined]
        status = opened.status()._repr_html_()  # type: ignore[attr-defined]
        diff = opened.diff("main", "0")._repr_html_()  # type: ignore[attr-defined]
    assert "<b>Log</b> · main · 1 commit" in page
    assert "<b>gamma of main, half-life 50 ticks</b> · tick 1" in picture
    assert "<b>Status</b> · main" in status
    assert ">highest tick</td>" in status
    assert "<b>Diff</b> · A = main, B = 0 · 4 regions, 0 equal" in diff
    for each in (picture, diff):
        assert "&lt;b&gt;&amp;" in each
        assert "\x1b" not in each
