"""`sql` answers questions about a branch, and can do nothing else."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_cli import Ledger
from ledger_cli.errors import Corrupt, NotFound, UsageError
from ledger_cli.services.fork import fork
from ledger_cli.services.log import log
from ledger_cli.services.lookup import resolve
from ledger_cli.services.query import sql
from ledger_cli.services.repository import Repository
from tests.support import add_events, events_at, make_ledger, open_ledger, policy_json, run

POLICY = policy_json({"kind": "fixed", "interval": 20}, shards=2)
VIEWS = ["ticks", "commits", "commit_entries", "entity_state", "quarantine", "refs"]


@pytest.fixture
def ledger(tmp_path: Path) -> Repository:
    repository = make_ledger(tmp_path / "ledger")
    event = {**events_at(7, entity="G")[0], "meta": {"a": 1}, "timestamp": 1_000_000}
    add_events(repository, "main", [*events_at(*range(0, 100, 4)), event])
    add_events(repository, "main", events_at(*range(0, 50, 7), entity="F", x=15.0))
    run(repository, "main", POLICY)
    return repository


@pytest.mark.parametrize("view", VIEWS)
def test_views_over_nothing_are_empty_and_typed(ledger: Repository, tmp_path: Path, view: str) -> None:
    empty = make_ledger(tmp_path / "empty")
    nothing = sql(empty, "main", f"SELECT * FROM {view}")
    assert nothing.num_rows == (1 if view == "refs" else 0)
    assert nothing.schema.types == sql(ledger, "main", f"SELECT * FROM {view}").schema.types


def test_ticks_and_entities(ledger: Repository) -> None:
    (row,) = sql(ledger, "main", "SELECT * FROM ticks WHERE entity_id = 'G'").to_pylist()
    assert row["meta"] == '{"a": 1}'
    assert row["timestamp"] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert sql(ledger, "main", "SELECT DISTINCT meta FROM ticks WHERE entity_id = 'F'").to_pylist() == [{"meta": "{}"}]
    states = sql(ledger, "main", "SELECT * FROM entity_state ORDER BY entity_id").to_pylist()
    assert [(s["entity_id"], s["last_tick"], s["x"], s["rows"]) for s in states] == [
        ("E", 96, 1.0, 25),
        ("F", 49, 15.0, 8),
        ("G", 7, 1.0, 1),
    ]


def test_commits_are_those_of_the_log(ledger: Repository) -> None:
    fork(ledger, "main", "other", resolve(ledger, "40"))
    run(ledger, "other", {**POLICY, "baseWeight": 2})
    for name in ("main", "other"):
        wanted = {row["commitId"]: (row["createdAt"], row["branch"]) for row in log(ledger, name).to_json()}
        rows = sql(ledger, name, "SELECT * FROM commits").to_pylist()
        assert {row["commit_id"]: (row["created_at"], row["branch"]) for row in rows} == wanted
        sums = sql(ledger, name, "SELECT sum(n)::BIGINT n, sum(weight_sum)::BIGINT w FROM commit_entries").to_pylist()
        assert sums[0]["n"] == 29
    types = sql(ledger, "main", "SELECT activity_sum, weight FROM commit_entries").schema.types
    assert types == [pa.decimal128(38, 0), pa.float64()]


def test_refs_are_all_moves(ledger: Repository) -> None:
    fork(ledger, "main", "other", why="because")
    rows = sql(ledger, "main", "SELECT branch, seq, kind, why, commits FROM refs ORDER BY 1, 2").to_pylist()
    assert [(row["branch"], row["kind"]) for row in rows] == [
        ("main", "init"),
        ("main", "ingest"),
        ("main", "ingest"),
        ("main", "commit"),
        ("other", "fork"),
    ]
    assert rows[-1]["why"] == "because"


@pytest.mark.parametrize(
    "statement",
    [
        "SHOW TABLES",
        "DESCRIBE ticks",
        "SUMMARIZE ticks",
        "FROM ticks",
        "VALUES (1)",
        "PIVOT commits ON shard USING count(*)",
        "WITH a AS (SELECT 1) SELECT * FROM a;",
    ],
)
def test_all_that_reads_is_allowed(ledger: Repository, statement: str) -> None:
    assert sql(ledger, "main", statement).num_rows > 0


@pytest.mark.parametrize(
    "statement",
    [
        "COPY ticks TO '{file}'",
        "COPY ticks TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "WITH a AS (COPY ticks TO '{file}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM a",
        "WITH a AS (COPY ticks TO 'ledger://{name}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM a",
        "FROM query('WITH a AS (COPY ticks TO ''ledger://{name}'' (USE_TMP_FILE false)) FROM a')",
        "EXPLAIN ANALYZE COPY ticks TO '{file}' (USE_TMP_FILE false)",
        "EXPORT DATABASE '{root}/export'",
        "ATTACH '{root}/new.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "CREATE TABLE t (a INT)",
        "DROP VIEW ticks",
        "INSERT INTO refs SELECT * FROM refs",
        "WITH a AS (DELETE FROM refs RETURNING *) FROM a",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd.csv'",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM read_text('{root}/refs/main/00000000000000000000.json')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM 'https://example.com/a.parquet'",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT nope FROM ticks",
        "SELECT * FROM nope",
        "SELECT CAST('a' AS INT)",
        "SELECT error('mine')",
    ],
)
def test_all_else_fails_in_one_line_and_changes_nothing(ledger: Repository, tmp_path: Path, statement: str) -> None:
    root = tmp_path / "ledger"
    name = ledger.branch("main").added.segments[0].file
    before = digests(root)
    given = statement.format(file=root / name, root=root, name=name)
    with pytest.raises(UsageError) as caught:
        sql(ledger, "main", given)
    assert "\n" not in str(caught.value)
    assert digests(root) == before


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and "scratch" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("file", ["ledger.toml", "refs/main/00000000000000000000.json", "../../etc/passwd"])
def test_only_the_files_behind_the_views_exist(ledger: Repository, tmp_path: Path, file: str) -> None:
    (tmp_path / "ledger" / "ledger.toml").write_text("secret = 1")
    assert sql(ledger, "main", f"SELECT * FROM read_text('ledger://{file}')").num_rows == 0


def test_python_variables_are_no_tables(ledger: Repository) -> None:
    local_table = pa.table({"a": [1]})
    assert local_table.num_rows
    with pytest.raises(UsageError, match="local_table"):
        sql(ledger, "main", "SELECT * FROM local_table")


def test_a_branch_that_does_not_exist(ledger: Repository) -> None:
    with pytest.raises(NotFound):
        sql(ledger, "nothing", "SELECT 1")


@pytest.mark.parametrize("kind", ["segments", "commits"])
@pytest.mark.parametrize("size", [None, 0, 40])
def test_a_damaged_file_is_told_in_one_line(ledger: Repository, tmp_path: Path, kind: str, size: int | None) -> None:
    for path in (tmp_path / "ledger" / kind).iterdir():
        if size is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(Corrupt, match="ledger verify") as caught:
        sql(open_ledger(tmp_path / "ledger"), "main", f"SELECT * FROM {'ticks' if kind == 'segments' else 'commits'}")
    assert "\n" not in str(caught.value)


def test_threads_that_read_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Several row groups, read by several threads through one handle, time and again."""
    rows = 300_000
    source = tmp_path / "many.parquet"
    pq.write_table(
        pa.table(
            {
                "entityId": [f"E{number % 1000}" for number in range(rows)],
                "tickId": [number // 1000 for number in range(rows)],
                "x": [number * 0.5 for number in range(rows)],
                "y": [0.0] * rows,
                "activity": [number % 7 / 10 for number in range(rows)],
            }
        ),
        source,
    )
    with Ledger.create(tmp_path / "world") as ledger:
        ledger.ingest(source)
        asked = "SELECT count(*) AS n, sum(hash(entity_id, tick_id, x, activity)) AS digest FROM ticks"
        answers = [ledger.sql(asked).to_pylist()[0] for _ in range(25)]
    assert answers[0]["n"] == rows
    assert all(answer == answers[0] for answer in answers)
