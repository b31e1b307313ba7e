"""The merge commits that join the chains of two histories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from ledger_cli.core.commit import COMMIT, Head, seal_merge
from ledger_cli.core.history import State
from ledger_cli.core.policy import Policy


def joined(before: State, policy: Policy, sides: Iterable[Mapping[str, str]]) -> tuple[pa.Table, State]:
    """The merge commits of the chains of a branch, as rows of `core.commit.COMMIT`, and the state after them.

    `sides`: the heads of the two histories by shard. No rows, and the same state, where there is no chain.
    """
    heads = {
        int(shard): Head(each.head, each.commits - 1) for shard, each in before.shards.items() if each.head is not None
    }
    if not heads or before.watermark is None:
        return COMMIT.empty_table(), before
    table = seal_merge(heads, list(sides), before.watermark, policy.layer, policy.digest)
    shards = dict(before.shards)
    for shard, head in heads.items():
        shards[str(shard)] = replace(shards[str(shard)], head=head.digest, commits=head.height + 1)
    return table, replace(before, shards=shards, merged=before.watermark)
