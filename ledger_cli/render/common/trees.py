"""A graph as a tree, for drawings that have a beginning: what is reached first is further up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Branching:
    """Below each entity the relations that lead on, in order; the others lead to what is in the tree already.

    `roots`: several only for a relationship that relates several pairs.
    """

    roots: Sequence[str]
    below: Mapping[str, Sequence[tuple[Any, str]]]
    """By entity: a relation, and its other end."""
    other: Sequence[Any]


def as_tree(graph: Any) -> Branching:
    """A graph (`services.world_graph.WorldGraph`) as a tree from its nearest entity, breadth first."""
    ends: dict[str, list[tuple[Any, str]]] = defaultdict(list)
    for each in graph.relations:
        ends[each.source].append((each, each.target))
        if each.target != each.source:
            ends[each.target].append((each, each.source))
    roots: list[str] = []
    below: dict[str, list[tuple[Any, str]]] = {}
    led: set[int] = set()
    for root in (each.entity_id for each in graph.entities):
        if root in below:
            continue
        roots.append(root)
        below[root] = []
        queue = [root]
        for name in queue:
            for each, end in ends[name]:
                if end not in below:
                    below[end] = []
                    below[name].append((each, end))
                    led.add(id(each))
                    queue.append(end)
    return Branching(roots, below, [each for each in graph.relations if id(each) not in led])
