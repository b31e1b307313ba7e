"""A policy from settings and options, written as people write them: `grid:10`, `nonlinear:0.7,0.3`, `hybrid`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ledger_cli.config.settings import BY_NAME, check_names, number_of
from ledger_cli.core.policy import PLUG_INS, Json, Policy
from ledger_cli.errors import UsageError

STRATEGY_KEYS = {
    "interval": "interval",
    "min_interval": "minInterval",
    "max_interval": "maxInterval",
    "max_size": "maxSize",
    "max_mean": "maxMean",
    "max_variance": "maxVariance",
}
STRATEGY_TAKES = {
    "fixed": ("interval",),
    "adaptive": ("max_size", "max_mean", "max_variance"),
    "hybrid": ("min_interval", "max_interval", "max_size", "max_mean", "max_variance"),
}


def policy_from(policy: Policy, options: Mapping[str, Any]) -> Policy:
    """`policy` changed by options, named as the settings are; another strategy starts from nothing."""
    return Policy.from_json(overlaid(policy.to_json(), options))


def policy_json(values: Mapping[str, Any], options: Mapping[str, Any]) -> Json:
    """The JSON of a policy by the settings `values`, changed by options."""
    strategy = strategy_json(str(options.get("strategy") or values["strategy"]))
    own = {}
    if strategy["kind"] == values["strategy"]:
        own = {name: values[name] for name in STRATEGY_TAKES.get(strategy["kind"], ())}
    base = {
        "layer": values["layer"],
        "regions": regions_json(values["regions"]),
        "shards": values["shards"],
        "weight": weight_json(values["weight"]),
        "baseWeight": values["base_weight"],
        "lateness": values["lateness"],
        "strategy": {**strategy, **{STRATEGY_KEYS[name]: value for name, value in own.items()}},
    }
    return overlaid(base, options)


def overlaid(base: Json, options: Mapping[str, Any]) -> Json:
    """The JSON of a policy, changed by options."""
    check_names(options, [name for name, each in BY_NAME.items() if each.section == "policy"])
    result = dict(base)
    for name, key in (
        ("layer", "layer"),
        ("shards", "shards"),
        ("base_weight", "baseWeight"),
        ("lateness", "lateness"),
    ):
        if options.get(name) is not None:
            result[key] = options[name]
    for name in ("regions", "weight", "strategy"):
        if not isinstance(options.get(name, ""), (str, type(None))):
            raise UsageError(f"{name} must be text, not {options[name]!r}")
    if options.get("regions") is not None:
        result["regions"] = regions_json(options["regions"])
    if options.get("weight") is not None:
        result["weight"] = weight_json(options["weight"])
    strategy = dict(result["strategy"])
    if options.get("strategy") is not None and options["strategy"] != strategy["kind"]:
        strategy = strategy_json(options["strategy"])
    for name, key in STRATEGY_KEYS.items():
        if options.get(name) is not None:
            strategy[key] = options[name]
    result["strategy"] = {key: value for key, value in strategy.items() if value is not None}
    return result


def regions_json(text: str) -> Json:
    """`grid:CELL`, `quadtree:X,Y,SIZE,DEPTH` or `field[:NAME]` as JSON."""
    kind, _, rest = text.partition(":")
    if kind == "field":
        return {"kind": kind, "name": rest or "region"}
    names = {"grid": ("cell",), "quadtree": ("x", "y", "size", "depth")}.get(kind)
    if names is None:
        raise UsageError(f"regions {text!r}: use grid:CELL, quadtree:X,Y,SIZE,DEPTH or field:NAME")
    return {"kind": kind, **_numbers("regions", text, rest, names)}


def weight_json(text: str) -> Json:
    """`linear`, `nonlinear:ALPHA,BETA` or `softfloor:EPSILON` as JSON; other kinds come from plug-ins."""
    kind, _, rest = text.partition(":")
    names = {"linear": (), "nonlinear": ("alpha", "beta"), "softfloor": ("epsilon",)}.get(kind)
    if names is None:
        return {"kind": kind, **_plug_in_settings(f"weight {text!r}", rest)}
    return {"kind": kind, **_numbers("weight", text, rest, names)}


def strategy_json(text: str) -> Json:
    """`fixed`, `adaptive`, `hybrid`, or a plug-in's `KIND[:NAME=NUMBER,…]` as JSON."""
    kind, _, rest = text.partition(":")
    return {"kind": kind, **_plug_in_settings(f"strategy {text!r}", rest)}


def _plug_in_settings(what: str, rest: str) -> Json:
    pairs = [part.partition("=") for part in rest.split(",") if part]
    try:
        return {name: number_of(value) for name, _, value in pairs}
    except ValueError as error:
        raise UsageError(f"{what}: write settings as NAME=NUMBER, for example k=2") from error


def _numbers(what: str, text: str, rest: str, names: tuple[str, ...]) -> Json:
    parts = rest.split(",") if rest else []
    if len(parts) != len(names):
        shape = ":" + ",".join(name.upper() for name in names) if names else ""
        raise UsageError(f"{what} {text!r}: write it as {text.partition(':')[0]}{shape}")
    try:
        return {name: number_of(part) for name, part in zip(names, parts, strict=True)}
    except ValueError as error:
        raise UsageError(f"{what} {text!r}: {', '.join(names)} must be numbers") from error


def _plugged_in(what: str, kind: str) -> Callable[[Json], Any] | None:
    """The strategy or weight of that name from another package, if one offers it."""
    from importlib.metadata import entry_points

    group = {"strategy": "ledger_cli.strategies", "weight": "ledger_cli.weights"}.get(what)
    for point in entry_points(group=group, name=kind) if group is not None else ():
        made: Callable[[Json], Any] = point.load()
        return made
    return None


PLUG_INS.append(_plugged_in)
