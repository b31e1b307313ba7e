"""`follow`: what a step did, in a line."""

from __future__ import annotations

from typing import Any

from ledger_cli.render.common.words import counted


def step_line(step: Any) -> str:
    """What a step did."""
    raw = step.to_json()
    ticks, world, bus = raw["ticks"], raw["world"], raw["bus"]
    parts = []
    if ticks["read"]:
        parts.append(_told(f"{counted(ticks['stored'], 'tick')} stored", ticks, "duplicates", "late", "quarantined"))
    if raw["commits"]:
        parts.append(f"{counted(raw['commits'], 'commit')} below tick {raw['watermark']}")
    if world["read"] or world["applied"] or world["refused"]:
        told = _told(f"{counted(world['applied'], 'event')} applied", world, "duplicates", "transient", "refused")
        parts.append(told)
    if bus is not None and bus["events"]:
        parts.append(f"{counted(bus['events'], 'event')} told to the bus")
    if raw["snapshot"] is not None:
        parts.append(f"snapshot {raw['snapshot']}")
    return f"step {raw['step']}: {', '.join(parts) or 'nothing new'}"


def _told(what: str, numbers: dict[str, int], *names: str) -> str:
    rest = [f"{numbers[name]:,} {name}" for name in names if numbers[name]]
    return f"{what} ({', '.join(rest)})" if rest else what
