"""Every published case, through the whole program: files in, ids, sums and statistics out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.core.commit import commit_id_of
from ledger_cli.engines import duck
from tests.golden.cases import CASES
from tests.support import settings_of


def _cases(shared: Path, name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((shared / "vectors" / "commits" / name).read_text())
    return cases


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in _cases(shared, "cases.json")}


def _made(ledger: Ledger) -> list[dict[str, Any]]:
    """The commits of `main` as the published cases list them: shard by shard, in the order of the chains."""
    rows = ledger.log(entries=True).table.sort_by([("shard", "ascending"), ("height", "ascending")]).to_pylist()
    return [
        {
            "commitId": row["commit_id"],
            "digest": row["digest"],
            "shard": row["shard"],
            "epochStart": row["epoch_start"],
            "epochEnd": row["epoch_end"],
            "metadata": json.loads(row["metadata"]),
            "entries": [
                {
                    "region": entry["region"],
                    "n": str(entry["n"]),
                    "activity": entry["activity"],
                    "activity2": entry["activity2"],
                    "weight": entry["weight"],
                    "stats": {
                        "weight": entry["weight_value"],
                        "activity_mean": entry["activity_mean"],
                        "activity_var": entry["activity_var"],
                    },
                }
                for entry in row["entries"]
            ],
        }
        for row in rows
    ]


def test_the_list_of_names_is_that_of_the_published_cases(cases: dict[str, dict[str, Any]]) -> None:
    assert sorted(cases) == sorted(CASES)


@pytest.mark.parametrize("rows_at_once", [20_000_000, 7])
@pytest.mark.parametrize("name", CASES)
def test_published_case(
    cases: dict[str, dict[str, Any]], name: str, rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duck, "_ROWS_AT_ONCE", rows_at_once)
    case = cases[name]
    with Ledger.create(tmp_path / "world", **settings_of(case["policy"])) as ledger:
        assert ledger.policy().digest == case["policyDigest"]
        for number, run in enumerate(case["runs"]):
            source = tmp_path / f"{number}.jsonl"
            source.write_text("".join(json.dumps(tick) + "\n" for tick in run["ticks"]))
            assert ledger.ingest(source).stored == len(run["ticks"])
            ledger.commit(final=run["final"])
        assert _made(ledger) == case["commits"]
        assert ledger.replay().ok
        assert ledger.verify().ok


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("index", range(4))
def test_published_heads_of_real_input(
    shared: Path, tmp_path: Path, index: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEDGER_THREADS", threads)
    case = _cases(shared, "real.json")[index]
    with Ledger.create(tmp_path / "world", **settings_of(case["policy"])) as ledger:
        ledger.ingest(shared / case["source"])
        made = ledger.commit(final=case["final"])
        assert {shard: commit_id_of(digest) for shard, digest in made.heads.items()} == case["heads"]
        shards = ledger.log().table["shard"].to_pylist()
        assert {shard: shards.count(int(shard)) for shard in case["commits"]} == case["commits"]
