"""The entity service: a deterministic world, written as any input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from ledger_cli.core import simulation
from ledger_cli.services.simulate import SimulationResult, read_commands
from ledger_cli.wiring import inputs


def simulate(
    target: str | os.PathLike[str],
    *,
    format: str | None = None,
    commands: str | os.PathLike[str] | None = None,
    watch: Callable[[int], None] = lambda rows: None,
    **settings: Any,
) -> SimulationResult:
    """Write the ticks of a deterministic world to a file, URL or `-`, in any format that can be ingested.

    `commands`: a file of JSON lines; `settings`: see `core.simulation.SimulationSettings`. `watch(rows)` is called
    after each batch.
    """
    world = simulation.SimulationSettings(**settings)
    given = [] if commands is None else read_commands(inputs.read_lines(os.fspath(commands)), os.fspath(commands))

    def watched() -> Iterator[simulation.TickBatch]:
        written = 0
        for batch in simulation.simulate(world, given):
            yield batch
            written += len(batch["tick_id"])
            watch(written)

    rows = inputs.write_ticks(watched(), os.fspath(target), format)
    return SimulationResult(
        target=os.fspath(target),
        rows=rows,
        entities=world.entities,
        first_tick=world.first_tick,
        end_tick=world.first_tick + world.ticks,
        seed=world.seed,
        commands=len(given),
        unused=simulation.after_the_end(world, given),
    )
