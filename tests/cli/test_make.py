"""`ledger init`, `ingest` and `commit`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_init(tmp_path: Path, ledger: Run) -> None:
    root = tmp_path / "world"
    assert ledger("init", root).out == f"made the ledger {root}; its settings are in {root}/ledger.toml\n"
    assert "is a ledger already" in ledger("init", root, code=2).err
    assert ledger("init", tmp_path / "other", "--json").json == {"ledger": str(tmp_path / "other")}
    (tmp_path / "file").write_text("")
    assert "choose another directory" in ledger("init", tmp_path / "file" / "x", code=1).err


def test_begun_here_and_with_nothing_to_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Run) -> None:
    monkeypatch.chdir(tmp_path)
    assert ledger("init").out == "made a ledger here; its settings are in ledger.toml\n"
    assert "nothing is on main yet: next `ledger ingest FILE`, then `ledger commit`" in ledger("commit").err


def test_what_would_be_made_stands_as_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Run) -> None:
    monkeypatch.chdir(tmp_path)
    ledger("init", "--interval", "10")
    ledger("simulate", "ticks.jsonl", "--entities", "3", "--ticks", "25")
    ledger("ingest", "ticks.jsonl")
    would = ledger("commit", "--dry-run").out.splitlines()
    assert would[0].split() == ["ticks", "regions", "events", "weight", "closed", "by"]
    ledger("commit")
    log = ledger("log").out.splitlines()
    assert [line.split()[0] for line in would[2:4]] == [line.split()[1] for line in reversed(log[2:4])]
    assert ledger("commit", "--dry-run").out == "would make 0 commits with 0 entries on main; watermark: tick 24\n"


def test_quarantine(world: Path, tmp_path: Path, ledger: Run) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"entityId":"z","tickId":50,"x":1,"y":1,"activity":1}\n{"entityId":"z"}\n')
    ran = ledger("ingest", bad, code=3)
    assert "quarantined" in ran.out
    assert 'ledger sql "SELECT source, line, reason, raw FROM quarantine"' in ran.err
    assert ledger("ingest", bad, "--allow-quarantine", "--json").code == 0
    assert ledger("sql", "SELECT count(*) AS n FROM quarantine", "--json").json == [{"n": 1}]


def test_settings_that_do_not_hold_on_a_branch_are_told(
    forked: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger("commit").err == "", "ledger.toml is as recorded"
    assert ledger("commit", "--branch", "hybrid").err == "", "a fork is meant to differ from the file"
    monkeypatch.setenv("LEDGER_INTERVAL", "20")
    monkeypatch.setenv("LEDGER_MAX_SIZE", "5")  # nothing that `fixed` takes
    told = ledger("commit")
    assert told.out.startswith("made 0 commits")
    assert told.err.startswith("LEDGER_INTERVAL=20 does not hold on main: its recorded policy does, {")
    assert '"strategy":{"kind":"fixed","interval":10}' in told.err
    assert told.err.endswith("another one needs a fork, `ledger replay --fork NAME --interval 20`\n")
    assert "--interval 20 --branch hybrid`" in ledger("commit", "--branch", "hybrid", "--json").err
    ledger("replay", "--fork", "tried", "--interval", "20")
    assert ledger("commit", "--branch", "tried").err == ""
    monkeypatch.delenv("LEDGER_INTERVAL")
    settings = forked / "ledger.toml"
    text = settings.read_text()
    text = text.replace("interval = 10\n", "interval = 30\n", 1)
    settings.write_text(text.replace('# weight = "linear"', 'weight = "softfloor:1"'))
    told = ledger("commit")
    both = "weight = 'softfloor:1' of ledger.toml and interval = 30 of ledger.toml do not hold on main: its recorded"
    assert told.err.startswith(both)
    assert ledger("commit", "--branch", "hybrid").err == ""


def test_force_of_a_region_that_nothing_fell_in_is_refused(world: Path, ledger: Run) -> None:
    ledger("ingest", "-", stdin='{"entityId":"a","tickId":47,"x":1,"y":1,"activity":1}')
    moves = ledger("status", "--json").json
    for more in ([], ["--dry-run"]):
        told = ledger("commit", "--force", "--region", "99:99", *more, code=2).err
        assert "nothing ever fell into region '99:99' on main" in told
    assert ledger("status", "--json").json == moves
    assert ledger("commit", "--force", "--region", "1:0").out.startswith("made 1 commit"), "of the same shard"


def test_commit(world: Path, ledger: Run) -> None:
    assert ledger("commit").out == "made 0 commits with 0 entries on main; watermark: tick 40\n"
    assert set(ledger("commit", "--json").json) == {"branch", "commits", "entries", "watermark", "heads", "policy"}
    assert "--force and --region go together" in ledger("commit", "--force", code=2).err
    assert ledger("commit", "--interval", "7", code=2).err
    assert "no such" in ledger("ingest", "nothing.jsonl", code=2).err.lower()
