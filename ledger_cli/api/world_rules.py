"""What `ledger.toml` says of world events: their types, and what they are judged by."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ledger_cli.api.canonical import canonical_of
from ledger_cli.config.file import Config
from ledger_cli.config.settings import FILE_NAME
from ledger_cli.core.world import type_parts
from ledger_cli.errors import NotFound, UsageError
from ledger_cli.services.broadcast import Broadcast
from ledger_cli.services.repository import Repository
from ledger_cli.services.world_constraints import Constraints
from ledger_cli.services.world_judge import Rules, waits_for_canonical
from ledger_cli.services.world_types import RegisteredType, register, registered, rules_of
from ledger_cli.wiring import inputs, ledgers, listeners, machine


def types_of(repository: Repository, config: Config) -> list[RegisteredType]:
    """The types that are known, each with what ledger.toml alone says of it."""
    known = list(registered(repository).values())
    for place, each in enumerate(known):
        settings = config.types.get(each.name)
        if settings is not None:
            known[place] = replace(each, constraints=settings.constraints, consistency=settings.consistency)
    return known


def constraints_of(repository: Repository, config: Config) -> Constraints | None:
    """Those of ledger.toml, None without any. The engine is made where there are some."""
    by_type = {name: each.constraints for name, each in config.types.items() if each.constraints}
    return Constraints(repository.engine.query, by_type) if by_type else None


def rules_for(
    repository: Repository, config: Config, location: str, broadcast: Broadcast, *, judged: bool = False
) -> Rules:
    """What events of a ledger at `location` are judged by, the types that ledger.toml names registered now.

    `judged`: those that were before, and are taken as they are.
    """
    known = _declared(repository, config, location)
    node = machine.node(config["node"])
    if judged:
        taken = {name: replace(rule, check=_take) for name, rule in rules_of(known, 0).items()}
        return Rules(taken, {}, node, machine.clock, max_drift=2**62, broadcast=broadcast)
    types = rules_of(known, machine.clock())
    strong = config.types_from("strong")
    if strong and canonical_of(config, location) is not None:
        types |= {name: replace(types[name], check=waits_for_canonical) for name in strong}
    return Rules(
        types=types,
        keys=machine.module_keys(config["keys"]),
        node=node,
        clock=machine.clock,
        max_drift=round(config["max_drift"] * 1e6),
        constraints=constraints_of(repository, config),
        causal_wait=round(config["causal_wait"] * 1e6),
        guardian=partial(listeners.tell_guardian, config["guardian"]),
        broadcast=broadcast,
    )


def _declared(repository: Repository, config: Config, location: str) -> dict[str, RegisteredType]:
    """The types that are known, those that ledger.toml names among them. UsageError where they differ."""
    try:
        named = sorted(config.types, key=type_parts)
    except ValueError as error:
        raise UsageError(f"{FILE_NAME}, [types]: {error}") from error
    for name in named:
        settings = config.types[name]
        file = settings.schema
        try:
            schema = None if file is None else inputs.read_json_object(ledgers.beside(file, location))
        except NotFound as error:
            raise NotFound(f'{FILE_NAME}, [types."{name}"], schema: {error}') from error
        try:
            register(repository, name, schema, settings.reducer, settings.fields, settings.upcast, FILE_NAME)
        except UsageError as error:
            raise UsageError(f"{FILE_NAME}: {error}") from error
    return registered(repository)


def _take(_: Any) -> None:
    """Whatever a payload is."""
