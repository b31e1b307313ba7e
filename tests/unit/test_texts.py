"""What `print` shows of a result: a few lines, whatever the result holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_cli import Ledger
from ledger_cli.errors import UsageError

FIXTURE = Path(__file__).parents[2] / "fixtures" / "ticks.parquet"


def test_results_print_as_a_few_lines(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "world", regions="grid:25", interval=5) as ledger:
        assert str(ledger.log()) == "LogPage of main: 0 commits, newest first"
        assert str(ledger.gamma()).endswith("0 regions, total weight 0")
        assert str(ledger.status()).startswith("Status of main: 0 events, 0 commits, no commit yet\n")
        ledger.ingest(FIXTURE)
        commits = ledger.commit(final=True).commits
        assert commits > 5
        first, *rest = str(ledger.log()).splitlines()
        assert first == f"LogPage of main: {commits} commits, newest first"
        newest = ledger.log(limit=1).to_json()[0]
        assert rest[0].startswith(
            f"  {newest['commitId']}  shard 0, ticks {newest['epochStart']}…{newest['epochEnd']}, "
        )
        assert (len(rest), rest[-1]) == (6, "  …")
        assert repr(ledger.log(limit=2)).count("\n") == 2
        regions, tick = ledger.gamma().table.num_rows, newest["epochEnd"]
        gamma = str(ledger.gamma(half_life=9))
        assert gamma.startswith(f"Gamma of main, tick {tick}, half-life 9: {regions} regions, total weight ")
        assert str(ledger.status()) == (
            f"Status of main: 800 events, {commits} commits, watermark {tick}\n"
            "  waiting: 0 events open, 0 late; quarantined: 0"
        )
        ledger.fork("other")
        assert str(ledger.diff("main", "other")) == "DiffResult of main and other: 0 regions listed, 16 equal"


def test_columns_are_offered_as_they_are_spelled(tmp_path: Path) -> None:
    source = tmp_path / "ticks.csv"
    source.write_text("Station,LonE\nS1,1\n")
    with Ledger.create(tmp_path / "world") as ledger, pytest.raises(UsageError, match=r'candidate bindings: "Station"'):
        ledger.ingest(source, map={"entityId": "Stattion"})
