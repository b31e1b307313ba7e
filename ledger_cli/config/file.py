"""Settings in force: read from options, `LEDGER_…` variables and `ledger.toml`, in this order.

The commented `ledger.toml` that `ledger init` writes is made of the same table, so it cannot tell otherwise.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger_cli.config.policies import STRATEGY_KEYS, STRATEGY_TAKES, overlaid, policy_json
from ledger_cli.config.settings import BY_NAME, FILE_NAME, SECTIONS, SETTINGS, SIZE, Setting, check_names
from ledger_cli.config.types import CONSISTENCIES, TypeSettings, type_settings
from ledger_cli.core.policy import Policy
from ledger_cli.errors import UsageError
from ledger_cli.ports import SQL_VIEWS

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_VIEW = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_TABLES_TEMPLATE = (
    "",
    "# Views of your own for `ledger sql`, made of its views and of each other; computed when they are asked for, or",
    '# kept fresh: NAME = { sql = "SELECT …", kept = true }.',
    "[views]",
    '# hot = "SELECT region, sum(weight) AS weight FROM commit_entries GROUP BY region HAVING sum(weight) > 100"',
    "",
    "# Types of world events, a table each, which register themselves: rules for fields, a file with a JSON Schema,",
    "# its path from here, and constraints, SQL over the state after an event.",
    '# [types."building.entered.v1"]',
    '# fields = {visits = "sum"}',
    '# schema = "entered.json"',
    '# constraints = ["visits < 100"]',
)


@dataclass(frozen=True)
class Config:
    """The settings in force. `views`: SQL of the user's own, by name; `kept_views`: those whose rows are kept fresh."""

    values: Mapping[str, Any]
    views: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, TypeSettings] = field(default_factory=dict)
    """Of types of world events, by name."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Of the settings that are no defaults, by name: the file or the variable that they come from."""
    kept_views: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def policy(self, options: Mapping[str, Any] | None = None) -> Policy:
        """The policy of the settings, changed by options (see `policy_from`)."""
        base = {name: self.values[name] for name, each in BY_NAME.items() if each.section == "policy"}
        return Policy.from_json(policy_json(base, dict(options or {})))

    def overruled(self, recorded: Policy, *, file: bool = True) -> dict[str, str]:
        """The given settings that a recorded policy does not have, as in `given`; with `file` those of the file too."""
        known = recorded.to_json()
        idle = STRATEGY_KEYS.keys() - set(STRATEGY_TAKES.get(self.values["strategy"], ()))
        return {
            name: origin
            for name, origin in self.given.items()
            if BY_NAME[name].section == "policy"
            and name not in idle
            and (file or origin != FILE_NAME)
            and overlaid(known, {name: self.values[name]}) != known
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
        found = SIZE.fullmatch(self.values["cache_size"].strip())
        assert found is not None, "it was checked"
        unit = found[2].upper()
        factor = 1024 if "I" in unit else 1000
        return int(float(found[1]) * float(factor) ** "BKMGT".index(unit[0]))


def template(given: Mapping[str, Any] | None = None, types: Mapping[str, TypeSettings] | None = None) -> str:
    """The text of a commented `ledger.toml`, with some settings and types of world events already given.

    UsageError for a setting that is none.
    """
    given = given or {}
    check_names(given, BY_NAME)
    lines = ["# Settings of a ledger. A commented line shows the default, or an example where there is none."]
    lines.append("# Each can also come from an environment variable, named behind it.")
    for section, about in SECTIONS.items():
        lines += ["", f"# {about}", f"[{section}]"]
        for setting in (each for each in SETTINGS if each.section == section):
            default = "not set" if setting.default is None else f"default {_toml(setting.default)}"
            lines.append(f"# {setting.help} [{default}; {setting.variable}]")
            if setting.name in given:
                lines.append(f"{setting.name} = {_toml(given[setting.name])}")
            else:
                shown = _shown(setting)
                lines.append(f"# {setting.name} = {shown}")
    lines += _TABLES_TEMPLATE
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
    views, kept = _views(tree.pop("views", {}))
    types = type_settings(tree.pop("types", {}))
    for section, entries in tree.items():
        if section not in SECTIONS or not isinstance(entries, dict):
            raise UsageError(f"{FILE_NAME} has no [{section}]: use {', '.join(SECTIONS)}, views, types")
        for name, value in entries.items():
            if name not in BY_NAME or BY_NAME[name].section != section:
                known = ", ".join(each.name for each in SETTINGS if each.section == section)
                raise UsageError(f"{FILE_NAME}: [{section}] has no {name}; it has {known}")
            values[name] = BY_NAME[name].checked(value)
            given[name] = FILE_NAME
    for setting in SETTINGS:
        if environment.get(setting.variable):
            values[setting.name] = setting.parsed(environment[setting.variable])
            given[setting.name] = setting.variable
    return Config(values, views, types, given, kept)


def _views(entries: Any) -> tuple[dict[str, str], frozenset[str]]:
    """The views of `[views]`, and the names of those to be kept. What their SQL says is checked where it is run."""
    if not isinstance(entries, dict):
        raise UsageError(f'{FILE_NAME}: views must be a table: write [views], then NAME = "SELECT …"')
    taken = {name.casefold() for name in SQL_VIEWS}
    views, kept = dict[str, str](), set[str]()
    for name, value in entries.items():
        if not _VIEW.fullmatch(name):
            raise UsageError(f"{FILE_NAME}: [views] {name!r} cannot be a name: use letters, digits and _")
        if name.casefold() in taken:
            raise UsageError(f"{FILE_NAME}: [views] {name} is the name of another view: choose another one")
        given = value if isinstance(value, dict) else {"sql": value}
        if not isinstance(given.get("sql"), str) or not isinstance(given.get("kept", False), bool):
            raise UsageError(
                f'{FILE_NAME}: [views] {name} must be a SELECT in quotes, or {{ sql = "SELECT …", kept = true }}'
            )
        if given.keys() - {"sql", "kept"}:
            raise UsageError(
                f"{FILE_NAME}: [views] {name} has no {min(given.keys() - {'sql', 'kept'})}: it has sql, kept"
            )
        taken.add(name.casefold())
        views[name] = given["sql"]
        kept |= {name} if given.get("kept") else set()
    return views, frozenset(kept)


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
