"""From what was asked, or the rules of `ledger.toml`, to what is to be archived."""

from __future__ import annotations

from ledger_cli.config.file import Config
from ledger_cli.core.durations import seconds_of
from ledger_cli.errors import UsageError
from ledger_cli.services.archive_choice import Request, Rule
from ledger_cli.wiring import machine


def request(
    config: Config, before: int | str | None, max_activity: float | None, to: str | None, ticks: bool, world: bool
) -> Request:
    """What is to be archived. UsageError where it cannot be told."""
    where = str(config["archive_to"]) if to is None else to
    if before is None and max_activity is None and not (ticks or world):
        return _by_rules(config, where)
    tick, time = _moment(before)
    if (ticks or world) and before is None:
        raise UsageError("--ticks and --world take what is older than --before: give one")
    if world and time is None:
        raise UsageError("world events have no ticks: give --before an age such as 30d")
    rule = Rule(tick, time, max_activity)
    files = Rule(tick, time)
    return Request(where, (rule,), ticks=files if ticks else None, world=files if world else None)


def _moment(before: int | str | None) -> tuple[int | None, str | None]:
    if before is None:
        return None, None
    if isinstance(before, int) or before.isdigit():
        return int(before), None
    return None, machine.time_before(seconds_of(before))


def _by_rules(config: Config, to: str) -> Request:
    keep = config["archive_keep"] or None
    rules = []
    if config["archive_after"] is not None:
        rules.append(Rule(made_before=time_ago(config, "archive_after"), but_newest=keep))
    if config["archive_quiet_after"] is not None:
        quiet = float(config["archive_quiet_activity"])
        rules.append(Rule(None, time_ago(config, "archive_quiet_after"), quiet, keep))
    return Request(to, tuple(rules), ticks=_files(config, "archive_ticks"), world=_files(config, "archive_world"))


def _files(config: Config, name: str) -> Rule | None:
    """The rule for whole files of a kind."""
    if config[f"{name}_after"] is None:
        return None
    return Rule(made_before=time_ago(config, f"{name}_after"), but_newest=config[f"{name}_keep"] or None)


def time_ago(config: Config, name: str) -> str:
    """The time that a setting of an age means, RFC 3339 UTC."""
    try:
        return machine.time_before(seconds_of(config[name]))
    except UsageError as error:
        raise UsageError(f"{name} in ledger.toml: {error}") from error
