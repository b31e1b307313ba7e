"""`verify` finds what is not as it was written, wherever it is, and never stops at it."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli.core.history import Added, Move, QuarantineFile, Segment, State, digest_of_move
from ledger_cli.errors import LedgerError, NotFound
from ledger_cli.services.fork import delete, fork, tag, untag
from ledger_cli.services.integrity import _check_checkpoint, _Seen, verify
from ledger_cli.services.lookup import resolve
from ledger_cli.services.repository import Repository
from ledger_cli.stores.directory import DirectoryStore
from tests.conftest import Once
from tests.support import add_events, add_history, events_at, make_ledger, open_ledger, policy_json, run

POLICY = policy_json({"kind": "fixed", "interval": 20}, shards=2)


def make_everything(root: Path) -> None:
    repository = make_ledger(root)
    add_history(repository, POLICY)
    fork(repository, "main", "other", resolve(repository, "60"))
    run(repository, "other", {**POLICY, "baseWeight": 2})
    fork(repository, "main", "gone")
    delete(repository, "gone")
    tag(repository, "v1", resolve(repository, "main"))
    add_quarantine(repository)


@pytest.fixture
def repository(tmp_path: Path, once: Once) -> Repository:
    """A ledger with all that a ledger may have."""
    once(lambda: make_everything(tmp_path / "ledger"))
    return open_ledger(tmp_path / "ledger")


def add_quarantine(repository: Repository) -> None:
    with repository.store.scratch() as scratch:
        path = scratch / "refused.parquet"
        pq.write_table(repository.engine.query("SELECT 1::BIGINT AS line, 'x' AS raw"), path)
        stored = repository.store.publish(path, "quarantine/{sha256}.parquet")
    before = repository.branch("main")
    file = QuarantineFile(**vars(stored), rows=1, source="a.jsonl", source_sha256="0" * 64)
    repository.advance("main", before, "ingest", before.state, "", Added(quarantine=(file,)))


def test_an_untouched_ledger_is_whole(repository: Repository, tmp_path: Path) -> None:
    report = verify(open_ledger(tmp_path / "ledger"))
    assert report.findings == ()
    assert report.ok
    assert report.refs == 4
    assert report.commits > 10
    assert report.to_json()["findings"] == []


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    make_ledger(tmp_path / "ledger")
    assert verify(open_ledger(tmp_path / "ledger")).ok


def test_only_the_branches_named_and_what_they_stand_on(repository: Repository, tmp_path: Path) -> None:
    report = verify(open_ledger(tmp_path / "ledger"), ["other"])
    assert (report.ok, report.refs) == (True, 2)
    with pytest.raises(NotFound):
        verify(open_ledger(tmp_path / "ledger"), ["nothing"])


@pytest.mark.parametrize("kind", ["segments", "commits", "quarantine", "refs/main", "refs/other", "refs/admin"])
@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_a_finding(repository: Repository, tmp_path: Path, kind: str, seed: int) -> None:
    chance = random.Random(f"{kind} {seed}")
    # Of a move that no later one vouches for, only what can be compared with something is guarded.
    files = sorted((tmp_path / "ledger" / kind).iterdir())
    if kind.startswith("refs") and len(files) > 1:
        files = files[:-1]
    file = chance.choice(files)
    data = bytearray(file.read_bytes())
    place = chance.randrange(len(data))
    if kind == "refs/admin":
        place = data.index(b'"tags"') + chance.randrange(6)
    data[place] ^= 1 << chance.randrange(8)
    file.write_bytes(data)
    report = verify(open_ledger(tmp_path / "ledger"))
    assert not report.ok
    assert all(finding.what and finding.next_step for finding in report.findings)
    assert all("\n" not in finding.what for finding in report.findings)


@pytest.mark.parametrize("kind", ["segments", "commits"])
@pytest.mark.parametrize("size", [0, 3, 100])
def test_a_torn_file_is_a_finding(repository: Repository, tmp_path: Path, kind: str, size: int) -> None:
    file = min((tmp_path / "ledger" / kind).iterdir())
    file.write_bytes(file.read_bytes()[:size])
    findings = verify(open_ledger(tmp_path / "ledger")).findings
    assert f"{kind}/{file.name}" in [finding.file for finding in findings]


def test_every_missing_file_is_a_finding(repository: Repository, tmp_path: Path) -> None:
    gone = [min((tmp_path / "ledger" / kind).iterdir()) for kind in ("segments", "commits", "quarantine")]
    for file in gone:
        file.unlink()
    found = {finding.file for finding in verify(open_ledger(tmp_path / "ledger")).findings}
    assert {f"{file.parent.name}/{file.name}" for file in gone} <= found


def ledger_of_moves(root: Path, moves: int) -> Path:
    """A ledger whose branch has so many moves; where they are."""
    repository = make_ledger(root)
    for tick in range(moves - 1):
        add_events(repository, "main", events_at(tick))
    return root / "refs/main"


@pytest.mark.parametrize("gone", [[0], [3], [5, 6, 7], [1, 4, 10]])
def test_a_move_missing_anywhere_below_the_last_is_a_finding(tmp_path: Path, gone: list[int]) -> None:
    refs = ledger_of_moves(tmp_path / "ledger", 12)
    for seq in gone:
        (refs / f"{seq:020d}.json").unlink()
    found = [f for f in verify(open_ledger(tmp_path / "ledger")).findings if f.what.startswith("is missing")]
    assert [f.file for f in found] == [f"refs/main/{seq:020d}.json" for seq in gone if seq - 1 not in gone]
    assert [f.what for f in found if "up to" in f.what] == (
        ["is missing, and so are the moves after it up to 7"] if 6 in gone else []
    )


def test_a_missing_move_of_a_parent_is_a_finding_of_its_fork(tmp_path: Path) -> None:
    refs = ledger_of_moves(tmp_path / "ledger", 12)
    fork(open_ledger(tmp_path / "ledger"), "main", "other")
    (refs / f"{3:020d}.json").unlink()
    found = {f.file for f in verify(open_ledger(tmp_path / "ledger"), ["other"]).findings}
    assert f"refs/main/{3:020d}.json" in found


def test_a_draft_that_was_left_over_is_no_move(tmp_path: Path) -> None:
    refs = ledger_of_moves(tmp_path / "ledger", 3)
    (refs / ".7.0123456789abcdef").write_bytes(b"{")
    store = open_ledger(tmp_path / "ledger").store
    assert (store.move_numbers("main"), store.move_numbers("nothing")) == ([0, 1, 2], [])
    assert verify(open_ledger(tmp_path / "ledger")).ok


def test_moves_made_while_a_ref_is_listed_are_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger_of_moves(tmp_path / "ledger", 5)
    listed = iter([[f"{seq:020d}.json" for seq in (4, 1, 0, 2)]])
    real = DirectoryStore._listed
    monkeypatch.setattr(DirectoryStore, "_listed", lambda store, branch: next(listed, None) or real(store, branch))
    assert verify(open_ledger(tmp_path / "ledger")).findings == ()


@pytest.mark.parametrize("gone", [[0], [3], [5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]], ids=str)
def test_no_move_is_written_where_one_is_missing(tmp_path: Path, gone: list[int]) -> None:
    refs = ledger_of_moves(tmp_path / "ledger", 12)
    for seq in gone:
        (refs / f"{seq:020d}.json").unlink()
    left = sorted(refs.iterdir())
    with pytest.raises(LedgerError, match=f"move {gone[0]} of main is missing" if gone != [0] else "no branch"):
        add_events(open_ledger(tmp_path / "ledger"), "main", events_at(50))
    assert sorted(refs.iterdir()) == left
    if gone == [0]:
        with pytest.raises(LedgerError, match="move 0 of main is missing"):
            open_ledger(tmp_path / "ledger").create_branch("main", "init", "", None, State())


def test_a_ref_is_listed_once_and_not_at_each_of_many_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger_of_moves(tmp_path / "ledger", 5)
    listed: list[str] = []
    real = DirectoryStore._listed
    monkeypatch.setattr(DirectoryStore, "_listed", lambda store, branch: listed.append(branch) or real(store, branch))
    repository = open_ledger(tmp_path / "ledger")
    for tick in range(20):
        add_events(repository, "main", events_at(tick))
    assert listed == ["main"]
    add_events(open_ledger(tmp_path / "ledger"), "main", events_at(30))
    add_events(repository, "main", events_at(40))
    assert listed == ["main"] * 3, "a move of another process lies between"


@pytest.mark.parametrize("written", [False, True])
def test_a_process_killed_while_it_moves_a_ref_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    ledger_of_moves(tmp_path / "ledger", 3)

    class Killed(BaseException):
        pass

    def kill(*given: object, **named: object) -> None:
        raise Killed

    def link(source: Path, target: Path) -> None:
        if written:
            real(source, target)
        kill()

    real, before = os.link, open_ledger(tmp_path / "ledger").branch("main")
    states = {"main": (before, before.state), "other": (None, State())}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", kill)
        patched.setattr(os, "link", link)
        for name, (latest, state) in states.items():
            with pytest.raises(Killed):
                open_ledger(tmp_path / "ledger").advance(name, latest, "ingest", state, "")
    assert len(list((tmp_path / "ledger/refs").rglob(".*"))) == 2
    repository = open_ledger(tmp_path / "ledger")
    assert verify(repository).ok
    assert repository.branch_names() == ["main", "other"][: 1 + written]
    add_events(repository, "main", events_at(60))
    if not written:
        fork(repository, "main", "other")
    assert repository.branch("main").seq == 3 + written
    assert verify(open_ledger(tmp_path / "ledger")).ok


def test_a_tag_of_a_commit_that_is_not_there_is_a_finding(repository: Repository, tmp_path: Path) -> None:
    repository.administer("tag", "", lambda state: replace(state, tags={**state.tags, "v2": "ab" * 32}))
    (finding,) = verify(open_ledger(tmp_path / "ledger")).findings
    assert finding.file == f"refs/admin/{1:020d}.json"
    assert "tag 'v2' names the commit abababababab, which is in no file" in finding.what
    assert "ledger tag --delete v2" in finding.next_step
    untag(repository, "v2")
    assert verify(open_ledger(tmp_path / "ledger")).ok


def test_another_policy_than_that_of_the_commits_is_a_finding(repository: Repository, tmp_path: Path) -> None:
    last = max((tmp_path / "ledger/refs/main").iterdir())
    move = Move.from_bytes(last.read_bytes())
    assert move.state.policy is not None
    edited = replace(move.state, policy={**move.state.policy, "baseWeight": 5})
    last.write_bytes(replace(move, state=edited).to_bytes())
    (finding,) = verify(open_ledger(tmp_path / "ledger")).findings
    assert (finding.file, "its policy is not" in finding.what) == (f"refs/main/{last.name}", True)


def reworked(root: Path, change: dict[str, object]) -> None:
    """Change columns of the last commit file of main, and make digest of the file and log agree with it."""
    repository = open_ledger(root)
    branch = repository.branch("main")
    file = branch.added.commits[-1]
    path = root / file.file
    table = pq.read_table(path)
    for name, value in change.items():
        place = table.schema.get_field_index(name)
        column = table.column(place).to_pylist()
        column[0] = value(column[0]) if callable(value) else value
        table = table.set_column(place, table.schema.field(place), pa.array(column, table.schema.types[place]))
    with repository.store.scratch() as scratch:
        pq.write_table(table, scratch / "commits.parquet")
        stored = repository.store.publish(scratch / "commits.parquet", "commits/{sha256}.parquet")
    forged = replace(file, **vars(stored))
    previous = ""
    for path in sorted((root / "refs/main").iterdir()):
        move = replace(Move.from_bytes(path.read_bytes()), previous=previous)
        if move.seq == file.arrival:
            move = replace(move, added=replace(move.added, commits=(replace(forged, arrival=-1),)))
        path.write_bytes(move.to_bytes())
        previous = digest_of_move(move.to_bytes())


def with_first_entry(**change: object) -> object:
    return lambda entries: [{**entries[0], **change}, *entries[1:]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"entries": with_first_entry(n=99)}, "entries do not give their digest"),
        ({"entries": with_first_entry(weight="1")}, "entries do not give their digest"),
        ({"entries": with_first_entry(activity_mean=0.25)}, "statistics"),
        ({"entries": with_first_entry(n=0)}, "statistics"),
        ({"epoch_end": 7}, "header does not give its digest"),
        ({"metadata": '{"a":1}'}, "header does not give its digest"),
        ({"commit_id": "00000000-0000-8000-8000-000000000000"}, "id is not that of its digest"),
        ({"height": 77}, "no commit"),
        ({"parents": ["0" * 64]}, "does not follow the one before it"),
    ],
)
def test_a_commit_changed_together_with_the_log_is_a_finding(
    repository: Repository, tmp_path: Path, change: dict[str, object], what: str
) -> None:
    reworked(tmp_path / "ledger", change)
    findings = verify(open_ledger(tmp_path / "ledger")).findings
    assert any(what in finding.what for finding in findings), findings


@pytest.mark.parametrize(
    "change",
    [{"rows": 1}, {"highest_tick": 10**6}],
)
def test_the_last_move_is_compared_with_its_lists(
    repository: Repository, tmp_path: Path, change: dict[str, int]
) -> None:
    last = max((tmp_path / "ledger/refs/main").iterdir())
    move = Move.from_bytes(last.read_bytes())
    last.write_bytes(replace(move, state=replace(move.state, **change)).to_bytes())
    assert not verify(open_ledger(tmp_path / "ledger")).ok


def test_checkpoints_are_compared_with_the_moves(tmp_path: Path) -> None:
    repository = make_ledger(tmp_path / "ledger")
    for tick in range(101):
        add_events(repository, "main", events_at(tick))
    assert verify(open_ledger(tmp_path / "ledger")).ok
    path = tmp_path / "ledger/refs/main" / f"{100:020d}.json"
    move = Move.from_bytes(path.read_bytes())
    assert move.checkpoint is not None
    shorter = replace(move.checkpoint, segments=move.checkpoint.segments[1:])
    path.write_bytes(replace(move, checkpoint=shorter).to_bytes())
    findings = verify(open_ledger(tmp_path / "ledger")).findings
    assert any("lists other files" in finding.what for finding in findings)


def test_a_checkpoint_over_many_moves_is_compared_in_one_go() -> None:
    count = 51_200
    moves = [
        Added(segments=(Segment(str(n), "", 1, 1, n, n, 0.5, (0.0, 1.0, 0.0, 1.0)),)).arrived(n)
        for n in range(1, count + 1)
    ]
    listed = Added(segments=tuple(each.segments[0] for each in moves))
    move = Move(count, "", "ingest", "", "", "", State(), moves[-1], checkpoint=listed)
    seen = _Seen()
    begun = time.thread_time()
    _check_checkpoint(move, [Added(), *moves], "file", seen)
    assert time.thread_time() - begun < 2
    assert not seen.findings
    _check_checkpoint(replace(move, checkpoint=Added()), [Added(), *moves], "file", seen)
    assert len(seen.findings) == 1


def test_a_move_of_an_earlier_program_is_written_as_it_was() -> None:
    """What is new in a state is left out where it says nothing: else `verify` would find every older move changed."""
    state = '"created":0,"deleted":false,"final":false,"folded":-1,"rows":0,"runs":0,"temporary":false'
    raw = (
        '{"at":"2026-01-01T00:00:00.000Z","by":"tester@host","kind":"init","previous":"","seq":0,'
        f'"state":{{{state}}},"why":""}}\n'
    ).encode()
    assert Move.from_bytes(raw).to_bytes() == raw
