"""Where the shared test data lie, and what happens without them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parents[2] / "shared"
REQUIRED = "LEDGER_REQUIRE_SHARED"
"""Set to 1 (as `.ci/run` does), missing data fail the run; else the tests that need them are left out, visibly."""

_left_out: list[str] = []

# How long an example takes depends on what else is at work.
settings.register_profile("tests", settings(), deadline=None)
settings.load_profile("tests")


def pytest_configure() -> None:
    """A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would inherit it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published vectors and real data beside the repository."""
    if not SHARED.is_dir():
        pytest.fail(f"no shared test data at {SHARED}, and {REQUIRED}=1 asks for them")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _power_stays_on() -> Iterator[None]:
    """A sync to disk makes a file outlive a loss of power, which no test can cause, and each waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


Once = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def once(_made: Path, tmp_path: Path) -> Once:
    """Fill the empty `tmp_path` by a function: called for the first test, of whose files the others get copies."""

    def fill(make: Callable[[], object]) -> None:
        assert not any(tmp_path.iterdir())
        kept = _made / f"{make.__module__}.{make.__qualname__}"
        if kept.exists():
            shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
        else:
            make()
            shutil.copytree(tmp_path, kept)

    return fill


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A clone without the data has these tests counted as deselected, not as passed."""
    if SHARED.is_dir() or os.environ.get(REQUIRED) == "1":
        return
    without = [item for item in items if "shared" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in without]
    _left_out.extend(item.nodeid for item in without)
    config.hook.pytest_deselected(items=without)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and how to have it."""
    if _left_out:
        terminalreporter.write_line(
            f"{len(_left_out)} tests left out: they need the published vectors and real data in ../{SHARED.name}"
        )
