"""A SELECT over `source` that says of each row which line it comes from, where it does not say so itself.

Only a statement whose rows are rows of the source can: a projection, filter, window or left-hand join, in
subqueries and CTEs too, without DISTINCT, GROUP BY, aggregates and set operations. The syntax tree is DuckDB's
own (`json_serialize_sql`); what is no longer a statement with the column added, DuckDB refuses to bind.
"""

from __future__ import annotations

import copy
from typing import Any

LINE = "_line"
"""The column of `source`, and of a mapping's result, with the physical line of a row."""

_SOURCE = "source"
_JOINS = {"INNER", "LEFT", "SEMI", "ANTI"}
"""Joins whose rows have a line of the left-hand side each."""
_JOINED_BY = {"REGULAR", "CROSS", "ASOF", "DEPENDENT"}

_COLUMN = {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": [LINE]}


def carrying_line(tree: dict[str, Any]) -> dict[str, Any] | None:
    """The syntax tree of one SELECT with `_line` as its last column; None where its rows have no line each.

    Whether it can be bound, and gives the same columns otherwise, is for the caller to ask.
    """
    changed = copy.deepcopy(tree)
    carried = _node(changed["statements"][0]["node"], changed, {})
    return changed if carried else None


def _node(node: dict[str, Any], tree: dict[str, Any], outer: dict[str, Any]) -> bool:
    """Make a SELECT give `_line`, if its rows are rows of the source. `outer`: CTEs that it may name."""
    if node["type"] != "SELECT_NODE" or node["sample"] or node["having"]:
        return False
    if node["group_expressions"] or node["group_sets"] or node["aggregate_handling"] != "STANDARD_HANDLING":
        return False
    if any(modifier["type"] == "DISTINCT_MODIFIER" for modifier in node["modifiers"]):
        return False
    ctes = {**outer, **{each["key"].lower(): each["value"] for each in node["cte_map"]["map"]}}
    if not _table(node["from_table"], tree, ctes):
        return False
    if not any(_gives_line(column) for column in node["select_list"]):
        node["select_list"].append(dict(_COLUMN))
    return True


def _table(table: dict[str, Any], tree: dict[str, Any], ctes: dict[str, Any]) -> bool:
    if table["type"] == "JOIN":
        fits = table["join_type"] in _JOINS and table["ref_type"] in _JOINED_BY
        return bool(fits and _table(table["left"], tree, ctes))
    if table["sample"] or table.get("column_name_alias"):
        return False
    if table["type"] == "SUBQUERY":
        return _node(table["subquery"]["node"], tree, ctes)
    if table["type"] != "BASE_TABLE" or table["schema_name"]:
        return False
    name = table["table_name"].lower()
    if name not in ctes:
        return bool(name == _SOURCE)
    # What else names it would have a column more as well.
    if _times_named(tree, name) != 1 or ctes[name]["aliases"]:
        return False
    return _node(ctes[name]["query_node"], tree, {key: each for key, each in ctes.items() if key != name})


def _gives_line(column: dict[str, Any]) -> bool:
    """Whether a column of a SELECT is `_line` already, or a star that holds it."""
    if column["class"] == "STAR":
        left_out = [str(each).lower() for each in column["exclude_list"]]
        return LINE not in left_out and not column["columns"] and not column["relation_name"]
    named = column["alias"] or (column["column_names"][-1] if column["class"] == "COLUMN_REF" else "")
    return bool(named.lower() == LINE)


def _times_named(tree: Any, name: str) -> int:
    """How often a table is named."""
    if isinstance(tree, list):
        return sum(_times_named(each, name) for each in tree)
    if not isinstance(tree, dict):
        return 0
    own = tree.get("type") == "BASE_TABLE" and str(tree.get("table_name")).lower() == name
    return own + sum(_times_named(each, name) for each in tree.values())
