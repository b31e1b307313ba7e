"""How well the parts of a world keep up: the lag of each module, and the skew of each node's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.hlc import Hlc
from ledger_cli.services.broadcast import MODULE, subscription
from ledger_cli.services.repository import Branch, Repository
from ledger_cli.services.subscriptions import SubscriptionView, view, views
from ledger_cli.services.world import read_parquet

LAST_FILES = 16
"""Skew is told of the events of so many last moves: what a clock was like long ago helps nobody."""
_NODE_AT = len(str(Hlc(0, 0, "")))
"""Where the name of the node begins in the text of a reading."""


@dataclass(frozen=True)
class Limits:
    """What is told as too much: events of lag, and seconds of skew. `bus`: whether there is one that listens."""

    lag: int
    skew: float
    bus: bool = False


@dataclass(frozen=True)
class ModuleHealth:
    """A subscription, and whether its lag is within the limit."""

    subscription: SubscriptionView
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        one = self.subscription
        return {"module": one.module, "types": list(one.types), "cursor": one.cursor, "lag": one.lag, "ok": self.ok}


@dataclass(frozen=True)
class NodeHealth:
    """A node by its highest recent reading, and whether its skew is within the limit.

    `skew`: seconds by which the node's clock was ahead of this ledger's when the reading arrived; below 0, behind it
    or long on its way. Of several moves that which shows the node least behind.
    """

    node: str
    hlc: str
    skew: float
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"node": self.node, "hlc": self.hlc, "skewSeconds": self.skew, "ok": self.ok}


@dataclass(frozen=True)
class WorldHealth:
    """Modules by name, and nodes by name."""

    modules: tuple[ModuleHealth, ...]
    nodes: tuple[NodeHealth, ...]

    @property
    def ok(self) -> bool:
        """Whether all are within the limits."""
        return all(each.ok for each in self.modules) and all(each.ok for each in self.nodes)


def health(repository: Repository, branch: Branch, limits: Limits) -> WorldHealth:
    """The modules that subscribe to a branch, the bus only where there is one, and the nodes of its last events."""
    listening = [each for each in views(repository, branch) if limits.bus or each.module != MODULE]
    if limits.bus and MODULE not in {each.module for each in listening}:
        # It is one of them with the first event that it is told.
        listening = [*listening, view(repository, branch, subscription(repository, branch))]
    modules = (ModuleHealth(each, each.lag <= limits.lag) for each in listening)
    return WorldHealth(tuple(modules), tuple(_nodes(repository, branch, limits)))


def _nodes(repository: Repository, branch: Branch, limits: Limits) -> list[NodeHealth]:
    highest: dict[str, str] = {}
    skews: dict[str, float] = {}
    for at, node, reading in _readings(repository, branch):
        highest[node] = max(reading, highest.get(node, ""))
        skew = Hlc.parse(reading).wall / 1e6 - datetime.fromisoformat(at).timestamp()
        skews[node] = max(skew, skews.get(node, skew))
    return [
        NodeHealth(node, highest[node], round(skew, 3), abs(skew) <= limits.skew)
        for node, skew in sorted(skews.items())
    ]


def _readings(repository: Repository, branch: Branch) -> Iterator[tuple[str, str, str]]:
    """Of each of the branch's own last moves: when it was made, and the highest reading of each node in it."""
    for file in branch.added.world[-LAST_FILES:]:
        move = repository.move(branch.name, file.arrival)
        if move.kind != "world":
            # A reconciliation brings events long after they happened.
            continue
        readings = read_parquet(repository, file.file, ["hlc"])["hlc"]
        nodes = pc.utf8_slice_codeunits(readings, _NODE_AT)
        grouped = pa.table({"hlc": readings, "node": nodes}).group_by("node").aggregate([("hlc", "max")])
        for row in grouped.to_pylist():
            yield move.at, row["node"], row["hlc_max"]
