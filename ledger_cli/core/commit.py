"""Commits: from closed epochs to sealed, content-addressed rows (DESIGN, invariant 2).

A commit is a header and its entries. The digest covers both; everything else a stored row has (height, reason,
the float statistics) is derived or stands beside it.
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.fold import Closed
from ledger_cli.core.jcs import text_of
from ledger_cli.core.moments import SUMS, Moments, Regions, decimals
from ledger_cli.core.statistics import columns

FORMAT = "ledger/1"
MERGE = "merge"
"""The reason of a commit that joins two histories: [W, W), no entries, more than one parent."""

ENTRY = pa.struct(
    [
        pa.field("region", pa.string(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),
        # Integers of up to 128 bits, as decimal text: it is what is hashed, and no Parquet decimal holds them all.
        *[pa.field(name, pa.string(), nullable=False) for name in SUMS],
        pa.field("weight_value", pa.float64(), nullable=False),
        pa.field("activity_mean", pa.float64(), nullable=False),
        pa.field("activity_var", pa.float64(), nullable=False),
    ]
)

COMMIT = pa.schema(
    [
        pa.field("commit_id", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("epoch_start", pa.int64(), nullable=False),
        pa.field("epoch_end", pa.int64(), nullable=False),
        pa.field("parents", pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("entries_digest", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("entries", pa.list_(pa.field("element", ENTRY, nullable=False)), nullable=False),
    ]
)
"""One row a commit. `height` counts a shard's commits from 0; `policy` is a digest; `metadata` canonical JSON."""


class EntryRow(NamedTuple):
    """A row of `ENTRY` in plain values."""

    region: str
    n: int
    activity: str
    activity2: str
    weight: str
    weight_value: float
    activity_mean: float
    activity_var: float


class CommitRow(NamedTuple):
    """A row of `COMMIT` in plain values: a single one as columns would take longer to make than to find."""

    commit_id: str
    digest: str
    layer: str
    shard: int
    height: int
    epoch_start: int
    epoch_end: int
    parents: list[str]
    policy: str
    entries_digest: str
    metadata: str
    reason: str
    entries: list[EntryRow] | None
    """By region (code points); None where they are archived."""


REGION_COMMIT = pa.schema(
    [*(COMMIT.field(name) for name in ("commit_id", "shard", "height", "epoch_start", "epoch_end")), *ENTRY]
)
"""One row an entry: the entries of one region, with the place of their commits."""

REGION_TILE = pa.schema([pa.field("region", pa.string()), pa.field("commits", pa.int64()), *list(ENTRY)[1:5]])
"""What the entries of a region add up to: commits, n, and the sums as decimal text."""


@dataclass(frozen=True)
class Head:
    """The last commit of a shard's chain, and how many commits the chain has."""

    digest: str
    height: int


def commit_id_of(digest: str) -> str:
    """UUIDv8 of the first 16 bytes of a digest."""
    raw = bytearray.fromhex(digest[:32])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def header_digest(
    layer_text: str,
    shard: int,
    bounds: tuple[int, int],
    parents: Sequence[str],
    policy: str,
    entries_digest: str,
    metadata_text: str,
) -> str:
    """SHA-256 of a header's canonical JSON; `layer_text` and `metadata_text` are canonical JSON already."""
    listed = ",".join(f'"{parent}"' for parent in parents)
    text = (
        f'{{"entries":"{entries_digest}","epochEnd":"{bounds[1]}","epochStart":"{bounds[0]}",'
        f'"format":"{FORMAT}","layer":{layer_text},"metadata":{metadata_text},"parents":[{listed}],'
        f'"policy":"{policy}","shard":{shard}}}'
    )
    return hashlib.sha256(text.encode()).hexdigest()


def entries_digests(columns: dict[str, pa.Array], offsets: Sequence[int]) -> list[str]:
    """SHA-256 of the canonical JSON of each run of entries, rows offsets[i] to offsets[i + 1].

    `columns`: region (its JSON text), n, and the three sums as decimal text, each (rows,). The texts of all
    entries are made in one pass and hashed as slices of one buffer.
    """
    first, last = _edges(offsets, len(columns["region"]))
    texts = pc.binary_join_element_wise(
        first,
        '{"activity":"',
        columns["activity"],
        '","activity2":"',
        columns["activity2"],
        '","n":"',
        columns["n"].cast(pa.string()),
        '","region":',
        columns["region"],
        ',"weight":"',
        columns["weight"],
        '"}',
        last,
        "",
    ).cast(pa.large_string())
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    buffers = texts.buffers()
    at = np.frombuffer(buffers[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = memoryview(buffers[2]) if buffers[2] is not None else memoryview(b"")
    sha256, none = hashlib.sha256, hashlib.sha256(b"[]").hexdigest()
    ends = at[np.asarray(offsets, dtype=np.int64)].tolist()
    return [sha256(data[low:high]).hexdigest() if high > low else none for low, high in itertools.pairwise(ends)]


def _edges(offsets: Sequence[int], rows: int) -> tuple[pa.Array, pa.Array]:
    """What stands before and behind each entry in the list of its commit: brackets, and commas between."""
    starts, ends = np.asarray(offsets[:-1], dtype=np.int64), np.asarray(offsets[1:], dtype=np.int64)
    some = ends > starts
    opens, closes = np.ones(rows, dtype=np.int8), np.ones(rows, dtype=np.int8)
    opens[starts[some]] = 0
    closes[ends[some] - 1] = 0
    return pa.array(["[", ","]).take(pa.array(opens)), pa.array(["]", ""]).take(pa.array(closes))


def entries_digests_of(commits: pa.Table) -> list[str]:
    """The digest of the entries of each row of `COMMIT`, by these alone."""
    lists = commits["entries"].combine_chunks()
    entries = pa.Table.from_struct_array(lists.flatten())
    offsets = np.r_[0, np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))].astype(np.int64)
    encoded = entries["region"].combine_chunks().dictionary_encode()
    quoted = pa.array([text_of(name) for name in encoded.dictionary.to_pylist()], pa.string())
    plain = {name: entries[name].combine_chunks() for name in ("n", *SUMS)}
    return entries_digests({"region": quoted.take(encoded.indices), **plain}, offsets.tolist())


def entry_columns(entries: Moments, regions: Regions) -> dict[str, pa.Array]:
    """The fields of `ENTRY` of rows of moments."""
    names = pa.array(regions.names, pa.string())
    weight_value, activity_mean, activity_var = columns(entries.n, entries.limbs)
    sums = {name: decimals(entries.limbs[:, place]).cast(pa.string()) for place, name in enumerate(SUMS)}
    return {
        "region": names.take(pa.array(entries.region)),
        "n": pa.array(entries.n),
        **sums,
        "weight_value": pa.array(weight_value),
        "activity_mean": pa.array(activity_mean),
        "activity_var": pa.array(activity_var),
    }


def seal(
    closed: Closed,
    regions: Regions,
    heads: dict[int, Head],
    layer: str,
    policies: Sequence[str],
    metadata: Sequence[dict[str, Any]] | None = None,
    joined: Sequence[Sequence[str]] | None = None,
) -> pa.Table:
    """Chain closed epochs onto `heads` (moved on in place) and return them as rows of `COMMIT`.

    `policies`: the digest of each epoch's policy; `joined`: its parents behind the head. Epochs of one shard are
    chained in the order given.
    """
    fields = entry_columns(closed.entries, regions)
    quoted = pa.array([text_of(name) for name in regions.names], pa.string())
    hashed = {**fields, "region": quoted.take(pa.array(closed.entries.region))}
    offsets = closed.offsets.tolist()
    entries = entries_digests(hashed, offsets)
    layer_text = text_of(layer)
    metadata_texts = ["{}"] * len(closed) if metadata is None else [text_of(each) for each in metadata]
    digests, parents, heights = [], [], []
    bounds = list(zip(closed.start, closed.end, strict=True))
    for row, shard in enumerate(closed.shard):
        head = heads.get(shard)
        parents.append(([] if head is None else [head.digest]) + list(joined[row] if joined else ()))
        heights.append(0 if head is None else head.height + 1)
        digest = header_digest(
            layer_text, shard, bounds[row], parents[row], policies[row], entries[row], metadata_texts[row]
        )
        digests.append(digest)
        heads[shard] = Head(digest, heights[row])
    nested = pa.StructArray.from_arrays(list(fields.values()), fields=list(ENTRY))
    return pa.table(
        [
            pa.array([commit_id_of(digest) for digest in digests], pa.string()),
            pa.array(digests, pa.string()),
            pa.array([layer] * len(closed), pa.string()),
            pa.array(closed.shard, pa.int64()),
            pa.array(heights, pa.int64()),
            pa.array(closed.start, pa.int64()),
            pa.array(closed.end, pa.int64()),
            pa.array(parents, COMMIT.field("parents").type),
            pa.array(list(policies), pa.string()),
            pa.array(entries, pa.string()),
            pa.array(metadata_texts, pa.string()),
            pa.array(closed.reason, pa.string()),
            pa.ListArray.from_arrays(pa.array(closed.offsets, pa.int32()), nested, type=COMMIT.field("entries").type),
        ],
        schema=COMMIT,
    )


def seal_merge(
    heads: dict[int, Head], sides: Sequence[Mapping[str, str]], watermark: int, layer: str, policy: str
) -> pa.Table:
    """One merge commit for each chain (`heads`, moved on in place), as rows of `COMMIT`.

    `sides`: the heads of the two histories by shard (its number as text): behind the head of the chain they are its
    parents, in the order of their digests.
    """
    shards = sorted(heads)
    joined = [sorted(side[str(shard)] for side in sides if str(shard) in side) for shard in shards]
    bounds = [watermark] * len(shards)
    offsets = np.zeros(len(shards) + 1, dtype=np.int64)
    closed = Closed(shards, bounds, list(bounds), [MERGE] * len(shards), Moments.empty(), offsets)
    return seal(closed, Regions(1, None), heads, layer, [policy] * len(shards), joined=joined)


_SORTED_AT_ONCE = 2_000_000
"""Commits and entries."""


def in_chain_order(read: Callable[[Sequence[str] | None], Iterable[pa.Table]]) -> Iterator[pa.Table]:
    """The commits of a batch in order of (shard, height); as a run makes them, only each shard's are in its order.

    `read` gives them, of some columns alone where these are named. It is asked several times, so that large batches are
    not held in memory.
    """
    places = pa.concat_tables([COMMIT.empty_table().select(_PLACE), *read(_PLACE)])
    if places.equals(chained(places)):
        yield from read(None)
        return
    kept, size = [], 0
    for table in read(None):
        kept.append(table)
        size += table.num_rows + len(pc.list_flatten(table["entries"]))
        if size > _SORTED_AT_ONCE:
            break
    else:
        yield chained(pa.concat_tables(kept))
        return
    for shard in pc.unique(places["shard"]).sort():
        for table in read(None):
            yield table.filter(pc.equal(table["shard"], shard))


def chained(commits: pa.Table) -> pa.Table:
    """The same rows in order of (shard, height)."""
    shards, heights = commits["shard"].to_numpy(), commits["height"].to_numpy()
    step, up = np.diff(shards), np.diff(heights)
    if not ((step < 0) | ((step == 0) & (up < 0))).any():
        return commits
    return commits.sort_by([(name, "ascending") for name in _PLACE])


def ascend(commits: Iterable[pa.Table]) -> bool:
    """Whether commits, of which no more is asked than shard and height, are in this order from the first table on."""
    last: list[pa.Table] = []
    for table in commits:
        places = pa.concat_tables([*last, table])
        if chained(places) is not places:
            return False
        last = [places.slice(max(0, places.num_rows - 1))]
    return True


_PLACE = ["shard", "height"]
