"""Weight, mean and variance of moments, correctly rounded once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger_cli.core.moments import Ints, integers
from ledger_cli.core.policy import SCALE


def weight(weight_sum: int) -> float:
    """Σw / 10⁹, correctly rounded."""
    return weight_sum / SCALE


def mean(n: int, activity: int) -> float:
    """Σq / (n·10⁹), correctly rounded."""
    return activity / (n * SCALE)


def variance(n: int, activity: int, activity2: int) -> float:
    """Population variance (n·Σq² − (Σq)²) / (n²·10¹⁸), correctly rounded."""
    return (n * activity2 - activity * activity) / (n * n * SCALE * SCALE)


Floats = npt.NDArray[np.float64]


def columns(n: Ints, limbs: Ints) -> tuple[Floats, Floats, Floats]:
    """(weight, activity_mean, activity_var), each (rows,), of normalised (rows, 3, 4) limbs.

    Python's division of integers is correctly rounded at any size, so it is the definition.
    """
    counts = n.tolist()
    activity, activity2, weights = (integers(limbs[:, place]) for place in range(3))
    rows = len(counts)
    return (
        np.fromiter(map(weight, weights), dtype=np.float64, count=rows),
        np.fromiter(map(mean, counts, activity), dtype=np.float64, count=rows),
        np.fromiter(map(variance, counts, activity, activity2), dtype=np.float64, count=rows),
    )
