"""Forks, branches and tags as users see them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_cli.core.policy import Policy
from ledger_cli.errors import Conflict, NotFound, UsageError
from ledger_cli.services.commits import read_commits
from ledger_cli.services.fork import branches, delete, fork, tag, tags, untag
from ledger_cli.services.lookup import resolve
from ledger_cli.services.repository import Repository
from ledger_cli.stores.directory import DirectoryStore
from tests.support import add_events, events_at, make_ledger, open_ledger, policy_json, run

FIXED = policy_json({"kind": "fixed", "interval": 20})
CAPPED = policy_json({"kind": "hybrid", "minInterval": 3, "maxInterval": 25, "maxSize": 6})


def epochs(repository: Repository, branch: str) -> list[tuple[int, int, int]]:
    table = read_commits(
        repository,
        repository.branch(branch),
        ["height", "epoch_start", "epoch_end", "list_sum(list_transform(entries, lambda e: e.n))::BIGINT AS n"],
    )
    return [
        (row["epoch_start"], row["epoch_end"], row["n"]) for row in table.sort_by([("height", "ascending")]).to_pylist()
    ]


@pytest.fixture
def ledger(tmp_path: Path) -> Repository:
    repository = make_ledger(tmp_path / "ledger")
    add_events(repository, "main", events_at(3, 27, 45, 61))
    run(repository, "main", FIXED)
    return repository


def test_a_fork_shares_the_chain_and_goes_its_own_way(ledger: Repository) -> None:
    fork(ledger, "main", "other", policy=Policy.from_json({**FIXED, "baseWeight": 2}))
    add_events(ledger, "other", events_at(70, 85))
    run(ledger, "other", {**FIXED, "baseWeight": 2})
    assert epochs(ledger, "other") == [(0, 20, 1), (20, 40, 1), (40, 60, 1), (60, 80, 2)]
    assert epochs(ledger, "main") == [(0, 20, 1), (20, 40, 1), (40, 60, 1)]


def test_a_fork_writes_one_small_file(ledger: Repository, tmp_path: Path) -> None:
    for start in range(100, 1100, 20):
        add_events(ledger, "main", events_at(start))
        run(ledger, "main", FIXED)
    before = {path for path in (tmp_path / "ledger").rglob("*") if path.is_file()}
    fork(ledger, "main", "other")
    (made,) = {path for path in (tmp_path / "ledger").rglob("*") if path.is_file()} - before
    assert made.stat().st_size < 2000


def test_a_fork_at_the_head_of_a_single_chain_reads_few_files(
    ledger: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for start in range(100, 500, 20):
        add_events(ledger, "main", events_at(start))
        run(ledger, "main", FIXED)
    fresh = open_ledger(tmp_path / "ledger")
    read = []
    commits = fresh.engine.commits
    monkeypatch.setattr(fresh.engine, "commits", lambda files, *given: read.extend(files) or commits(files, *given))
    fork(fresh, "main", "other")
    assert len(read) <= 64


def test_a_fork_commits_again_what_the_cut_took_off(ledger: Repository) -> None:
    add_events(ledger, "main", events_at(8, 29, entity="late"))
    run(ledger, "main", FIXED)
    assert epochs(ledger, "main")[3:] == [(0, 20, 1), (20, 40, 1)]
    fork(ledger, "main", "other", resolve(ledger, "40"))
    assert epochs(ledger, "other") == [(0, 20, 1), (20, 40, 1)]
    run(ledger, "other", FIXED)
    assert sorted(epochs(ledger, "other")) == sorted(epochs(ledger, "main"))


def test_a_fork_finds_late_rows_that_its_parent_has_not_folded_yet(ledger: Repository) -> None:
    add_events(ledger, "main", events_at(8, entity="late"))
    fork(ledger, "main", "one")
    fork(ledger, "one", "two")
    run(ledger, "two", FIXED)
    assert epochs(ledger, "two")[3:] == [(0, 20, 1)]
    run(ledger, "main", FIXED)
    assert ledger.branch("two").state.shards == ledger.branch("main").state.shards


def test_a_fork_of_a_fork_from_an_inherited_commit(ledger: Repository) -> None:
    first = read_commits(ledger, ledger.branch("main"), ["commit_id"], "height = 0")["commit_id"][0].as_py()
    fork(ledger, "main", "one")
    add_events(ledger, "one", events_at(99))
    run(ledger, "one", FIXED)
    fork(ledger, "one", "two", resolve(ledger, first, "one"))
    assert epochs(ledger, "two") == [(0, 20, 1)]
    run(ledger, "two", FIXED)
    assert ledger.branch("two").state.shards == ledger.branch("one").state.shards


def test_a_fork_of_a_branch_that_took_the_name_of_its_ancestor(ledger: Repository) -> None:
    fork(ledger, "main", "a")
    fork(ledger, "a", "b")
    delete(ledger, "a")
    fork(ledger, "b", "a")
    add_events(ledger, "a", events_at(90))
    run(ledger, "a", FIXED)
    first = read_commits(ledger, ledger.branch("a"), ["commit_id"], "height = 1")["commit_id"][0].as_py()
    fork(ledger, "a", "c", resolve(ledger, first, "a"))
    run(ledger, "c", FIXED)
    assert ledger.branch("c").state.shards == ledger.branch("a").state.shards


def test_other_regions_start_from_the_first_tick(ledger: Repository) -> None:
    policy = {**FIXED, "regions": {"kind": "grid", "cell": 5}}
    fork(ledger, "main", "other", resolve(ledger, "40"), Policy.from_json(policy))
    assert (ledger.branch("other").state.shards, ledger.branch("other").state.watermark) == ({}, None)
    run(ledger, "other", policy)
    assert epochs(ledger, "other") == epochs(ledger, "main")


def test_a_fork_of_a_branch_without_commits(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path / "ledger")
    add_events(repository, "main", events_at(3, 27))
    fork(repository, "main", "other")
    run(repository, "other", CAPPED, final=True)
    assert epochs(repository, "other") == [(3, 28, 2)]


def test_a_deleted_branch_is_gone_and_its_forks_stay(ledger: Repository) -> None:
    fork(ledger, "main", "one")
    add_events(ledger, "one", events_at(99))
    run(ledger, "one", FIXED)
    fork(ledger, "one", "two")
    delete(ledger, "one")
    assert [view.name for view in branches(ledger)] == ["main", "two"]
    assert epochs(ledger, "two")[-1] == (60, 80, 1)
    fork(ledger, "main", "one")
    assert epochs(ledger, "one") == epochs(ledger, "main")


def test_branches_tell_where_they_stand(ledger: Repository) -> None:
    fork(ledger, "main", "other", why="try it")
    main, other = (view.to_json() for view in branches(ledger))
    assert (main["parent"], other["parent"], other["why"]) == (None, "main", "try it")
    assert main["heads"] == other["heads"]
    assert main["digest"] == other["digest"]
    assert (other["commits"], other["watermark"], other["rows"]) == (3, 61, 4)


@pytest.mark.parametrize("name", ["main", "admin", "12", "a/b", "", "v1"])
def test_names_that_a_fork_cannot_have(ledger: Repository, name: str) -> None:
    tag(ledger, "v1", resolve(ledger, "main"))
    with pytest.raises(UsageError):
        fork(ledger, "main", name)


def test_a_fork_keeps_the_layer(ledger: Repository) -> None:
    with pytest.raises(UsageError, match="layer"):
        fork(ledger, "main", "other", policy=Policy.from_json({**FIXED, "layer": "solar"}))


def test_main_and_what_does_not_exist_cannot_be_deleted(ledger: Repository) -> None:
    with pytest.raises(UsageError, match="main"):
        delete(ledger, "main")
    with pytest.raises(NotFound):
        delete(ledger, "nothing")


def test_tags(ledger: Repository) -> None:
    newest = resolve(ledger, "main")
    named = tag(ledger, "v1", newest)
    assert named.commit is not None
    assert (named.commit.epoch_start, named.commit.epoch_end) == (40, 60)
    assert tag(ledger, "v1", newest) == named
    place = resolve(ledger, "v1")
    assert (place.kind, place.commit) == ("tag", named.commit)
    others = {*read_commits(ledger, ledger.branch("main"), ["digest"])["digest"].to_pylist()} - {named.commit.digest}
    with pytest.raises(UsageError, match="--delete"):
        tag(ledger, "v1", resolve(ledger, others.pop()[:9]))
    with pytest.raises(UsageError, match="is a branch"):
        tag(ledger, "main", newest)
    with pytest.raises(UsageError, match="is a tick"):
        tag(ledger, "v2", resolve(ledger, "40"))
    assert [each.to_json()["tag"] for each in tags(ledger)] == ["v1"]
    untag(ledger, "v1")
    assert tags(ledger) == []
    with pytest.raises(NotFound, match="none yet"):
        untag(ledger, "v1")


@pytest.mark.parametrize("later", ["tag", "branch"])
def test_of_a_tag_and_a_branch_made_at_once_with_one_name_the_later_gives_way(
    ledger: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    newest, other = resolve(ledger, "main"), open_ledger(tmp_path / "ledger")
    acts = [lambda by: fork(by, "main", "v1"), lambda by: tag(by, "v1", newest)]
    first, second = acts if later == "tag" else reversed(acts)
    real = DirectoryStore.advance_ref

    def meanwhile(store: DirectoryStore, branch: str, seq: int, move: bytes) -> None:
        monkeypatch.setattr(DirectoryStore, "advance_ref", real)
        first(other)
        real(store, branch, seq, move)

    monkeypatch.setattr(DirectoryStore, "advance_ref", meanwhile)
    with pytest.raises(Conflict, match="meanwhile"):
        second(ledger)
    fresh = open_ledger(tmp_path / "ledger")
    assert ("v1" in fresh.tags, "v1" in fresh.branch_names()) == (later == "branch", later == "tag")
