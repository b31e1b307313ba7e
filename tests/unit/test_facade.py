"""`Ledger` as Python calls it: values of the wrong kind are refused in one line, as everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.errors import UsageError
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
    assert opened.gamma(at=10) == opened.gamma(at="10")
    assert opened.gamma_frames(at=10).frames == opened.gamma_frames(at="10").frames
    assert opened.diff("main", 10).table == opened.diff("main", "10").table
    assert opened.first_difference("main", 10) == opened.first_difference("main", "10")
    assert opened.fork("x", at=10).commits == 10
    assert opened.what_if("y", at=10, weight="nonlinear:1,1").commits == 50
    assert opened.resolve(10) == opened.resolve("10")


CALLS: dict[str, Callable[[Ledger], Any]] = {
    "5 is a tick: give a commit": lambda ledger: ledger.show(5),  # type: ignore[arg-type]
    "6 is a tick: give a commit": lambda ledger: ledger.tag("x", 6),  # type: ignore[arg-type]
    "-1 is no place: .* a tick from 0": lambda ledger: ledger.fork("x", at=-1),
    "2.5 is no place": lambda ledger: ledger.diff("main", 2.5),  # type: ignore[arg-type]
    "True is no place": lambda ledger: ledger.gamma(at=True),
    "force is the id of a region as text, .* not True": lambda ledger: ledger.commit(force=True),  # type: ignore[arg-type]
    "a half-life is a whole number of ticks .* not 'x'": lambda ledger: ledger.gamma(half_life="x"),  # type: ignore[arg-type]
    "a half-life is a whole number of ticks .* not 2.5": lambda ledger: ledger.gamma(half_life=2.5),  # type: ignore[arg-type]
    "a window is a whole number of ticks .* not True": lambda ledger: ledger.gamma_frames(window=True),
}


@pytest.mark.parametrize("message", CALLS)
def test_a_value_of_the_wrong_kind_is_refused(opened: Ledger, message: str) -> None:
    moves = opened.status().moves
    with pytest.raises(UsageError, match=message):
        CALLS[message](opened)
    assert opened.status().moves == moves
    assert [each.name for each in opened.branches()] == ["main"]
