"""Whether one version takes more for a request than another, where the machine is noisy and time is short.

Both are put under the same load by turns, in windows that lie next to each other: whatever else the machine does meets
both sides of a pair nearly alike. What a pair says is the logarithm of the ratio of its two costs. The estimate over
all pairs is the Hodges-Lehmann one, the median of the means of any two of them, which bears a quarter of the pairs
being spoilt; its bounds are those of Wilcoxon's signed-rank test, which asks for no distribution but symmetry, and
symmetric it is where the two are the same, since either may have been the one or the other. Hollander, Wolfe and
Chicken, *Nonparametric Statistical Methods*, 3.1 to 3.3.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

WORTH_CATCHING = 1.3
"""A version that takes 30 % more is to be caught."""
THRESHOLD = WORTH_CATCHING**0.5
"""Halfway, as ratios go, between that and no difference: about 14 % more."""
PAIRS_MIN = 6
"""With fewer no bounds hold with 95 %, however far apart the two are."""
PAIRS_MAX = 500

_OUTSIDE = 0.05


class Slower(StrEnum):
    """Whether a version is slower than the other."""

    YES = "slower"
    NO = "not_slower"
    UNSURE = "unsure"
    """Too few pairs, or too noisy ones, to tell 30 % from nothing."""


class Pair(msgspec.Struct, frozen=True):
    """What a request cost of each, in two windows next to each other; in one unit, whatever that is."""

    baseline: float
    candidate: float


class Slowdown(msgspec.Struct, frozen=True, kw_only=True):
    """What pairs come to."""

    slower: Slower
    ratio: float | None = None
    """How much the candidate takes for what takes the baseline 1; None where no pair says anything."""
    low: float | None = None
    high: float | None = None
    """Where the ratio lies with 95 %; None where there are too few pairs to say."""
    pairs: int


def by_processor(pairs: Iterable[Pair]) -> Slowdown:
    """Judge what processors spent: slower is what takes more than the threshold, if it surely takes more at all.

    Where the bounds are narrower than the gap between nothing and 30 %, one is caught and the other passed; where noise
    makes them wider than that, it is unsure rather than wrong.
    """
    return _judge(pairs, surely_over=1.0)


def by_latency(pairs: Iterable[Pair]) -> Slowdown:
    """Judge how long callers waited: slower is only what surely is beyond the threshold.

    Stricter, because whatever else runs on the machine is in it.
    """
    return _judge(pairs, surely_over=THRESHOLD)


def conclude(processor: Slowdown, latency: Slowdown) -> Slower:
    """Whether a version is slower, all in all: a model may take its time without a processor, too."""
    return Slower.YES if Slower.YES in {processor.slower, latency.slower} else processor.slower


def _judge(pairs: Iterable[Pair], *, surely_over: float) -> Slowdown:
    usable = [pair for pair in pairs if pair.baseline > 0 and pair.candidate > 0][:PAIRS_MAX]
    if not usable:
        return Slowdown(slower=Slower.UNSURE, pairs=0)
    logs = np.log([pair.candidate / pair.baseline for pair in usable])
    means = _means_of_two(logs)
    ratio = float(np.exp(np.median(means)))
    if len(usable) < PAIRS_MIN:
        return Slowdown(slower=Slower.UNSURE, ratio=ratio, pairs=len(usable))
    outermost = _rank_bound(len(usable))
    low, high = float(np.exp(means[outermost])), float(np.exp(means[-1 - outermost]))
    if ratio >= THRESHOLD and low > surely_over:
        slower = Slower.YES
    elif ratio < THRESHOLD and high < WORTH_CATCHING:
        slower = Slower.NO
    else:
        slower = Slower.UNSURE
    return Slowdown(slower=slower, ratio=ratio, low=low, high=high, pairs=len(usable))


def _means_of_two(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The means of any two of *values*, each with itself too, in ascending order."""
    first, second = np.triu_indices(len(values))
    means: npt.NDArray[np.float64] = np.sort((values[first] + values[second]) / 2)
    return means


def _rank_bound(count: int) -> int:
    """How many of the means on either side lie outside of bounds that hold with 95 %, of *count* pairs."""
    # The distribution of the sum of ranks, where each of 1 … count is in it or not by a fair coin.
    chances = np.zeros(count * (count + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, count + 1):
        chances[rank:] = chances[rank:] / 2 + chances[:-rank] / 2
        chances[:rank] /= 2
    return int(np.searchsorted(np.cumsum(chances), _OUTSIDE / 2, side="right")) - 1
