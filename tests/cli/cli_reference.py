"""`docs/cli.md`, made from the live command line: `LEDGER_UPDATE_SNAPSHOTS=1 pytest tests/cli/test_reference.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ledger_cli.cli.main import COMMANDS
from tests.cli.walk import Walked, walk

HEAD = """\
# The command line

Made from `ledger --help` by a test; do not edit.

Every command that works on a ledger takes `--ledger DIR` (default: `LEDGER_URL`, else the nearest parent
directory with a `ledger.toml`) and `--json`: then the result, and nothing else, is JSON on stdout. What follows
`JSON:` below is a contract: keys may be added, but none is renamed or removed. Notes, warnings and errors go to
stderr; an error is one line that names the next step.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | failed: nothing half-done is visible |
| 2 | the command line or a setting is wrong |
| 3 | done, but rows went to quarantine (`--allow-quarantine` makes it 0) |
| 4 | a verification or check found a difference |
| 5 | a conflict that a person has to resolve |
| 130 | interrupted |

On a terminal long tables are cut (`--limit`, `--top` show more); in a pipe they are whole.
"""


def reference() -> str:
    """The whole document."""
    panels = {name: entry.panel for name, entry in COMMANDS.items()}
    parts = [HEAD]
    shown = ""
    for each in walk():
        panel = panels[each.words[0]]
        if panel != shown:
            parts.append(f"## {panel}\n")
            shown = panel
        parts.append("\n".join(_section(each)))
    return "\n".join(parts)


def _section(each: Walked) -> Iterator[str]:
    yield f"### {each.name}\n"
    for paragraph in each.paragraphs:
        if not paragraph.startswith("Example: "):
            yield f"{paragraph}\n"
    if each.group:
        return
    yield "```console"
    yield from (f"$ {example}" for example in each.examples)
    yield "```\n"
    yield "| argument or option | meaning |"
    yield "| --- | --- |"
    for parameter in each.parameters:
        yield f"| {_cell(_spelling(parameter))} | {_cell(parameter.help or '')}{_default(parameter)} |"
    yield ""


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    metavar = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return f"`{names}{metavar}`"


def _default(parameter: Any) -> str:
    value = parameter.default
    hidden = value is None or value is False or value == "" or callable(value) or "[default" in (parameter.help or "")
    return "" if hidden or not isinstance(value, (str, int, float)) else f" [default: {value}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
