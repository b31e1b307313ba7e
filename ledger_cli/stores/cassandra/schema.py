"""The tables, and what is written to and read from them.

CQL counts no BIGSERIAL and knows no foreign keys: a row of `commit_entries` is named by its region, place and commit.
Each persist of a batch is a `run` of its own, so that what one client deletes can never hide what another one writes
later with a slower clock.
"""

from __future__ import annotations

MIGRATIONS = (
    (
        """CREATE TABLE IF NOT EXISTS moves (
            ref text, page bigint, seq bigint, move blob, PRIMARY KEY ((ref, page), seq))""",
        """CREATE TABLE IF NOT EXISTS batches (
            "batch" text, run uuid, created_at timestamp, whole boolean, PRIMARY KEY ("batch", run))""",
        """CREATE TABLE IF NOT EXISTS batch_commits (
            run uuid, page bigint, shard bigint, height bigint, commit_id uuid,
            PRIMARY KEY ((run, page), shard, height, commit_id))""",
        """CREATE TABLE IF NOT EXISTS commits (
            commit_id uuid, run uuid, part int,
            layer text, epoch_start bigint, epoch_end bigint, created_at timestamp, summary text,
            digest text, shard bigint, height bigint, parents frozen<list<text>>, policy text, entries_digest text,
            metadata text, reason text, "batch" text, archived boolean, content blob,
            PRIMARY KEY (commit_id, run, part))""",
        """CREATE TABLE IF NOT EXISTS commit_entries (
            region_id text, level int, bucket bigint, epoch_end bigint, commit_id uuid, run uuid,
            weight double, activity_mean double, activity_var double, entity_refs text, created_at timestamp,
            n bigint, sum_activity varint, sum_activity2 varint, sum_weight varint,
            shard bigint, height bigint, epoch_start bigint,
            PRIMARY KEY ((region_id, level, bucket), epoch_end, commit_id, run))""",
        """CREATE TABLE IF NOT EXISTS region_buckets (
            region_id text, level int, bucket bigint, PRIMARY KEY (region_id, level, bucket))""",
        """CREATE TABLE IF NOT EXISTS entity_state (
            entity_id text PRIMARY KEY, last_tick bigint, activity double, activity_history text, metadata text)""",
    ),
)
"""The statements that lead from one version to the next. Released ones never change; a change is one more step.

- `batch` stands in quotes, and entries are called `content`, as CQL has words of these names.
- `moves` of a ref are kept in pages, as `batch_commits` of a run are: no partition grows without bounds.
- `commits`: the row of part 0 has the header; `content` of all parts is the entries as Arrow record batches, null where
  they are archived.
- `commit_entries`: the same entries by region. `level` is the bit length of the epoch's length, and a bucket is
  2**(level + 17) ticks wide: so many epochs of that length meet in one partition, and a range of ticks is few of them.
  `region_buckets` says which there are.
"""

HEADER = (
    "commit_id, run, part, layer, epoch_start, epoch_end, created_at, summary, digest, shard, height, parents, policy, "
    'entries_digest, metadata, reason, "batch", archived, content'
)
ENTRY = (
    "region_id, level, bucket, epoch_end, commit_id, run, weight, activity_mean, activity_var, created_at, n, "
    "sum_activity, sum_activity2, sum_weight, shard, height, epoch_start"
)
ENTRY_TOLD = f"{ENTRY}, entity_refs"
"""An entry with its contributors; to write a null in place of them would leave a tombstone."""


def _insert(table: str, columns: str, options: str = "") -> str:
    marks = ", ".join("?" * len(columns.split(",")))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks}){options}"


ADD_MOVE = _insert("moves", "ref, page, seq, move", " IF NOT EXISTS")
READ_MOVE = "SELECT move FROM moves WHERE ref = ? AND page = ? AND seq = ?"
LAST_MOVE = "SELECT seq FROM moves WHERE ref = ? AND page = ? ORDER BY seq DESC LIMIT 1"
MOVES = "SELECT seq FROM moves WHERE ref = ? AND page = ?"
REFS = "SELECT DISTINCT ref, page FROM moves"

ADD_RUN = _insert("batches", '"batch", run, created_at, whole')
RUNS = 'SELECT "batch", run, created_at, whole FROM batches'
RUNS_OF = RUNS + ' WHERE "batch" = ?'
SPOIL_RUN = 'DELETE whole FROM batches USING TIMESTAMP ? WHERE "batch" = ? AND run = ?'
DROP_RUN = 'DELETE FROM batches USING TIMESTAMP ? WHERE "batch" = ? AND run = ?'

ADD_MEMBER = _insert("batch_commits", "run, page, shard, height, commit_id")
MEMBERS = "SELECT commit_id FROM batch_commits WHERE run = ? AND page = ?"
DROP_MEMBERS = "DELETE FROM batch_commits USING TIMESTAMP ? WHERE run = ? AND page = ?"

ADD_COMMIT = _insert("commits", HEADER, " USING TIMESTAMP ?")
ADD_PART = _insert("commits", "commit_id, run, part, content", " USING TIMESTAMP ?")
COMMIT = f"SELECT {HEADER} FROM commits WHERE commit_id = ?"
COMMIT_OF = COMMIT + " AND run = ?"
WRITTEN = "SELECT writetime(archived) FROM commits WHERE commit_id = ? AND run = ? AND part = 0"
MARK = "UPDATE commits USING TIMESTAMP ? SET archived = ? WHERE commit_id = ? AND run = ? AND part = 0"
DROP_BLOB = "DELETE content FROM commits USING TIMESTAMP ? WHERE commit_id = ? AND run = ? AND part = ?"
DROP_COMMIT = "DELETE FROM commits USING TIMESTAMP ? WHERE commit_id = ? AND run = ?"

ADD_ENTRY = _insert("commit_entries", ENTRY, " USING TIMESTAMP ?")
ADD_ENTRY_TOLD = _insert("commit_entries", ENTRY_TOLD, " USING TIMESTAMP ?")
DROP_ENTRY = """DELETE FROM commit_entries USING TIMESTAMP ?
    WHERE region_id = ? AND level = ? AND bucket = ? AND epoch_end = ? AND commit_id = ? AND run = ?"""
IN_BUCKET = """SELECT run, CAST(commit_id AS text), shard, height, epoch_start, epoch_end, region_id, n,
    CAST(sum_activity AS text), CAST(sum_activity2 AS text), CAST(sum_weight AS text),
    weight, activity_mean, activity_var
    FROM commit_entries WHERE region_id = ? AND level = ? AND bucket = ? AND epoch_end > ? AND epoch_end < ?"""
"""As text where text is wanted: the driver takes half of its time to make a UUID or a large integer of each."""
ADD_BUCKET = _insert("region_buckets", "region_id, level, bucket")
BUCKETS = "SELECT level, bucket FROM region_buckets WHERE region_id = ?"

ADD_ENTITY = _insert("entity_state", "entity_id, last_tick, activity, activity_history, metadata", " USING TIMESTAMP ?")
ENTITIES = "SELECT entity_id, last_tick, activity, activity_history, metadata FROM entity_state"
ENTITY = ENTITIES + " WHERE entity_id = ?"
ENTITY_WRITTEN = "SELECT entity_id, last_tick, writetime(last_tick) FROM entity_state WHERE entity_id = ?"

BUCKET_BITS = 17


def place_of(epoch_start: int, epoch_end: int) -> tuple[int, int]:
    """(level, bucket) of an epoch."""
    level = (epoch_end - epoch_start).bit_length()
    return level, epoch_end >> (level + BUCKET_BITS)
