"""`ledger log --graph`: the chains of all shards and branches as lanes, like `git log --graph`.

A chain is a lane. Lanes of branches that share a commit end in it, at the commit where they part.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger_cli.services.log import commit_json, log
from ledger_cli.services.repository import Repository


@dataclass(frozen=True)
class GraphLine:
    """A commit and the lanes at its line, counted from the left.

    `lanes`: those in use here, the commit's own among them. `joins`: other lanes that end in this commit,
    since their branch parts here; `opens`: those of the histories that it joins, which begin below it.
    `ends`: whether no commit is below it in its lane.
    """

    column: int
    lanes: tuple[int, ...]
    joins: tuple[int, ...]
    opens: tuple[int, ...]
    ends: bool
    labels: tuple[str, ...]
    """Heads of branches, with the shard where there are several (`main/3`), and tags (`tag: v1`)."""
    commit: Mapping[str, Any]
    """A row of `LogPage.table` without entries."""

    def to_json(self) -> dict[str, Any]:
        """The commit as in `log --json`, with its place in the graph."""
        graph = {"column": self.column, "lanes": list(self.lanes), "joins": list(self.joins), "opens": list(self.opens)}
        return {**commit_json(dict(self.commit)), "labels": list(self.labels), "graph": graph}


def graph_lines(
    repository: Repository,
    branches: Sequence[str] | None = None,
    region: str | None = None,
    since: int | None = None,
    until: int | None = None,
    limit: int | None = None,
) -> list[GraphLine]:
    """The commits of branches (None: of all), newest first, but never a commit above one that follows it."""
    names = repository.branch_names() if branches is None else branches
    whole = region is None and since is None and until is None
    rows: dict[str, dict[str, Any]] = {}
    parents: dict[str, list[str]] = {}
    for name in names:
        listed = log(repository, name, region, since, until, limit).table.to_pylist()
        rows |= {row["digest"]: row for row in listed if row["digest"] not in rows}
        parents |= _links(listed, whole)
    labels = _labels(repository, names)
    lines: list[GraphLine] = []
    lanes: list[str | None] = []
    for row in _downwards(rows, parents):
        if limit is not None and len(lines) >= limit:
            break
        lines.append(_line(row, parents[row["digest"]], lanes, labels.get(row["digest"], ())))
    return lines


def _links(listed: Sequence[Mapping[str, Any]], whole: bool) -> dict[str, list[str]]:
    """The parents of each commit; in a selection, the nearest selected commit below it in its chain."""
    chains: dict[int, list[Mapping[str, Any]]] = {}
    for row in sorted(listed, key=lambda row: -row["height"]):
        chains.setdefault(row["shard"], []).append(row)
    links = {}
    for chain in chains.values():
        for row, below in zip(chain, [*chain[1:], None], strict=True):
            first = row["parents"][:1] if whole else [] if below is None else [below["digest"]]
            links[row["digest"]] = [*first, *row["parents"][1:]]
    return links


def _downwards(rows: Mapping[str, dict[str, Any]], parents: Mapping[str, list[str]]) -> Iterable[dict[str, Any]]:
    """Every commit after all that follow it in a chain; among those that may come, the newest."""
    followers = dict.fromkeys(rows, 0)
    for digest in rows:
        for parent in parents[digest]:
            if parent in followers:
                followers[parent] += 1
    ready = [_newest_first(row) for digest, row in rows.items() if not followers[digest]]
    heapq.heapify(ready)
    while ready:
        row = rows[heapq.heappop(ready)[-1]]
        yield row
        for parent in parents[row["digest"]]:
            if parent in followers:
                followers[parent] -= 1
                if not followers[parent]:
                    heapq.heappush(ready, _newest_first(rows[parent]))


def _newest_first(row: Mapping[str, Any]) -> tuple[int, int, int, str]:
    return -row["epoch_end"], row["shard"], -row["height"], row["digest"]


def _line(row: dict[str, Any], parents: Sequence[str], lanes: list[str | None], labels: tuple[str, ...]) -> GraphLine:
    """The line of a commit; `lanes`, the digest that each lane waits for, is moved on in place."""
    digest = row["digest"]
    waiting = [place for place, wanted in enumerate(lanes) if wanted == digest]
    if not waiting:
        free = next((place for place, wanted in enumerate(lanes) if wanted is None), len(lanes))
        if free == len(lanes):
            lanes.append(None)
        waiting = [free]
        lanes[free] = digest
    used = tuple(place for place, wanted in enumerate(lanes) if wanted is not None)
    column, *joins = waiting
    for place in waiting:
        lanes[place] = None
    if parents:
        lanes[column] = parents[0]
    opens = []
    for parent in parents[1:]:
        if parent not in lanes:
            lanes.append(parent)
            opens.append(len(lanes) - 1)
    while lanes and lanes[-1] is None:
        lanes.pop()
    return GraphLine(column, used, tuple(joins), tuple(opens), not parents, labels, row)


def _labels(repository: Repository, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    labels: dict[str, tuple[str, ...]] = {}
    for name in names:
        shards = repository.branch(name).state.shards
        for shard, each in shards.items():
            if each.head is not None:
                label = name if len(shards) == 1 else f"{name}/{shard}"
                labels[each.head] = (*labels.get(each.head, ()), label)
    for tag, digest in sorted(repository.tags.items()):
        labels[digest] = (*labels.get(digest, ()), f"tag: {tag}")
    return labels
