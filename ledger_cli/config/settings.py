"""The table of settings. `ledger.toml`, its commented template and the `LEDGER_…` variables are made of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ledger_cli.errors import UsageError

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
            "size": isinstance(value, str) and SIZE.fullmatch(value.strip()) is not None,
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

SIZE = re.compile(r"(?=.*[1-9])(\d+(?:\.\d+)?)\s*([KMGT]i?B|B)", re.IGNORECASE)
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
        "snapshots", "keep_snapshots_for", "text", None, "age like 90d; older ones go too, but for the newest", "90d"
    ),
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
BY_NAME = {setting.name: setting for setting in SETTINGS}
SECTIONS = {
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
