"""`ledger diff`: two places region by region, and where they part."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

TABLE = """\
A = main, B = 20
region  weight A  weight B  Δ weight  mean A  mean B  Δ mean  variance A  variance B  Δ variance
────────────────────────────────────────────────────────────────────────────────────────────────
1:0         43.8      20.9     -22.9    2.19    2.09    -0.1      0.0133      0.0033       -0.01
0:0         13.8       5.9      -7.9    0.69    0.59    -0.1      0.0133      0.0033       -0.01
2 regions differ, 1 equal
"""

FIRST = """\
A = main, B = hybrid
shard  height  commit A       ticks A  commit B       ticks B
─────────────────────────────────────────────────────────────
    0       2  298858a0-cc2c  20…30    c56fce63-554d  20…25
"""

COLUMNS = {
    "region", "weight_a", "weight_b", "weight_delta", "mean_a", "mean_b", "mean_delta",
    "var_a", "var_b", "var_delta", "count_a", "count_b",
}  # fmt: skip


def test_table(world: Path, ledger: Run) -> None:
    assert ledger("diff", "main", "20").out == TABLE


def test_order_and_limit(world: Path, ledger: Run) -> None:
    def regions(*options: str) -> list[str]:
        return [row["region"] for row in ledger("diff", "main", "20", "--json", *options).json["regions"]]

    assert regions() == ["1:0", "0:0"]
    assert regions("--limit", "1") == ["1:0"]
    assert regions("--ascending") == ["0:0", "1:0"]
    assert regions("--sort", "region", "--ascending", "--equal") == ["0:0", "1:0", "2:0"]
    lines = ledger("diff", "main", "20", "--limit", "1", "--equal").out.splitlines()
    assert lines[-2:] == ["… and 2 more regions: --limit N shows more, --json all", "2 regions differ, 1 equal"]


def test_equal_sums(forked: Path, ledger: Run) -> None:
    assert ledger("diff", "main", "hybrid").out == "A = main, B = hybrid\nno difference in 3 regions\n"


def test_first(forked: Path, ledger: Run) -> None:
    assert ledger("diff", "main", "hybrid", "--first").out == FIRST
    parting = ledger("diff", "main", "hybrid", "--first", "--json").json[0]
    assert set(parting) == {"shard", "height", "a", "b"}
    assert set(parting["a"]) == {"commitId", "digest", "shard", "height", "epochStart", "epochEnd"}
    same = ledger("diff", "main", "baseline", "--first").out
    assert same == "A = main, B = baseline\nno difference: both are the same chains\n"


def test_regions_of_another_map_are_told(world: Path, ledger: Run) -> None:
    ledger("replay", "--fork", "wide", "--regions", "grid:20")
    title, warning, *_ = ledger("diff", "main", "wide").out.splitlines()
    assert title == "A = main, B = wide"
    assert warning.startswith("warning: A has the regions grid:10, B grid:20: the same id is another place in each")
    maps = {"a": {"kind": "grid", "cell": 10}, "b": {"kind": "grid", "cell": 20}}
    assert ledger("diff", "main", "wide", "--json").json["regionMaps"] == maps
    assert ledger("diff", "main", "20", "--json").json["regionMaps"] is None
    assert "warning" not in ledger("diff", "main", "20").out


def test_json(world: Path, ledger: Run) -> None:
    found = ledger("diff", "main", "20", "--json").json
    assert (found["a"], found["b"], found["equal"]) == ("main", "20", 1)
    assert all(set(row) == COLUMNS for row in found["regions"])


def test_errors(world: Path, ledger: Run) -> None:
    assert "use one of region" in ledger("diff", "main", "20", "--sort", "size", code=2).err
    assert "nothing is called 'nope'" in ledger("diff", "main", "nope", code=2).err
    assert "give two places to compare" in ledger("diff", "main", code=2).err
