"""`stores` and `copy`: what keeps commits, and whether two ledgers are one history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ledger_cli.render.common.tables import table
from ledger_cli.render.common.words import counted

_TITLES = ["url", "engine", "processes", "refs", "an acknowledged write has survived", "at once", "128 bits as"]


def store_table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The engines, one a row."""
    rows = [
        (
            each["url"],
            each["engine"],
            each["processes"],
            "here" if each["refs"] else "in files",
            each["durable"],
            each["atomic"],
            each["exact"],
        )
        for each in found
    ]
    return table(_TITLES, rows, left=_TITLES)


def ref_differences(found: Sequence[Any], a: str, b: str) -> RenderableType:
    """The refs that two ledgers have otherwise."""
    if not found:
        return Text(f"{a} and {b} are one history: every move of every ref is the same")
    rows = [(each.ref, each.moves_a, each.moves_b, each.first) for each in found]
    return table(["ref", "moves of A", "moves of B", "they part at move"], rows, left=["ref"])


def copy_text(result: Any, target: str) -> Text:
    """What was copied."""
    checked = f"{counted(result.report.files, 'file')} and {counted(result.report.commits, 'commit')} verified"
    what = counted(result.moves, "move") if result.moves else "nothing was missing"
    return Text(f"{target}: {what} of {counted(result.refs, 'ref')} copied, {checked}")
