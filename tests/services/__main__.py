"""`python -m tests.services [NAME …]`: start real servers, run the tests of stores on them, stop them.

A server that does not start ends the run. Each module beside this one has `start()`, a context manager that gives the
URL of a server and stops what it started by its process id, and `place(url)`, one of an empty place on it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module

from tests.stores.engines import SERVERS

TESTS = ("tests/stores", "tests/cli/test_store.py", "tests/cli/test_elsewhere.py")


def main() -> int:
    """The exit code of the tests."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SERVERS)} [default: all]")
    names = parser.parse_args().names or list(SERVERS)
    if wrong := sorted(set(names) - set(SERVERS)):
        parser.error(f"no such server: {', '.join(wrong)}")
    with ExitStack() as started:
        environment = dict(os.environ)
        for name in names:
            module = import_module(f"tests.services.{name}")
            since = time.monotonic()
            environment[SERVERS[name]] = started.enter_context(module.start())
            sys.stderr.write(f"{name} is up after {time.monotonic() - since:.0f} s\n")
        chosen = ["-k", " or ".join(names)]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *TESTS, *chosen], env=environment, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
