"""What several properties of worlds are tried with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger_cli.services import world_apply


@pytest.fixture
def many_checkpoints() -> Iterator[None]:
    """Ledgers too small for a checkpoint have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world_apply, "CHECKPOINT_FILES", 2)
        patch.setattr(world_apply, "CHECKPOINT_EVENTS", 5)
        yield
