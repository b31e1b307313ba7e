"""The S3 of Ceph for tests: one monitor, one OSD that keeps its objects in memory, and the gateway before them.

Needed: `apt-get install --no-install-recommends radosgw ceph-osd ceph-mon`. It is up after some seconds, as any user.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services import free_port
from tests.services.s3 import KEYS, place

__all__ = ["Cluster", "cluster", "place", "start"]

_SECONDS = 60.0
"""So long each step may take: Ceph's own programs wait for five minutes."""

# Within the machine nobody has to prove to be one of the cluster; the gateway asks for the keys of S3 all the same.
# What is written to the monitor is proposed at once instead of once a second.
_SETTINGS = """[global]
fsid = {cluster}
mon_host = v2:127.0.0.1:{monitor}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_mon_client_mode = crc
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_data_avail_crit = 1
mon_allow_pool_size_one = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 1073741824
rgw_thread_pool_size = 64
mon_data = {directory}/monitor
osd_data = {directory}/osd
rgw_data = {directory}/gateway
run_dir = {directory}
crash_dir = {directory}
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
admin_socket =
"""


@contextmanager
def start() -> Iterator[str]:
    """The URL of a fresh server, which knows the keys of `KEYS`."""
    with cluster() as server:
        yield server.url


class Cluster:
    """An S3 whose gateway can be killed and started again; what it has acknowledged stays in the OSD."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{free_port()}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        """Monitor, OSD and the user of S3."""
        monitor, osd, made = free_port(), str(uuid.uuid4()), str(uuid.uuid4())
        settings = _SETTINGS.format(cluster=made, monitor=monitor, directory=self.directory)
        (self.directory / "ceph.conf").write_text(settings)
        for name in ("monitor", "osd", "gateway"):
            (self.directory / name).mkdir()
        address = ["--addv", "a", f"[v2:127.0.0.1:{monitor}]"]
        self._run("monmaptool", "--create", "--fsid", made, *address, f"{self.directory}/map")
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", f"{self.directory}/map")
        self._start("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", osd, "0")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._start("ceph-osd", "-i", "0")
        keys = ["--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"]]
        self._run("radosgw-admin", "user", "create", "--uid", "ledger", "--display-name", "ledger", *keys)

    def start(self) -> None:
        """The gateway."""
        endpoint = self.url.removeprefix("http://")
        process = self._start("radosgw", "-n", "client.rgw.a", f"--rgw-frontends=beast endpoint={endpoint}")
        end = time.monotonic() + _SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"radosgw does not start:\n{self._said()}")
            time.sleep(0.05)

    def crash(self) -> None:
        """The gateway is gone at once."""
        self._end("radosgw")

    def stop(self) -> None:
        for name in reversed(list(self._processes)):
            self._end(name)

    def limit(self, objects: int) -> None:
        """The gateway takes no more than so many in a bucket."""
        self._run("radosgw-admin", "quota", "set", "--quota-scope=bucket", "--uid=ledger", f"--max-objects={objects}")
        self._run("radosgw-admin", "quota", "enable", "--quota-scope=bucket", "--uid=ledger")

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(name, *arguments), env=_clean(), capture_output=True, timeout=_SECONDS, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments)}: {done.stderr.decode()}\n{self._said()}")

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.directory / f"{name}.output", "ab") as output:
            process = subprocess.Popen(
                self._command(name, *arguments, "-f"), env=_clean(), stdout=output, stderr=output, cwd=self.directory
            )
        self._processes[name] = process
        return process

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait(_SECONDS)

    def _command(self, name: str, *arguments: str) -> list[str]:
        found = shutil.which(name)
        if found is None:
            wanted = "apt-get install --no-install-recommends radosgw ceph-osd ceph-mon"
            raise RuntimeError(f"{name} is not installed: {wanted}")
        return [found, *([] if name == "monmaptool" else ["-c", f"{self.directory}/ceph.conf"]), *arguments]

    def _answers(self) -> bool:
        host, _, port = self.url.removeprefix("http://").partition(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            return False
        return True

    def _said(self) -> str:
        paths = [*self.directory.glob("*.output"), *self.directory.glob("*.log")]
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}" for path in sorted(paths))


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server."""
    with tempfile.TemporaryDirectory(prefix="ledger-ceph-", ignore_cleanup_errors=True) as directory:
        server = Cluster(Path(directory))
        try:
            server.make()
            server.start()
            yield server
        finally:
            server.stop()


def _clean() -> dict[str, str]:
    """Without what is meant for the Python of the tests: one of the programs runs in that of the system."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CEPH_"))}
