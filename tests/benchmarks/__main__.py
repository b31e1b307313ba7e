"""`python -m tests.benchmarks [--only NAME …] [--scale S] [--rounds N] [--write FILE]`: a table of ratios."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from ledger_cli.render.common.tables import table
from tests.benchmarks.cases import CASES, Bench, Finding

TITLES = ["work", "ours", "other", "ratio", "at most", "reached"]


def main() -> int:
    """Measure the cases asked for; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=sorted(CASES), help="only these cases")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the full 20 M and 100 M ticks, 1 M and 5 M events, 10,000 and 1 M commits of a store",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side; the best counts")
    parser.add_argument("--directory", type=Path, help="where the input is made, and kept [default: temporary]")
    parser.add_argument("--write", type=Path, help="also write the table there, as Markdown")
    options = parser.parse_args()
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="ledger-bench-") as temporary:
        bench = Bench(options.directory or Path(temporary), options.scale, options.rounds)
        for name, case in CASES.items():
            if not options.only or name in options.only:
                sys.stderr.write(f"{name} …\n")
                for found in case(bench):
                    sys.stderr.write(f"  {found.name}: {found.ratio:.2f}\n")
                    findings.append(found)
    rows = [(f.name, f.ours, f.other, f.ratio, f.target, "yes" if f.reached else "NO") for f in findings]
    Console(width=140).print(table(TITLES, rows, left=["work", "ours", "other", "reached"]))
    if options.write is not None:
        options.write.write_text(markdown(findings, options.scale))
    return 0 if all(finding.reached for finding in findings) else 1


def markdown(findings: Sequence[Finding], scale: float) -> str:
    """The table with what it was measured on."""
    tools = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "numpy"))
    cells = [
        (f.name, f.ours, f.other, f"{f.ratio:.2f}", f"{f.target:g}", "yes" if f.reached else "no") for f in findings
    ]
    lines = [
        f"Made by `make bench` in one run at scale {scale:g}: {os.cpu_count()} cores of {platform.machine()} (shared), "
        f"2 threads, Python {platform.python_version()}, {tools}.",
        "Each side is a whole process, the best of its rounds; wall time, and CPU time of all threads.",
        "Of stores: both sides in one process, of questions the 95th percentile of a round.",
        "",
        f"| {' | '.join(TITLES)} |",
        "| --- | --- | --- | ---: | ---: | --- |",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
