"""`ledger init`, `ingest` and `commit`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_init(tmp_path: Path, ledger: Run) -> None:
    root = tmp_path / "world"
    assert ledger("init", root).out == f"made the ledger {root}; its settings are in ledger.toml\n"
    assert "is a ledger already" in ledger("init", root, code=2).err
    assert ledger("init", tmp_path / "other", "--json").json == {"ledger": str(tmp_path / "other")}
    (tmp_path / "file").write_text("")
    assert "choose another directory" in ledger("init", tmp_path / "file" / "x", code=1).err


def test_quarantine(world: Path, tmp_path: Path, ledger: Run) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"entityId":"z","tickId":50,"x":1,"y":1,"activity":1}\n{"entityId":"z"}\n')
    ran = ledger("ingest", bad, code=3)
    assert "quarantined" in ran.out
    assert 'ledger sql "FROM quarantine"' in ran.err
    assert ledger("ingest", bad, "--allow-quarantine", "--json").code == 0
    assert ledger("sql", "SELECT count(*) AS n FROM quarantine", "--json").json == [{"n": 1}]


def test_commit(world: Path, ledger: Run) -> None:
    assert ledger("commit").out == "made 0 commits with 0 entries on main; watermark: tick 40\n"
    assert set(ledger("commit", "--json").json) == {"branch", "commits", "entries", "watermark", "heads", "policy"}
    assert "--force and --region go together" in ledger("commit", "--force", code=2).err
    assert ledger("commit", "--interval", "7", code=2).err
    assert "no such" in ledger("ingest", "nothing.jsonl", code=2).err.lower()
