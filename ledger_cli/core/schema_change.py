"""What a changed JSON Schema may break: payloads that were accepted and no longer are, or are no longer described.

A change is compatible where all that was accepted still is, and every property described still is described. A
property may be described anew; it is not asked whether payloads had it as something else before. Keywords that are
compared in depth are those of `_COMPARED`; annotations are passed over; of any other, each change may break.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Schema = Mapping[str, Any]
_ANNOTATIONS = frozenset(
    ("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly")
)
_DEFINITIONS = frozenset(("$defs", "definitions"))
"""Looked into where they are referred to."""
_LOOSER_WITHOUT = frozenset(("pattern", "format", "not", "propertyNames", "dependentRequired"))
"""Others mean something to keywords beside them: without them more may be refused."""
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_REFERENCES_MAX = 32


@dataclass(frozen=True)
class Break:
    """One rule that a change breaks. `path`: where in the payload, `/` alone is all of it; `rule`: the keyword.

    `certain`: false where it cannot be told whether it breaks anything.
    """

    path: str
    rule: str
    detail: str
    certain: bool = True

    def to_json(self) -> dict[str, Any]:
        """As printed with `--json`."""
        return {"path": self.path, "rule": self.rule, "detail": self.detail, "certain": self.certain}

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def breaks(old: Schema | None, new: Schema | None) -> list[Break]:
    """What of the JSON Schema `old` of payloads the schema `new` breaks; None: any object."""
    before, after = old or {}, new or {}
    # A payload is an object, also where nobody says so.
    return list(_Comparison(before, after).compare("", {"type": "object", **before}, {"type": "object", **after}))


class _Comparison:
    """Two schemas side by side, each with the root that its references start from."""

    def __init__(self, old: Any, new: Any) -> None:
        self._roots = old, new
        self._seen: set[tuple[int, int]] = set()

    def compare(self, path: str, old: Any, new: Any) -> Iterator[Break]:
        """What one schema breaks of another."""
        where = path or "/"
        if _same(old, new) and _same(*map(_defined, self._roots)):
            return
        found = [_resolved(*pair) for pair in zip(self._roots, (old, new), strict=True)]
        if None in found:
            yield Break(where, "$ref", "a reference that is not followed has changed", certain=False)
            return
        old, new = found
        if old is False or new is True:
            return
        if new is False:
            yield Break(where, "false", "nothing is accepted any more")
            return
        before: Schema = {} if old is True else old
        after: Schema = new
        if (id(old), id(new)) in self._seen:
            return
        self._seen.add((id(old), id(new)))
        for rule in sorted(before.keys() | after.keys()):
            if rule in _ANNOTATIONS or rule in _DEFINITIONS:
                continue
            deeper = _DEEPER.get(rule)
            if deeper is not None:
                yield from deeper(self, path, before, after)
            elif not _same(before.get(rule, _ABSENT), after.get(rule, _ABSENT)):
                compared = _COMPARED.get(rule)
                told = compared(before, after) if compared is not None and rule in after else None
                if told:
                    yield Break(where, rule, told)
                elif compared is None and (rule in after or rule not in _LOOSER_WITHOUT):
                    yield Break(where, rule, f"{rule} has changed, which may refuse more", certain=False)

    def properties(self, path: str, old: Schema, new: Schema) -> Iterator[Break]:
        """Properties that are described in both, and those that no longer are."""
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in after:
                yield from self.compare(f"{path}/{name}", before[name], after[name])
            elif new.get("additionalProperties", True) is False:
                yield Break(f"{path}/{name}", "properties", "was removed, and is refused")
            else:
                yield Break(f"{path}/{name}", "properties", "was removed: what it holds is no longer described")

    def additional(self, path: str, old: Schema, new: Schema) -> Iterator[Break]:
        """What properties may hold that are not described."""
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if after is False and before is not False:
            yield Break(path or "/", "additionalProperties", "properties that are not described are refused")
        else:
            yield from self.compare(f"{path}/*", before, after)

    def items(self, path: str, old: Schema, new: Schema) -> Iterator[Break]:
        """What a list may hold."""
        before, after = old.get("items", True), new.get("items", True)
        if isinstance(before, list) or isinstance(after, list):
            if not _same(before, after):
                yield Break(f"{path}/*", "items", "items by place have changed, which may refuse more", certain=False)
            return
        yield from self.compare(f"{path}/*", before, after)


class _Absent:
    """Stands for a keyword that is not there."""


_ABSENT = _Absent()


def _same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 and true are not."""
    if left is _ABSENT or right is _ABSENT:
        return left is right
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def _defined(root: Any) -> Any:
    return [root.get(name) for name in sorted(_DEFINITIONS)] if isinstance(root, Mapping) else None


def _resolved(root: Any, schema: Any) -> Any:
    """A schema, or what its reference within the root leads to; None where it leads elsewhere."""
    for _ in range(_REFERENCES_MAX):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            return schema
        reference = schema["$ref"]
        if len(schema.keys() - _ANNOTATIONS - _DEFINITIONS) > 1 or not str(reference).startswith("#"):
            return None
        schema = root
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(schema, Mapping) or step not in schema:
                return None
            schema = schema[step]
    return None


def _types(schema: Schema) -> set[str]:
    named = schema.get("type", list(_TYPES))
    types = {named} if isinstance(named, str) else set(named)
    return types | {"integer"} if "number" in types else types


def _type(old: Schema, new: Schema) -> str | None:
    lost, values = _types(old) - _types(new), _values(old)
    if not lost or (values is not None and all(_is_of(value, _types(new)) for value in values)):
        return None
    if "number" in lost:
        lost.discard("integer")
    if "type" not in old:
        return f"only {_listed(new['type'])} is accepted, and was any"
    return f"{_listed(sorted(lost))} is no longer accepted"


def _is_of(value: Any, types: set[str]) -> bool:
    name = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    named = "null" if value is None else name[type(value)]
    return named in types or (named == "number" and value == int(value) and "integer" in types)


def _listed(value: Any) -> str:
    return value if isinstance(value, str) else " or ".join(value)


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return None if values is None else list(values)


def _enum(old: Schema, new: Schema) -> str | None:
    before, after = _values(old), _values(new)
    if after is None:
        return None
    if before is None:
        return f"only {json.dumps(after)[:80]} is accepted, and was any"
    lost = [value for value in before if not any(_same(value, other) for other in after)]
    return f"{', '.join(json.dumps(value) for value in lost)[:80]} is no longer accepted" if lost else None


def _low(schema: Schema) -> tuple[Fraction, bool] | None:
    """The lower bound of a number, and whether it is itself excluded."""
    bounds = []
    if "minimum" in schema:
        # In draft 4 whether it is excluded is a keyword of its own.
        bounds.append((Fraction(schema["minimum"]), schema.get("exclusiveMinimum") is True))
    if type(schema.get("exclusiveMinimum", True)) is not bool:
        bounds.append((Fraction(schema["exclusiveMinimum"]), True))
    return max(bounds, default=None)


def _high(schema: Schema) -> tuple[Fraction, bool] | None:
    """The upper bound, its sign turned."""
    bounds = []
    if "maximum" in schema:
        bounds.append((-Fraction(schema["maximum"]), schema.get("exclusiveMaximum") is True))
    if type(schema.get("exclusiveMaximum", True)) is not bool:
        bounds.append((-Fraction(schema["exclusiveMaximum"]), True))
    return max(bounds, default=None)


def _bound(side: Callable[[Schema], tuple[Fraction, bool] | None], word: str) -> Callable[[Schema, Schema], str | None]:
    def compared(old: Schema, new: Schema) -> str | None:
        before, after = side(old), side(new)
        if after is None or (before is not None and after <= before):
            return None
        return f"the {word} bound is narrower"

    return compared


def _at_least(name: str) -> Callable[[Schema, Schema], str | None]:
    def compared(old: Schema, new: Schema) -> str | None:
        before, after = old.get(name, 0), new.get(name, 0)
        return f"at least {after} is asked for, and was {before}" if after > before else None

    return compared


def _at_most(name: str) -> Callable[[Schema, Schema], str | None]:
    def compared(old: Schema, new: Schema) -> str | None:
        before, after = old.get(name), new.get(name)
        if after is None or (before is not None and before <= after):
            return None
        return f"at most {after} is accepted, and was {'any' if before is None else before}"

    return compared


def _multiple(old: Schema, new: Schema) -> str | None:
    before, after = old.get("multipleOf"), new.get("multipleOf")
    if after is None or (before is not None and (Fraction(str(before)) / Fraction(str(after))).denominator == 1):
        return None
    return f"only multiples of {after} are accepted"


def _required(old: Schema, new: Schema) -> str | None:
    added = [name for name in new.get("required", ()) if name not in old.get("required", ())]
    return f"{', '.join(added)} is required, and was not" if added else None


def _unique(old: Schema, new: Schema) -> str | None:
    return "equal items are refused" if new.get("uniqueItems") and not old.get("uniqueItems") else None


_COMPARED: dict[str, Callable[[Schema, Schema], str | None]] = {
    "type": _type,
    "enum": _enum,
    "const": _enum,
    "minimum": _bound(_low, "lower"),
    "exclusiveMinimum": _bound(_low, "lower"),
    "maximum": _bound(_high, "upper"),
    "exclusiveMaximum": _bound(_high, "upper"),
    "multipleOf": _multiple,
    "required": _required,
    "uniqueItems": _unique,
    **{name: _at_least(name) for name in ("minLength", "minItems", "minProperties")},
    **{name: _at_most(name) for name in ("maxLength", "maxItems", "maxProperties")},
}
_DEEPER: dict[str, Callable[[_Comparison, str, Schema, Schema], Iterator[Break]]] = {
    "properties": _Comparison.properties,
    "additionalProperties": _Comparison.additional,
    "items": _Comparison.items,
}
