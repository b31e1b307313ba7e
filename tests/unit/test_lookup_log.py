"""Names of places, and the commits that `log`, `show` and the graph list."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_cli.core.commit import commit_id_of
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.fork import fork, tag
from ledger_cli.services.graph import graph_lines
from ledger_cli.services.log import log, show
from ledger_cli.services.lookup import place_of_branch, resolve
from ledger_cli.services.repository import Repository
from tests.support import add_events, events_at, make_ledger, policy_json, run

POLICY = policy_json({"kind": "fixed", "interval": 20}, shards=2)


@pytest.fixture
def ledger(tmp_path: Path) -> Repository:
    repository = make_ledger(tmp_path / "ledger")
    for start in range(0, 200, 40):
        add_events(repository, "main", events_at(start, start + 21) + events_at(start, entity="F", x=15.0))
        run(repository, "main", POLICY)
    add_events(repository, "main", events_at(5, entity="late"))
    run(repository, "main", POLICY)
    return repository


def rows(repository: Repository, *given: object, **named: object) -> list[tuple[int, int, int, int]]:
    page = log(repository, "main", *given, **named)  # type: ignore[arg-type]
    return [(r["epoch_start"], r["epoch_end"], r["shard"], r["height"]) for r in page.table.to_pylist()]


def test_the_newest_comes_first_and_a_limit_only_cuts(ledger: Repository) -> None:
    everything = rows(ledger)
    assert everything == sorted(everything, key=lambda row: (-row[1], row[2], -row[3]))
    for limit in range(len(everything) + 2):
        assert rows(ledger, limit=limit) == everything[:limit]


def test_a_late_commit_stands_with_its_epoch(ledger: Repository) -> None:
    at_first = [row for row in log(ledger, "main", until=20).table.to_pylist() if row["regions"]]
    assert [row["reason"] for row in at_first if row["shard"] == at_first[-1]["shard"]] == ["amends", "interval"]
    assert at_first[0]["created_at"] != at_first[-1]["created_at"] or len(at_first) == 3


def test_filters(ledger: Repository) -> None:
    everything = log(ledger, "main", entries=True).table.to_pylist()
    for region in ("0:0", "1:0", "7:7", "it's"):
        wanted = [row["digest"] for row in everything if any(e["region"] == region for e in row["entries"])]
        assert log(ledger, "main", region=region).table["digest"].to_pylist() == wanted
        assert log(ledger, "main", region=region, limit=2).table["digest"].to_pylist() == wanted[:2]
    assert all(row[1] > 60 and row[0] < 101 for row in rows(ledger, since=60, until=101))
    assert len(rows(ledger, since=60, until=101)) == len([r for r in rows(ledger) if r[1] > 60 and r[0] < 101])


def test_json_of_a_commit(ledger: Repository) -> None:
    commit = log(ledger, "main", limit=1, entries=True).to_json()[0]
    assert set(commit) >= {"commitId", "layer", "shard", "epochStart", "epochEnd", "parents", "policy", "digest"}
    assert commit["commitId"] == commit_id_of(commit["digest"])
    assert commit["metadata"] == {}
    assert commit["by"] == "tester"
    entry = commit["entries"][0]
    assert entry["exact"] == {
        "n": str(entry["count"]),
        "activity": str(500000000 * entry["count"]),
        "activity2": str(250000000000000000 * entry["count"]),
        "weight": str(500000000 * entry["count"]),
    }
    assert (entry["weight"], entry["activity_mean"], entry["activity_var"]) == (0.5 * entry["count"], 0.5, 0.0)
    assert "entries" not in log(ledger, "main", limit=1).to_json()[0]


def test_an_empty_branch_has_an_empty_log(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path / "ledger")
    assert log(repository, "main", limit=3).to_json() == []
    assert graph_lines(repository) == []
    with pytest.raises(NotFound, match="ledger commit"):
        show(repository, place_of_branch(repository, "main"))


def test_a_negative_limit_is_refused(ledger: Repository) -> None:
    with pytest.raises(UsageError, match="--limit"):
        log(ledger, "main", limit=-1)


def test_an_inherited_commit_keeps_its_author_and_time(ledger: Repository) -> None:
    fork(ledger, "main", "other", resolve(ledger, "100"))
    kept = {row["digest"]: row for row in log(ledger, "other").to_json()}
    assert kept
    for row in log(ledger, "main").to_json():
        if row["digest"] in kept:
            assert kept[row["digest"]] == row


def test_ids_digests_and_their_prefixes(ledger: Repository) -> None:
    for row in log(ledger, "main").to_json():
        for text in (row["commitId"], row["digest"], row["digest"][:12], row["commitId"][:13].upper()):
            place = resolve(ledger, text, ticks=False)
            assert place.commit is not None
            assert (place.kind, place.commit.digest) == ("commit", row["digest"])
        shown = show(ledger, resolve(ledger, row["commitId"]))
        assert {k: v for k, v in shown.to_json().items() if k in row} == row
        assert shown.policy == POLICY
        assert shown.entries.num_rows == row["regions"] == shown.header["regions"]


def test_an_ambiguous_prefix_lists_what_it_fits(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path / "ledger")
    add_events(repository, "main", events_at(*range(1200)))
    run(repository, "main", policy_json({"kind": "fixed", "interval": 1}))
    by_prefix: dict[str, int] = {}
    for row in log(repository, "main").to_json():
        by_prefix[row["digest"][:4]] = by_prefix.get(row["digest"][:4], 0) + 1
    text, count = max(by_prefix.items(), key=lambda each: each[1])
    assert count > 1
    with pytest.raises(UsageError, match=f"fits {count} commits: give more characters .*{text}"):
        resolve(repository, text, ticks=False)


@pytest.mark.parametrize("text", ["nothing", "ffffffffffff", "", "../main", "main/", "admin", "0" * 64])
def test_what_nothing_is_called(ledger: Repository, text: str) -> None:
    with pytest.raises(NotFound):
        resolve(ledger, text)


def test_a_prefix_has_four_characters_at_least(ledger: Repository) -> None:
    with pytest.raises(UsageError, match="too short"):
        resolve(ledger, "abc")


def test_digits_are_a_tick(ledger: Repository) -> None:
    assert (resolve(ledger, "100").kind, resolve(ledger, "100").tick) == ("tick", 100)
    with pytest.raises(UsageError, match="tick"):
        show(ledger, resolve(ledger, "100"))


def test_a_commit_of_another_branch_is_found_there(ledger: Repository) -> None:
    fork(ledger, "main", "other")
    add_events(ledger, "other", events_at(300))
    run(ledger, "other", POLICY, final=True)
    newest = log(ledger, "other", limit=1).to_json()[0]["commitId"]
    assert resolve(ledger, newest).branch == "other"
    assert resolve(ledger, "other").kind == "branch"


def test_the_graph_joins_lanes_where_branches_part(ledger: Repository) -> None:
    fork(ledger, "main", "other", resolve(ledger, "100"))
    run(ledger, "other", {**POLICY, "baseWeight": 2})
    tag(ledger, "v1", resolve(ledger, "main"))
    lines = graph_lines(ledger)
    digests = [line.commit["digest"] for line in lines]
    both = {row["digest"] for name in ("main", "other") for row in log(ledger, name).to_json()}
    assert sorted(digests) == sorted(both)
    place = {digest: number for number, digest in enumerate(digests)}
    assert all(place[p] > place[line.commit["digest"]] for line in lines for p in line.commit["parents"])
    labels = [label for line in lines for label in line.labels]
    assert sorted(labels) == ["main/0", "main/1", "other/0", "other/1", "tag: v1"]
    assert sum(len(line.joins) for line in lines) == 2
    assert sum(line.ends for line in lines) == 2
    assert all(line.column in line.lanes for line in lines)
    assert lines[0].to_json()["graph"]["column"] == 0


def test_the_graph_of_a_region_links_what_it_shows(ledger: Repository) -> None:
    lines = graph_lines(ledger, ["main"], region="1:0", limit=4)
    assert len(lines) == 4
    assert {line.column for line in lines} == {0}
