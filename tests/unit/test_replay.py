"""`replay` notices every change of what the events give, and tells where."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.core.commit import commit_id_of, entries_digests
from ledger_cli.core.history import Move, State, digest_of_move
from ledger_cli.core.jcs import text_of
from ledger_cli.core.moments import SUMS
from ledger_cli.core.policy import Policy
from ledger_cli.errors import Corrupt, LedgerError, UsageError
from ledger_cli.services.fork import branch_digest, fork
from ledger_cli.services.integrity import verify
from ledger_cli.services.integrity_commits import header_digest_of
from ledger_cli.services.lookup import resolve
from ledger_cli.services.replay import verify_replay, what_if
from ledger_cli.services.replay_run import RunCheck, Window
from ledger_cli.services.repository import Repository
from tests.conftest import Once
from tests.support import add_events, add_history, events_at, make_ledger, open_ledger, policy_json, run

POLICY = policy_json({"kind": "fixed", "interval": 20}, shards=2)


@pytest.fixture
def root(tmp_path: Path, once: Once) -> Path:
    once(lambda: add_history(make_ledger(tmp_path / "ledger"), POLICY))
    return tmp_path / "ledger"


def test_an_untouched_branch_comes_out_the_same(root: Path) -> None:
    repository = open_ledger(root)
    report = verify_replay(repository, "main")
    assert report.ok
    assert (report.runs, report.skipped, report.commits) == (4, 0, repository.branch("main").state.commits)
    assert report.to_json()["difference"] is None


def test_a_branch_without_runs(tmp_path: Path) -> None:
    report = verify_replay(make_ledger(tmp_path / "ledger"), "main")
    assert (report.ok, report.runs, report.commits) == (True, 0, 0)


def test_a_fork_is_verified_with_what_it_has_of_its_ancestors(root: Path) -> None:
    repository = open_ledger(root)
    fork(repository, "main", "one", resolve(repository, "60"))
    run(repository, "one", {**POLICY, "baseWeight": 2})
    fork(repository, "one", "two", resolve(repository, "30"))
    run(repository, "two", POLICY)
    for name in ("one", "two"):
        report = verify_replay(open_ledger(root), name)
        assert report.ok
        assert report.commits == repository.branch(name).state.commits


def test_only_some_ticks(root: Path) -> None:
    report = verify_replay(open_ledger(root), "main", 100, 140)
    assert report.ok
    assert 0 < report.commits < open_ledger(root).branch("main").state.commits
    assert report.skipped > 0
    assert verify_replay(open_ledger(root), "main", 10**6).runs == 0


def rewrite_log(root: Path, change: Callable[[Move], Move]) -> None:
    """Change moves of main, with a chain of digests that is right again."""
    previous = ""
    for path in sorted((root / "refs/main").iterdir()):
        move = replace(change(Move.from_bytes(path.read_bytes())), previous=previous)
        path.write_bytes(move.to_bytes())
        previous = digest_of_move(move.to_bytes())


def forge(root: Path, changed: int = 0) -> None:
    """Change an amount in the last commit file, and every digest, head and log entry that hangs on it."""
    repository = open_ledger(root)
    file = repository.branch("main").added.commits[-1]
    table = pq.read_table(root / file.file)
    rows = table.to_pylist()
    rows[changed]["entries"][0]["weight"] = "123456789"
    rows[changed]["entries"][0]["weight_value"] = 0.123456789
    heads: dict[str, str] = {}
    for row in rows:
        shard = str(row["shard"])
        if shard in heads:
            row["parents"] = [heads[shard]]
        row["entries_digest"] = digest_of_entries(row["entries"])
        row["digest"] = heads[shard] = header_digest_of(row)
        row["commit_id"] = commit_id_of(row["digest"])
    with repository.store.scratch() as scratch:
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), scratch / "forged.parquet")
        stored = repository.store.publish(scratch / "forged.parquet", "commits/{sha256}.parquet")

    def forged(move: Move) -> Move:
        if move.seq < file.arrival:
            return move
        shards = {s: replace(each, head=heads.get(s, each.head)) for s, each in move.state.shards.items()}
        added = move.added
        if move.seq == file.arrival:
            added = replace(added, commits=(replace(file, **vars(stored), arrival=-1),))
        return replace(move, state=replace(move.state, shards=shards, tiles=()), added=added)

    rewrite_log(root, forged)


def digest_of_entries(entries: list[dict[str, Any]]) -> str:
    columns = {name: pa.array([entry[name] for entry in entries]) for name in ("n", *SUMS)}
    columns["region"] = pa.array([text_of(entry["region"]) for entry in entries])
    return entries_digests(columns, [0, len(entries)])[0]


def test_a_forgery_with_all_digests_right_is_no_match_for_the_events(root: Path) -> None:
    forge(root)
    assert verify(open_ledger(root)).ok, "the forger has done his work"
    report = verify_replay(open_ledger(root), "main")
    difference = report.difference
    assert not report.ok
    assert difference is not None
    assert (difference.what, difference.branch) == ("commit", "main")
    assert difference.stored is not None
    assert difference.recomputed is not None
    assert difference.stored.height == difference.recomputed.height
    (region,) = difference.regions
    assert region.stored is not None
    assert region.recomputed is not None
    assert region.stored["weight"] == "123456789"
    assert {**region.recomputed, "weight": ""} == {**region.stored, "weight": ""}
    assert region.recomputed["weight"] != "123456789"
    assert report.to_json()["difference"]["regions"][0]["region"] == region.region


def test_the_first_difference_is_told_not_what_follows_from_it(root: Path) -> None:
    forge(root, changed=1)
    first = verify_replay(open_ledger(root), "main").difference
    assert first is not None
    assert first.regions
    assert "parents" not in (first.header or {})


def test_a_difference_outside_the_ticks_asked_for_is_not_looked_at(root: Path) -> None:
    forge(root)
    assert verify_replay(open_ledger(root), "main", 60, 100).ok


@pytest.mark.parametrize(("activity", "what"), [(0.25, "commit"), (9.0, "file")])
def test_a_changed_event_is_noticed(root: Path, activity: float, what: str) -> None:
    repository = open_ledger(root)
    segment = repository.branch("main").added.segments[0]
    path = root / segment.file
    table = pq.read_table(path)
    place = table.schema.get_field_index("activity")
    table = table.set_column(place, table.schema.field(place), pa.array([activity] * table.num_rows))
    pq.write_table(table, path)
    difference = verify_replay(open_ledger(root), "main").difference
    assert difference is not None
    assert difference.what == what


def test_a_torn_commit_file_is_noticed(root: Path) -> None:
    file = open_ledger(root).branch("main").added.commits[0]
    data = bytearray((root / file.file).read_bytes())
    data[len(data) // 2] ^= 1
    (root / file.file).write_bytes(data)
    difference = verify_replay(open_ledger(root), "main").difference
    assert difference is not None
    assert difference.what == "file"
    assert "ledger verify" in difference.message


@pytest.mark.parametrize(
    "change", [{"watermark": 7}, {"folded": 0}, {"final": False}, {"runs": 9}], ids=lambda each: next(iter(each))
)
def test_another_state_than_the_run_comes_to_is_noticed(root: Path, change: dict[str, Any]) -> None:
    last = open_ledger(root).branch("main").seq
    rewrite_log(root, lambda move: move if move.seq < last else replace(move, state=replace(move.state, **change)))
    difference = verify_replay(open_ledger(root), "main").difference
    assert difference is not None
    assert (difference.what, difference.move) == ("state", last)
    assert next(iter(change)) in difference.message


def with_last_policy(root: Path, **change: Any) -> int:
    """Change the policy that the last move of main records; its number."""
    last = open_ledger(root).branch("main").seq
    policy = {**POLICY, **change}
    rewrite_log(
        root, lambda move: replace(move, state=replace(move.state, policy=policy)) if move.seq == last else move
    )
    return last


@pytest.mark.parametrize(
    ("change", "message"),
    [({"baseWeight": 5}, "another policy than the branch had"), ({"shards": -1}, "a policy that cannot be used")],
    ids=["another", "none"],
)
def test_a_run_with_a_changed_policy_is_a_difference(root: Path, change: dict[str, Any], message: str) -> None:
    last = with_last_policy(root, **change)
    difference = verify_replay(open_ledger(root), "main").difference
    assert difference is not None
    assert (difference.branch, difference.move) == ("main", last)
    assert message in difference.message
    assert "ledger verify" in difference.message


def test_a_policy_changed_without_a_run_is_a_difference(root: Path) -> None:
    add_events(open_ledger(root), "main", events_at(160))
    last = with_last_policy(root, baseWeight=5)
    difference = verify_replay(open_ledger(root), "main").difference
    assert difference is not None
    assert (difference.what, difference.move) == ("state", last)
    assert "no run records another policy" in difference.message


def test_a_fork_of_a_branch_with_a_changed_policy_names_the_fault(root: Path) -> None:
    fork(open_ledger(root), "main", "other", policy=Policy.from_json({**POLICY, "baseWeight": 2}))
    with_last_policy(root, baseWeight=5)
    repository = open_ledger(root)
    add_events(repository, "other", events_at(6, entity="later"))
    with pytest.raises(Corrupt, match=r"no move records the policy .* `ledger verify`"):
        run(repository, "other", {**POLICY, "baseWeight": 2})


def test_a_fork_that_does_not_begin_where_it_says(root: Path) -> None:
    repository = open_ledger(root)
    fork(repository, "main", "other", resolve(repository, "60"))
    path = root / "refs/other" / f"{0:020d}.json"
    move = Move.from_bytes(path.read_bytes())
    shards = {shard: replace(each, start=999) for shard, each in move.state.shards.items()}
    path.write_bytes(replace(move, state=replace(move.state, shards=shards)).to_bytes())
    difference = verify_replay(open_ledger(root), "other").difference
    assert difference is not None
    assert difference.what == "state"


def test_a_log_cut_short_has_another_digest(root: Path) -> None:
    known = branch_digest(open_ledger(root).branch("main").state)
    assert verify_replay(open_ledger(root), "main", expect=known).ok
    assert verify_replay(open_ledger(root), "main", expect=known[:12].upper()).ok
    max((root / "refs/main").iterdir()).unlink()
    assert verify_replay(open_ledger(root), "main").ok, "what is left is right in itself"
    difference = verify_replay(open_ledger(root), "main", expect=known).difference
    assert difference is not None
    assert difference.what == "digest"
    with pytest.raises(UsageError, match="--expect"):
        verify_replay(open_ledger(root), "main", expect="ab")


def test_the_digest_of_a_branch_is_that_of_its_commits(root: Path) -> None:
    repository = open_ledger(root)
    fork(repository, "main", "same")
    assert branch_digest(repository.branch("same").state) == branch_digest(repository.branch("main").state)
    assert branch_digest(State()) != branch_digest(repository.branch("main").state)


def test_a_what_if_starts_from_the_first_tick_and_is_as_final(root: Path) -> None:
    repository = open_ledger(root)
    policy = Policy.from_json(policy_json({"kind": "hybrid", "minInterval": 4, "maxSize": 9}))
    result = what_if(repository, "main", "other", policy, why="what if")
    state = repository.branch("other").state
    assert (state.commits, state.final, state.base.keep if state.base else None) == (result.commits, True, {})
    assert verify_replay(open_ledger(root), "other").ok
    with pytest.raises(UsageError, match="exists"):
        what_if(repository, "main", "other", policy)


def test_a_what_if_from_a_place_keeps_what_lies_before(root: Path) -> None:
    repository = open_ledger(root)
    policy = Policy.from_json({**POLICY, "strategy": {"kind": "adaptive", "maxSize": 5}})
    what_if(repository, "main", "other", policy, resolve(repository, "60"))
    assert repository.branch("other").state.base.keep == {"0": 3, "1": 3}  # type: ignore[union-attr]
    assert verify_replay(open_ledger(root), "other").ok


def test_a_what_if_that_fails_leaves_no_branch(root: Path) -> None:
    repository = open_ledger(root)
    with pytest.raises(LedgerError):
        what_if(repository, "main", "other", Policy.from_json({**POLICY, "baseWeight": 1e300}))
    assert repository.branch_names() == ["main"]


def test_a_what_if_killed_before_its_run_is_made_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = open_ledger(root)
    policy = Policy.from_json({**POLICY, "baseWeight": 3})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ledger_cli.services.replay.commit", killed)
        with pytest.raises(KeyboardInterrupt):
            what_if(repository, "main", "other", policy)
    again = open_ledger(root)
    what_if(again, "main", "other", policy)
    what_if(again, "main", "undisturbed", policy)
    assert again.branch("other").state.shards == again.branch("undisturbed").state.shards


def test_long_sequences_of_small_runs(tmp_path: Path) -> None:
    repository: Repository = make_ledger(tmp_path / "ledger")
    for tick in range(130):
        add_events(repository, "main", events_at(tick))
        if tick % 2:
            run(repository, "main", policy_json({"kind": "fixed", "interval": 4}))
    report = verify_replay(open_ledger(tmp_path / "ledger"), "main")
    assert (report.ok, report.runs) == (True, 65)


def test_commits_are_compared_as_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_ledger(tmp_path / "ledger")
    add_events(repository, "main", events_at(*range(10_000)))
    run(repository, "main", policy_json({"kind": "fixed", "interval": 1}), final=True)
    after = repository.branch("main")
    check = RunCheck(repository, repository.branch_at("main", after.seq - 1), after, Window(), None)
    fold = check._fold()
    made = list(fold.tables())
    monkeypatch.setattr(fold, "tables", lambda: iter(made))
    monkeypatch.setattr(check, "_fold", lambda: fold)
    tracemalloc.start()
    try:
        assert list(check.differences()) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert check.compared == 10_000
    assert peak < 100 * check.compared, "an object for each value takes ten times as much"
