"""`stores` and `copy`: what keeps commits, and whether two ledgers are one history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from ledger_cli.render.common.tables import fields, table
from ledger_cli.render.common.words import counted


def store_views(found: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """The engines, one after the other, a line between them."""
    views: list[RenderableType] = []
    for each in found:
        views += ["", _store(each)] if views else [_store(each)]
    return views


def _store(each: Mapping[str, Any]) -> RenderableType:
    pairs = {
        "engine": each["engine"],
        "processes": each["processes"],
        "refs": "kept in it" if each["refs"] else "files of the ledger",
        "survived": each["durable"],
        "seen at once": each["atomic"],
        "128 bits as": each["exact"],
        **({} if each["extra"] is None else {"to install": f"the extra {each['extra']}"}),
    }
    return fields(pairs, title=each["url"])


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
