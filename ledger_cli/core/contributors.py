"""Contributing entities: of each entry of a commit, who gave its region most weight in the epoch.

They are derived from the ticks and stand beside a commit: no digest covers them, so the same events and policy give the
same ids with and without. The choice depends on nothing but the rows of the epoch: the largest sum of
`q(base_weight × f(activity))` first, of equal ones the entity id that comes first by code point.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger_cli.core.jcs import text_of

COLUMN = "entity_refs"
CONTRIBUTORS = pa.schema(
    [
        pa.field("commit_id", pa.string(), nullable=False),
        pa.field("shard", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field(COLUMN, pa.list_(pa.field("element", pa.string(), nullable=False)), nullable=False),
    ]
)
"""One row an entry: entity ids, the largest contributor first."""
_TEXTS = pa.field(COLUMN, pa.list_(pa.string()))


def with_contributors(commits: pa.Table, contributors: pa.Table) -> pa.Table:
    """Rows of `core.commit.COMMIT` with a column `entity_refs`: of each entry the JSON text of its entity ids.

    `contributors`: rows of `CONTRIBUTORS`, those of other commits among them; what they do not know is null.
    """
    lists = commits["entries"].combine_chunks()
    ids = commits["commit_id"].combine_chunks()
    owner, region = ids.take(pc.list_parent_indices(lists)), pc.list_flatten(lists).field("region")
    known = contributors.filter(pc.is_in(contributors["commit_id"], ids))
    there = pc.binary_join_element_wise(known["commit_id"], known["region"], " ").combine_chunks()
    place = pc.index_in(pc.binary_join_element_wise(owner, region, " "), there)
    texts = json_texts(known[COLUMN].combine_chunks()).take(place)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False))
    offsets = pa.array(np.r_[0, ends], pa.int32())
    return commits.append_column(_TEXTS, pa.ListArray.from_arrays(offsets, texts))


def json_texts(lists: pa.ListArray) -> pa.Array:
    """The canonical JSON text of each list of texts; none of them is null."""
    encoded = lists.flatten().dictionary_encode()
    quoted = pa.array([text_of(each) for each in encoded.dictionary.to_pylist()], pa.string())
    ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))
    again = pa.ListArray.from_arrays(pa.array(np.r_[0, ends], pa.int32()), quoted.take(encoded.indices))
    return pc.binary_join_element_wise("[", pc.binary_join(again, ","), "]", "")
