"""Upcasters: how a payload of a type's older version becomes one of the next, as data.

`{"remove": ["note"], "rename": {"open": "isOpen"}, "values": {"isOpen": {"yes": true}}, "default": {"by": "nobody"}}`:
fields go, get other names, other values (looked up by text), and are filled in where the payload has none, in this
order. It cannot fail, and gives the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Upcast = Mapping[str, Any]
_STEPS = ("remove", "rename", "values", "default")


def check_upcast(upcast: Any) -> None:
    """ValueError where it is none."""
    if type(upcast) is not dict or not upcast.keys() <= set(_STEPS):
        raise ValueError(f"an upcaster is a JSON object with {', '.join(_STEPS)}")
    removed, renamed = upcast.get("remove", []), upcast.get("rename", {})
    if type(removed) is not list or not all(type(name) is str for name in removed):
        raise ValueError("remove must be a list of fields")
    if type(renamed) is not dict or not all(type(name) is str for name in renamed.values()):
        raise ValueError('rename must be an object such as {"old": "new"}')
    if len(set(renamed.values())) < len(renamed):
        raise ValueError("rename gives two fields one name")
    values, default = upcast.get("values", {}), upcast.get("default", {})
    if type(values) is not dict or not all(type(each) is dict for each in values.values()):
        raise ValueError('values must be an object such as {"field": {"old": "new"}}')
    if type(default) is not dict:
        raise ValueError('default must be an object such as {"field": 0}')


def upcasted(steps: Sequence[Upcast], payload: Mapping[str, Any]) -> dict[str, Any]:
    """A payload after some upcasters, each to the next version. What was given is not changed."""
    made = dict(payload)
    for upcast in steps:
        for name in upcast.get("remove", ()):
            made.pop(name, None)
        renamed = upcast.get("rename", {})
        # What has the new name already gives way, wherever it stands.
        taken = {renamed[name] for name in made if name in renamed}
        made = {renamed.get(name, name): value for name, value in made.items() if name in renamed or name not in taken}
        for name, values in upcast.get("values", {}).items():
            if type(made.get(name)) is str:
                made[name] = values.get(made[name], made[name])
        for name, value in upcast.get("default", {}).items():
            made.setdefault(name, value)
    return made
