"""What a RocksDB store holds: keys that order as they are asked for, records of entries, blocks of commits.

Integers in keys are unsigned and big-endian, so that bytes order as numbers do; a text in front of something is
preceded by its length, so that none is the beginning of another.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.commit import REGION_COMMIT, CommitRow, EntryRow
from ledger_cli.core.moments import SUMS
from ledger_cli.stores.common.rows import STORED

RECORD = np.dtype(
    [
        ("commit_id", "V16"),
        ("shard", "<i8"),
        ("height", "<i8"),
        ("epoch_start", "<i8"),
        ("epoch_end", "<i8"),
        ("n", "<i8"),
        *[(name, "V16") for name in SUMS],
        ("weight_value", "<f8"),
        ("activity_mean", "<f8"),
        ("activity_var", "<f8"),
    ]
)
"""An entry, 128 bytes. The sums are two's complement, the low byte first: what decimal128 of Arrow is made of."""
_PLACE = ("shard", "height", "epoch_start", "epoch_end")
_TEXTS = ("digest", "layer", "policy", "entries_digest", "metadata", "reason")
_EPOCH = ("epoch_start", "epoch_end")
_BODY = [name for name in CommitRow._fields if name not in ("commit_id", "shard", "height")]
_HEAD = np.dtype([("part", "<u4"), ("shard", "<i8"), ("height", "<i8")])
_PLACE_IN = struct.Struct("<Iqq")
_DOUBLES = ("weight_value", "activity_mean", "activity_var")
_NUMBERS = ("n", *_DOUBLES)
_RECORDS_A_BLOCK = 256
"""Few enough that little is read in vain for a narrow range of ticks."""
_TAIL = np.dtype([("width", "u1"), ("end", ">u8"), ("batch", ">u8"), ("part", ">u8")])
_NUMBER = struct.Struct(">Q")
_LENGTH = struct.Struct(">I")
_DIGITS = np.array([at for at in range(36) if at not in (8, 13, 18, 23)])
"""Where the text of a UUID has its digits."""
_LARGEST = 2**64 - 1

Records = npt.NDArray[Any]


def number_of(value: int) -> bytes:
    """An integer as part of a key."""
    return _NUMBER.pack(value)


def integer_of(part: bytes) -> int:
    """What `number_of` was made of."""
    value: int = _NUMBER.unpack(part)[0]
    return value


def head_of(text: str) -> bytes:
    """A text as the beginning of a key."""
    encoded = text.encode()
    return _LENGTH.pack(len(encoded)) + encoded


def text_of(key: bytes) -> str:
    """The text that a key begins with."""
    (length,) = _LENGTH.unpack_from(key)
    return key[4 : 4 + length].decode()


def id_of(commit_id: str) -> bytes | None:
    """The 16 bytes of a commit's id; None for a text that is none."""
    try:
        raw = bytes.fromhex(commit_id.replace("-", ""))
    except ValueError:
        return None
    return raw if len(raw) == 16 else None


def split_ids(commit_ids: pa.Array | pa.ChunkedArray) -> list[bytes]:
    """The 16 bytes of the id of each commit."""
    raw = _raw_ids(commit_ids)
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


def serialised(commits: pa.Table) -> bytes:
    """Rows of `STORED` as the message of one Arrow record batch, without its schema."""
    (batch,) = commits.combine_chunks().to_batches()
    message: bytes = batch.serialize().to_pybytes()
    return message


def deserialised(value: bytes) -> pa.Table:
    """What `serialised` was given."""
    return pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(value), STORED)])


def single_commits(commits: pa.Table, parts: npt.NDArray[np.uint32]) -> list[bytes]:
    """Each row of `STORED` as a value of its own, which is read sooner than a row of a block.

    A value is part, shard and height, and the other columns but the id as a list in JSON; so are the entries, with null
    where they are archived. Doubles have the digits that tell them from all others. `parts`: of the block that each
    row is in too.
    """
    lists = commits["entries"].combine_chunks()
    entry = pc.list_flatten(lists)
    ends = np.r_[0, np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy())]
    sums = [_between('"', entry.field(name), '"') for name in SUMS]
    doubles = [_digits(entry.field(name)) for name in _DOUBLES]
    rows = _listed(_quoted(entry.field("region")), entry.field("n").cast(pa.string()), *sums, *doubles)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), rows), ",")
    entries = pc.if_else(pc.is_valid(lists), _between("[", joined, "]"), "null")
    parents = _between(
        '["', pc.binary_join(commits["parents"].combine_chunks().cast(pa.list_(pa.string())), '","'), '"]'
    )
    columns = {name: _quoted(commits[name].combine_chunks()) for name in _TEXTS}
    columns |= {name: commits[name].combine_chunks().cast(pa.string()) for name in _EPOCH}
    columns |= {"parents": pc.if_else(pc.equal(parents, '[""]'), "[]", parents), "entries": entries}
    heads = np.empty(len(lists), _HEAD)
    heads["part"] = parts
    for name in ("shard", "height"):
        heads[name] = commits[name].to_numpy()
    raw = pa.Array.from_buffers(pa.binary(_HEAD.itemsize), len(heads), [None, pa.py_buffer(heads.tobytes())])
    body = _listed(*(columns[name] for name in _BODY)).cast(pa.binary())
    values: list[bytes] = pc.binary_join_element_wise(raw.cast(pa.binary()), body, b"").to_pylist()
    return values


def place_in(value: bytes) -> tuple[int, int, int]:
    """(part, shard, height) of a value of `single_commits`."""
    part, shard, height = _PLACE_IN.unpack_from(value)
    return part, shard, height


def commit_in(raw: bytes, value: bytes) -> CommitRow:
    """The commit of a value of `single_commits`. `raw`: the 16 bytes of its id."""
    _, shard, height = _PLACE_IN.unpack_from(value)
    body = value[_PLACE_IN.size :]
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Doubles that are no numbers, which JSON has not, in Python's words.
        found = json.loads(body)
    digest, layer, start, end, parents, policy, entries_digest, metadata, reason, entries = found
    rows = None if entries is None else [EntryRow(*each) for each in entries]
    hexed = raw.hex()
    commit_id = f"{hexed[:8]}-{hexed[8:12]}-{hexed[12:16]}-{hexed[16:20]}-{hexed[20:]}"
    place = (shard, height, start, end)
    return CommitRow(commit_id, digest, layer, *place, parents, policy, entries_digest, metadata, reason, rows)


def _listed(*texts: pa.Array) -> pa.Array:
    """Element by element, values in JSON as the JSON of a list."""
    return _between("[", pc.binary_join_element_wise(*texts, ","), "]")


def _between(before: str, texts: pa.Array, behind: str) -> pa.Array:
    return pc.binary_join_element_wise(before, texts, behind, "")


def _quoted(texts: pa.Array) -> pa.Array:
    """Texts in JSON: each that differs is made once."""
    known = texts.dictionary_encode()
    quoted = [orjson.dumps(text).decode() for text in known.dictionary.to_pylist()]
    return pa.array(quoted, pa.string()).take(known.indices)


def _digits(doubles: pa.Array) -> pa.Array:
    """Doubles as Python's JSON reads them, so that whole ones stay doubles."""
    values, texts = doubles.to_numpy(), doubles.cast(pa.string())
    if (np.trunc(values) == values).any():
        texts = pc.if_else(pc.match_substring_regex(texts, "[.einf]"), texts, _between("", texts, ".0"))
    if not np.isfinite(values).all():
        texts = pc.replace_substring(pc.replace_substring(texts, "inf", "Infinity"), "nan", "NaN")
    return texts


def entry_blocks(commits: pa.Table, batch: int, part: int) -> tuple[list[bytes], list[bytes]]:
    """The entries of commits, region by region, as keys and values: at most so many records in a value.

    A key is region, width, end, batch, part: `end` is the highest epoch_end of the block, and its lowest epoch_start
    is above `end - 2**width`. So a range of ticks is one range of keys a width, however long single epochs are.
    `part`: a number from which on no block of the batch has been numbered.
    """
    lists = commits["entries"].combine_chunks()
    entry, commit = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()
    if not len(commit):
        return [], []
    region = entry.field("region").dictionary_encode()
    code = region.indices.to_numpy()
    records = np.empty(len(code), RECORD)
    records["commit_id"] = np.frombuffer(_raw_ids(commits["commit_id"]), "V16")[commit]
    for name in _PLACE:
        records[name] = commits[name].to_numpy()[commit]
    for name in _NUMBERS:
        records[name] = entry.field(name).to_numpy()
    for name in SUMS:
        records[name] = _wide(entry.field(name))
    order = np.lexsort((records["epoch_end"], code))
    code, records = code[order], records[order]

    first = np.flatnonzero(np.r_[True, code[1:] != code[:-1]])
    lengths = np.diff(np.r_[first, len(code)])
    starts = np.flatnonzero((np.arange(len(code)) - np.repeat(first, lengths)) % _RECORDS_A_BLOCK == 0)
    tails = np.empty(len(starts), _TAIL)
    tails["end"] = np.maximum.reduceat(records["epoch_end"], starts)
    spans = tails["end"].astype(np.int64) - np.minimum.reduceat(records["epoch_start"], starts)
    tails["width"] = np.frexp(spans.astype(np.float64))[1]
    tails["batch"] = batch
    tails["part"] = part + np.arange(len(starts))
    heads = [head_of(name) for name in region.dictionary.to_pylist()]
    raw = records.tobytes()
    bounds = [*(starts * RECORD.itemsize).tolist(), len(raw)]
    keys = [heads[at] + tail.tobytes() for at, tail in zip(code[starts].tolist(), tails, strict=True)]
    return keys, [raw[low:high] for low, high in itertools.pairwise(bounds)]


def bounds_of(head: bytes, width: int, low: int, high: int | None) -> tuple[bytes, bytes]:
    """The keys, from the first to before the second, of blocks that may have epoch_end > low and epoch_start < high.

    Of one region (`head`) and width.
    """
    start = head + bytes([width])
    past = _LARGEST if high is None else min(high + 2**width, _LARGEST)
    return start + number_of(low + 1), start + number_of(past)


def batch_of(key: bytes) -> int:
    """The batch of a block of entries."""
    return integer_of(key[-16:-8])


def records_of(values: Sequence[bytes]) -> Records:
    """The records of blocks of entries."""
    return np.frombuffer(b"".join(values), RECORD)


def without(records: Records, ids: pa.Array) -> Records:
    """The records that are of no commit of these (16 bytes each)."""
    raw = pa.py_buffer(np.ascontiguousarray(records["commit_id"]).tobytes())
    mine = pa.Array.from_buffers(pa.binary(16), len(records), [None, raw])
    kept: Records = records[~pc.is_in(mine, ids).to_numpy(zero_copy_only=False)]
    return kept


def region_table(region: str, records: Records) -> pa.Table:
    """Records of a region as rows of `REGION_COMMIT`."""
    columns = {
        "commit_id": _texts(records["commit_id"]),
        "region": pa.repeat(region, len(records)),
        **{name: pa.array(records[name]) for name in (*_PLACE, *_NUMBERS)},
        **{name: _decimals(records[name]) for name in SUMS},
    }
    return pa.table([columns[name] for name in REGION_COMMIT.names], schema=REGION_COMMIT)


def _raw_ids(commit_ids: pa.Array | pa.ChunkedArray) -> bytes:
    return bytes.fromhex("".join(commit_ids.to_pylist()).replace("-", ""))


def _texts(ids: Records) -> pa.Array:
    size = len(ids)
    texts = np.full((size, 36), ord("-"), np.uint8)
    texts[:, _DIGITS] = np.frombuffer(ids.tobytes().hex().encode(), np.uint8).reshape(size, 32)
    offsets = np.arange(size + 1, dtype=np.int32) * 36
    return pa.Array.from_buffers(pa.string(), size, [None, pa.py_buffer(offsets), pa.py_buffer(texts)])


def _wide(texts: pa.Array) -> Records:
    """Decimal texts as 16 bytes each. No decimal of 128 bits holds 39 digits by name, so they pass through 256."""
    wide = texts.cast(pa.decimal256(76, 0))
    raw = np.frombuffer(wide.buffers()[1], np.dtype([("low", "V16"), ("high", "V16")]))
    low: Records = raw["low"][wide.offset : wide.offset + len(wide)]
    return low


def _decimals(wide: Records) -> pa.Array:
    raw = pa.py_buffer(np.ascontiguousarray(wide).tobytes())
    return pa.Array.from_buffers(pa.decimal128(38, 0), len(wide), [None, raw]).cast(pa.string())
