"""Where the shared test data lie, and what happens without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
WITHOUT = "LEDGER_WITHOUT_SHARED"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of vectors and data beside the repository.

    A missing one fails the test: a check that was asked for and did not run must not look like a pass.
    """
    if not SHARED.is_dir():
        pytest.fail(f"no shared test data at {SHARED}; set {WITHOUT}=1 to leave these tests out")
    return SHARED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a clone without the data, whoever says so has these tests counted as deselected, not as passed."""
    if os.environ.get(WITHOUT) != "1":
        return
    without = [item for item in items if "shared" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in without]
    config.hook.pytest_deselected(items=without)
