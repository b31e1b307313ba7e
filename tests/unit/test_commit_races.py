"""What comes to a branch while a run of commit is at work stays: the run alone is written anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger_cli.core.history import Reached, Transaction
from ledger_cli.services.repository import Branch, Repository
from tests.support import add_events, events_at, make_ledger, open_ledger, policy_json, run


def test_a_run_keeps_what_others_have_moved_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, other = make_ledger(tmp_path), open_ledger(tmp_path)
    add_events(repository, "main", events_at(*range(25)))
    begun = Transaction("begun", "elsewhere", "12345678", "main", 0)
    followed = {"ticks here /a.jsonl": Reached(10, 1, "mark", 2)}
    advance = Repository.advance
    raced: list[str] = []

    def late(self: Repository, name: str, before: Branch | None, kind: str, *rest: Any, **more: Any) -> Branch:
        if kind == "commit" and not raced:
            raced.append(name)
            there = other.branch("main")
            state = replace(there.state, transactions={"t": begun}, followed=followed)
            advance(other, "main", there, "begin", state, "")
        return advance(self, name, before, kind, *rest, **more)

    monkeypatch.setattr(Repository, "advance", late)
    made = run(repository, "main", policy_json({"kind": "fixed", "interval": 10}))
    assert (raced, made.commits) == (["main"], 2)
    state = open_ledger(tmp_path).branch("main").state
    assert (state.transactions, state.followed) == ({"t": begun}, followed)
