"""Settings: one table of them, read from options, `LEDGER_…` variables and `ledger.toml`, in this order.

The commented `ledger.toml` that `ledger init` writes is made of the same table, so it cannot tell otherwise.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ledger_cli.core.policy import PLUG_INS, Json, Policy
from ledger_cli.errors import UsageError
from ledger_cli.ports import SQL_VIEWS

FILE_NAME = "ledger.toml"
FOLDERS = (
    "segments",
    "commits",
    "refs",
    "quarantine",
    "tiles",
    "contributors",
    "scratch",
    "archive",
    "archives",
    "cache",
)
"""What a ledger keeps beside its `ledger.toml`."""


@dataclass(frozen=True)
class Setting:
    """One setting. `default` is what holds when nobody says otherwise; None: not set."""

    section: str
    name: str
    kind: str
    """A key of `_KINDS`."""
    default: Any
    help: str
    example: str = ""
    """What the commented line shows where there is no default."""

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"LEDGER_{self.name.upper()}"

    def parsed(self, text: str) -> Any:
        """The value that a variable's text stands for. UsageError names the variable."""
        try:
            if self.kind in ("integers", "texts"):
                value: Any = self._listed(text.strip())
            elif self.kind in ("integer", "threads", "entities"):
                value = int(text)
            else:
                value = number_of(text) if self.kind == "number" else text
        except ValueError:
            value = text
        if not self._fits(value):
            raise UsageError(f"{self.variable}={text!r} in the environment must be {_KINDS[self.kind]}")
        return value

    def _listed(self, text: str) -> list[Any]:
        """A list as in `ledger.toml`, or its items with commas between them. ValueError where it is neither."""
        if text.startswith("["):
            return list(tomllib.loads(f"list = {text}")["list"])
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [int(part) for part in parts] if self.kind == "integers" else parts

    def checked(self, value: Any) -> Any:
        """`value`, if it is of this setting's kind; UsageError else."""
        if not self._fits(value):
            raise UsageError(f"{self.name} = {value!r} must be {_KINDS[self.kind]}: correct {FILE_NAME}")
        return value

    def _fits(self, value: Any) -> bool:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return {
            "text": isinstance(value, str),
            "size": isinstance(value, str) and _SIZE.fullmatch(value.strip()) is not None,
            "threads": whole and 0 <= value <= THREADS_MAX,
            "entities": whole and 0 <= value <= ENTITY_REFS_MAX,
            "integer": whole,
            "number": whole or isinstance(value, float),
            "integers": isinstance(value, list) and all(type(each) is int and each > 0 for each in value),
            "texts": isinstance(value, list) and all(isinstance(each, str) for each in value),
        }[self.kind]


THREADS_MAX = 1024
"""More are a slip of the hand; so many would also work against each other."""

ENTITY_REFS_MAX = 1000
"""Of an entry; they are a hint at who made it, and no second copy of the ticks."""

_SIZE = re.compile(r"(?=.*[1-9])(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)", re.IGNORECASE)
_KINDS = {
    "text": "text in quotes",
    "size": "a size above 0 with its unit, for example '1GiB'",
    "threads": f"a whole number from 0 (all cores) to {THREADS_MAX}",
    "entities": f"a whole number from 0 (none) to {ENTITY_REFS_MAX}",
    "integer": "a whole number",
    "number": "a number",
    "integers": "a list of whole numbers above 0",
    "texts": "a list of texts in quotes",
}

SETTINGS: tuple[Setting, ...] = (
    Setting("policy", "layer", "text", "atomic", "name of the layer; part of every commit id"),
    Setting(
        "policy",
        "regions",
        "text",
        "grid:10",
        "region map: grid:CELL (units of x and y) | quadtree:X,Y,SIZE,DEPTH | field[:NAME] (a key of the event)",
    ),
    Setting("policy", "shards", "integer", 1, "number of shards; each has its own chain of commits"),
    Setting(
        "policy",
        "weight",
        "text",
        "linear",
        "weight of an event with activity a: linear (a) | nonlinear:ALPHA,BETA (ALPHA*a + BETA*a*a)"
        " | softfloor:EPSILON (at least EPSILON)",
    ),
    Setting("policy", "base_weight", "number", 1, "factor on every weight"),
    Setting("policy", "lateness", "integer", 0, "ticks that the watermark stays behind the highest tick"),
    Setting(
        "policy",
        "strategy",
        "text",
        "fixed",
        "when an epoch closes: fixed (every interval) | adaptive (past a threshold)"
        " | hybrid (past a threshold, between min_interval and max_interval)",
    ),
    Setting("policy", "interval", "integer", 100, "ticks; fixed: length of an epoch"),
    Setting("policy", "min_interval", "integer", None, "ticks; hybrid: no epoch is shorter", "10"),
    Setting("policy", "max_interval", "integer", None, "ticks; hybrid: no epoch is longer", "1000"),
    Setting("policy", "max_size", "integer", None, "events; adaptive, hybrid: close above as many", "10000"),
    Setting(
        "policy",
        "max_mean",
        "number",
        None,
        "activity; adaptive, hybrid: close above this mean of a region",
        "0.5",
    ),
    Setting(
        "policy",
        "max_variance",
        "number",
        None,
        "activity squared; adaptive, hybrid: close above this variance of a region",
        "0.25",
    ),
    Setting(
        "commits",
        "entity_refs",
        "entities",
        0,
        "entities that are kept of each region in a commit, those that gave it most weight first; 0: none",
    ),
    Setting(
        "ingest",
        "max_tick_jump",
        "integer",
        None,
        "ticks; rows that lie further above the rest go to quarantine (one wrong tick lifts the watermark for good)",
        "100000",
    ),
    Setting(
        "gamma",
        "half_lives",
        "integers",
        [],
        "ticks; decayed weights that are kept ready, for example [50, 500]",
    ),
    Setting(
        "world",
        "node",
        "text",
        None,
        "name of this node in the clock readings of world events; not set: the name of the machine",
        "dc-1",
    ),
    Setting(
        "world", "max_drift", "number", 60, "seconds; events whose clock is further ahead of this machine's are refused"
    ),
    Setting(
        "world",
        "causal_wait",
        "number",
        3600,
        "seconds; an event whose cause is not known waits as long for it, and is refused then",
    ),
    Setting(
        "world",
        "guardian",
        "text",
        None,
        "who is told of events that are refused for their causes, as JSON: a command (on its standard input) or a URL"
        " (posted)",
        "logger -t ledger",
    ),
    Setting(
        "world",
        "bus",
        "text",
        None,
        "where applied events are told to others, as JSON Lines: a file, its path from the ledger's, or a URL (posted)."
        " A password belongs into LEDGER_BUS",
        "events.jsonl",
    ),
    Setting(
        "world",
        "canonical",
        "text",
        None,
        "the ledger that decides about events of strong types, its path from this one's; not set: this one",
        "../main-ledger",
    ),
    Setting(
        "world",
        "max_lock",
        "number",
        60,
        "seconds; a transaction over two ledgers that is not decided by then may be given up by whoever meets it",
    ),
    Setting(
        "world",
        "keys",
        "texts",
        [],
        "where the keys of modules are that sign their events: MODULE=env:VARIABLE | MODULE=file:PATH",
    ),
    Setting("world", "max_lag", "integer", 10_000, "events; a module that is further behind is told as too late"),
    Setting("world", "max_skew", "number", 5, "seconds; a node whose clock is further off is told as wrong"),
    Setting("snapshots", "keep_snapshots", "integer", 30, "snapshots of a branch that are kept: the newest so many"),
    Setting(
        "snapshots",
        "snapshot_wait",
        "integer",
        60,
        "seconds; so long a snapshot waits for modules to acknowledge the events before it",
    ),
    Setting(
        "store",
        "store",
        "text",
        None,
        "the engine that keeps commits and refs, given to `ledger init --store` (`ledger stores` lists them); not set:"
        " files beside this one. A password belongs into the client's own file or LEDGER_STORE",
        "sqlite:///commits.sqlite",
    ),
    Setting(
        "retention",
        "archive_to",
        "text",
        "archive",
        "where archives go: a directory, from the ledger's, or a URL such as s3://bucket/world",
    ),
    Setting(
        "retention",
        "archive_key",
        "text",
        None,
        "where the key is that archives are encrypted with: env:VARIABLE | file:PATH; not set: they are not encrypted",
        "env:LEDGER_ARCHIVE_SECRET",
    ),
    Setting(
        "retention", "archive_after", "text", None, "age like 30d; the entries of older commits are archived", "90d"
    ),
    Setting(
        "retention",
        "archive_quiet_after",
        "text",
        None,
        "age like 7d; the same for commits in which no region's mean activity is above archive_quiet_activity",
        "30d",
    ),
    Setting("retention", "archive_quiet_activity", "number", 0, "activity; what is not above it is quiet"),
    Setting(
        "retention",
        "archive_keep",
        "integer",
        0,
        "commits; the newest so many of each chain are never archived by rules",
    ),
    Setting(
        "retention", "archive_ticks_after", "text", None, "age like 90d; segments of ticks that came before", "365d"
    ),
    Setting(
        "retention",
        "archive_ticks_keep",
        "integer",
        0,
        "segments; the newest so many that came on each branch are never archived by rules",
    ),
    Setting(
        "retention", "archive_world_after", "text", None, "age like 90d; files of world events that came before", "365d"
    ),
    Setting(
        "retention",
        "archive_world_keep",
        "integer",
        0,
        "files of world events; the newest so many that came on each branch are never archived by rules",
    ),
    Setting("engine", "threads", "threads", 0, "threads; 0: all cores"),
    Setting("engine", "memory", "size", "1GiB", "memory of the engine; more is spilled to disk"),
    Setting(
        "engine",
        "cache",
        "text",
        None,
        "directory of local copies of the files of a ledger that is elsewhere (s3://…); not set: ~/.cache/ledger",
        "/var/tmp/ledger",
    ),
    Setting(
        "engine",
        "cache_size",
        "size",
        "20GiB",
        "all copies together, also those in cache/ of what is in engines, packs and archives; the least recently used"
        " go first",
    ),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_SECTIONS = {
    "policy": "What decides a commit. It is recorded with a branch's first commit and does not change after it;\n"
    "# `ledger replay --fork` tries another one on the same events.",
    "commits": "What is kept beside a commit. Nothing here changes an id.",
    "ingest": "How events are read.",
    "gamma": "The projection.",
    "world": "The world behind the ticks.",
    "snapshots": "Snapshots of the world.",
    "store": "What keeps the commits.",
    "retention": "What `ledger archive` moves out if not told otherwise. Headers of commits stay, and what was\n"
    "# moved out is read as before, slower. Nothing is archived by itself.",
    "engine": "The machine. Nothing here changes an id.",
}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VIEW = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_VIEWS_TEMPLATE = (
    "",
    "# Views of your own for `ledger sql`, made of its views and of each other; computed when they are asked for.",
    "[views]",
    '# hot = "SELECT region, sum(weight) AS weight FROM commit_entries GROUP BY region HAVING sum(weight) > 100"',
)
_STRATEGY_KEYS = {
    "interval": "interval",
    "min_interval": "minInterval",
    "max_interval": "maxInterval",
    "max_size": "maxSize",
    "max_mean": "maxMean",
    "max_variance": "maxVariance",
}
_STRATEGY_TAKES = {
    "fixed": ("interval",),
    "adaptive": ("max_size", "max_mean", "max_variance"),
    "hybrid": ("min_interval", "max_interval", "max_size", "max_mean", "max_variance"),
}


@dataclass(frozen=True)
class TypeSettings:
    """What a table `[types."module.name.v1"]` says of a type of world events; None: what is registered."""

    schema: str | None = None
    """A file, from the directory of the ledger."""
    reducer: str | None = None
    fields: Mapping[str, str] | None = None
    upcast: Mapping[str, Any] | None = None
    constraints: tuple[str, ...] = ()
    consistency: str = "eventual"


CONSISTENCIES = ("eventual", "causal", "strong")
_TYPE_KINDS = {
    "schema": (str, "the name of a file in quotes"),
    "reducer": (str, "merge or replace in quotes"),
    "fields": (dict, 'a table such as {visits = "sum"}'),
    "upcast": (dict, 'a table such as {rename = {old = "new"}}'),
    "constraints": (list, "a list of SQL in quotes"),
    "consistency": (str, "eventual, causal or strong in quotes"),
}


@dataclass(frozen=True)
class Config:
    """The settings in force. `views`: SQL of the user's own, by name."""

    values: Mapping[str, Any]
    views: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, TypeSettings] = field(default_factory=dict)
    """Of types of world events, by name."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Of the settings that are no defaults, by name: the file or the variable that they come from."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def policy(self, options: Mapping[str, Any] | None = None) -> Policy:
        """The policy of the settings, changed by options (see `policy_from`)."""
        base = {name: self.values[name] for name, each in _BY_NAME.items() if each.section == "policy"}
        return Policy.from_json(_policy_json(base, dict(options or {})))

    def overruled(self, recorded: Policy, *, file: bool = True) -> dict[str, str]:
        """The given settings that a recorded policy does not have, as in `given`; with `file` those of the file too."""
        known = recorded.to_json()
        idle = _STRATEGY_KEYS.keys() - set(_STRATEGY_TAKES.get(self.values["strategy"], ()))
        return {
            name: origin
            for name, origin in self.given.items()
            if _BY_NAME[name].section == "policy"
            and name not in idle
            and (file or origin != FILE_NAME)
            and _overlaid(known, {name: self.values[name]}) != known
        }

    def types_from(self, level: str) -> frozenset[str]:
        """The types of world events with at least some level of consistency."""
        least = CONSISTENCIES.index(level)
        return frozenset(name for name, each in self.types.items() if CONSISTENCIES.index(each.consistency) >= least)

    @property
    def store(self) -> str:
        """The URL of what keeps commits and refs; empty for files of the ledger."""
        return self.values["store"] or ""

    @property
    def threads(self) -> int | None:
        """Threads of the engine, None for all."""
        return int(self.values["threads"]) or None

    @property
    def memory(self) -> str:
        """Memory of the engine."""
        return str(self.values["memory"])

    @property
    def cache_size(self) -> int:
        """Bytes of local copies."""
        found = _SIZE.fullmatch(self.values["cache_size"].strip())
        assert found is not None, "it was checked"
        unit = found[2].upper()
        factor = 1024 if "I" in unit else 1000
        return int(float(found[1]) * float(factor) ** "BKMGT".index(unit[0]))


def template(given: Mapping[str, Any] | None = None, types: Mapping[str, TypeSettings] | None = None) -> str:
    """The text of a commented `ledger.toml`, with some settings and types of world events already given.

    UsageError for a setting that is none.
    """
    given = given or {}
    check_names(given, _BY_NAME)
    lines = ["# Settings of a ledger. A commented line shows the default, or an example where there is none."]
    lines.append("# Each can also come from an environment variable, named behind it.")
    for section, about in _SECTIONS.items():
        lines += ["", f"# {about}", f"[{section}]"]
        for setting in (each for each in SETTINGS if each.section == section):
            default = "not set" if setting.default is None else f"default {_toml(setting.default)}"
            lines.append(f"# {setting.help} [{default}; {setting.variable}]")
            if setting.name in given:
                lines.append(f"{setting.name} = {_toml(given[setting.name])}")
            else:
                shown = _shown(setting)
                lines.append(f"# {setting.name} = {shown}")
    lines += _VIEWS_TEMPLATE
    for name, settings in (types or {}).items():
        lines += ["", *type_lines(name, settings)]
    return "\n".join(lines) + "\n"


def type_lines(name: str, settings: TypeSettings) -> list[str]:
    """The table of a type of world events in `ledger.toml`."""
    said = {key: value for key, value in vars(settings).items() if value != getattr(TypeSettings, key)}
    return [f"[types.{_toml(name)}]", *(f"{key} = {_toml(value)}" for key, value in said.items())]


def _shown(setting: Setting) -> str:
    """The value of a commented line, as it may stand there without the comment."""
    if setting.default is not None:
        return _toml(setting.default)
    return _toml(setting.example) if setting.kind == "text" else setting.example


def load(text: str, environment: Mapping[str, str]) -> Config:
    """Settings of a `ledger.toml` and the environment. UsageError names what is wrong."""
    try:
        tree = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{FILE_NAME} is not TOML ({error}): correct it, or compare with a fresh `ledger init`"
        ) from error
    values = {setting.name: setting.default for setting in SETTINGS}
    given = {}
    views, types = _views(tree.pop("views", {})), type_settings(tree.pop("types", {}))
    for section, entries in tree.items():
        if section not in _SECTIONS or not isinstance(entries, dict):
            raise UsageError(f"{FILE_NAME} has no [{section}]: use {', '.join(_SECTIONS)}, views, types")
        for name, value in entries.items():
            if name not in _BY_NAME or _BY_NAME[name].section != section:
                known = ", ".join(each.name for each in SETTINGS if each.section == section)
                raise UsageError(f"{FILE_NAME}: [{section}] has no {name}; it has {known}")
            values[name] = _BY_NAME[name].checked(value)
            given[name] = FILE_NAME
    for setting in SETTINGS:
        if environment.get(setting.variable):
            values[setting.name] = setting.parsed(environment[setting.variable])
            given[setting.name] = setting.variable
    return Config(values, views, types, given)


def _views(entries: Any) -> dict[str, str]:
    """The views of `[views]`. What their SQL says is checked where it is run."""
    if not isinstance(entries, dict):
        raise UsageError(f'{FILE_NAME}: views must be a table: write [views], then NAME = "SELECT …"')
    taken = {name.casefold() for name in SQL_VIEWS}
    for name, sql in entries.items():
        if not _VIEW.fullmatch(name):
            raise UsageError(f"{FILE_NAME}: [views] {name!r} cannot be a name: use letters, digits and _")
        if name.casefold() in taken:
            raise UsageError(f"{FILE_NAME}: [views] {name} is the name of another view: choose another one")
        if not isinstance(sql, str):
            raise UsageError(f"{FILE_NAME}: [views] {name} must be a SELECT in quotes")
        taken.add(name.casefold())
    return dict(entries)


def type_settings(tables: Any, file: str = FILE_NAME) -> dict[str, TypeSettings]:
    """Of the tables below `[types]` of a file. UsageError names what is wrong."""
    types = {}
    for name, entries in tables.items() if isinstance(tables, dict) else [("", None)]:
        where = f'{file}: [types."{name}"]'
        if not isinstance(entries, dict) or not entries.keys() <= _TYPE_KINDS.keys():
            # Without the quotes the parts of a name are tables in tables.
            raise UsageError(f"{where} takes {', '.join(_TYPE_KINDS)}, and its name stands in quotes")
        for key, value in entries.items():
            kind, told = _TYPE_KINDS[key]
            of_texts: Any = {"fields": dict.values, "constraints": iter}.get(key)
            fits = isinstance(value, kind)
            if not fits or (of_texts is not None and not all(isinstance(each, str) for each in of_texts(value))):
                raise UsageError(f"{where}: {key} = {value!r} must be {told}")
        settings = TypeSettings(**{**entries, "constraints": tuple(entries.get("constraints", ()))})
        if settings.consistency not in CONSISTENCIES:
            raise UsageError(f"{where}: consistency must be {_TYPE_KINDS['consistency'][1]}")
        types[name] = settings
    return types


def level_of(text: str) -> str:
    """A level of consistency as given. UsageError where it is none."""
    if text not in CONSISTENCIES:
        raise UsageError(f"consistency {text!r} is none of {', '.join(CONSISTENCIES)}")
    return text


def policy_from(policy: Policy, options: Mapping[str, Any]) -> Policy:
    """`policy` changed by options, named as the settings are; another strategy starts from nothing."""
    return Policy.from_json(_overlaid(policy.to_json(), dict(options)))


def _policy_json(values: dict[str, Any], options: dict[str, Any]) -> Json:
    strategy = strategy_json(str(options.get("strategy") or values["strategy"]))
    own = {}
    if strategy["kind"] == values["strategy"]:
        own = {name: values[name] for name in _STRATEGY_TAKES.get(strategy["kind"], ())}
    base = {
        "layer": values["layer"],
        "regions": regions_json(values["regions"]),
        "shards": values["shards"],
        "weight": weight_json(values["weight"]),
        "baseWeight": values["base_weight"],
        "lateness": values["lateness"],
        "strategy": {**strategy, **{_STRATEGY_KEYS[name]: value for name, value in own.items()}},
    }
    return _overlaid(base, options)


def _overlaid(base: Json, options: dict[str, Any]) -> Json:
    check_names(options, [name for name, each in _BY_NAME.items() if each.section == "policy"])
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
    for name, key in _STRATEGY_KEYS.items():
        if options.get(name) is not None:
            strategy[key] = options[name]
    result["strategy"] = {key: value for key, value in strategy.items() if value is not None}
    return result


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """UsageError where a name is none of those that are known; it names the nearest."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            meant = f", did you mean {near[0]}" if near else ""
            raise UsageError(f"there is no setting {name!r}{meant}: use {', '.join(known)}")


def number_of(text: str) -> int | float:
    """A number as written: 10 is an integer, 0.5 and 1e3 are floats. ValueError else."""
    try:
        return int(text)
    except ValueError:
        return float(text)


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


def _toml(value: Any) -> str:
    if isinstance(value, str):
        # The escapes of JSON are among those of TOML, which wants one character more to have one.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_toml(each)}" for name, each in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _toml(name)
