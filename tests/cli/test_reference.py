"""`docs/cli.md` says what the live command line says."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.cli_reference import reference

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def test_it_is_current() -> None:
    made = reference()
    if os.environ.get("LEDGER_UPDATE_SNAPSHOTS") == "1":
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(made, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == made, "run again with LEDGER_UPDATE_SNAPSHOTS=1"
