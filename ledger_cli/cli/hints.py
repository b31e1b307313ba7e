"""What to do next, where a result is empty because nothing was done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger_cli.api import Ledger
    from ledger_cli.render.output import Output


def hint_where_settings_do_not_hold(ledger: Ledger, branch: str) -> str | None:
    """What holds on a branch in place of the settings, and how these are tried; None where they hold."""
    import json

    from ledger_cli.config.settings import FILE_NAME

    ignored = ledger.overruled(branch)
    if not ignored:
        return None
    told = [
        f"{name} = {ledger.config[name]!r} of {origin}" if origin == FILE_NAME else f"{origin}={ledger.config[name]}"
        for name, origin in ignored.items()
    ]
    options = " ".join(f"--{name.replace('_', '-')} {ledger.config[name]}" for name in ignored if name != "layer")
    on = "" if branch == "main" else f" --branch {branch}"
    return (
        f"{' and '.join(told)} {'does' if len(told) == 1 else 'do'} not hold on {branch}: its recorded policy does, "
        f"{json.dumps(ledger.policy(branch).to_json(), separators=(',', ':'))}; "
        f"another one needs a fork, `{f'ledger replay --fork NAME {options}'.rstrip()}{on}`"
    )


def warn_where_the_bus_lacks_events(out: Output, ledger: Ledger) -> None:
    """Tell that events of the last write are still to come there."""
    if ledger.world.undelivered is not None:
        out.warn(ledger.world.undelivered)


def hint_where_nothing_is(ledger: Ledger, branch: str) -> str:
    """The next step on a branch, or at a place of it, that has no commits."""
    found = ledger.status(branch)
    on = "" if branch == "main" else f" --branch {branch}"
    if found.commits:
        return f"nothing was committed there yet: `ledger log{on}` lists the commits of {branch}"
    commit = f"`ledger commit{on}`"
    if not found.rows:
        return f"nothing is on {branch} yet: next `ledger ingest FILE{on}`, then {commit}"
    waiting = found.watermark is None or not found.rows_late
    final = f", or `ledger commit{on} --final` where nothing more comes" if found.last_run and waiting else ""
    return f"nothing is committed on {branch} yet: next {commit}{final}"
