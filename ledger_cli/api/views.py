"""The user's own views, from what `ledger.toml` says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger_cli.config.file import Config
from ledger_cli.services.repository import Repository
from ledger_cli.wiring import ledgers

if TYPE_CHECKING:
    from ledger_cli.services.query import OwnViews


def own_views(repository: Repository, config: Config) -> OwnViews:
    """The views of `[views]`, with the place where rows of theirs are kept."""
    from ledger_cli.services.query import OwnViews

    return OwnViews(config.views, config.kept_views, ledgers.archives_of(repository).copies)
