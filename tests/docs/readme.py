"""What the README and the pages that go on with it show, made anew: the output of commands, and tables."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_cli import errors
from ledger_cli.api import Ledger
from ledger_cli.cli.main import COMMANDS, INTERRUPTED
from ledger_cli.config.file import load
from ledger_cli.config.settings import SETTINGS
from ledger_cli.core.events import REASONS
from ledger_cli.core.policy import STRATEGIES
from ledger_cli.errors import LedgerError, UsageError
from ledger_cli.sources.common.names import DATA_SUFFIXES, FORMATS, TEXT_SUFFIXES, format_of
from ledger_cli.wiring.ledgers import capabilities

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "world.md", ROOT / "docs" / "stores.md")
"""In the order in which their sessions run, in one shell."""

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^<!-- table: (\w+) -->\n(.*?)^<!-- end -->$", re.MULTILINE | re.DOTALL)
_END = re.compile(r"\x1e(\d+)\n")

# -- console blocks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A command as it is typed (its lines joined), and what it printed."""

    command: str
    output: str

    @property
    def text(self) -> str:
        """As it stands in a block."""
        return f"$ {self.command}\n{self.output}"


def blocks(document: str) -> list[list[Call]]:
    """The commands of every console block with the output that the document gives them."""
    return [_calls(found[1]) for found in _BLOCK.finditer(document)]


def _calls(block: str) -> list[Call]:
    calls: list[Call] = []
    typing = False
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            calls.append(Call(line.removeprefix("$ ").removesuffix("\n"), ""))
        elif typing:
            calls[-1] = Call(f"{calls[-1].command}\n{line.removesuffix(chr(10))}", "")
        else:
            calls[-1] = Call(calls[-1].command, calls[-1].output + line)
            continue
        typing = line.endswith("\\\n")
    return calls


def rerun(shown: list[list[Call]], folder: Path, environment: Mapping[str, str]) -> list[list[Call]]:
    """All commands again, one after the other in one shell, with what they print now (errors among it)."""
    commands = [call.command for calls in shown for call in calls]
    script = "".join(f"{command}\nprintf '\\x1e%s\\n' $?\n" for command in commands)
    ran = subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        check=True,
    )
    outputs = iter(_END.split(anonymous(ran.stdout.decode()))[::2])
    return [[Call(call.command, _trimmed(next(outputs))) for call in calls] for calls in shown]


def _trimmed(output: str) -> str:
    return "".join(line.rstrip() + "\n" for line in output.splitlines()).rstrip("\n") + "\n" * bool(output.strip())


def anonymous(text: str) -> str:
    """Without the names of the day's machine."""
    return re.sub(r"\bby \S+@\S+", "by you@host", text)


def comparable(text: str) -> str:
    """Without what differs from run to run, or with the version of a library: times, ids of ledgers, sizes of files."""
    text = re.sub(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d|T\d\d:\d\d:\d\d\.\d+Z)", "TIME", text)
    text = re.sub(r"~[0-9a-f]{8}", "~LEDGER", text)
    text = re.sub(r"[0-9a-f]{64}\.json", "DIGEST.json", text)
    return re.sub(r"\d[\d ,\u00a0\u202f]* bytes", "N bytes", text)


def with_outputs(document: str, blocks_made: Iterator[list[Call]]) -> str:
    """The document with new output where it differs."""

    def renewed(found: re.Match[str]) -> str:
        text = "".join(call.text for call in next(blocks_made))
        return found[0] if comparable(text) == comparable(found[1]) else f"```console\n{text}```"

    return _BLOCK.sub(renewed, document)


def python_blocks(document: str) -> list[str]:
    """The Python sessions."""
    return [found[1] for found in _PYTHON.finditer(document)]


def command_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with `ledger` on its path, and nothing of the user's own settings."""
    binaries = folder / ".bin"
    binaries.mkdir()
    command = binaries / "ledger"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ledger_cli "$@"\n')
    command.chmod(0o755)
    kept = {name: value for name, value in environment.items() if not name.startswith("LEDGER_")}
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        kept.pop(name, None)
    python_path = ":".join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return kept | {
        "PATH": f"{binaries}:{environment.get('PATH', '')}",
        "PYTHONPATH": python_path,
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }


# -- tables -----------------------------------------------------------------------------------------------


def tables(document: str) -> dict[str, str]:
    """The generated tables by name, as the document has them."""
    return {found[1]: found[2] for found in _TABLE.finditer(document)}


def with_tables(document: str, made: Mapping[str, str]) -> str:
    """The document with new tables."""
    return _TABLE.sub(lambda found: f"<!-- table: {found[1]} -->\n{made[found[1]]}<!-- end -->", document)


def _table(titles: list[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def commands() -> str:
    """Commands by group."""
    panels = dict.fromkeys(entry.panel for entry in COMMANDS.values())
    return _table(
        ["group", "commands"],
        (
            (panel.lower(), " ".join(_code(name) for name, entry in COMMANDS.items() if entry.panel == panel))
            for panel in panels
        ),
    )


def reasons() -> str:
    """Reason codes of the quarantine."""
    return _table(["reason", "the row"], ((_code(code), text) for code, text in REASONS.items()))


_ROW = {
    "jsonl": "one JSON object a line",
    "json": "one array of objects",
    "csv": "a line after the header line (`--delimiter`, `--comment`, `--columns`)",
    "tsv": "the same with tabs",
    "parquet": "a row",
    "arrow": "a row of an IPC file or stream",
    "kcat": "what `kcat -C -J` prints: an envelope with partition and offset, the event in `payload`",
    "kafka-console": "what kafka-console-consumer prints, also with `print.key`, `print.partition` and the like",
}


_KNOWN_BY = {"kcat": "its first line", "kafka-console": "`--format` alone"}


def formats() -> str:
    """Formats with the names that stand for them."""
    return _table(
        ["`--format`", "known by", "an event is"],
        (
            (
                _code(name),
                " ".join(_code(each) for each in DATA_SUFFIXES if format_of(f"a{each}") == name) or _KNOWN_BY[name],
                _ROW[name],
            )
            for name in FORMATS
        ),
    )


_CLOSES = {
    "fixed": "at every multiple of `interval`",
    "adaptive": "as soon as a threshold is passed",
    "hybrid": "past a threshold, but not before `min_interval`, and at `max_interval` at the latest",
}
_LEAST: dict[str, dict[str, int]] = {
    "fixed": {"interval": 5},
    "adaptive": {"max_size": 5},
    "hybrid": {"min_interval": 5, "max_size": 5},
}
_OF_STRATEGIES = ("interval", "min_interval", "max_interval", "max_size", "max_mean", "max_variance")


def strategies() -> str:
    """Strategies with the settings that each takes."""
    return _table(
        ["strategy", "an epoch closes", "settings"],
        ((_code(name), _CLOSES[name], " ".join(map(_code, _taken(name)))) for name in STRATEGIES),
    )


def _taken(strategy: str) -> Iterator[str]:
    for name in _OF_STRATEGIES:
        try:
            load("", {}).policy({"strategy": strategy, **_LEAST[strategy], name: 5})
        except UsageError:
            continue
        yield name


def settings() -> str:
    """All settings."""
    return _table(
        ["section", "setting", "variable", "default", "meaning"],
        (
            (each.section, _code(each.name), _code(each.variable), _default(each.default), each.help)
            for each in SETTINGS
        ),
    )


def _default(value: Any) -> str:
    return "" if value is None else _code(str(value))


_CODES = {
    0: "done",
    1: "failed; nothing half-done is visible",
    2: "the command line or a setting is wrong, or what it names does not exist",
    3: "done, but rows went to quarantine (`--allow-quarantine` makes it 0)",
    4: "a verification or check found a difference",
    5: "a conflict that a person has to resolve",
    INTERRUPTED: "interrupted",
}


def codes() -> str:
    """Exit codes with the errors behind them."""
    raised: dict[int, list[str]] = {code: [] for code in _CODES}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, LedgerError):
            raised[value.exit_code].append(_code(name))
    return _table(
        ["code", "meaning", "error in Python"],
        ((str(code), meaning, " ".join(raised[code])) for code, meaning in _CODES.items()),
    )


_VIEWS = {
    "ticks": "stored events",
    "commits": "commits of the branch",
    "commit_entries": "their entries, one per region; `*_sum` are the exact integers: × 10⁹, squares × 10¹⁸",
    "entity_state": "each entity's newest tick, and its last 16 activities, the newest last",
    "world": "entities as they stand; `state` is JSON, by class and module",
    "world_events": "world events, each with the version of its entity after it",
    "quarantine": "refused rows",
    "refs": "every move of every branch",
}


def views(ledger: Ledger) -> str:
    """Views of `ledger sql` with their columns."""
    return _table(
        ["view", "holds", "columns"],
        (
            (_code(name), text, " ".join(map(_code, ledger.to_arrow(name).column_names)))
            for name, text in _VIEWS.items()
        ),
    )


def bench() -> str:
    """The last measured numbers, where there are some."""
    measured = ROOT / "docs" / "bench.md"
    if measured.exists():
        return measured.read_text(encoding="utf-8").strip() + "\n"
    return "No numbers are published here yet: `make bench` prints those of your machine.\n"


def stores() -> str:
    """What can keep commits and refs."""
    found = capabilities()
    rows = [
        (
            f"`{url}`" if url != "PATH" else "files (the default)",
            each.engine,
            each.extra or "",
            each.processes,
            "in it" if each.refs else "in files",
            each.durable,
            each.atomic,
            each.exact,
        )
        for url, each in found.items()
    ]
    titles = ["URL", "engine", "extra", "processes", "refs", "an acknowledged write has survived", "seen at once"]
    return _table([*titles, "128 bits as"], iter(rows))


TABLES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "reasons": reasons,
    "formats": formats,
    "strategies": strategies,
    "settings": settings,
    "stores": stores,
    "codes": codes,
    "bench": bench,
}
"""All but `views`, which needs a ledger."""

UNNAMED = TEXT_SUFFIXES
"""Suffixes that say nothing of a format."""
