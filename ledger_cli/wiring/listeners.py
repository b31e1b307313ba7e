"""Who is told of what happens to a world: the bus, URL scheme -> import path, and the guardian."""

from __future__ import annotations

import json
from typing import Any

from ledger_cli.config.settings import FILE_NAME
from ledger_cli.errors import UsageError
from ledger_cli.ports import Bus
from ledger_cli.wiring.ledgers import beside
from ledger_cli.wiring.resolving import resolve

BUSES = {
    "": "ledger_cli.buses.file:FileBus",
    "file": "ledger_cli.buses.file:FileBus",
    "http": "ledger_cli.buses.http:HttpBus",
    "https": "ledger_cli.buses.http:HttpBus",
}
"""What takes the events of a world, by URL scheme; a plain path has none."""
GUARDIAN_SECONDS = 10
"""So long a command may take."""


def make_bus(named: str | None, location: str) -> Bus | None:
    """The bus that the setting names; a path is from the ledger. UsageError where there is none of that kind."""
    if named is None:
        return None
    url = beside(named, location)
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in BUSES:
        choices = ", ".join(f"{each}://" for each in BUSES if each)
        raise UsageError(f"no bus for {scheme}://: give bus in {FILE_NAME} a path or one of {choices}")
    made: Bus = resolve(BUSES[scheme])(url)
    return made


def tell_guardian(guardian: str | None, refused: list[dict[str, Any]]) -> str | None:
    """Tell a command or a URL of events that were refused; what went wrong in that, None where nothing did."""
    if guardian is None or not refused:
        return None
    import shlex
    import subprocess
    from http.client import HTTPException

    from ledger_cli.buses.http import post

    report = json.dumps(refused).encode()
    try:
        if guardian.startswith(("http://", "https://")):
            post(guardian, report, {"Content-Type": "application/json"})
            return None
        done = subprocess.run(
            shlex.split(guardian), input=report, capture_output=True, timeout=GUARDIAN_SECONDS, check=False
        )
    except (OSError, HTTPException, ValueError, subprocess.SubprocessError) as error:
        return f"the guardian {guardian!r} could not be told: {error}"
    return None if done.returncode == 0 else f"the guardian {guardian!r} ended with {done.returncode}"
