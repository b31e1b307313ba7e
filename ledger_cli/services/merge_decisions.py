"""Fields that both sides of a reconciliation wrote to, and what persons decide about those with the rule `manual`.

A decision becomes an event of the log, later than all others, so that every fold agrees; its id and reading follow
from the conflict and the choice alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from ledger_cli.core.hlc import Hlc
from ledger_cli.core.jcs import text_of
from ledger_cli.core.world import PROTOCOL, WORLD, hashes_of
from ledger_cli.core.world_fields import combined
from ledger_cli.errors import UsageError
from ledger_cli.services.world_types import RESOLVED

NODE = "reconcile"
"""Whose clock reads decisions."""

Decisions = Mapping[tuple[str, str, str, str], Mapping[str, Any]]
"""By conflict (`FieldConflict.key`): the readings of both writes, by which it is known again, and the value chosen."""


@dataclass(frozen=True)
class FieldConflict:
    """A field of an entity that both sides wrote to since they parted, and what becomes of it."""

    entity_id: str
    module: str
    state_class: str
    field: str
    rule: str
    a: Any
    b: Any
    """What each side has written since they parted: what its writes come to where the rule combines them, else the
    last, null for a field it took away."""
    hlc_a: str
    hlc_b: str
    """When: the readings of the last writes."""
    events: tuple[str, str]
    """The ids of the events that wrote last."""
    entity_kind: str = "entity"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is about."""
        return self.entity_id, self.module, self.state_class, self.field

    @property
    def later(self) -> str:
        """The side that wrote last."""
        return "a" if self.hlc_a > self.hlc_b else "b"

    @property
    def kept(self) -> str:
        """Whose value stays: `a`, `b`, `both`, or `neither` before a person has decided."""
        if self.rule in ("sum", "union"):
            return "both"
        if self.rule == "manual":
            return "neither"
        if self.rule in ("max", "min"):
            return "a" if combined({"": self.rule}, {"": self.a}, {"": self.b}).get("") == self.a else "b"
        return self.later

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {
            "entityId": self.entity_id,
            "module": self.module,
            "stateClass": self.state_class,
            "field": self.field,
            "rule": self.rule,
            "a": self.a,
            "b": self.b,
            "hlcA": self.hlc_a,
            "hlcB": self.hlc_b,
            "kept": self.kept,
        }


def decided_events(
    conflicts: Sequence[FieldConflict], decisions: Decisions, clock: str
) -> tuple[pa.Table, tuple[FieldConflict, ...]]:
    """The events of what was decided, rows of `WORLD`, and the conflicts that still need a decision.

    `clock`: the highest reading of both sides. A decision about other writes than those at hand does not count.
    """
    rows: list[dict[str, Any]] = []
    undecided = []
    for conflict in conflicts:
        if conflict.rule != "manual":
            continue
        decision = decisions.get(conflict.key)
        if decision is None or set(decision["readings"]) != {conflict.hlc_a, conflict.hlc_b}:
            undecided.append(conflict)
            continue
        rows.append(_event(conflict, decision["value"], clock, len(rows) + 1))
    table = pa.Table.from_pylist(rows, schema=WORLD)
    return table, tuple(undecided)


def _event(conflict: FieldConflict, value: Any, clock: str, number: int) -> dict[str, Any]:
    wall, counter, _ = Hlc.parse(clock)
    payload = {conflict.field: value}
    causes = sorted(conflict.events)
    about = text_of([*conflict.key, causes, payload])
    name = "resolved-" + hashlib.sha256(about.encode()).hexdigest()[:32]
    return {
        "event_id": name,
        "entity_id": conflict.entity_id,
        "entity_kind": conflict.entity_kind,
        "type": f"{conflict.module}.{RESOLVED}.v1",
        "read_as": None,
        "module": conflict.module,
        "state_class": conflict.state_class,
        "payload": orjson.dumps(payload).decode(),
        "version": 0,
        "expected_version": None,
        "hlc": str(Hlc(wall, counter + number, f"{NODE}-{name[-8:]}")),
        "causes": causes,
        "handshake": orjson.dumps({"protocol": PROTOCOL}).decode(),
        "timestamp": None,
        "event_hash": int(hashes_of([name])[0]),
    }


def decisions_of(listed: Any, where: str) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    """Decisions from the JSON that `undecided_json` gives, its choices filled in. UsageError names what is wrong."""
    conflicts = listed.get("conflicts") if isinstance(listed, dict) else None
    if not isinstance(conflicts, list):
        raise UsageError(f"{where} is no file of decisions: run the reconciliation without it for a fresh one")
    found = {}
    for number, each in enumerate(conflicts, 1):
        try:
            key = each["entityId"], each["module"], each["stateClass"], each["field"]
            choice = each["choice"]
            if choice not in ("a", "b") and not (isinstance(choice, dict) and choice.keys() == {"value"}):
                raise UsageError(
                    f'{where}: the choice of conflict {number} ({each["entityId"]}, {each["field"]}) must be "a", "b" '
                    f'or {{"value": …}}, not {choice!r}'
                )
            value = each[choice] if isinstance(choice, str) else choice["value"]
            found[key] = {"readings": (each["hlcA"], each["hlcB"]), "value": value}
        except (KeyError, TypeError) as error:
            raise UsageError(f"{where}: conflict {number} lacks {error}: take it from a fresh file") from error
    return found


def undecided_json(a: str, b: str, into: str | None, conflicts: Sequence[FieldConflict]) -> dict[str, Any]:
    """What a person is asked, as JSON."""
    about = 'give each conflict a choice: "a", "b" or {"value": …}; then run `ledger reconcile --resolutions FILE`'
    listed = []
    for each in conflicts:
        told = each.to_json()
        del told["kept"], told["rule"]
        listed.append({**told, "choice": None})
    return {"about": about, "a": a, "b": b, "into": into, "conflicts": listed}
