"""Benchmarks: ratios of whole processes, side by side in one run. `make bench`, or `python -m tests.benchmarks`."""
