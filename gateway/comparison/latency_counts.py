"""Histograms of latency, which merge, and their quantiles. Workers count in them, so this stands on numpy alone.

The bounds lie 9 % apart, so that a limit of 1.2 times the champion's can be told from one of 1.1 times.
"""

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from gateway.comparison.sums import Floats

_PER_OCTAVE = 8
_OCTAVES = 20
BOUNDS_S: Floats = 0.0001 * 2.0 ** (np.arange(_PER_OCTAVE * _OCTAVES + 1) / _PER_OCTAVE)
"""Upper bounds of the buckets, 0.1 ms to 105 s; there is one more above them."""
_BOUNDS = tuple(BOUNDS_S.tolist())

Counts = NDArray[np.int64]
"""Requests in each bucket, shape (162,). Those of two workers add up."""


def no_requests() -> Counts:
    return np.zeros(len(_BOUNDS) + 1, dtype=np.int64)


def bucket_of(seconds: float) -> int:
    """The place in `Counts` of a request that took so long."""
    return bisect_left(_BOUNDS, seconds)


def counts_of(seconds: Floats) -> Counts:
    """Of many requests at once; shape (requests,) in."""
    return np.bincount(np.searchsorted(BOUNDS_S, seconds), minlength=len(_BOUNDS) + 1)


def quantile_s(counts: Counts, share: float) -> float:
    """The time within which *share* of the requests were answered, to 9 %: the upper bound of its bucket.

    NaN if there were none, infinite if it lies above the last bound.
    """
    if not counts.sum():
        return float("nan")
    bucket = int(np.searchsorted(counts.cumsum(), share * counts.sum()))
    return float(BOUNDS_S[bucket]) if bucket < BOUNDS_S.size else float("inf")
