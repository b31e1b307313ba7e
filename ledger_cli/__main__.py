"""The process `ledger`, also as `python -m ledger_cli`: it ends in one line from its very beginning."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line. Ctrl-C while it is still being imported ends at once, before anything was done."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # who starts us may have it ignored
    if ours:
        signal.signal(signal.SIGINT, _interrupted)
    from ledger_cli.cli.main import run as run_command_line

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command_line()


def _interrupted(*_: object) -> NoReturn:
    os.write(2, b"ledger: interrupted; nothing half-done is visible, run it again\n")
    os._exit(130)


if __name__ == "__main__":
    run()
