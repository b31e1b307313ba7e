"""The policy of a branch: everything that decides a commit.

A policy is a value. Its canonical JSON is hashed into every commit, so two policies are the same exactly when
their digests are. What a strategy decides is expressed in one `Rule`; strategies and weight functions of other
packages plug in by adding to `STRATEGIES` and `WEIGHTS` (entry points `ledger_cli.strategies` and
`ledger_cli.weights`, loaded by `config`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from ledger_cli.core.jcs import decimal_fraction, digest_of, integer, number
from ledger_cli.errors import UsageError

Json = dict[str, Any]

SCALE = 10**9
"""q(v) is v × SCALE, rounded half to even: every sum is one of such integers."""


@dataclass(frozen=True)
class Rule:
    """What decides when an epoch of a shard closes. Ticks; thresholds are strict and exact."""

    interval: int | None = None
    """Epochs end at multiples of this (fixed); None where the first tick of a shard starts its first epoch."""
    min_interval: int = 1
    max_interval: int | None = None
    max_size: int | None = None
    max_mean: Fraction | None = None
    max_variance: Fraction | None = None

    @property
    def needs_ticks(self) -> bool:
        """Whether a decision falls after single ticks, so that moments are needed per tick."""
        return self.interval is None

    def first_start(self, tick: int) -> int:
        """Start of a shard's first epoch, given its first tick."""
        return tick if self.interval is None else tick - tick % self.interval

    def latest_end(self, start: int) -> int | None:
        """Where an epoch that starts at `start` closes at the latest, or None."""
        if self.interval is not None:
            return start - start % self.interval + self.interval
        return None if self.max_interval is None else start + self.max_interval

    def advance(self, start: int, tick: int) -> int:
        """`start` moved on by whole intervals until `tick` lies before the latest end."""
        if self.interval is not None:
            return max(start, tick - tick % self.interval)
        if self.max_interval is None or tick < start + self.max_interval:
            return start
        return start + (tick - start) // self.max_interval * self.max_interval


@dataclass(frozen=True)
class Weight:
    """A weight function f(activity): its canonical JSON and its arithmetic as SQL over binary64."""

    json: Json = field(hash=False)
    sql: str
    """Expression over `a`, the activity. Parenthesised so that the order of operations is fixed."""
    monotone: bool = False
    """f grows with the activity, so that the highest activity bounds it."""


def _literal(value: float) -> str:
    """A binary64 SQL literal with its shortest exact decimal (a bare 0.7 would be a DECIMAL)."""
    return f"{float(value)!r}::DOUBLE"


def _linear(settings: Json) -> Weight:
    return Weight({"kind": "linear"}, "a", monotone=True)


def _nonlinear(settings: Json) -> Weight:
    alpha = number(settings.get("alpha", 1), "weight alpha", 0)
    beta = number(settings.get("beta", 0), "weight beta", 0)
    sql = f"(({_literal(alpha)} * a) + ({_literal(beta)} * (a * a)))"
    return Weight({"kind": "nonlinear", "alpha": alpha, "beta": beta}, sql, monotone=True)


def _softfloor(settings: Json) -> Weight:
    epsilon = number(settings.get("epsilon", 0), "weight epsilon", 0)
    return Weight({"kind": "softfloor", "epsilon": epsilon}, f"greatest(a, {_literal(epsilon)})", monotone=True)


WEIGHTS: dict[str, Callable[[Json], Weight]] = {
    "linear": _linear,
    "nonlinear": _nonlinear,
    "softfloor": _softfloor,
}


@dataclass(frozen=True)
class Strategy:
    """A commit strategy: its canonical JSON and the rule that it stands for."""

    json: Json = field(hash=False)
    rule: Rule


def _fixed(settings: Json) -> Strategy:
    if settings.get("interval") is None:
        raise UsageError("fixed needs the length of its epochs: --interval TICKS")
    interval = integer(settings["interval"], "strategy interval", 1)
    return Strategy({"kind": "fixed", "interval": interval}, Rule(interval=interval))


def _thresholds(settings: Json) -> tuple[Json, dict[str, Any]]:
    given: Json = {}
    if settings.get("maxSize") is not None:
        given["maxSize"] = integer(settings["maxSize"], "strategy maxSize")
    for name in ("maxMean", "maxVariance"):
        if settings.get(name) is not None:
            given[name] = number(settings[name], f"strategy {name}", 0)
    if not given:
        raise UsageError("this strategy needs a threshold: --max-size, --max-mean or --max-variance")
    rule = {
        "max_size": given.get("maxSize"),
        "max_mean": decimal_fraction(given["maxMean"]) if "maxMean" in given else None,
        "max_variance": decimal_fraction(given["maxVariance"]) if "maxVariance" in given else None,
    }
    return given, rule


def _adaptive(settings: Json) -> Strategy:
    given, rule = _thresholds(settings)
    return Strategy({"kind": "adaptive", **given}, Rule(**rule))


def _hybrid(settings: Json) -> Strategy:
    given, rule = _thresholds(settings)
    json: Json = {"kind": "hybrid"}
    if settings.get("minInterval") is None:
        raise UsageError("hybrid needs the length of its shortest epoch: --min-interval TICKS")
    json["minInterval"] = integer(settings["minInterval"], "strategy minInterval", 1)
    if settings.get("maxInterval") is not None:
        json["maxInterval"] = integer(settings["maxInterval"], "strategy maxInterval", json["minInterval"])
    return Strategy(
        {**json, **given},
        Rule(min_interval=json["minInterval"], max_interval=json.get("maxInterval"), **rule),
    )


STRATEGIES: dict[str, Callable[[Json], Strategy]] = {
    "fixed": _fixed,
    "adaptive": _adaptive,
    "hybrid": _hybrid,
}


def _grid(settings: Json) -> Json:
    cell = number(settings.get("cell"), "regions cell")
    if cell <= 0:
        raise UsageError(f"regions cell must be above 0, not {cell!r}")
    return {"kind": "grid", "cell": cell}


def _quadtree(settings: Json) -> Json:
    size = number(settings.get("size"), "regions size")
    if size <= 0:
        raise UsageError(f"regions size must be above 0, not {size!r}")
    depth = integer(settings.get("depth"), "regions depth", 1)
    if depth > 26:
        raise UsageError(f"regions depth must be at most 26 (a region id has one digit a level), not {depth}")
    x, y = number(settings.get("x"), "regions x"), number(settings.get("y"), "regions y")
    return {"kind": "quadtree", "x": x, "y": y, "size": size, "depth": depth}


def _field(settings: Json) -> Json:
    name = settings.get("name", "region")
    if not isinstance(name, str) or not name:
        raise UsageError("regions field needs the name of a key, for example field:region")
    return {"kind": "field", "name": name}


REGION_MAPS: dict[str, Callable[[Json], Json]] = {"grid": _grid, "quadtree": _quadtree, "field": _field}


PLUG_INS: list[Callable[[str, str], Callable[[Json], Any] | None]] = []
"""Asked for (what, kind) where a strategy or weight is not one of ours; `config` knows other packages."""


def is_kind(registry: dict[str, Callable[[Json], Any]], what: str, kind: Any) -> bool:
    """Whether there is such a strategy, weight or region map, here or plugged in."""
    for find in PLUG_INS if isinstance(kind, str) and kind not in registry else ():
        found = find(what, kind)
        if found is not None:
            registry[kind] = found
    return kind in registry


def _of_kind(registry: dict[str, Callable[[Json], Any]], settings: Any, what: str) -> Any:
    kind = settings.get("kind") if isinstance(settings, dict) else settings
    if not isinstance(settings, dict) or not is_kind(registry, what, kind):
        raise UsageError(f"{what} {kind!r} is unknown: use one of {', '.join(registry)}")
    made = registry[settings["kind"]](settings)
    known = made if isinstance(made, dict) else made.json
    surplus = sorted(name for name, value in settings.items() if value is not None and name not in known)
    if surplus:
        raise UsageError(f"{what} {settings['kind']} takes no {', '.join(surplus)}: leave it out")
    return made


def shard_of(region: str, shards: int) -> int:
    """The shard of a region: crc32 (zlib's, of the UTF-8 id) mod shards."""
    return zlib.crc32(region.encode()) % shards


@dataclass(frozen=True)
class Policy:
    """Everything that decides a commit."""

    layer: str
    regions: Json = field(hash=False)
    shards: int
    weight: Weight
    base_weight: float
    strategy: Strategy
    lateness: int
    """Ticks that the watermark stays behind the highest tick."""

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Policy:
        """The policy of its JSON form (DESIGN, section 1). UsageError names what is wrong."""
        layer = settings.get("layer", "atomic")
        if not isinstance(layer, str) or not layer:
            raise UsageError(f"layer must be a name, not {layer!r}")
        return cls(
            layer=layer,
            regions=_of_kind(REGION_MAPS, settings.get("regions"), "region map"),
            shards=integer(settings.get("shards", 1), "shards", 1),
            weight=_of_kind(WEIGHTS, settings.get("weight"), "weight"),
            base_weight=number(settings.get("baseWeight", 1), "baseWeight", 0),
            strategy=_of_kind(STRATEGIES, settings.get("strategy"), "strategy"),
            lateness=integer(settings.get("lateness", 0), "lateness"),
        )

    def to_json(self) -> Json:
        """The JSON form, as hashed."""
        return {
            "layer": self.layer,
            "regions": self.regions,
            "shards": self.shards,
            "weight": self.weight.json,
            "baseWeight": self.base_weight,
            "strategy": self.strategy.json,
            "lateness": self.lateness,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, lower-case hex."""
        return digest_of(self.to_json())

    def shard_of(self, region: str) -> int:
        """The shard of a region."""
        return shard_of(region, self.shards)

    @property
    def rule(self) -> Rule:
        """When an epoch closes."""
        return self.strategy.rule

    def same_regions(self, other: Policy) -> bool:
        """Whether both assign every event to the same region and shard."""
        return digest_of([self.regions, self.shards]) == digest_of([other.regions, other.shards])

    def with_settings(self, **changes: Any) -> Policy:
        """A copy in which parts of the JSON form are replaced."""
        return Policy.from_json({**self.to_json(), **changes})
