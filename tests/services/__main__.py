"""`python -m tests.services [NAME …]`: start real servers, run the tests of stores on them, stop them.

All at once, each with tests of its own; a server that does not start fails the run. Each module beside this one has
`start()`, a context manager that gives the URL of a server and stops what it started by its process id, and
`place(url)`, one of an empty place on it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from tests.stores.engines import SERVERS

TESTS = ("tests/stores", "tests/cli/test_store.py", "tests/cli/test_elsewhere.py")


def main() -> int:
    """The exit code of the tests: the first that is none of success."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SERVERS)} [default: all]")
    names = parser.parse_args().names or list(SERVERS)
    if wrong := sorted(set(names) - set(SERVERS)):
        parser.error(f"no such server: {', '.join(wrong)}")
    with ThreadPoolExecutor(len(names)) as servers:
        return next(filter(None, servers.map(tested, names)), 0)


def tested(name: str) -> int:
    """The exit code of the tests on one server. What they say is told in one piece."""
    module, since = import_module(f"tests.services.{name}"), time.monotonic()
    others = {variable for each, variable in SERVERS.items() if each != name}
    environment = {key: value for key, value in os.environ.items() if key not in others}
    command = [sys.executable, "-m", "pytest", *TESTS, "-k", name]
    with module.start() as url:
        sys.stderr.write(f"{name} is up after {time.monotonic() - since:.0f} s\n")
        environment[SERVERS[name]] = url
        done = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sys.stdout.write(f"{name}, {time.monotonic() - since:.0f} s:\n{done.stdout.decode()}")
    sys.stdout.flush()
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
