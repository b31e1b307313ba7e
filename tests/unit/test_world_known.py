"""Which events are known: every one is found in its file, and hardly another one."""

from __future__ import annotations

import numpy as np
import pytest

from ledger_cli.core.world import hashes_of
from ledger_cli.services import world
from ledger_cli.services.world import KnownEvents


@pytest.mark.parametrize("limit", [1, 50, 2**20])
def test_every_event_is_found_in_its_file(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(world, "_RUN_LIMIT", limit)
    known = KnownEvents()
    sizes = [7, 1, 1, 40, 3, 0, 2, 100, 1]
    files = [hashes_of(f"e{file}-{number}" for number in range(size)) for file, size in enumerate(sizes)]
    for file, hashes in enumerate(files):
        known.add(hashes, file)
    everything = np.concatenate(files)
    expected = {file: set(hashes.tolist()) for file, hashes in enumerate(files) if len(hashes)}
    assert known.files(everything) == expected
    assert known.files(hashes_of(f"other-{number}" for number in range(1000))) == {}
    assert known.files(hashes_of([])) == {}


def test_an_event_in_two_files_is_found_in_both() -> None:
    known = KnownEvents()
    for file in (0, 5, KnownEvents.FILES - 1):
        known.add(hashes_of(["e1", f"e{file}"]), file)
    [one] = hashes_of(["e1"]).tolist()
    assert known.files(hashes_of(["e1"])) == {0: {one}, 5: {one}, KnownEvents.FILES - 1: {one}}
