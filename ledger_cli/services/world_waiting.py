"""World events whose causes have not come yet: kept by the branch, and judged again with every batch after it.

One that has waited too long is refused like any other. What waits is a small file that a move of the branch names
whole, so that nothing is lost where a process ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson
import pyarrow as pa

from ledger_cli.core.history import State, WaitingFile
from ledger_cli.errors import Corrupt
from ledger_cli.services.refusals import quarantined
from ledger_cli.services.repository import Branch, Repository

Waiting = dict[bytes, int]
"""Events as they were sent, and since when they wait, in µs since 1970."""


def read_waiting(repository: Repository, state: State) -> Waiting:
    """What waits on a branch. Corrupt where it cannot be read."""
    if state.waiting is None:
        return {}
    try:
        lines = repository.store.read_file(state.waiting.file).splitlines()
        rows = [orjson.loads(line) for line in lines]
        return {row["event"].encode(): row["since"] for row in rows}
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise Corrupt(f"{state.waiting.file} cannot be read: run `ledger verify`") from error


def write_waiting(repository: Repository, waiting: Waiting, scratch: Path) -> WaitingFile | None:
    """Publish what waits; None where nothing does."""
    if not waiting:
        return None
    path = scratch / "waiting.jsonl"
    rows = [{"event": text.decode(), "since": since} for text, since in sorted(waiting.items())]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    published = repository.store.publish(path, "quarantine/waiting-{sha256}.jsonl")
    path.unlink()  # what is published may be this very file: it must not be written to again
    return WaitingFile(**vars(published), events=len(rows))


def unknown(repository: Repository, branch: Branch, waiting: Waiting) -> Waiting:
    """What of some waiting events a branch has not met: it neither waits there, nor was it applied or refused."""
    mine = read_waiting(repository, branch.state)
    ids = {text: orjson.loads(text)["eventId"] for text in waiting if text not in mine}
    if not ids:
        return {}
    files = [file.file for file in branch.world_files()]
    named = pa.table({"event_id": pa.array(ids.values(), pa.string())})
    sql = "SELECT event_id FROM files SEMI JOIN named USING (event_id)"
    applied = repository.engine.over(files, sql, named=named)["event_id"].to_pylist() if files else []
    refused = quarantined(repository, branch, {text.decode() for text in ids})
    return {text: waiting[text] for text, name in ids.items() if name not in applied and text.decode() not in refused}


def united(all_: Iterable[Waiting]) -> Waiting:
    """What waits on any of several branches, since the earliest."""
    found: Waiting = {}
    for waiting in all_:
        for text, since in waiting.items():
            found[text] = min(since, found.get(text, since))
    return found
