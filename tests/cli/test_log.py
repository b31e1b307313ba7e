"""`ledger log`: the table, lanes, selections and the JSON contract."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

TABLE = """\
commit         ticks  regions  events  closed by  made (UTC)
──────────────────────────────────────────────────────────────────
ad1ce223-bd53  30…40        2      10  final      2026-01-01 00:02
298858a0-cc2c  20…30        2      10  interval   2026-01-01 00:02
3ee20af9-3eb5  10…20        2      10  interval   2026-01-01 00:02
7c9617b9-ff94  0…10         3      15  interval   2026-01-01 00:02
"""

GRAPH = """\
●   b64e699d-0df9 (hybrid) ticks 35…40, 2 regions, 4 events, final
│ ● ad1ce223-bd53 (main, tag: baseline) ticks 30…40, 2 regions, 10 events, final
● │ 8f94d13b-b297 ticks 30…35, 2 regions, 6 events, interval
● │ c87b09ac-6c9b ticks 25…30, 2 regions, 4 events, interval
│ ● 298858a0-cc2c ticks 20…30, 2 regions, 10 events, interval
● │ c56fce63-554d ticks 20…25, 2 regions, 6 events, interval
├─╯
●   3ee20af9-3eb5 ticks 10…20, 2 regions, 10 events, interval
●   7c9617b9-ff94 ticks 0…10, 3 regions, 15 events, interval
"""

HEADER = {
    "commitId", "layer", "shard", "epochStart", "epochEnd", "parents", "policy", "digest", "metadata",
    "height", "reason", "regions", "events", "createdAt", "by", "branch",
}  # fmt: skip


def test_table(world: Path, ledger: Run) -> None:
    assert ledger("log").out == TABLE


def test_graph(forked: Path, ledger: Run) -> None:
    assert ledger("log", "--graph").out == GRAPH


def test_graph_of_one_branch(forked: Path, ledger: Run) -> None:
    assert ledger("log", "--graph", "--branch", "main", "--limit", "1").out == (
        "● ad1ce223-bd53 (main, tag: baseline) ticks 30…40, 2 regions, 10 events, final\n"
    )


def test_selections(world: Path, ledger: Run) -> None:
    assert [row["epochStart"] for row in ledger("log", "--json", "--limit", 2).json] == [30, 20]
    assert [row["epochStart"] for row in ledger("log", "--json", "--region", "2:0").json] == [0]
    assert [row["epochStart"] for row in ledger("log", "--json", "--since", 10, "--until", 30).json] == [20, 10]
    assert ledger("log", "--region", "9:9").out == "no commits here\n"


def test_json(world: Path, ledger: Run) -> None:
    page = ledger("log", "--json").json
    assert all(set(row) == HEADER for row in page)
    assert page[0]["parents"] == [page[1]["digest"]]
    entries = ledger("log", "--json", "--entries", "--limit", 1).json[0]["entries"]
    assert [set(entry) for entry in entries] == [
        {"region", "weight", "activity_mean", "activity_var", "count", "exact"}
    ] * 2


def test_graph_json(forked: Path, ledger: Run) -> None:
    first = ledger("log", "--graph", "--json").json[0]
    assert set(first) == HEADER | {"labels", "graph"}
    assert first["labels"] == ["hybrid"]
    assert first["graph"] == {"column": 0, "lanes": [0], "joins": [], "opens": []}


def test_errors(world: Path, ledger: Run) -> None:
    assert "`ledger log --entries --json`" in ledger("log", "--entries", code=2).err
    assert "there is no branch 'nope'" in ledger("log", "--branch", "nope", code=2).err
    for none in ("-1", "0"):
        assert "'--limit': " + none + " is too small, it takes at least 1" in ledger("log", "--limit", none, code=2).err
    assert "--since" in ledger("log", "--since", "noon", code=2).err
