"""The tables that SQL engines keep commits and refs in, and the steps by which older ones are brought up to date."""

from __future__ import annotations

from dataclasses import dataclass

MIGRATIONS = (
    (
        "CREATE TABLE batches (batch {text} PRIMARY KEY, created_at {time} NOT NULL, longest BIGINT NOT NULL)",
        "CREATE INDEX batches_longest ON batches (longest)",
        """CREATE TABLE commits (
            commit_id {uuid} PRIMARY KEY,
            layer {text} NOT NULL,
            epoch_start BIGINT NOT NULL,
            epoch_end BIGINT NOT NULL,
            created_at {time} NOT NULL,
            summary {jsonb} NOT NULL,
            digest {text} NOT NULL,
            shard BIGINT NOT NULL,
            height BIGINT NOT NULL,
            parents {json} NOT NULL,
            policy {text} NOT NULL,
            entries_digest {text} NOT NULL,
            metadata {json} NOT NULL,
            reason {text} NOT NULL,
            batch {text} NOT NULL,
            regions BIGINT NOT NULL,
            archived BOOLEAN NOT NULL)""",
        "CREATE INDEX commits_created_at ON commits (created_at)",
        "CREATE INDEX commits_batch ON commits (batch, shard, height)",
        """CREATE TABLE repeats (
            commit_id {uuid} NOT NULL {commit}, batch {text} NOT NULL, PRIMARY KEY (commit_id, batch))""",
        "CREATE INDEX repeats_batch ON repeats (batch)",
        "{serial_before}",
        """CREATE TABLE commit_entries (
            id {serial},
            commit_id {uuid} NOT NULL {commit},
            region_id {text} NOT NULL,
            weight DOUBLE PRECISION NOT NULL,
            activity_mean DOUBLE PRECISION NOT NULL,
            activity_var DOUBLE PRECISION NOT NULL,
            entity_refs {jsonb},
            created_at {time} NOT NULL,
            n BIGINT NOT NULL,
            sum_activity {exact} NOT NULL,
            sum_activity2 {exact} NOT NULL,
            sum_weight {exact} NOT NULL,
            epoch_start BIGINT NOT NULL,
            epoch_end BIGINT NOT NULL)""",
        "CREATE INDEX commit_entries_commit_id ON commit_entries (commit_id)",
        "CREATE INDEX commit_entries_region_id ON commit_entries (region_id{ranged})",
        """CREATE TABLE entity_state (
            entity_id {text} PRIMARY KEY,
            last_tick BIGINT NOT NULL,
            activity DOUBLE PRECISION NOT NULL,
            activity_history {jsonb} NOT NULL,
            metadata {jsonb} NOT NULL,
            activity_history_text {text} NOT NULL,
            metadata_text {text} NOT NULL)""",
        "CREATE TABLE moves (ref {text} NOT NULL, seq BIGINT NOT NULL, move {bytes} NOT NULL, PRIMARY KEY (ref, seq))",
    ),
)
"""The statements that lead from one version to the next. Released ones never change; a change is one more step.

`batch` of a commit is the first that brought it, `repeats` are the others. `regions`: how many entries it has, also
where they are archived. `longest`: no epoch of a batch is longer, so that a range of ticks is one of `epoch_end`.
`…_text`: as it was given, which not every JSON type keeps."""


@dataclass(frozen=True)
class Types:
    """How an engine spells the types of the tables."""

    uuid: str
    text: str
    """Orders by code point."""
    json: str
    """Comes back as it was given."""
    jsonb: str
    """For whoever looks into the engine."""
    time: str
    exact: str
    """Whole numbers of 128 bits and a sign."""
    bytes: str
    serial: str
    """A primary key that counts by itself."""
    serial_before: str = ""
    """What has to be there for it."""
    commit: str = "REFERENCES commits (commit_id)"
    ranged: str = ", epoch_end"
    """What makes the index of regions one of their ranges of ticks too."""

    def statements(self, version: int) -> list[str]:
        """The steps that lead from a version to the next."""
        spelled = (statement.format(**vars(self)) for statement in MIGRATIONS[version])
        return [statement for statement in spelled if statement]
