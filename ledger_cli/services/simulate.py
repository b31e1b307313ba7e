"""`ledger simulate`: what goes into a simulated world besides its settings, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ledger_cli.core.simulation import Command, parse_command
from ledger_cli.errors import UsageError


@dataclass(frozen=True)
class SimulationResult:
    """What was written. `first_tick` and `end_tick`: half-open; `unused`: commands after the last tick."""

    target: str
    rows: int
    entities: int
    first_tick: int
    end_tick: int
    seed: int
    commands: int
    unused: int = 0

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "target": self.target,
            "rows": self.rows,
            "entities": self.entities,
            "firstTick": self.first_tick,
            "endTick": self.end_tick,
            "seed": self.seed,
            "commands": self.commands,
            "unusedCommands": self.unused,
        }


def read_commands(lines: Iterable[str], name: str) -> list[Command]:
    """The commands of JSON lines, blank ones left out. UsageError with the line that is none."""
    commands = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise UsageError("a command is a JSON object, one a line.")
            commands.append(parse_command(event))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{name}, line {number}: not JSON ({error}).") from error
        except UsageError as error:
            raise UsageError(f"{name}, line {number}: {error}") from error
    return commands
