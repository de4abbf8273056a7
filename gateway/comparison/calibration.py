"""Is a probability of 0.8 right in 8 of 10 cases? By sums in bins, which merge."""

import msgspec
import numpy as np

from gateway.comparison.sums import Floats

BINS = 15


class CalibrationSums(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """By bin of the predicted probability, equal widths, shape (15,) each. Those of two workers add up."""

    labels: Floats
    probabilities: Floats
    """The sum of what was predicted."""
    outcomes: Floats
    """How many of them came true."""

    def merged(self, other: "CalibrationSums") -> "CalibrationSums":
        return CalibrationSums(
            labels=self.labels + other.labels,
            probabilities=self.probabilities + other.probabilities,
            outcomes=self.outcomes + other.outcomes,
        )


def calibration_sums(probabilities: Floats, came_true: Floats) -> CalibrationSums:
    """Of predictions (of the class that was answered, say) in [0, 1] and whether each came true; shape (labels,)."""
    bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)

    def by_bin(weights: Floats) -> Floats:
        return np.bincount(bins, weights=weights, minlength=BINS).astype(np.float64)

    return CalibrationSums(
        labels=by_bin(np.ones_like(probabilities)), probabilities=by_bin(probabilities), outcomes=by_bin(came_true)
    )


class ReliabilityPoint(msgspec.Struct, frozen=True):
    """One bin of a reliability curve: a calibrated model's are on the diagonal."""

    predicted: float
    observed: float
    labels: int


def reliability_curve(sums: CalibrationSums) -> list[ReliabilityPoint]:
    """The mean prediction and the share that came true in each bin that has labels."""
    return [
        ReliabilityPoint(predicted / n, observed / n, int(n))
        for n, predicted, observed in zip(
            sums.labels.tolist(), sums.probabilities.tolist(), sums.outcomes.tolist(), strict=True
        )
        if n
    ]


def expected_calibration_error(sums: CalibrationSums) -> float:
    """ECE: the distance from the diagonal, averaged over labels (Naeini, Cooper and Hauskrecht, AAAI 2015).

    NaN without labels. Few labels in a bin are far from the diagonal by chance, so it is compared by nobody but people.
    """
    total = sums.labels.sum()
    return float(np.abs(sums.probabilities - sums.outcomes).sum() / total) if total else float("nan")
