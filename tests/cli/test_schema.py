"""`ledger schema`: rules per field, changes that break, upcasters, and versions that end."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger_cli import Ledger
from ledger_cli.errors import UsageError
from ledger_cli.wiring import machine
from tests.cli.conftest import Run
from tests.cli.worlds import event, lines, state

COUNTER = "building.counter.v1"
OPENED, OPENED_2, OPENED_3 = (f"building.opened.v{version}" for version in (1, 2, 3))
BREAKS = """\
payload  rule        what breaks
──────────────────────────────────────────────────────────────────────
/by      type        string is no longer accepted
/open    properties  was removed: what it holds is no longer described
/        required    by is required, and was not
"""
LISTED = """\
type                 reducer  payload     fields                                         until
───────────────────────────────────────────────────────────────────────────────────────────────────
building.counter.v1  merge    any object  note=manual, peak=max, tags=union, visits=sum  2026-12-31
building.counter.v2  merge    any object  –                                              –
"""


@pytest.fixture
def home(tmp_path: Path, ledger: Run, standing: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with files; the ledger of the commands is beside it, and its clock stands at the start of 2026."""
    ledger("init", tmp_path / "home")
    monkeypatch.setenv("LEDGER_URL", str(tmp_path / "home"))
    return tmp_path / "home"


def file(home: Path, name: str, value: Any) -> Path:
    path = home / name
    path.write_text(json.dumps(value))
    return path


def test_rules_per_field(home: Path, ledger: Run) -> None:
    rules = [f"--field={each}" for each in ("visits=sum", "peak=max", "tags=union", "note=manual")]
    made = ledger("schema", "register", COUNTER, *rules, "--json").json
    assert made["fields"] == {"visits": "sum", "peak": "max", "tags": "union", "note": "manual"}
    payloads: list[dict[str, Any]] = [
        {"visits": 1, "peak": 3, "tags": ["b"], "note": "x", "open": True},
        {"visits": 2, "peak": 2, "tags": ["a", "b"], "note": None},
        {"visits": "many"},
        {"tags": "c"},
        {"visits": 2**53},
    ]
    events = [event(number, COUNTER, payload=payload) for number, payload in enumerate(payloads)]
    result = ledger("world", "apply", "-", "--json", stdin=lines(*events), code=3).json
    assert result["applied"] == 2
    assert [each["detail"] for each in result["refusals"]] == [
        "payload/visits: the rule sum takes a number",
        "payload/tags: the rule union takes a list",
        "payload/visits: the sum would reach 2^53",
    ]
    assert state(ledger) == {"visits": 3, "peak": 3, "tags": ["a", "b"], "open": True}
    ledger("schema", "register", COUNTER)
    ledger("schema", "register", COUNTER, *rules)
    assert (
        "registered with other rules of fields"
        in ledger("schema", "register", COUNTER, "--field", "visits=max", code=2).err
    )
    assert (
        "use lww, max, min, sum, union, manual" in ledger("schema", "register", "a.b.v1", "--field=x=avg", code=2).err
    )
    assert "write it as NAME=RULE" in ledger("schema", "register", "a.b.v1", "--field", "x", code=2).err
    twice = ledger("schema", "register", "a.b.v1", "--field", "x=sum", "--field", "x=max", code=2).err
    assert twice == "ledger: --field gives 'x' the rules sum and max: leave one of them\n"
    ledger("schema", "register", "building.counter.v2")
    ledger("schema", "deprecate", COUNTER, "--until", "2026-12-31")
    assert ledger("schema", "list").out == LISTED


def test_a_change_that_breaks_is_refused(home: Path, ledger: Run) -> None:
    first = file(home, "first.json", {"properties": {"open": {"type": "boolean"}, "by": {"type": "string"}}})
    wider = file(home, "wider.json", {"properties": {"open": {}, "by": {"type": "string"}, "at": {"type": "string"}}})
    other = file(home, "other.json", {"properties": {"by": {"type": "integer"}}, "required": ["by"]})
    ledger("schema", "register", OPENED, "--schema", first)
    found = ledger("schema", "check", other, "--type", OPENED, code=4)
    assert found.out == BREAKS
    assert "register it as a new version" in found.err
    told = ledger("schema", "check", other, "--type", OPENED, "--json", code=4).json
    assert (told["compatible"], [each["rule"] for each in told["breaks"]]) == (
        False,
        ["type", "properties", "required"],
    )
    refused = ledger("schema", "register", OPENED, "--schema", other, code=2).err
    assert "string is no longer accepted and 2 more" in refused
    assert f"register {OPENED_2}" in refused
    assert ledger("schema", "check", wider, "--type", OPENED).out == f"breaks nothing of {OPENED}\n"
    ledger("schema", "register", OPENED, "--schema", wider)
    assert "at" in ledger("schema", "list", "--json").json[0]["schema"]["properties"]
    ledger("schema", "register", OPENED_2, "--schema", other)
    assert f"{OPENED_3} is not registered" in ledger("schema", "check", other, "--type", OPENED_3, code=2).err
    broken = file(home, "broken.json", {"type": "colour"})
    assert "is no JSON Schema" in ledger("schema", "check", broken, "--type", OPENED, code=2).err


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "holds no JSON object"),
        (None, "holds no JSON object"),
        ({"$ref": "https://example.org/door.json"}, "refers to https://example.org/door.json: put what is there into"),
        ({"properties": {"open": {"$ref": "file:///etc/hostname"}}}, "refers to file:///etc/hostname: put"),
        ({"properties": {"open": {"$ref": "door.json"}}}, "refers to door.json: put"),
        ({"$schema": "https://example.org/of-our-own"}, "refers to https://example.org/of-our-own: put"),
    ],
)
def test_a_schema_stands_for_itself(home: Path, ledger: Run, schema: Any, said: str) -> None:
    """What it accepts hangs on no other file and no network: neither is looked at."""
    path = file(home, "schema.json", schema)
    assert said in ledger("schema", "register", OPENED, "--schema", path, code=2).err
    assert ledger("schema", "list", "--json").json == []
    with (home / "ledger.toml").open("a") as settings:
        settings.write(f'[types."{OPENED}"]\nschema = "{path}"\n')
    assert said in ledger("world", "apply", "-", stdin=lines(event(1, OPENED)), code=2).err
    if schema is not None:
        with Ledger.open(home) as opened, pytest.raises(UsageError):
            opened.world.register(OPENED, schema)


def test_a_schema_refers_to_parts_of_its_own(home: Path, ledger: Run) -> None:
    whole = {"properties": {"open": {"$ref": "#/$defs/flag"}}, "$defs": {"flag": {"type": "boolean"}}}
    for number, schema in enumerate([whole, {**whole, "$id": "https://example.org/door.json"}], 1):
        path = file(home, "schema.json", schema)
        ledger("schema", "register", f"building.opened.v{number}", "--schema", path)


def test_older_versions_are_read_through_upcasters_until_they_end(
    home: Path, ledger: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger("schema", "register", OPENED)
    ledger("world", "apply", "-", stdin=lines(event(1, OPENED, payload={"open": "yes", "by": "ann"})))
    upcast = {"rename": {"open": "isOpen"}, "values": {"isOpen": {"yes": True, "no": False}}, "remove": ["by"]}
    schema = file(home, "two.json", {"properties": {"isOpen": {"type": "boolean"}}, "required": ["isOpen"]})
    ledger("schema", "register", OPENED_2, "--schema", schema, "--upcast", file(home, "up.json", upcast))
    ledger("schema", "register", OPENED_3, "--upcast", file(home, "up3.json", {"default": {"doors": 1}}))
    result = ledger(
        "world",
        "apply",
        "-",
        "--json",
        stdin=lines(
            event(2, OPENED, payload={"open": "no", "by": "bob"}),
            event(3, OPENED_2, "door-8", payload={"isOpen": True}),
            event(2, OPENED, payload={"open": "no", "by": "bob"}),
        ),
    ).json
    assert (result["applied"], result["duplicates"]) == (2, 1)
    # What was stored before means what it meant; what came after is read as the newest version.
    assert state(ledger) == {"open": "yes", "by": "ann", "isOpen": False, "doors": 1}
    assert state(ledger, "door-8") == {"isOpen": True, "doors": 1}
    told = ledger("world", "history", "door-7", "--json").json
    assert [(each["type"], each["readAs"], each["payload"]) for each in told] == [
        (OPENED, None, {"open": "yes", "by": "ann"}),
        (OPENED, OPENED_3, {"open": "no", "by": "bob"}),
    ]
    # A further version does not change what was read before it.
    ledger("schema", "register", "building.opened.v4", "--upcast", file(home, "up4.json", {"remove": ["isOpen"]}))
    assert state(ledger, "door-8") == {"isOpen": True, "doors": 1}
    ledger("schema", "deprecate", OPENED, "--until", "2026-01-31")
    assert ledger("schema", "list", "--json").json[0]["until"] == "2026-01-31"
    for at, reasons in (("2026-01-31T23:59:59+00:00", {}), ("2026-02-01T00:00:00+00:00", {"unknown_type": 1})):
        moment = int(datetime.fromisoformat(at).timestamp() * 1e6)
        monkeypatch.setattr(machine, "clock", lambda moment=moment: moment)
        late = lines(event(4, OPENED, f"door-{at}", payload={"open": "no"}))
        result = ledger("world", "apply", "-", "--json", "--allow-quarantine", stdin=late.replace("e4", at)).json
        assert result["refused"] == reasons
    assert result["refusals"][0]["detail"] == f"{OPENED} was accepted until 2026-01-31: send building.opened.v4"


def test_upcasters_and_ends_that_cannot_be(home: Path, ledger: Run) -> None:
    up = file(home, "up.json", {"rename": {"a": "b"}})
    assert "building.opened.v0 is not registered" in ledger("schema", "register", OPENED, "--upcast", up, code=2).err
    ledger("schema", "register", OPENED)
    assert "no newer version" in ledger("schema", "deprecate", OPENED, "--until", "2026-12-31", code=2).err
    for wrong, told in (
        ([], "holds no JSON object"),
        ({"move": {}}, "is a JSON object with remove, rename, values, default"),
        ({"remove": "a"}, "remove must be"),
        ({"rename": {"a": 1}}, "rename must be"),
        ({"rename": {"a": "c", "b": "c"}}, "two fields one name"),
        ({"values": {"a": 1}}, "values must be"),
        ({"default": 1}, "default must be"),
    ):
        path = file(home, "wrong.json", wrong)
        assert told in ledger("schema", "register", OPENED_2, "--upcast", path, code=2).err
    ledger("schema", "register", OPENED_2)
    assert "registered with another upcaster" in ledger("schema", "register", OPENED_2, "--upcast", up, code=2).err
    for until in ("tomorrow", "2026-13-01", "2026-12-31T00:00:00", "9999-12-31"):
        assert "is no date such as" in ledger("schema", "deprecate", OPENED, "--until", until, code=2).err
    assert "is not registered" in ledger("schema", "deprecate", OPENED_3, "--until", "2026-12-31", code=2).err
    assert "is known in every module" in ledger("schema", "register", "building.session_ended.v1", code=2).err


def test_a_schema_is_read_as_it_is_written(home: Path, ledger: Run) -> None:
    (home / "deep.json").write_text('{"not": ' * 20_000 + "{}" + "}" * 20_000)
    deep = ledger("schema", "register", OPENED, "--schema", home / "deep.json", code=2)
    assert "deep.json is nested too deeply" in deep.err
    (home / "odd.json").write_text('{"title": "two\u2028lines\u0085, to some"}', encoding="utf-8")
    known = ledger("schema", "register", OPENED, "--schema", home / "odd.json", "--json").json
    assert known["schema"]["title"] == "two\u2028lines\u0085, to some"
