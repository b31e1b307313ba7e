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
    inner: list[str] = []
    carried = _node(changed["statements"][0]["node"], changed, {}, inner)
    return changed if carried and not (inner and _takes_rows_whole(changed, inner)) else None


def _node(node: dict[str, Any], tree: dict[str, Any], outer: dict[str, Any], inner: list[str]) -> bool:
    """Make a SELECT give `_line`, if its rows are rows of the source.

    `outer`: CTEs that it may name. `inner` gets the names of the subqueries and CTEs that were changed on the way.
    """
    if node["type"] != "SELECT_NODE" or node["sample"] or node["having"]:
        return False
    if node["group_expressions"] or node["group_sets"] or node["aggregate_handling"] != "STANDARD_HANDLING":
        return False
    if any(modifier["type"] == "DISTINCT_MODIFIER" for modifier in node["modifiers"]):
        return False
    ctes = {**outer, **{each["key"].lower(): each["value"] for each in node["cte_map"]["map"]}}
    if not _table(node["from_table"], tree, ctes, inner):
        return False
    if not any(_gives_line(column) for column in node["select_list"]):
        node["select_list"].append(dict(_COLUMN))
    return True


def _table(table: dict[str, Any], tree: dict[str, Any], ctes: dict[str, Any], inner: list[str]) -> bool:
    if table["type"] == "JOIN":
        fits = table["join_type"] in _JOINS and table["ref_type"] in _JOINED_BY
        return bool(fits and _table(table["left"], tree, ctes, inner))
    if table["sample"] or table.get("column_name_alias"):
        return False
    if table["type"] == "SUBQUERY":
        inner.append(table["alias"].lower())
        return _node(table["subquery"]["node"], tree, ctes, inner)
    if table["type"] != "BASE_TABLE" or table["schema_name"]:
        return False
    name = table["table_name"].lower()
    if name not in ctes:
        return bool(name == _SOURCE)
    # What else names it would have a column more as well.
    if _times_named(tree, name) != 1 or ctes[name]["aliases"]:
        return False
    inner += [name, table["alias"].lower()]
    return _node(ctes[name]["query_node"], tree, {key: each for key, each in ctes.items() if key != name}, inner)


def _gives_line(column: dict[str, Any]) -> bool:
    """Whether a column of a SELECT is `_line` already, or a star that holds it."""
    if column["class"] == "STAR":
        left_out = [str(each).lower() for each in column["exclude_list"]]
        return LINE not in left_out and not column["columns"] and not column["relation_name"]
    named = column["alias"] or (column["column_names"][-1] if column["class"] == "COLUMN_REF" else "")
    return bool(named.lower() == LINE)


def _takes_rows_whole(tree: Any, names: list[str]) -> bool:
    """Whether an expression takes all columns of a table at once, so that one more may change its value."""
    if isinstance(tree, list):
        return any(_takes_rows_whole(each, names) for each in tree)
    if not isinstance(tree, dict):
        return False
    if tree.get("class") == "STAR":
        return True
    if tree.get("class") == "COLUMN_REF" and len(tree["column_names"]) == 1:
        return tree["column_names"][0].lower() in names
    parts = {**tree, "select_list": [each for each in tree.get("select_list", ()) if not _plain_star(each)]}
    return any(_takes_rows_whole(each, names) for each in parts.values())


def _plain_star(column: dict[str, Any]) -> bool:
    return bool(column["class"] == "STAR" and not column["columns"] and not column["replace_list"])


def _times_named(tree: Any, name: str) -> int:
    """How often a table is named."""
    if isinstance(tree, list):
        return sum(_times_named(each, name) for each in tree)
    if not isinstance(tree, dict):
        return 0
    own = tree.get("type") == "BASE_TABLE" and str(tree.get("table_name")).lower() == name
    return own + sum(_times_named(each, name) for each in tree.values())
