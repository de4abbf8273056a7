"""The metrics that arms are compared by, each a quotient of two sums of `gateway.comparison.sums`.

A quotient is all that is needed: a mean is a sum over a number, F1 is `2 TP / (2 TP + FP + FN)`, and an RMSE is the
root of a mean. What differs is which sums, which way is better, and within what bounds one value lies.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec
import numpy as np

from gateway.comparison.sums import CLASSES, NUMBERS, REWARDS, SERVING, Column, Floats, Layout
from tracking.errors import InvalidParameter

Combination = Mapping[Column, float]
"""A weighted sum of columns."""


class MetricUnknown(InvalidParameter):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no metric {name!r}; there are {', '.join(sorted(METRICS))}.")


class Better(StrEnum):
    """Which way a metric should go."""

    HIGHER = "higher"
    LOWER = "lower"

    @property
    def sign(self) -> int:
        """What makes an improvement positive."""
        return 1 if self is Better.HIGHER else -1


class Metric(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """`above / below` of sums over requests, or its root.

    With y what one request adds to *above* and x what it adds to *below*, the squares are the sums of y², x y and x²:
    they give the variance of one request, beside which that of clusters is seen to be larger.
    """

    name: str
    better: Better
    layout: Layout
    above: Combination
    below: Combination
    squares: Combination
    products: Combination
    below_squares: Combination
    bounds: tuple[float, float] | None = None
    """Within which the value of one request lies; None if there are none, or it isn't a mean over requests."""
    root: bool = False


def combine(combination: Combination, sums: Floats, layout: Layout) -> Floats:
    """The weighted sum by cluster, shape (..., clusters); *sums* has the shape (..., columns, clusters)."""
    combined: Floats = sum(
        (weight * sums[..., layout.index(column), :] for column, weight in combination.items()),
        start=np.zeros((*sums.shape[:-2], sums.shape[-1])),
    )
    return combined


def _mean(
    name: str,
    better: Better,
    layout: Layout,
    column: Column,
    squares: Column | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    root: bool = False,
) -> Metric:
    """The mean of *column*; a value that is 0 or 1 is its own square."""
    count = {layout[0]: 1.0}
    return Metric(
        name=name,
        better=better,
        layout=layout,
        above={column: 1.0},
        below=count,
        squares={squares or column: 1.0},
        products={column: 1.0},
        below_squares=count,
        bounds=bounds,
        root=root,
    )


_F1_BELOW: Combination = {Column.TRUE_POSITIVES: 2.0, Column.FALSE_POSITIVES: 1.0, Column.FALSE_NEGATIVES: 1.0}

FAILURE_RATE = _mean("failure_rate", Better.LOWER, SERVING, Column.FAILURES, bounds=(0, 1))
SLOW_RATE = _mean("slow_rate", Better.LOWER, SERVING, Column.SLOW, bounds=(0, 1))
ACCURACY = _mean("accuracy", Better.HIGHER, CLASSES, Column.CORRECT, bounds=(0, 1))
LOG_LOSS = _mean("log_loss", Better.LOWER, CLASSES, Column.LOG_LOSS, Column.LOG_LOSS_SQUARES)
BRIER = _mean("brier", Better.LOWER, CLASSES, Column.BRIER, Column.BRIER_SQUARES, bounds=(0, 2))
F1 = Metric(
    name="f1",
    better=Better.HIGHER,
    layout=CLASSES,
    above={Column.TRUE_POSITIVES: 2.0},
    below=_F1_BELOW,
    squares={Column.TRUE_POSITIVES: 4.0},
    products={Column.TRUE_POSITIVES: 4.0},
    below_squares={**_F1_BELOW, Column.TRUE_POSITIVES: 4.0},
)
MAE = _mean("mae", Better.LOWER, NUMBERS, Column.ERRORS, Column.SQUARED_ERRORS)
RMSE = _mean("rmse", Better.LOWER, NUMBERS, Column.SQUARED_ERRORS, Column.FOURTH_POWERS, root=True)
REWARD = _mean("reward", Better.HIGHER, REWARDS, Column.REWARDS, Column.REWARD_SQUARES)

METRICS: Mapping[str, Metric] = {
    metric.name: metric for metric in (FAILURE_RATE, SLOW_RATE, ACCURACY, LOG_LOSS, BRIER, F1, MAE, RMSE, REWARD)
}


def metric_named(name: str) -> Metric:
    """The metric that people call *name*.

    Raises:
        MetricUnknown: if there is none.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise MetricUnknown(name) from None


def reward_within(lowest: float, highest: float, *, better: Better = Better.HIGHER) -> Metric:
    """The mean reward where each is known to lie within bounds, so that few of them say something already."""
    return msgspec.structs.replace(REWARD, bounds=(lowest, highest), better=better)
