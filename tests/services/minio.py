"""A MinIO. Its program is that on the PATH, or is built by Go into the user's cache, once, which takes minutes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.s3 import KEYS, place

__all__ = ["VARIABLE", "place", "start"]

VARIABLE = "LEDGER_TEST_S3"
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
_WAIT_SECONDS = 30


@contextmanager
def start() -> Iterator[str]:
    """The URL of a fresh server, which knows the keys of `KEYS`."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"127.0.0.1:{_free_port()}"
        keys = {
            "MINIO_ROOT_USER": KEYS["AWS_ACCESS_KEY_ID"],
            "MINIO_ROOT_PASSWORD": KEYS["AWS_SECRET_ACCESS_KEY"],
        }
        log = Path(directory, "log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [_program(), "server", f"{directory}/data", "--address", address],
                env={**os.environ, **keys},
                stdout=output,
                stderr=output,
            )
        try:
            _wait(server, address, log)
            yield f"http://{address}"
        finally:
            server.terminate()
            server.wait(_WAIT_SECONDS)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    host, port = address.split(":")
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"MinIO does not start:\n{log.read_text()}") from None
            time.sleep(0.1)


def _program() -> str:
    found = shutil.which("minio")
    if found is not None:
        return found
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledger-tests" / "go"
    if not (home / "bin" / "minio").exists():
        if shutil.which("go") is None:
            raise RuntimeError("no minio on the PATH, and no Go (1.24 or newer) to build it: install one of the two")
        subprocess.run(
            ["go", "install", "-trimpath", f"github.com/minio/minio@{VERSION}"],
            env={**os.environ, "GOPATH": str(home), "GOFLAGS": "-modcacherw"},
            check=True,
        )
    return str(home / "bin" / "minio")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
