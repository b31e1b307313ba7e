"""`ledger schema`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ledger_cli.cli.options import JsonOption, LedgerOption, MessageOption, command_app
from ledger_cli.errors import Difference, UsageError
from ledger_cli.render.output import Output
from ledger_cli.wiring import inputs

app = command_app()
TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="The type, written as module.name.v1.")]


@app.callback()
def root() -> None:
    """Register the types of world events, compare their schemas, end old versions.

    Example: ledger schema list
    """


@app.command()
def register(
    name: TypeArgument,
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="FILE", help="JSON Schema of the payload [default: any object].")
    ] = None,
    reducer: Annotated[
        str | None,
        typer.Option(
            "--reducer",
            metavar="merge|replace",
            help="merge (RFC 7396) the payload [default], or replace by it.",
            show_default=False,
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=RULE",
            help="What updates of a field come to: lww (the last writer wins), max, min, sum, union (of lists), manual;"
            " repeatable [default: lww].",
        ),
    ] = None,
    upcast: Annotated[
        str | None,
        typer.Option(
            "--upcast",
            metavar="FILE",
            help="JSON object with remove, rename, values and default: how payloads of the version before are read as"
            " this one's.",
        ),
    ] = None,
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a type of events known, or give it a schema that breaks nothing.

    Reducer, rules and upcaster do not change afterwards, since stored events are folded by them: register another
    version. What is not given stays as it is.

    JSON: type, module, name, version, reducer, schema, fields, upcast, until, constraints, consistency.

    Example: ledger schema register building.counter.v1 --field visits=sum --field peak=max
    """
    from ledger_cli.api import Ledger

    fields = None if field is None else _rules(field)
    with Ledger.open(ledger) as opened:
        made = opened.world.register(name, _json(schema), reducer, fields, _json(upcast), message)
    Output(as_json).emit(made, f"{name} is registered")


def _json(file: str | None) -> Any:
    return None if file is None else inputs.read_json_object(file)


def _rules(texts: Sequence[str]) -> dict[str, str]:
    rules: dict[str, str] = {}
    for text in texts:
        name, separator, rule = text.rpartition("=")
        if not separator:
            raise UsageError(f"--field {text!r}: write it as NAME=RULE, for example visits=sum")
        if rules.setdefault(name, rule) != rule:
            raise UsageError(f"--field gives {name!r} the rules {rules[name]} and {rule}: leave one of them")
    return rules


@app.command("list")
def list_types(ledger: LedgerOption = None, as_json: JsonOption = False) -> None:
    """List the types of events.

    JSON: a list of type, module, name, version, reducer, schema, fields, upcast, until, constraints, consistency.

    Example: ledger schema list
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import type_table

    with Ledger.open(ledger) as opened:
        types = opened.world.types()
        named = sorted(opened.config.types.keys() - {each.name for each in types})
    out = Output(as_json)
    out.emit([each.to_json() for each in types], type_table(types))
    if named:
        out.note(f"ledger.toml names {', '.join(named)} too: the first `ledger world apply` registers them")


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A JSON Schema.")],
    name: Annotated[str, typer.Option("--type", metavar="TYPE", help="The type whose schema it would replace.")],
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a schema with that of a type: exit code 4 where it would refuse, or not describe, what that accepts.

    JSON: type, compatible, breaks (path in the payload, rule, detail, certain).

    Example: ledger schema check opened.json --type building.opened.v1
    """
    from ledger_cli.api import Ledger
    from ledger_cli.render.views.world import break_table

    with Ledger.open(ledger) as opened:
        found = opened.world.check(name, _json(file))
    Output(as_json).emit(found, break_table(found))
    if not found.compatible:
        raise Difference(f"{file} breaks the schema of {name}: register it as a new version")


@app.command()
def deprecate(
    name: TypeArgument,
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="The last day, in UTC, or an RFC 3339 moment.")],
    message: MessageOption = "",
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept events of an older version until a date, and refuse them afterwards. What is stored stays.

    Until then they are read as the newest version where that has an upcaster (`register --upcast`).

    JSON: type, module, name, version, reducer, schema, fields, upcast, until, constraints, consistency.

    Example: ledger schema deprecate building.opened.v1 --until 2027-06-30
    """
    from ledger_cli.api import Ledger

    with Ledger.open(ledger) as opened:
        made = opened.world.deprecate(name, until, message)
    Output(as_json).emit(made, f"{name} is accepted until {until}")
