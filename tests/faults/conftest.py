"""Tests that need a file system of their own are counted as deselected where none may be mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.disks import SmallDisk, mounted
from tests.faults.jobs import Nursery, nursery


@pytest.fixture(scope="module")
def jobs() -> Iterator[Nursery]:
    """Runs commands in processes that can be killed."""
    with nursery() as found:
        yield found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system whose free space a test decides."""
    with mounted(tmp_path / "disk") as disk:
        yield disk


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    wanting = [
        item for item in items if here in item.path.parents and "small_disk" in getattr(item, "fixturenames", ())
    ]
    if not wanting or _can_mount():
        return
    items[:] = [item for item in items if item not in wanting]
    config.hook.pytest_deselected(items=wanting)


def _can_mount() -> bool:
    try:
        with TemporaryDirectory() as path, mounted(Path(path) / "disk"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
