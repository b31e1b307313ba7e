"""What can keep the commits of a ledger."""

from __future__ import annotations

from typing import Any

from ledger_cli.wiring import ledgers


def stores() -> list[dict[str, Any]]:
    """The engines by how their URLs begin, with their `ports.Capabilities`."""
    return [{"url": start, **vars(each)} for start, each in ledgers.capabilities().items()]
