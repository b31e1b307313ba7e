"""One node of Apache Cassandra, from the jars that Maven fetches once into a cache outside the repository.

Needed: Java 17 and Maven. The cache is `LEDGER_TEST_CACHE`, else `~/.cache/ledger-tests`.
"""

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
from typing import Any

from tests.services import free_port

VERSION = "5.0.5"
KEYSPACE = "ledger_tests"
_START_SECONDS = 180

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>ledger.tests</groupId><artifactId>cassandra</artifactId><version>1</version><packaging>pom</packaging>
<dependencies><dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>
<version>{VERSION}</version></dependency></dependencies></project>
"""
_SETTINGS = """
cluster_name: ledger tests
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "127.0.0.1:{storage}"}}]
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {native}
commitlog_sync: periodic
commitlog_sync_period: 10s
commitlog_segment_size: 8MiB
commitlog_total_space: 512MiB
data_file_directories: [{directory}/data]
commitlog_directory: {directory}/commitlog
hints_directory: {directory}/hints
saved_caches_directory: {directory}/saved_caches
cdc_raw_directory: {directory}/cdc_raw
auto_snapshot: false
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
write_request_timeout: 20s
read_request_timeout: 20s
range_request_timeout: 20s
truncate_request_timeout: 60s
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
"""
_LOGGING = """<configuration><appender name="file" class="ch.qos.logback.core.FileAppender">
<file>{directory}/system.log</file><encoder><pattern>%-5level %date %msg%n%ex</pattern></encoder></appender>
<root level="INFO"><appender-ref ref="file"/></root></configuration>
"""
_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
)
_OPENS = (
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "jdk.management/com.sun.management.internal",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang.reflect",
    "jdk.compiler/com.sun.tools.javac",
    "java.base/java.lang",
    "java.base/java.util",
)


@contextmanager
def start() -> Iterator[str]:
    """The URL of a keyspace on a node of its own."""
    with tempfile.TemporaryDirectory(prefix="ledger-cassandra-") as name:
        directory = Path(name)
        native, storage = free_port(), free_port()
        places = {"directory": directory, "native": native, "storage": storage}
        (directory / "cassandra.yaml").write_text(_SETTINGS.format(**places))
        (directory / "logback.xml").write_text(_LOGGING.format(**places))
        with open(directory / "output", "wb") as output:
            server = subprocess.Popen(_command(directory), stdout=output, stderr=output, cwd=directory)
        try:
            _wait(server, directory, native)
            _make_keyspace(native)
            yield f"cassandra://127.0.0.1:{native}/{KEYSPACE}"
        finally:
            server.kill()
            server.wait()


@contextmanager
def place(url: str) -> Iterator[str]:
    """The URL of a keyspace whose tables are empty: the same for all, as it takes seconds to make one with tables."""
    session = _session(int(url.rpartition(":")[2].partition("/")[0]))
    try:
        tables = session.execute(f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{KEYSPACE}'")
        for (table,) in [tuple(row) for row in tables]:
            if table != "schema_version" and session.execute(f"SELECT * FROM {KEYSPACE}.{table} LIMIT 1").one():
                session.execute(f"TRUNCATE {KEYSPACE}.{table}", timeout=60)
    finally:
        session.cluster.shutdown()
    yield url


def _jars() -> Path:
    cache = Path(os.environ.get("LEDGER_TEST_CACHE") or Path.home() / ".cache" / "ledger-tests")
    jars = cache / f"cassandra-{VERSION}"
    if not jars.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as name:
            (Path(name) / "pom.xml").write_text(_POM)
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={name}/jars", "-DincludeScope=runtime"]
            command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={cache}/maven", "-f", f"{name}/pom.xml", *goal]
            subprocess.run(command, check=True)
            shutil.move(f"{name}/jars", jars)
    return jars


def _command(directory: Path) -> list[str]:
    settings = {
        "cassandra.config": f"file://{directory}/cassandra.yaml",
        "cassandra.storagedir": directory,
        "cassandra.logdir": directory,
        "logback.configurationFile": f"file://{directory}/logback.xml",
        "java.io.tmpdir": directory,
        "cassandra.ring_delay_ms": 100,
        "cassandra.skip_wait_for_gossip_to_settle": 0,
        "cassandra.superuser_setup_delay_ms": 0,
        "io.netty.tryReflectionSetAccessible": "true",
        "jdk.attach.allowAttachSelf": "true",
    }
    return [
        "java",
        *("-Xms1G", "-Xmx1G", "-XX:+UseG1GC", "-XX:TieredStopAtLevel=4", "-XX:-UsePerfData"),
        *(part for each in _EXPORTS for part in ("--add-exports", f"{each}=ALL-UNNAMED")),
        *(part for each in _OPENS for part in ("--add-opens", f"{each}=ALL-UNNAMED")),
        *(f"-D{name}={value}" for name, value in settings.items()),
        *("-cp", f"{_jars()}/*", "org.apache.cassandra.service.CassandraDaemon"),
    ]


def _wait(server: subprocess.Popen[bytes], directory: Path, port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    said = [path.read_text(errors="replace")[-3000:] for path in map(directory.joinpath, ("output", "system.log"))]
    raise RuntimeError("Cassandra did not start:\n" + "\n".join(said))


def _make_keyspace(port: int) -> None:
    session = _session(port)
    try:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {replication}", timeout=60)
    finally:
        session.cluster.shutdown()


def _session(port: int) -> Any:
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import RoundRobinPolicy

    profiles = {EXEC_PROFILE_DEFAULT: ExecutionProfile(RoundRobinPolicy())}
    return Cluster(["127.0.0.1"], port=port, protocol_version=4, execution_profiles=profiles).connect()
