"""`Ledger` as Python calls it: values of the wrong kind are refused in one line, as everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from ledger_cli import Ledger
from ledger_cli.errors import MissingExtra, UsageError
from ledger_cli.render.gamma import spec
from ledger_cli.stores.sqlite import SqliteStore
from tests.support import events_at


@pytest.fixture
def opened(tmp_path: Path) -> Ledger:
    ledger = Ledger.create(tmp_path / "ledger", strategy="fixed", interval=1)
    source = tmp_path / "ticks.jsonl"
    source.write_text("".join(json.dumps(event) + "\n" for event in events_at(*range(60))))
    ledger.ingest(source)
    ledger.commit(final=True)
    return ledger


def digits_alone(ledger: Ledger) -> tuple[str, str]:
    """A prefix of digits that fits one commit, and the id of that."""
    ids = [commit["commitId"].replace("-", "") for commit in ledger.log().to_json()]
    return next(
        (each[:length], each)
        for length in (4, 5, 6)
        for each in ids
        if each[:length].isdigit() and sum(other.startswith(each[:length]) for other in ids) == 1
    )


def test_digits_name_a_commit_where_a_commit_alone_is_meant(opened: Ledger) -> None:
    prefix, commit = digits_alone(opened)
    assert opened.show(prefix).header["commit_id"].replace("-", "") == commit
    made = opened.tag("first", prefix).commit
    assert made is not None
    assert made.commit_id.replace("-", "") == commit
    for text in ("7", "1234567890123"):
        with pytest.raises(UsageError, match=f"{text}.* is a tick: give a commit"):
            opened.show(text)


def test_an_int_is_a_tick(opened: Ledger) -> None:
    assert opened.gamma(at=10) == opened.gamma(at=numpy.int64(10)) == opened.gamma(at="10")  # type: ignore[arg-type]
    assert opened.gamma_frames(at=10).frames == opened.gamma_frames(at="10").frames
    assert opened.diff("main", 10).table == opened.diff("main", "10").table
    assert opened.first_difference("main", 10) == opened.first_difference("main", "10")
    assert opened.fork("x", at=10).commits == 10
    assert opened.what_if("y", at=10, weight="nonlinear:1,1").commits == 50
    assert opened.resolve(10) == opened.resolve("10")


CALLS: dict[str, Callable[[Any], Any]] = {
    "5 is a tick: give a commit": lambda ledger: ledger.show(5),
    "6 is a tick: give a commit": lambda ledger: ledger.tag("x", 6),
    "-1 is no tick: give one from 0": lambda ledger: ledger.fork("x", at=-1),
    "b must be a place: .*, or a tick as int, not 2.5": lambda ledger: ledger.diff("main", 2.5),
    "at must be a place: .* not True": lambda ledger: ledger.gamma(at=True),
    "place must be a place: .* not None": lambda ledger: ledger.resolve(None),
    "force must be the id of a region as text, .* not True": lambda ledger: ledger.commit(force=True),
    "half_life must be a whole number, not 'x'": lambda ledger: ledger.gamma(half_life="x"),
    "half_life must be a whole number, not 2.5": lambda ledger: ledger.gamma(half_life=2.5),
    "window must be a whole number, not True": lambda ledger: ledger.gamma_frames(window=True),
    "since must be a whole number, not '3 OR true'": lambda ledger: ledger.log(since="3 OR true"),
    "until must be a whole number, not 2.5": lambda ledger: ledger.replay(until=2.5),
    "branch must be text, not 5": lambda ledger: ledger.log(5),
    "a source is a path or a URL, not .'t.jsonl'.: of a list give each": lambda ledger: ledger.ingest(["t.jsonl"]),
    "region must be text, not 5": lambda ledger: ledger.gamma(region=5),
    "statement must be text, not 5": lambda ledger: ledger.sql(5),
    "regions must be text, not 5": lambda ledger: ledger.what_if("x", regions=5),
    "a half-life is a number of ticks of at least 1, not 0": lambda ledger: ledger.gamma(half_life=0),
}


@pytest.mark.parametrize("message", CALLS)
def test_a_value_of_the_wrong_kind_is_refused(opened: Ledger, message: str) -> None:
    moves = opened.status().moves
    with pytest.raises(UsageError, match=message):
        CALLS[message](opened)
    assert opened.status().moves == moves
    assert [each.name for each in opened.branches()] == ["main"]


RECIPE = """
[parameters.source]
help = "ticks"
path = true

[settings]
interval = 10

[[steps]]
do = "ingest"
sources = "${source}"

[[steps]]
do = "commit"
final = true

[[steps]]
do = "replay"

[[steps]]
do = "gamma"
out = "gamma.svg"

[expect.main]
rows = 80
commits = 4
"""


@pytest.fixture
def job(tmp_path: Path) -> tuple[Path, Path]:
    """A recipe and its ticks."""
    recipe, source = tmp_path / "job.toml", tmp_path / "job.jsonl"
    recipe.write_text(RECIPE)
    assert Ledger.simulate(source, entities=2, ticks=40, seed=1).rows == 80
    return recipe, source


def test_a_recipe_is_run_and_compared_with_what_it_expects(tmp_path: Path, job: tuple[Path, Path]) -> None:
    recipe, source = job
    ledger = Ledger.create(tmp_path / "world", interval=10)
    made = ledger.run(recipe, {"source": source})
    assert made.ok
    assert [each.step.do for each in made.steps] == ["ingest", "commit", "replay", "gamma"]
    assert made.steps[0].result.stored == 80
    assert (tmp_path / "world" / "gamma.svg").is_file()
    recipe.write_text(RECIPE.replace("commits = 4", "commits = 5"))
    again = ledger.run(recipe, {"source": source}, pictures=False)
    assert [str(each) for each in again.differences] == ["main, commits: expected 5, found 4"]
    assert json.loads(json.dumps(again.to_json()))["steps"][3] == {"do": "gamma", "result": None}


def test_a_recipe_that_cannot_be_run_changes_nothing(
    tmp_path: Path, job: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, source = job
    other, ledger = Ledger.create(tmp_path / "other"), Ledger.create(tmp_path / "world", interval=10)
    with pytest.raises(UsageError, match="its setting interval is 100, the recipe has 10"):
        other.run(recipe, {"source": source})
    with pytest.raises(UsageError, match="needs --set source"):
        ledger.run(recipe)
    monkeypatch.setattr(spec, "find_spec", lambda module: None)
    with pytest.raises(MissingExtra, match="altair is not installed"):
        ledger.run(recipe, {"source": source})
    assert (other.status().moves, ledger.status().moves) == (1, 1)


def test_a_ledger_that_cannot_be_opened_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.create(tmp_path / "world", store="sqlite:///commits.sqlite").close()
    closed: list[SqliteStore] = []

    def newer(_: SqliteStore) -> None:
        raise UsageError("has tables of version 99")

    monkeypatch.setattr(SqliteStore, "create", newer)
    monkeypatch.setattr(SqliteStore, "close", lambda store: closed.append(store))
    with pytest.raises(UsageError, match="version 99"):
        Ledger.open(tmp_path / "world")
    assert len(closed) == 1


_TASKS = Path("/proc/self/task")


@pytest.mark.skipif(not _TASKS.exists(), reason="threads of libraries are counted by Linux's /proc")
def test_a_closed_ledger_holds_no_threads(opened: Ledger, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    opened.close()
    held, before = [], len(list(_TASKS.iterdir()))
    for tick in range(100, 103):
        more.write_text("".join(json.dumps(event) + "\n" for event in events_at(tick)))
        with Ledger.open(opened.location) as again:
            assert again.ingest(more).stored > 0
            assert again.commit(final=True).commits > 0
            assert again.show(again.log().to_json()[0]["commitId"]).entries
            assert again.sql("SELECT count(*) AS n FROM ticks")["n"].to_pylist() == [again.status().rows]
        held.append(again)  # no garbage yet
    # A pool that libraries share may have begun meanwhile; that of an engine would be there three times.
    assert len(list(_TASKS.iterdir())) <= before + 3
