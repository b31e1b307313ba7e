"""PostgreSQL for tests: a cluster of its own in a temporary directory, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services import free_port

_USER = "postgres"
_SECONDS = 60.0


@contextmanager
def start() -> Iterator[str]:
    """The URL of a server on a free port of 127.0.0.1, whose user has a password."""
    with cluster() as server:
        yield server.url


@contextmanager
def place(url: str) -> Iterator[str]:
    """The URL of a schema of its own."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    try:
        yield f"{url}?options=-csearch_path%3D{name}"
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


class Cluster:
    """A server that can be stopped and started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.password = uuid.uuid4().hex
        self.url = f"postgresql://ledger:{self.password}@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        secret = self.directory / "secret"
        secret.write_text(self.password)
        _own(self.directory, secret)
        options = ["--username=ledger", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        _run("initdb", "-D", str(self.directory / "data"), "--no-sync", *options)

    def start(self, synced: bool = True) -> None:
        """`synced`: it syncs what it writes, and all files there are when it comes back from a crash."""
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.directory}"]
        settings.append(f"fsync={'on' if synced else 'off'}")
        command = [_tool("postgres"), "-D", str(self.directory / "data")]
        for each in settings:
            command += ["-c", each]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory, **_user())
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError((self.directory / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once and cleanly."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End it without writing anything more."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_SECONDS)
            self._process = None

    def _answers(self) -> bool:
        return (
            subprocess.run([_tool("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False).returncode
            == 0
        )


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster."""
    with tempfile.TemporaryDirectory(prefix="ledger-postgres-", ignore_cleanup_errors=True) as directory:
        server = Cluster(Path(directory))
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _run(tool: str, *arguments: str) -> None:
    done = subprocess.run([_tool(tool), *arguments], cwd="/", capture_output=True, check=False, **_user())
    if done.returncode:
        raise RuntimeError(f"{tool}: {done.stderr.decode()}")


def _tool(name: str) -> str:
    """A program of PostgreSQL: of the path, else the newest that Debian has put beside it."""
    found = shutil.which(name)
    if found is not None:
        return found
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not installed:
        raise RuntimeError(f"{name} is not installed: apt-get install postgresql")
    return str(installed[-1])


def _user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _own(*paths: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(_USER)
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)
