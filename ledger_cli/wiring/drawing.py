"""What writes gamma, graphs and plans into files: suffix -> import path of a renderer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ledger_cli.errors import UsageError
from ledger_cli.wiring.resolving import resolve

PAGE = ".html"
GAMMA_FILES = {
    ".csv": "ledger_cli.render.files:write_csv",
    ".parquet": "ledger_cli.render.files:write_parquet",
    ".png": "ledger_cli.render.gamma:write_png",
    ".svg": "ledger_cli.render.gamma:write_svg",
    PAGE: "ledger_cli.render.gamma:write_html",
}
"""What writes gamma, by the suffix of the file."""
PICTURES = (".png", ".svg", PAGE)
CHECK_DRAWING = "ledger_cli.render.gamma.spec:check_installed"
GRAPH_FORMATS = "ledger_cli.render.relations:FORMATS"
WRITE_GRAPH = "ledger_cli.render.relations:write"
PLAN_FILES = {
    ".png": "ledger_cli.render.conflicts:write_png",
    ".svg": "ledger_cli.render.conflicts:write_svg",
}
"""What draws the conflicts of a reconciliation, by the suffix of the file."""
WHOLE_FILE = "ledger_cli.render.files:whole_file"
CHECK_DIRECTORY = "ledger_cli.render.files:check_directory"


def check_picture(target: str) -> bool:
    """Whether gamma is written there over time. Before any work: UsageError, MissingExtra where it cannot be."""
    suffix = Path(target).suffix.lower()
    if suffix not in GAMMA_FILES:
        raise UsageError(f"{target}: gamma is written to a file that ends with one of {', '.join(GAMMA_FILES)}")
    resolve(CHECK_DIRECTORY)(target)
    if is_picture(target):
        check_drawing()
    return suffix == PAGE


def is_picture(target: str) -> bool:
    """Whether gamma is drawn there, and not written as a table."""
    return Path(target).suffix.lower() in PICTURES


def check_drawing() -> None:
    """MissingExtra where gamma cannot be drawn."""
    resolve(CHECK_DRAWING)()


def write_picture(target: str, subject: Any) -> None:
    """Write gamma in the format of the suffix: a table of it, a frame, or for a page a view."""
    with resolve(WHOLE_FILE)(target) as path:
        resolve(GAMMA_FILES[Path(target).suffix.lower()])(path, subject)


def check_graph(target: str) -> str:
    """The format of a graph's file by its suffix. UsageError, before any work, where it cannot be written."""
    formats, format = resolve(GRAPH_FORMATS), Path(target).suffix.lower().removeprefix(".")
    if format not in formats:
        raise UsageError(f"{target}: a graph is written to a file that ends with one of .{', .'.join(formats)}")
    resolve(CHECK_DIRECTORY)(target)
    return format


def write_graph(target: str, graph: Any, format: str) -> None:
    """Write a graph of relations to a file."""
    with resolve(WHOLE_FILE)(target) as path:
        resolve(WRITE_GRAPH)(path, graph, format)


def check_plan_picture(target: str) -> None:
    """UsageError, before any work, where the conflicts of a reconciliation cannot be drawn there."""
    if Path(target).suffix.lower() not in PLAN_FILES:
        raise UsageError(f"{target}: conflicts are drawn into a file that ends with {' or '.join(PLAN_FILES)}")
    resolve(CHECK_DIRECTORY)(target)


def draw_plan(target: str, plan: Any) -> None:
    """Draw the conflicts of a reconciliation into a file."""
    with resolve(WHOLE_FILE)(target) as path:
        resolve(PLAN_FILES[Path(target).suffix.lower()])(path, plan)
