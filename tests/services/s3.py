"""An S3 for tests, in a thread of this process."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

BUCKET = "ledger-tests"
KEYS = {"AWS_ACCESS_KEY_ID": "ledger", "AWS_SECRET_ACCESS_KEY": "ledger-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def place(url: str = "") -> Iterator[str]:
    """The URL of an empty folder; within it the environment names the server. `url`: of another server."""
    named = {**KEYS, "AWS_ENDPOINT_URL": url or _started()}
    with patch.dict(os.environ, named):
        _make_bucket(named["AWS_ENDPOINT_URL"])
        _forget_clients()
        yield f"s3://{BUCKET}/{uuid.uuid4().hex}/world"


def _forget_clients() -> None:
    """Clients are kept by the arguments they were made with, which do not tell of the environment."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


@cache
def _started() -> str:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it has a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


@cache
def _make_bucket(url: str) -> None:
    import boto3

    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
