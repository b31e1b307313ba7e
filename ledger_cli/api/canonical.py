"""The canonical ledger: the one whose history decides about events of strong types, for itself and for others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from ledger_cli.config.file import Config
from ledger_cli.errors import LedgerError, Unavailable, UsageError
from ledger_cli.wiring import ledgers

if TYPE_CHECKING:
    from ledger_cli.api.ledger import Ledger
    from ledger_cli.services.world_apply import ApplyRequest, ApplyResult


def canonical_of(config: Config, location: str) -> str | None:
    """Where the canonical ledger of the ledger at `location` is; None: it is that one itself."""
    named = config["canonical"]
    if named is None:
        return None
    place = ledgers.beside(named, location)
    return None if ledgers.absolute(place) == ledgers.absolute(location) else place


def open_canonical(place: str, otherwise: str) -> Ledger:
    """Open it. Unavailable, which says what did not happen, where it cannot be reached."""
    from ledger_cli.api.ledger import Ledger

    try:
        there = Ledger.open(place)
    except LedgerError as error:
        raise Unavailable(f"the canonical ledger {place} cannot be reached ({error}): {otherwise}") from error
    if canonical_of(there.config, there.location) is not None:
        there.close()
        raise UsageError(f"{place} names another canonical ledger itself: let both name the same one")
    return there


def apply_by_level(
    place: str,
    here: Ledger,
    strong: Collection[str],
    request: ApplyRequest,
    apply_here: Callable[[ApplyRequest], ApplyResult],
) -> ApplyResult:
    """Events of strong types (atomic, all if one is) on the canonical ledger, the others then on the one `here`."""
    from ledger_cli.services.world_apply import both

    lines, branch, source = list(request.lines), request.branch, request.source
    types = [_type_of(line) for line in lines]
    found = set(types) & set(strong)
    if not found:
        return apply_here(replace(request, lines=lines))
    chosen = [request.atomic or each in found for each in types]
    # Blank lines stand for the others, so that the numbers of lines stay what they are.
    theirs = [line if each else b"" for line, each in zip(lines, chosen, strict=True)]
    ours = [b"" if each else line for line, each in zip(lines, chosen, strict=True)]
    told = f"of {source} nothing was applied, since {', '.join(sorted(found))} is strong"
    with open_canonical(place, told) as there:
        decided = there.world.apply(theirs, branch, request.atomic, source, request.why, request.first_line)
    here.reconcile(branch, here.fetch(place, branch).name, why=request.why or source)
    return both(decided, apply_here(replace(request, lines=ours)))


def _type_of(line: bytes) -> str:
    """The type that an event has; empty where it is none."""
    try:
        named = orjson.loads(line).get("type")
    except (orjson.JSONDecodeError, AttributeError):
        return ""
    return named if isinstance(named, str) else ""
