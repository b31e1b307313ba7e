"""The verbs that a step of a recipe may use, and what each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ledger_cli.config.settings import SETTINGS
from ledger_cli.core.durations import seconds_of
from ledger_cli.core.history import branch_name
from ledger_cli.core.tick_json import FIELDS
from ledger_cli.core.world_fields import RULES, check_rules
from ledger_cli.errors import UsageError

POLICY = tuple(setting.name for setting in SETTINGS if setting.section == "policy")
OUT_SUFFIXES = (".csv", ".parquet", ".png", ".svg", ".html")
PICTURE_SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Kind:
    """What an argument may be. `read` gives the value as it is used, or raises ValueError."""

    what: str
    read: Callable[[Any], Any]
    path: bool = False
    """Whether it names files, relative to the recipe."""


@dataclass(frozen=True)
class Verb:
    """A verb: its arguments, and which of them have no default."""

    takes: Mapping[str, Kind]
    needs: tuple[str, ...] = ()


def is_file_name(name: str) -> bool:
    """Whether a source is a local file: no URL, not standard input."""
    return name != "-" and "://" not in name


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _texts(value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise ValueError
    return [_text(each) for each in listed]


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _time(value: Any) -> str:
    try:
        seconds_of(_text(value))
    except UsageError as error:
        raise ValueError from error
    return str(value)


def _place(value: Any) -> str:
    return _text(value) if isinstance(value, str) else str(_integer(value))


def _table_of(names: tuple[str, ...]) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not value or not value.keys() <= set(names):
            raise ValueError
        return dict(value)

    return read


def _fields(value: Any) -> dict[str, str]:
    return {name: _text(sql) for name, sql in _table_of(FIELDS)(value).items()}


def _rules(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value:
        raise ValueError
    check_rules(value)
    return dict(value)


def _branch(value: Any) -> str:
    try:
        return branch_name(_text(value))
    except UsageError as error:
        raise ValueError from error


def _out(suffixes: tuple[str, ...]) -> Kind:
    def read(value: Any) -> str:
        name = _text(value)
        if not name.endswith(suffixes) or "/" in name or "\\" in name:
            raise ValueError
        return name

    return Kind(f"the name of a file that ends in {', '.join(suffixes)}", read)


TEXT = Kind("text", _text)
TEXTS = Kind("text, or a list of texts", _texts)
FILE = Kind("the name of a file", _text, path=True)
FILES = Kind("text, or a list of texts", _texts, path=True)
INTEGER = Kind("a whole number", _integer)
FLAG = Kind("true or false", _flag)
TIME = Kind("a length of time like 30m, 1h or 7d", _time)
PLACE = Kind("a commit id, tag, branch or tick", _place)
MOMENT = Kind("a time, clock reading, commit, tag or tick", _place)
BRANCH = Kind("the name of a branch", _branch)
RULES_OF_FIELDS = Kind(f"a table of rules by field ({', '.join(RULES)})", _rules)
MAP = Kind(f"a table of SQL by field ({', '.join(FIELDS)})", _fields)
SETTINGS_OF_POLICY = Kind(f"a table of {', '.join(POLICY)}", _table_of(POLICY))
OUT, PICTURE = _out(OUT_SUFFIXES), _out(PICTURE_SUFFIXES)

_COMMON = {"branch": TEXT, "message": TEXT}
VERBS = {
    "ingest": Verb(
        {
            "sources": FILES,
            "format": TEXT,
            "map": MAP,
            "sql": TEXT,
            "columns": TEXTS,
            "delimiter": TEXT,
            "comment": TEXT,
            "max_tick_jump": INTEGER,
            "allow_quarantine": FLAG,
            **_COMMON,
        },
        ("sources",),
    ),
    "commit": Verb({"final": FLAG, "force": TEXT, "policy": SETTINGS_OF_POLICY, **_COMMON}),
    "fork": Verb({"name": TEXT, "from": PLACE, "policy": SETTINGS_OF_POLICY, **_COMMON}, ("name",)),
    "replay": Verb({"fork": TEXT, "from": PLACE, "to": INTEGER, "policy": SETTINGS_OF_POLICY, **_COMMON}),
    "reconcile": Verb(
        {"a": BRANCH, "b": BRANCH, "into": BRANCH, "plan": FLAG, "out": PICTURE, "resolutions": FILE, "message": TEXT},
        ("a", "b"),
    ),
    "tag": Verb({"name": TEXT, "commit": PLACE, **_COMMON}, ("name",)),
    "snapshot": Verb({"every": TIME, "wait": INTEGER, **_COMMON}),
    "schema register": Verb(
        {"type": TEXT, "schema": FILE, "reducer": TEXT, "field": RULES_OF_FIELDS, "upcast": FILE, "message": TEXT},
        ("type",),
    ),
    "world apply": Verb({"source": FILE, "atomic": FLAG, "allow_quarantine": FLAG, **_COMMON}, ("source",)),
    "world find": Verb({"where": TEXT, "limit": INTEGER, "at": MOMENT, "branch": TEXT}),
    "verify": Verb({"branches": TEXTS}),
    "log": Verb({"region": TEXT, "since": INTEGER, "until": INTEGER, "limit": INTEGER, "branch": TEXT}),
    "show": Verb({"commit": PLACE, "branch": TEXT}, ("commit",)),
    "diff": Verb({"a": PLACE, "b": PLACE, "sort": TEXT, "limit": INTEGER, "branch": TEXT}, ("a", "b")),
    "gamma": Verb(
        {
            "region": TEXT,
            "at": PLACE,
            "half_life": INTEGER,
            "window": INTEGER,
            "top": INTEGER,
            "out": OUT,
            "branch": TEXT,
        },
    ),
    "sql": Verb({"statement": TEXT, "branch": TEXT}, ("statement",)),
    "status": Verb({"branch": TEXT}),
}
"""The words are those of the command line: `ledger VERB --help` says what each does. `out` is in the ledger's folder.

A replay without `fork` verifies; `from` is then a tick. A snapshot is made. What a recipe reconciles are branches: with
`into` both stay as they are, so that the steps before find at a second run what they found at the first."""


def checked_arguments(do: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of a step as they are used. UsageError names the wrong one."""
    verb = VERBS[do]
    checked = {}
    for key, value in given.items():
        if key not in verb.takes:
            raise UsageError(f"{where}: unknown key {key!r}; it may have do, say, {', '.join(verb.takes)}")
        try:
            checked[key] = verb.takes[key].read(value)
        except ValueError as error:
            raise UsageError(f"{where}: {key} = {value!r} must be {verb.takes[key].what}") from error
    for key in verb.needs:
        if key not in checked:
            raise UsageError(f"{where}: {key} is missing: {verb.takes[key].what}")
    _check_together(do, checked, where)
    return checked


def _check_together(do: str, given: Mapping[str, Any], where: str) -> None:
    if do == "ingest" and "map" in given and "sql" in given:
        raise UsageError(f"{where}: map and sql exclude each other: put the mapping into the SELECT")
    if do == "gamma" and "out" in given and "top" in given:
        raise UsageError(f"{where}: what out writes has all regions: leave top out")
    if do == "replay":
        _check_replay(given, where)


def _check_replay(given: Mapping[str, Any], where: str) -> None:
    if "fork" in given:
        if "to" in given:
            raise UsageError(f"{where}: to goes with a replay that verifies: leave it or fork out")
        return
    for key in ("policy", "message"):
        if key in given:
            raise UsageError(f"{where}: {key} goes with a replay that makes a branch: name it as fork")
    if not given.get("from", "0").isdigit():
        raise UsageError(f"{where}: from = {given['from']!r} must be a tick where a replay verifies")
