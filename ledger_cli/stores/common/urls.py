"""URLs of stores."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from ledger_cli.errors import UsageError


def local_path(url: str, directory: Path) -> Path:
    """The path of `scheme:///relative` (from `directory`) or `scheme:////absolute`. UsageError for anything else."""
    scheme, _, rest = url.partition("://")
    if not rest.startswith("/") or rest == "/":
        raise UsageError(
            f"{url} names no path: write {scheme}:///NAME for one in the ledger's directory, {scheme}:////PATH else"
        )
    return directory / unquote(rest[1:])
