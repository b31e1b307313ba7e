"""`python -m tests.benchmarks [--only NAME …] [--scale S] [--rounds N]`: prints a table of ratios."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from ledger_cli.render.common.tables import table
from tests.benchmarks.cases import CASES, Bench, Finding


def main() -> int:
    """Measure the cases asked for; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=sorted(CASES), help="only these cases")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full 20 M and 100 M ticks")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each process; the best counts")
    parser.add_argument("--directory", type=Path, help="where the input is made, and kept [default: temporary]")
    options = parser.parse_args()
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="ledger-bench-") as temporary:
        bench = Bench(options.directory or Path(temporary), options.scale, options.rounds)
        for name, case in CASES.items():
            if not options.only or name in options.only:
                sys.stderr.write(f"{name} …\n")
                findings += case(bench)
    rows = [(f.name, f.ours, f.other, f.ratio, f.target, "yes" if f.reached else "NO") for f in findings]
    titles = ["work", "ours", "other", "ratio", "at most", "reached"]
    Console(width=140).print(table(titles, rows, left=["work", "ours", "other", "reached"]))
    return 0 if all(finding.reached for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
