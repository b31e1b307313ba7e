"""World events as commands are given them."""

from __future__ import annotations

import json
from typing import Any

from ledger_cli.core.world import PROTOCOL
from tests.cli.conftest import Run


def event(number: int, type: str, entity: str = "door-7", **fields: Any) -> dict[str, Any]:
    """The event `e1` or so of an entity, with what else it says."""
    usual = {"eventId": f"e{number}", "entityId": entity, "type": type, "payload": {}}
    return {**usual, "handshake": {"protocol": PROTOCOL}, **fields}


def lines(*events: dict[str, Any]) -> str:
    """Events, one a line."""
    return "".join(json.dumps(each) + "\n" for each in events)


def state(ledger: Run, entity: str = "door-7") -> Any:
    """The persistent state that the module `building` has in an entity."""
    return ledger("world", "get", entity, "--json").json["state"]["persistent"]["building"]
