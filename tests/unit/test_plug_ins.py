"""Strategies and weights of other packages, found by entry point."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.core.policy import STRATEGIES, WEIGHTS, Json, Rule, Strategy, Weight
from ledger_cli.errors import UsageError


def weekly(settings: Json) -> Strategy:
    days = settings.get("days", 7)
    return Strategy({"kind": "weekly", "days": days}, Rule(interval=days))


def cube(settings: Json) -> Weight:
    return Weight({"kind": "cube", "k": settings["k"]}, f"({settings['k']}::DOUBLE * ((a * a) * a))")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a package with both were installed; what was found before is forgotten at the end."""

    def points(group: str, name: str) -> list[EntryPoint]:
        here = {("ledger_cli.strategies", "weekly"): "weekly", ("ledger_cli.weights", "cube"): "cube"}
        found = here.get((group, name))
        return [] if found is None else [EntryPoint(name, f"{__name__}:{found}", group)]

    monkeypatch.setattr("importlib.metadata.entry_points", points)
    monkeypatch.setattr("importlib.metadata.EntryPoint.load", lambda point: globals()[point.attr])


def forget() -> None:
    STRATEGIES.pop("weekly", None)
    WEIGHTS.pop("cube", None)


def test_they_decide_commits_and_are_found_again(tmp_path: Path, installed: None) -> None:
    source = tmp_path / "ticks.jsonl"
    tick: dict[str, Any] = {"entityId": "E", "x": 0, "y": 0, "activity": 2}
    source.write_text("".join(json.dumps({**tick, "tickId": number}) + "\n" for number in range(14)))
    try:
        with Ledger.create(tmp_path / "world", strategy="weekly", weight="cube:k=3") as ledger:
            ledger.ingest(source)
            ledger.commit(final=True)
        forget()
        with Ledger.open(tmp_path / "world") as ledger:
            assert ledger.replay().ok
            page = ledger.log(entries=True).to_json()
        assert [(commit["epochStart"], commit["epochEnd"]) for commit in page] == [(7, 14), (0, 7)]
        assert page[0]["entries"][0]["weight"] == 7 * 3 * 8
    finally:
        forget()


def test_without_the_package_the_name_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="strategy 'weekly' is unknown: use one of fixed"):
        Ledger.create(tmp_path / "world", strategy="weekly")
