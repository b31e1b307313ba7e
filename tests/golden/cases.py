"""The names of the published small cases.

Written down and not read at collection: without the file every case fails by name, and none vanishes.
"""

from __future__ import annotations

CASES = [
    "one-tick",
    "fixed-open-epoch",
    "fixed-gap",
    "negative-coordinates",
    "rounding",
    "nonlinear-base",
    "softfloor",
    "adaptive-size",
    "adaptive-mean-variance",
    "hybrid-capped",
    "hybrid-uncapped",
    "shards",
    "quadtree",
    "field",
    "many-runs",
    "late",
    "late-adaptive",
    "lateness",
    "layer",
    "final-in-the-middle",
    "final-in-the-middle-adaptive",
    "late-beside-fresh",
    "late-in-a-gap",
    "late-in-a-gap-hybrid",
    "below-the-first",
    "into-the-open-epoch",
    "threshold-tie",
    "small-numbers-in-the-policy",
    "region-names",
    "stream-in-time",
    "stream-too-late",
    "stream-with-finals",
    "stream-fixed",
    "idle-run",
    "order-of-operations",
    "far-out",
    "field-values",
]
