"""Checks of stored commits against themselves: digests, ids, statistics and chains, without the events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import COMMIT, commit_id_of, entries_digests_of, header_digest
from ledger_cli.core.history import CommitFile
from ledger_cli.core.jcs import text_of
from ledger_cli.core.moments import SUMS, Ints, limbs_of_integers
from ledger_cli.core.slices import CommitSlice
from ledger_cli.core.statistics import columns
from ledger_cli.services.repository import Repository

_ENTRIES = 400_000
_STATISTICS = ("weight_value", "activity_mean", "activity_var")
Texts = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class Links:
    """Of the commits of a file: place in a chain, digest, and the digest before it (empty for none).

    `policy`: its digest, empty for an amendment, which has the one of the commit that it amends.
    """

    shard: Ints
    height: Ints
    digest: Texts
    parent: Texts
    policy: Texts


def check_file(
    repository: Repository, file: CommitFile, wrong: list[str], tables: Iterable[pa.Table] | None = None
) -> Links:
    """Check every commit of a file in itself; what is wrong is added to a list of sentences.

    `tables`: its rows, where they are at hand.
    """
    found = _joined(*(_checked(table, wrong) for table in tables or _batches(repository, file)))
    if len(found.shard) != file.commits:
        wrong.append(f"it holds {len(found.shard)} commits, its move says {file.commits}")
    return found


def torn(repository: Repository, file: CommitFile) -> list[str]:
    """What is wrong with a file by its digest alone; of one that was written anew, by each of its commits."""
    digest = repository.store.digest_of_file(file.file)
    wrong: list[str] = []
    if repository.store.rewritten(file.file):
        check_file(repository, file, wrong)
    elif digest != file.sha256:
        wrong.append("is not what its digest says")
    return wrong


def _batches(repository: Repository, file: CommitFile) -> Iterator[pa.Table]:
    """The commits of a file in pieces of bounded size, cut by height; the row groups are cut alike."""
    if repository.store.archived(file.file):
        yield from repository.store.commits.read_commits(file.file)
        return
    top = max((last for _, last in file.heights.values()), default=0)
    bottom = min((first for first, _ in file.heights.values()), default=0)
    step = max(1, (top - bottom + 1) * _ENTRIES // max(1, file.entries))
    for low in range(bottom, top + 1, step):
        where = f"height >= {low} AND height < {low + step}" if step <= top - bottom else ""
        yield repository.engine.commits([file], COMMIT.names, where)


def _checked(table: pa.Table, wrong: list[str]) -> Links:
    if table["entries"].null_count:
        # What is archived is checked where it is, by `ledger verify --archives`; its digest is part of the header.
        there = pc.is_valid(table["entries"])
        return _joined(_headers(table.filter(pc.invert(there)), wrong), _checked(table.filter(there), wrong))
    lists = table["entries"].combine_chunks()
    entries = pa.Table.from_struct_array(lists.flatten())
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int64)
    ids = table["commit_id"].to_pylist()
    recomputed = entries_digests_of(table)
    stored = table["entries_digest"].to_pylist()
    _note(
        wrong,
        ids,
        [a != b for a, b in zip(stored, recomputed, strict=True)],
        "entries do not give their digest",
    )
    links = _headers(table, wrong)
    rows = _wrong_statistics(entries) | _out_of_order(entries["region"], offsets)
    if rows.any():
        owner = np.searchsorted(offsets, np.flatnonzero(rows), side="right") - 1
        bad = np.isin(np.arange(len(ids)), owner)
        _note(wrong, ids, bad.tolist(), "statistics or regions are not those of its exact sums")
    return links


def _joined(*links: Links) -> Links:
    return Links(*(np.concatenate([getattr(each, name) for each in links]) for name in vars(links[0])))


def _headers(table: pa.Table, wrong: list[str]) -> Links:
    ids = table["commit_id"].to_pylist()
    digests = [header_digest_of(row) for row in table.drop_columns(["entries"]).to_pylist()]
    known = table["digest"].to_pylist()
    _note(wrong, ids, [a != b for a, b in zip(known, digests, strict=True)], "header does not give its digest")
    named = [commit_id_of(digest) for digest in digests]
    _note(wrong, ids, [a != b for a, b in zip(ids, named, strict=True)], "id is not that of its digest")
    parents = [row[0] if row else "" for row in table["parents"].to_pylist()]
    return Links(
        table["shard"].to_numpy(),
        table["height"].to_numpy(),
        np.array(known, dtype="S64"),
        np.array(parents, "S64"),
        np.where(table["reason"].to_numpy() == "amends", b"", np.array(table["policy"].to_pylist(), "S64")),
    )


def header_digest_of(row: Mapping[str, object]) -> str:
    """The digest that the fields of a stored header give."""
    parents = row["parents"]
    assert isinstance(parents, list)
    start, end = int(str(row["epoch_start"])), int(str(row["epoch_end"]))
    return header_digest(
        text_of(row["layer"]),
        int(str(row["shard"])),
        (start, end),
        parents,
        str(row["policy"]),
        str(row["entries_digest"]),
        str(row["metadata"]),
    )


def _wrong_statistics(entries: pa.Table) -> npt.NDArray[np.bool_]:
    """For each entry, whether a float is another than its integers give."""
    n = entries["n"].to_numpy()
    limbs = [limbs_of_integers(map(int, entries[name].to_pylist())) for name in SUMS]
    empty = n == 0
    right = columns(np.where(empty, 1, n), np.stack(limbs, axis=1))
    wrong: npt.NDArray[np.bool_] = empty.copy()
    for name, values in zip(_STATISTICS, right, strict=True):
        # Compared as bits: the sign of a zero is part of a stored file too.
        stored = entries[name].to_numpy().astype(np.float64)
        np.logical_or(wrong, stored.view(np.int64) != values.view(np.int64), out=wrong)
    return wrong


def _out_of_order(regions: pa.ChunkedArray, offsets: Ints) -> npt.NDArray[np.bool_]:
    """For each entry, whether its region does not come behind the one before it in its commit."""
    names = np.array([name.encode() for name in regions.to_pylist()], dtype=object)
    wrong = np.zeros(len(names), dtype=bool)
    if len(names) > 1:
        wrong[1:] = names[1:] <= names[:-1]
    starts = offsets[:-1]
    wrong[starts[starts < len(names)]] = False
    return wrong


def _note(wrong: list[str], ids: Sequence[str], bad: Sequence[bool], what: str) -> None:
    named = [commit for commit, each in zip(ids, bad, strict=True) if each]
    if named:
        more = f" (and {len(named) - 1} more)" if len(named) > 1 else ""
        wrong.append(f"commit {named[0]}{more}: its {what}")


def chains(parts: Sequence[CommitSlice], links: Mapping[str, Links]) -> dict[int, tuple[Ints, Texts, Texts]]:
    """By shard, heights, digests and parents of the commits of a branch, by height."""
    columns_: list[tuple[Ints, Ints, Texts, Texts]] = []
    for part in parts:
        mine = links[part.file.file]
        keep = np.ones(len(mine.shard), dtype=bool)
        if part.high is not None:
            limits = np.array([part.high.get(str(shard), 0) for shard in mine.shard.tolist()], dtype=np.int64)
            keep = mine.height < limits
        columns_.append((mine.shard[keep], mine.height[keep], mine.digest[keep], mine.parent[keep]))
    if not columns_:
        return {}
    shard, height, digest, parent = (np.concatenate(column) for column in zip(*columns_, strict=True))
    order = np.lexsort((height, shard))
    shard, height, digest, parent = shard[order], height[order], digest[order], parent[order]
    return {
        each: (height[shard == each], digest[shard == each], parent[shard == each])
        for each in np.unique(shard).tolist()
    }


def broken(chain: tuple[Ints, Texts, Texts]) -> str | None:
    """What is wrong with a chain, None if nothing."""
    height, digest, parent = chain
    gaps = np.flatnonzero(height != np.arange(len(height)))
    if len(gaps):
        return f"has no commit, or several, of height {gaps[0]}"
    apart = np.flatnonzero(parent != np.r_[np.array([b""], dtype="S64"), digest[:-1]])
    if len(apart):
        return f"parts at height {apart[0]}: the commit there does not follow the one before it"
    return None
