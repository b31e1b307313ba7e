"""What of Cassandra needs no server: its URLs, and the buckets of ticks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ledger_cli.errors import MissingExtra, UsageError
from ledger_cli.stores.cassandra import CassandraStore, connection, schema
from ledger_cli.stores.cassandra.schema import place_of

HERE = Path()


@pytest.mark.parametrize(
    "url",
    [
        "cassandra://",
        "cassandra://host",
        "cassandra://host:9042/",
        "cassandra:///ledger",
        "cassandra://host:port/ledger",
        "cassandra://user:secret@host:9042/two words",
    ],
)
def test_urls_that_name_no_keyspace(url: str) -> None:
    with pytest.raises(UsageError, match="cassandra://HOST:PORT/KEYSPACE") as raised:
        CassandraStore(url, HERE)
    assert "secret" not in str(raised.value)


def test_a_url_is_shown_without_its_password() -> None:
    made = connection.Connection("cassandra://user:se%40cret@one,two:9999/ledger")
    assert made.name == "cassandra://one,two:9999/ledger"
    assert connection.Connection("cassandra://[::1]/ledger").name == "cassandra://::1:9042/ledger"


@pytest.mark.parametrize("epoch", [(0, 0), (0, 1), (7, 8), (0, 2**53), (2**52, 2**53), (990, 1000), (1000, 1001)])
def test_a_range_of_ticks_finds_the_bucket_of_every_epoch_in_it(epoch: tuple[int, int]) -> None:
    """An epoch that meets [start, end) ends above start and below end + 2**level, and so in one of those buckets."""
    level, bucket = place_of(*epoch)
    width = level + schema.BUCKET_BITS
    assert bucket << width <= epoch[1] < (bucket + 1) << width
    assert epoch[1] - epoch[0] < 2**level


def test_without_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cassandra", None)
    with pytest.raises(MissingExtra, match=r"ledger-cli\[cassandra\]"):
        CassandraStore("cassandra://127.0.0.1:1/ledger", HERE).create()
