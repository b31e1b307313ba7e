"""What must not happen: another's branch deleted, rows lost to a reused name, refs reached by a path."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli import Ledger
from ledger_cli.core.policy import Policy
from ledger_cli.errors import Conflict, Corrupt, LedgerError, NotFound, UsageError
from ledger_cli.services import replay
from ledger_cli.services.commit import CommitRequest, commit


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ticks.jsonl"
    tick = {"entityId": "E", "x": 0, "y": 0, "activity": 1}
    path.write_text("".join(json.dumps({**tick, "tickId": number}) + "\n" for number in range(4)))
    return path


@pytest.fixture
def world(tmp_path: Path, source: Path) -> Ledger:
    ledger = Ledger.create(tmp_path / "world", interval=2)
    ledger.ingest(source)
    ledger.commit(final=True)
    return ledger


def test_a_failed_what_if_leaves_the_branch_of_another_process(
    world: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(repository: Any, branch: str, request: CommitRequest) -> Any:
        monkeypatch.setattr(replay, "commit", commit)
        with Ledger.open(tmp_path / "world") as other:
            other.what_if("wi", interval=3)
        return commit(repository, branch, request)

    monkeypatch.setattr(replay, "commit", slow)
    with pytest.raises(Conflict, match="deleted and made again"):
        world.what_if("wi", interval=1)
    with Ledger.open(tmp_path / "world") as later:
        assert len(later.log("wi").table) == 2
        assert later.replay("wi").ok


def test_rows_are_not_judged_by_a_branch_that_is_gone(world: Ledger, tmp_path: Path, source: Path) -> None:
    world.fork("side")
    rows = tmp_path / "more.jsonl"
    rows.write_text(source.read_text())
    with Ledger.open(tmp_path / "world") as other:
        store = world._repository.store

        class Meanwhile:
            """The store; just before the first move of `side`, the branch is deleted and made again, empty."""

            def __init__(self) -> None:
                self.done = False

            def __getattr__(self, name: str) -> Any:
                return getattr(store, name)

            def advance_ref(self, branch: str, seq: int, move: bytes) -> None:
                if branch == "side" and not self.done:
                    self.done = True
                    other.delete_branch("side")
                    other._repository.create_branch("side", "fork", "", None, replay.State())
                store.advance_ref(branch, seq, move)

        world._repository.store = Meanwhile()  # type: ignore[assignment]
        with rows.open("a") as file:
            file.write('{"entityId":"F","tickId":9,"x":0,"y":0,"activity":1}\n')
        with pytest.raises(Conflict, match="deleted and made again"):
            world.ingest(rows, branch="side")
        assert other.ingest(rows, branch="side").stored == 5


@pytest.mark.parametrize("name", ["admin", "../../elsewhere/refs/main", "MAIN", "a/b", ""])
def test_no_branch_is_called_so(world: Ledger, source: Path, name: str) -> None:
    world.tag("first")
    for act in (world.commit, world.status, world.log):
        with pytest.raises(NotFound, match="there is no branch"):
            act(name)
    with pytest.raises(NotFound):
        world.ingest(source, branch=name)
    with pytest.raises(LedgerError):
        world.delete_branch(name)


def test_names_that_differ_by_case_alone_are_refused(world: Ledger) -> None:
    with pytest.raises(UsageError, match="differs from 'main' by case"):
        world.fork("Main")


def test_a_damaged_quarantine_is_named(world: Ledger, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{\n")
    assert world.ingest(bad).refused == 1
    (file,) = (tmp_path / "world" / "quarantine").iterdir()
    file.write_bytes(b"PAR1 no more")
    with pytest.raises(Corrupt, match="run `ledger verify`"):
        world.ingest(bad)


def test_an_empty_part_of_a_policy_is_kept(world: Ledger) -> None:
    from ledger_cli.core.history import Move, State

    policy = {"strategy": {"kind": "plug", "steps": [], "note": None}}
    move = Move(0, "", "commit", "2026-01-01T00:00:00Z", "a", "", State(policy=policy))
    assert Move.from_bytes(move.to_bytes()).state.policy == policy


@pytest.mark.parametrize("call", ["commit", "fork", "what_if", "create"])
def test_a_misspelt_setting_is_refused(world: Ledger, tmp_path: Path, call: str) -> None:
    acts: dict[str, Any] = {
        "commit": lambda: world.commit(intervall=3),
        "fork": lambda: world.fork("side", intervall=3),
        "what_if": lambda: world.what_if("side", intervall=3),
        "create": lambda: Ledger.create(tmp_path / "other", intervall=3),
    }
    with pytest.raises(UsageError, match="no setting 'intervall', did you mean interval"):
        acts[call]()
    assert isinstance(world.policy(), Policy)
    assert [branch.name for branch in world.branches()] == ["main"]


def test_a_table_without_the_key_is_refused_whole(world: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "foreign.csv"
    path.write_text("entity_id;tick;x\nE;1;2\n")
    with pytest.raises(LedgerError, match=r"foreign.csv: no column is .* entity_id;tick;x\): .* --delimiter ';'$"):
        world.ingest(path)
    with pytest.raises(LedgerError, match=r"named entityId, tickId, y, activity .* --map entityId=entity_id$"):
        world.ingest(path, delimiter=";")
    assert world.status().to_json()["quarantined"] == 0


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["Entity ID", "tick_id", "X", "y", "activity"], "--map 'entityId=Entity ID' --map tickId=tick_id --map x=X"),
        (["entityId", "tickId", "x", "y", "load"], "say which it is, for example --map activity=load"),
        (["car", "second", "x", "y", "load"], "say which they are, for example --map entityId=car"),
        (["entityId", "tickId", "x", "y"], "--map activity=COLUMN"),
    ],
)
def test_columns_that_are_not_there_are_told_all_at_once(
    world: Ledger, tmp_path: Path, names: list[str], told: str
) -> None:
    pq.write_table(pa.table({name: [1] for name in names}), tmp_path / "foreign.parquet")
    with pytest.raises(LedgerError) as refused:
        world.ingest(tmp_path / "foreign.parquet")
    assert str(refused.value).endswith(told)
    assert world.status().to_json()["quarantined"] == 0


@pytest.mark.parametrize("name", ["Vehicle ID", "Pos-X [m]", 'the "car"', "a.b", "1st"])
def test_the_very_name_of_a_column_is_that_column(world: Ledger, tmp_path: Path, name: str) -> None:
    """Pos-X is no difference of Pos and X where a column is called so."""
    table = pa.table({name: ["E7"], "Pos": [5], "X": [3], "tickId": [0], "y": [1.0], "activity": [1.0]})
    pq.write_table(table, tmp_path / "odd.parquet")
    assert world.ingest(tmp_path / "odd.parquet", map={"entityId": name, "x": "X - 1"}).stored == 1
    (row,) = world.sql("SELECT x, meta FROM ticks WHERE entity_id = 'E7'").to_pylist()
    assert row == {"x": 2.0, "meta": '{"Pos":5}'}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_a_column_spelled_like_a_field_does_not_take_its_place(world: Ledger, tmp_path: Path, suffix: str) -> None:
    values = {"X": 3, "car": "E8", "tickId": 0, "x": 1, "y": 1, "activity": 1}
    path = tmp_path / f"odd.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({name: [value] for name, value in values.items()}), path)
    elif suffix == "csv":
        path.write_text("\n".join(",".join(map(str, each)) for each in (values, values.values())) + "\n")
    else:
        path.write_text(json.dumps(values) + "\n")
    assert world.ingest(path, map={"entityId": "car"}).stored == 1
    (row,) = world.sql("SELECT x, meta FROM ticks WHERE entity_id = 'E8'").to_pylist()
    assert (row["x"], list(json.loads(row["meta"]).values())) == (1.0, [3])


def test_a_number_is_that_number_whatever_columns_are_called(world: Ledger, tmp_path: Path) -> None:
    pq.write_table(pa.table({"entityId": ["F"], "7": [1], "x": [1], "y": [1], "activity": [1]}), tmp_path / "a.parquet")
    world.ingest(tmp_path / "a.parquet", map={"tickId": "7"})
    assert world.sql("SELECT tick_id FROM ticks WHERE entity_id = 'F'").to_pylist() == [{"tick_id": 7}]


def test_keys_are_compared_in_portions(world: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the portions, every key that stands twice is found: in a file, over files, and stored."""
    monkeypatch.setattr("ledger_cli.engines.importer.drafts._ROWS_AT_ONCE", 3)
    monkeypatch.setattr("ledger_cli.engines.importer.drafts._RANGES_LIMIT", 2)
    keys = [(entity, tick) for entity in "EFG" for tick in range(40)]
    paths = []
    for part in range(3):
        path = tmp_path / f"part{part}.jsonl"
        rows = [*keys[part::2], *keys[:9]]
        path.write_text(
            "".join(
                json.dumps({"entityId": entity, "tickId": tick, "x": 0, "y": 0, "activity": 1}) + "\n"
                for entity, tick in rows
            )
        )
        paths.append(path)
    read = sum(len(path.read_text().splitlines()) for path in paths)
    first = world.ingest(*paths)
    assert (first.read, first.stored, first.duplicates) == (read, len(keys) - 4, read - len(keys) + 4)
    assert world.ingest(*paths).stored == 0
    assert world.sql("SELECT count(*) AS n, count(DISTINCT (entity_id, tick_id)) AS keys FROM ticks").to_pylist() == [
        {"n": len(keys), "keys": len(keys)}
    ]


def test_a_pipe_is_read_once(world: Ledger, tmp_path: Path) -> None:
    """Conflicting rows have their text looked up again, but a pipe has given all it had."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    tick = {"entityId": "P", "tickId": 1, "x": 0, "y": 0}
    rows = "".join(json.dumps({**tick, "activity": activity}) + "\n" for activity in (1, 2))
    writer = threading.Thread(target=pipe.write_text, args=(rows,), daemon=True)
    writer.start()
    made = world.ingest(pipe, format="jsonl")
    writer.join(10)
    assert made.quarantined == {"key_conflict": 1}


def test_a_hole_in_a_ref_is_not_filled(world: Ledger, tmp_path: Path, source: Path) -> None:
    moves = sorted((tmp_path / "world" / "refs" / "main").iterdir())
    moves[1].unlink()
    fresh = tmp_path / "fresh.jsonl"
    fresh.write_text(source.read_text().replace('"E"', '"H"'))
    with Ledger.open(tmp_path / "world") as later, pytest.raises(Corrupt, match="is missing"):
        later.ingest(fresh)
    assert not moves[1].exists()


def test_two_columns_of_one_name_are_one_clear_line(world: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "twins.parquet"
    column = pa.array([1.0])
    names = ["entityId", "tickId", "x", "x", "y", "activity"]
    pq.write_table(pa.Table.from_arrays([pa.array(["E"]), pa.array([1]), column, column, column, column], names), path)
    with pytest.raises(LedgerError, match="two columns are named 'x'"):
        world.ingest(path)


def test_a_limit_may_be_any_number(world: Ledger) -> None:
    assert len(world.log(limit=10**20).table) == 2


def test_a_jump_is_at_least_a_tick(world: Ledger, source: Path) -> None:
    with pytest.raises(UsageError, match="at least 1 tick"):
        world.ingest(source, max_tick_jump=-1)


def test_a_nested_value_means_the_same_whatever_the_other_rows_hold(tmp_path: Path) -> None:
    row = '{"entityId":"e","tickId":1,"x":1,"y":1,"s":{"v":[3,4]}}\n'
    odd = '{"entityId":"f","tickId":2,"x":1,"y":1,"s":"none"}\n'
    found = []
    for name, text in (("alone", row), ("beside", row + odd)):
        (tmp_path / f"{name}.jsonl").write_text(text)
        with Ledger.create(tmp_path / name) as ledger:
            ledger.ingest(tmp_path / f"{name}.jsonl", map={"activity": "s.v[1]"})
            found.append(ledger.sql("SELECT activity FROM ticks WHERE entity_id = 'e'").to_pylist())
    assert found == [[{"activity": 4.0}]] * 2
