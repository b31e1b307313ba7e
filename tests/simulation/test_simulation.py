"""Nodes that part, crash and heal end with one history. One seed alone: LEDGER_SIMULATION_SEED=17 pytest …"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.simulation.nodes import Simulation, told

_ONE = os.environ.get("LEDGER_SIMULATION_SEED")
SEEDS = [int(_ONE)] if _ONE else list(range(100))
SOAK = range(100, 10_000)


def run(seed: int, directory: Path, patch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(seed, directory, patch)
    with told(simulation), closing(simulation):
        simulation.run()


@pytest.mark.parametrize("seed", SEEDS)
def test_all_nodes_end_with_one_history(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(seed, tmp_path, monkeypatch)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(SOAK.start, SOAK.stop, 100))
def test_ten_thousand_seeds(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 100):
        with monkeypatch.context() as patch:
            run(seed, tmp_path / str(seed), patch)
