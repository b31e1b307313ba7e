"""Rules per field: values combine in any order and grouping, so that a fold of two histories is their merge."""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_cli.core.world import Refused
from ledger_cli.core.world_fields import COMBINING, RULES, add, check_combined, check_rules, combined, union

_WHOLE = st.integers(-(2**40), 2**40)
_CENTS = st.integers(-(10**9), 10**9).map(lambda cents: cents / 100)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), _WHOLE, _FLOATS, st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    max_leaves=5,
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "max": st.one_of(_WHOLE, _FLOATS, st.text(max_size=3)),
    "min": st.one_of(_WHOLE, _FLOATS, st.text(max_size=3)),
    "sum": st.one_of(_WHOLE, _CENTS),
    "union": st.lists(_JSON, max_size=4),
}
_FIELDS = {f"by_{rule}": rule for rule in COMBINING}
_EVENTS = st.lists(st.fixed_dictionaries({}, optional={f"by_{rule}": _VALUES[rule] for rule in COMBINING}), max_size=8)


def text(value: Any) -> str:
    """What is stored of a value: 1 and 1.0 are two texts."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("rule", COMBINING)
@given(data=st.data())
def test_values_combine_in_any_order_and_grouping(rule: str, data: st.DataObject) -> None:
    combine, written = COMBINING[rule].combine, COMBINING[rule].written
    a, b, c = (written(data.draw(_VALUES[rule])) for _ in range(3))
    assert text(combine(a, b)) == text(combine(b, a))
    assert text(combine(combine(a, b), c)) == text(combine(a, combine(b, c)))
    assert text(written(combine(a, b))) == text(combine(a, b))
    if rule != "sum":
        assert text(combine(a, a)) == text(a)


@given(_EVENTS, st.randoms(use_true_random=False))
def test_a_fold_is_the_same_in_any_order(events: list[dict[str, Any]], shuffle: Any) -> None:
    def fold(payloads: list[dict[str, Any]]) -> str:
        return text(reduce(lambda state, payload: combined(_FIELDS, state, payload), payloads, {}))

    other = list(events)
    shuffle.shuffle(other)
    assert fold(other) == fold(events)


@given(st.lists(_FLOATS, min_size=2, max_size=2))
def test_any_two_floats_have_a_finite_sum(values: list[float]) -> None:
    assert add(*values) == add(*reversed(values))
    assert abs(add(*values)) <= 1.7976931348623157e308


def test_decimals_are_added_as_they_are_written() -> None:
    assert add(0.1, 0.2) == 0.3
    assert reduce(add, [0.1] * 10) == 1
    assert text(add(0.5, 0.5)) == "1"
    assert add(2**52, 2**52 - 1) == 2**53 - 1


@given(_JSON, st.dictionaries(st.sampled_from(["a", "by_sum", "by_union"]), _JSON, max_size=3), st.booleans())
def test_a_fold_never_fails_and_can_be_stored(before: Any, payload: dict[str, Any], replace: bool) -> None:
    state = combined(_FIELDS, before, payload, replace)
    assert orjson.loads(orjson.dumps(state)) == state


@given(st.dictionaries(st.sampled_from("abc"), _JSON), st.dictionaries(st.sampled_from("abc"), _JSON))
def test_without_combining_rules_it_is_a_merge_patch(before: dict[str, Any], payload: dict[str, Any]) -> None:
    from ledger_cli.core.world import merge_patch

    for fields in ({}, {"a": "lww", "b": "manual"}):
        assert combined(fields, before, payload) == merge_patch(before, payload)
        assert combined(fields, before, payload, replace=True) == merge_patch({}, payload)


def test_what_is_replaced_keeps_what_is_combined() -> None:
    fields = {"visits": "sum", "peak": "max"}
    state = combined(fields, {"visits": 2, "peak": 9, "by": "ann"}, {"visits": 3, "open": True}, replace=True)
    assert state == {"visits": 5, "peak": 9, "open": True}


@pytest.mark.parametrize(
    ("rule", "before", "value", "told"),
    [
        ("sum", 1, "2", "the rule sum takes a number"),
        ("sum", 1, True, "the rule sum takes a number"),
        ("sum", 1, None, "the rule sum takes a number"),
        ("sum", None, 2**53, "the sum would reach"),
        ("sum", 2**53 - 1, 1, "the sum would reach"),
        ("sum", 1e308, 1e308, "the sum would reach"),
        ("max", 1, [2], "the rule max takes a number or a text"),
        ("union", [1], 2, "the rule union takes a list"),
    ],
)
def test_what_a_rule_cannot_take(rule: str, before: Any, value: Any, told: str) -> None:
    with pytest.raises(Refused, match=told) as refused:
        check_combined({"f": rule}, {"f": before}, {"f": value})
    assert refused.value.reason == "constraint_violation"


def test_what_a_rule_takes() -> None:
    for rule, value in {"sum": 2, "max": "b", "min": 1.5, "union": [{}], "lww": None, "manual": []}.items():
        check_combined({"f": rule}, {"f": "other"}, {"f": value, "g": None})
        check_combined({"f": rule}, None, {})


def test_rules_have_names() -> None:
    check_rules(dict.fromkeys("abcdef", "lww") | {rule: rule for rule in RULES})
    with pytest.raises(ValueError, match="use lww, max, min, sum, union, manual"):
        check_rules({"a": "avg"})


def test_a_union_is_sorted_by_canonical_json() -> None:
    assert union(["b", "a"], [2, 1.0, 1, "a"]) == ["a", "b", 1, 2]
