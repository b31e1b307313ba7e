"""`ledger show`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

SHOWN = """\
commit   ad1ce223-bd53-8e14-bd96-fd6fbd97657d
digest   ad1ce223bd533e143d96fd6fbd97657dbcc670c6cb4b47f1a3c4595cf3055bde
parents  298858a0cc2c1bf44400a03b39d727db7a4cfd7211adf12c2572f784605fceb2
layer    atomic
shard    0, commit 3 of its chain
ticks    30…40, closed by final
regions  2
events   10
policy   09e416c00d95: strategy fixed (interval 10); regions grid (cell 10); weight linear; base-weight 1; shards 1; \
lateness 0
made     2026-01-01T00:02:00.000Z by tester@host on main

region  weight  activity mean  variance  events
───────────────────────────────────────────────
1:0       11.7           2.34    0.0008       5
0:0        4.2           0.84    0.0008       5
"""


def test_all_names_of_a_commit(forked: Path, ledger: Run) -> None:
    assert ledger("show", "main").out == SHOWN
    for name in ("baseline", "ad1c", "ad1ce223-bd53", "AD1CE223BD533E14", "ad1ce223-bd53-8e14-bd96-fd6fbd97657d"):
        assert ledger("show", name).out == SHOWN


def test_limit(world: Path, ledger: Run) -> None:
    assert ledger("show", "main", "--limit", "1").out.splitlines()[-1] == (
        "… and 1 more regions: --limit N shows more, --json all"
    )
    everything = ledger("show", "main", "--json").json
    heaviest = max(everything["entries"], key=lambda entry: entry["weight"])
    assert ledger("show", "main", "--limit", "1", "--json").json == {**everything, "entries": [heaviest]}
    assert ledger("show", "main", "--limit", "9", "--json").json == everything


def test_json(world: Path, ledger: Run) -> None:
    shown = ledger("show", "main", "--json").json
    assert shown["commitId"] == "ad1ce223-bd53-8e14-bd96-fd6fbd97657d"
    assert shown["policySettings"]["strategy"] == {"kind": "fixed", "interval": 10}
    assert shown["entries"][1]["exact"] == {
        "n": "5",
        "activity": "11700000000",
        "activity2": "27382000000000000000",
        "weight": "11700000000",
    }


def test_errors(world: Path, ledger: Run) -> None:
    assert "`ledger log` lists the commits" in ledger("show", "nope", code=2).err
    assert "too short" in ledger("show", "ad1", code=2).err
    assert "0 is a tick" in ledger("show", "0", code=2).err
    assert "Missing argument 'COMMIT'" in ledger("show", code=2).err
    assert "`ledger show --help`" in ledger("show", "main", "--nope", code=2).err
