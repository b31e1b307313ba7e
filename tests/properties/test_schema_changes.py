"""What a changed schema breaks, told rule by rule; where nothing is told, all that was accepted still is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_cli.core.schema_change import breaks


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


X = {"$ref": "#/$defs/x"}
TREE = {"type": "object", "properties": {"of": {"type": "array", "items": {"$ref": "#"}}, "n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, None),
        (None, {"type": "object"}),
        (of(a={"type": "integer"}), of(a={"type": "number"})),
        (of(a={"type": "integer"}), of(a={"type": "integer"}, b={"type": "string"})),
        ({**of(a=True), "required": ["a"]}, of(a=True)),
        (of(a={"enum": ["x"]}), of(a={"enum": ["y", "x"]})),
        (of(a={"const": "x"}), of(a={"enum": ["y", "x"], "type": "string"})),
        (of(a={"minimum": 1, "maximum": 5}), of(a={"minimum": 0, "maximum": 5.5})),
        (of(a={"exclusiveMinimum": 1}), of(a={"minimum": 1})),
        (of(a={"minLength": 2, "maxLength": 3}), of(a={"minLength": 1})),
        (of(a={"pattern": "^a"}), of(a={})),
        (of(a={"type": "string"}), of(a={"type": ["null", "string"], "title": "A", "description": "more words"})),
        ({**of(), "additionalProperties": False}, {**of(b={"type": "string"}), "additionalProperties": False}),
        (of(a={"multipleOf": 0.5}), of(a={"multipleOf": 0.25})),
        ({**of(a=X), "$defs": {"x": {"type": "string"}}}, of(a={"type": "string"})),
        (TREE, {**TREE, "properties": {**TREE["properties"], "n": {"type": "number"}}}),
    ],
)
def test_what_breaks_nothing(old: Any, new: Any) -> None:
    assert breaks(old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (None, {"required": ["a"]}, "/ required: a is required, and was not"),
        (of(a={"type": "number"}), of(a={"type": "integer"}), "/a type: number is no longer accepted"),
        (of(a={}), of(a={"type": ["null", "string"]}), "/a type: only null or string is accepted, and was any"),
        (of(a={"enum": ["x", 1]}), of(a={"type": "string"}), "/a type: only string is accepted, and was any"),
        (of(a=True), of(), "/a properties: was removed: what it holds is no longer described"),
        (
            {**of(a=True), "additionalProperties": False},
            {**of(), "additionalProperties": False},
            "/a properties: was removed, and is refused",
        ),
        (
            of(),
            {**of(), "additionalProperties": False},
            "/ additionalProperties: properties that are not described are refused",
        ),
        (of(), {**of(), "additionalProperties": {"type": "string"}}, "/* type: only string is accepted, and was any"),
        (of(a={"enum": ["x", "y"]}), of(a={"enum": ["y"]}), '/a enum: "x" is no longer accepted'),
        (of(a={}), of(a={"const": 1}), "/a const: only [1] is accepted, and was any"),
        (of(a={"minimum": 1}), of(a={"minimum": 2}), "/a minimum: the lower bound is narrower"),
        (of(a={"maximum": 2}), of(a={"exclusiveMaximum": 2}), "/a exclusiveMaximum: the upper bound is narrower"),
        (of(a={}), of(a={"minItems": 1}), "/a minItems: at least 1 is asked for, and was 0"),
        (of(a={"maxLength": 3}), of(a={"maxLength": 2}), "/a maxLength: at most 2 is accepted, and was 3"),
        (of(a={"multipleOf": 0.2}), of(a={"multipleOf": 0.3}), "/a multipleOf: only multiples of 0.3 are accepted"),
        (of(a={}), of(a={"uniqueItems": True}), "/a uniqueItems: equal items are refused"),
        (of(a=True), of(a=False), "/a false: nothing is accepted any more"),
        (of(a={}), of(a={"items": {"type": "null"}}), "/a/* type: only null is accepted, and was any"),
        (
            of(a={"pattern": "a"}),
            of(a={"pattern": "b"}),
            "/a pattern: pattern has changed, which may refuse more",
        ),
        (of(a={"anyOf": [{}]}), of(a={}), "/a anyOf: anyOf has changed, which may refuse more"),
        (of(a=X), of(a={"$ref": "other.json"}), "/a $ref: a reference that is not followed has changed"),
        (
            {**of(a=X), "$defs": {"x": {"type": "string"}}},
            {**of(a=X), "$defs": {"x": {"type": "null"}}},
            "/a type: string is no longer accepted",
        ),
        (
            TREE,
            {**TREE, "properties": {**TREE["properties"], "n": {"type": "null"}}},
            "/n type: integer is no longer accepted",
        ),
    ],
)
def test_what_a_change_breaks(old: Any, new: Any, told: str) -> None:
    found = breaks(old, new)
    assert [f"{each.path} {each.rule}: {each.detail}" for each in found] == [told]
    assert found[0].certain is not (" may " in told or "not followed" in told)


_NUMBER = st.integers(-2, 4)
_SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["integer", "number", "string", "null", ["integer", "null"], "array"]),
                "enum": st.lists(st.sampled_from([None, True, 0, 1, 2.5, "a", []]), min_size=1, max_size=4),
                "const": st.sampled_from([1, "a"]),
                "minimum": _NUMBER,
                "maximum": _NUMBER,
                "exclusiveMinimum": _NUMBER,
                "exclusiveMaximum": _NUMBER,
                "multipleOf": st.sampled_from([1, 2, 0.5]),
                "minLength": st.integers(0, 2),
                "maxLength": st.integers(0, 2),
                "pattern": st.sampled_from(["a", "b"]),
                "not": st.sampled_from([{"type": "null"}, {"enum": [1]}]),
                "anyOf": st.sampled_from([[{"type": "null"}, {"type": "integer"}], [{"minimum": 1}]]),
            },
        ),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={"items": inner, "minItems": st.integers(0, 1), "uniqueItems": st.booleans()},
        ),
        st.fixed_dictionaries(
            {"properties": st.fixed_dictionaries({"a": inner, "b": inner})},
            optional={
                "required": st.lists(st.sampled_from("ab"), unique=True),
                "additionalProperties": inner,
                "patternProperties": st.sampled_from([{"^c": {"type": "null"}}, {"^c": True}]),
                "type": st.just("object"),
                "maxProperties": st.integers(0, 2),
            },
        ),
    ),
    max_leaves=4,
)
_VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2, 3, -1, 0.5, 2.5, "", "a", "ab", "b"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.fixed_dictionaries({}, optional={"a": inner, "b": inner, "c": inner}),
    ),
    max_leaves=4,
)


@settings(max_examples=300)
@given(_SCHEMAS, st.data(), st.lists(_VALUES, min_size=8, max_size=20))
def test_where_nothing_breaks_all_that_was_accepted_still_is(old: Any, data: st.DataObject, values: list[Any]) -> None:
    new = data.draw(_changed(old))
    # What was not described may be, also where payloads had it as something else.
    if breaks(of(v=old), of(v=new)) or not set(_described(new)) <= set(_described(old)):
        return
    before, after = (jsonschema_rs.validator_for(schema) for schema in (old, new))
    for value in values:
        assert after.is_valid(value) or not before.is_valid(value)


def _described(schema: Any, path: str = "") -> Iterator[str]:
    """Where a schema describes properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path
        for name, inner in schema.get("properties", {}).items():
            yield from _described(inner, f"{path}/{name}")
        yield from _described(schema.get("additionalProperties"), f"{path}/*")
        yield from _described(schema.get("items"), f"{path}/*")


@st.composite
def _changed(draw: st.DrawFn, old: Any) -> Any:
    """A schema near to another one: some of its keywords taken from a third."""
    other = draw(_SCHEMAS)
    if not isinstance(old, dict) or not isinstance(other, dict):
        return other
    names = sorted(old.keys() | other.keys())
    taken = draw(st.sets(st.sampled_from(names))) if names else set()
    changed = {name: (other if name in taken else old).get(name) for name in names}
    return {name: value for name, value in changed.items() if value is not None}
