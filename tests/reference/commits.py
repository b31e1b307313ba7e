"""What a commit is: exact moments, regions and shards, digests and ids (sections 1, 2.1 and 2.2)."""

from __future__ import annotations

import hashlib
import math
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import rfc8785

Event = Mapping[str, Any]
Policy = Mapping[str, Any]
Bounds = tuple[int, int]

SCALE = 10**9
INT128_MIN, INT128_MAX = -(2**127), 2**127 - 1
OUTSIDE = "outside"


class Moments(NamedTuple):
    """`(n, Σq, Σq², Σw)` of one region in one epoch, exact (section 1, "moments")."""

    n: int
    q: int
    q2: int
    w: int


Entries = dict[str, Moments]
ZERO = Moments(0, 0, 0, 0)


class Stats(NamedTuple):
    """The only floats of a commit, each correctly rounded once (section 2.1)."""

    weight: float
    activity_mean: float
    activity_var: float


# --- values (sections 1 and 2.1) ------------------------------------------------------------------


def q(v: float) -> int:
    """`v × 10⁹` in binary64, rounded half to even: after this, sums are exact in any order (section 2.1)."""
    scaled = float(v) * 1e9
    if not math.isfinite(scaled):
        raise OverflowError(f"{v!r} is too large for an exact sum")
    return round(scaled)


def weight_of(policy: Policy, activity: float) -> float:
    """`base_weight × f(activity)`, in the one order of operations that section 2.1 fixes."""
    a = float(activity)
    weight = policy["weight"]
    match weight["kind"]:
        case "linear":
            f = a
        case "nonlinear":
            f = (float(weight["alpha"]) * a) + (float(weight["beta"]) * (a * a))
        case "softfloor":
            f = max(a, float(weight["epsilon"]))
        case kind:
            raise ValueError(f"unknown weight {kind!r}")
    return float(policy["baseWeight"]) * f


def moments_of(policy: Policy, activity: float) -> Moments:
    """The moments of a single event (section 2.1)."""
    a = q(activity)
    return checked(Moments(1, a, a * a, q(weight_of(policy, activity))))


def checked(moments: Moments) -> Moments:
    """Moments are signed 128-bit integers, and an overflow is an error, never a wrap (section 2.1)."""
    if min(moments) < INT128_MIN or max(moments) > INT128_MAX:
        raise OverflowError(f"{moments} do not fit into 128 bits")
    return moments


def plus(a: Moments, b: Moments) -> Moments:
    """Merging two moments is adding them (section 1)."""
    return checked(Moments(a.n + b.n, a.q + b.q, a.q2 + b.q2, a.w + b.w))


def minus(a: Moments, b: Moments) -> Moments:
    """What an amending commit holds: the exact difference (section 3, "Late ticks")."""
    return Moments(a.n - b.n, a.q - b.q, a.q2 - b.q2, a.w - b.w)


def stats(n: int, q: int, q2: int, w: int) -> Stats:
    """Weight, mean and population variance; a `Fraction` turns into the nearest float (section 2.1)."""
    return Stats(
        float(Fraction(w, SCALE)),
        float(Fraction(q, n * SCALE)),
        float(Fraction(n * q2 - q * q, n * n * SCALE * SCALE)),
    )


# --- regions and shards (section 1) ---------------------------------------------------------------


def region_of(policy: Policy, event: Event) -> str:
    """The region id of an event under the policy's region map (section 1, "region")."""
    regions = policy["regions"]
    match regions["kind"]:
        case "grid":
            return grid_region(float(event["x"]), float(event["y"]), float(regions["cell"]))
        case "quadtree":
            return quadtree_region(float(event["x"]), float(event["y"]), regions)
        case "field":
            return field_region(event, regions["name"])
        case kind:
            raise ValueError(f"unknown region map {kind!r}")


def grid_region(x: float, y: float, cell: float) -> str:
    """`{floor(x/cell)}:{floor(y/cell)}`; from 2⁵³ on, neighbouring cells are not told apart: `outside`."""
    u, v = x / cell, y / cell
    if abs(u) >= 2**53 or abs(v) >= 2**53:
        return OUTSIDE
    return f"{math.floor(u)}:{math.floor(v)}"


def quadtree_region(x: float, y: float, regions: Mapping[str, Any]) -> str:
    """`q` and one digit a level from the top, so that a parent's id is a prefix of its children's."""
    size, depth = float(regions["size"]), int(regions["depth"])
    u, v = (x - float(regions["x"])) / size, (y - float(regions["y"])) / size
    if not (0 <= u < 1 and 0 <= v < 1):
        return OUTSIDE
    column, row = math.floor(u * 2**depth), math.floor(v * 2**depth)
    levels = reversed(range(depth))
    return "q" + "".join(str((column >> level & 1) + 2 * (row >> level & 1)) for level in levels)


def field_region(event: Event, name: str) -> str:
    """A top-level key where present, else one of `meta`; what is not a string by its RFC 8785 text."""
    value = event[name] if name in event else (event.get("meta") or {}).get(name)
    if value is None:
        return "none"
    return value if isinstance(value, str) else rfc8785.dumps(value).decode()


def shard_of(policy: Policy, region: str) -> int:
    """zlib's crc32 of the UTF-8 region id, modulo shards (section 1, "shard")."""
    return zlib.crc32(region.encode()) % int(policy["shards"])


# --- digests and ids (section 2.2) ----------------------------------------------------------------


def sha256_of(value: Any) -> str:
    """Lower-case hex SHA-256 of the RFC 8785 text."""
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def policy_digest(policy: Policy) -> str:
    """Everything that decides a commit, in one digest that is part of every commit (section 1, "policy")."""
    return sha256_of(dict(policy))


def entries_digest(entries: Mapping[str, Moments]) -> str:
    """Entries sorted by code point (as Python sorts text), integers as decimal strings (section 2.2)."""
    names = ("n", "activity", "activity2", "weight")
    return sha256_of(
        [{"region": region, **dict(zip(names, map(str, entries[region]), strict=True))} for region in sorted(entries)]
    )


def header_digest(
    *,
    layer: str,
    shard: int,
    epoch: Bounds,
    parents: Sequence[str],
    policy: str,
    entries: str,
    metadata: Mapping[str, Any],
) -> str:
    """The digest of a commit. Policy and entries enter as digests, so headers chain alone (section 2.2)."""
    return sha256_of(
        {
            "format": "ledger/1",
            "layer": layer,
            "shard": shard,
            "epochStart": str(epoch[0]),
            "epochEnd": str(epoch[1]),
            "parents": list(parents),
            "policy": policy,
            "entries": entries,
            "metadata": dict(metadata),
        }
    )


def commit_id(digest: str) -> str:
    """UUIDv8 of the first 16 bytes: version and variant bits replace six bits of the digest (section 2.2)."""
    raw = bytearray(bytes.fromhex(digest)[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


@dataclass(frozen=True)
class Commit:
    """Header and entries (section 2.2).

    `reason`, what closed the epoch, is beside the commit: outside the digest, and outside equality. It is one
    of max_interval, max_size, max_mean, max_variance, final, forced and late.
    """

    shard: int
    epoch_start: int
    epoch_end: int
    parents: tuple[str, ...]
    policy_digest: str
    metadata: dict[str, Any]
    entries: Entries
    digest: str
    commit_id: str
    reason: str = field(compare=False)

    @property
    def epoch(self) -> Bounds:
        """`[epoch_start, epoch_end)`; commits with equal bounds in one chain belong to one epoch."""
        return self.epoch_start, self.epoch_end


def make_commit(
    policy: Policy,
    shard: int,
    epoch: Bounds,
    parents: tuple[str, ...],
    entries: Entries,
    metadata: dict[str, Any],
    reason: str,
) -> Commit:
    """Section 2.2 put together."""
    policy_hex = policy_digest(policy)
    digest = header_digest(
        layer=policy["layer"],
        shard=shard,
        epoch=epoch,
        parents=parents,
        policy=policy_hex,
        entries=entries_digest(entries),
        metadata=metadata,
    )
    return Commit(shard, *epoch, parents, policy_hex, metadata, entries, digest, commit_id(digest), reason)
