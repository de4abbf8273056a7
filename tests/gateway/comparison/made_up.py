"""Made-up traffic: sums of two arms, as workers would have counted them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gateway.comparison.calibration import CalibrationSums, calibration_sums
from gateway.comparison.distribution import Distribution
from gateway.comparison.kept_sums import LAYOUTS, KeptSums
from gateway.comparison.latency_counts import Counts, counts_of
from gateway.comparison.sums import CLASSES, CLUSTERS, REWARDS, SERVING, ClusterSums, Column, Layout, Tally
from registry.entities import Cell, Split
from registry.splits import all_to, move_buckets
from registry.tallies import Kind

CHAMPION, CHALLENGER = ("champion", 1), ("challenger", 2)


def split_of(period: int, shares_bp: Mapping[str, int]) -> Split:
    owners = move_buckets(all_to("champion"), shares_bp)
    return Split(
        endpoint_id="e", period=period, shares_bp=dict(shares_bp), owners=owners, reason="", author="", created_ms=0
    )


def half_and_half(period: int) -> Split:
    return split_of(period, {"champion": 5_000, "challenger": 5_000})


def cell(period: int, who: tuple[str, int]) -> Cell:
    return Cell(period, *who)


def served(requests: int, *, failing: float = 0.0, seed: int = 1) -> ClusterSums:
    """Requests of units, spread over the clusters as hashes are, of which a share failed."""
    rng = np.random.default_rng(seed)
    sums = ClusterSums(SERVING)
    failed = (rng.random(requests) < failing).astype(float)
    clusters = rng.integers(0, CLUSTERS, requests)
    sums.add_many(clusters, {Column.REQUESTS: np.ones(requests), Column.FAILURES: failed})
    return sums


def labelled(labels: int, *, accuracy: float, seed: int = 1) -> ClusterSums:
    """Labels, of which a share says that the class was right; no probabilities."""
    rng = np.random.default_rng(seed)
    sums = ClusterSums(CLASSES)
    correct = (rng.random(labels) < accuracy).astype(float)
    sums.add_many(rng.integers(0, CLUSTERS, labels), {Column.LABELS: np.ones(labels), Column.CORRECT: correct})
    return sums


def rewarded(rewards: int, chance: float, *, seed: int = 1) -> ClusterSums:
    """Rewards of 1, and of 0."""
    rng = np.random.default_rng(seed)
    sums = ClusterSums(REWARDS)
    given = (rng.random(rewards) < chance).astype(float)
    amounts = {Column.LABELS: np.ones(rewards), Column.REWARDS: given, Column.REWARD_SQUARES: given}
    sums.add_many(rng.integers(0, CLUSTERS, rewards), amounts)
    return sums


def took(requests: int, median_s: float, *, seed: int = 1) -> Counts:
    return counts_of(median_s * np.random.default_rng(seed).lognormal(0.0, 0.3, requests))


def calibrated(labels: int, *, seed: int = 1) -> CalibrationSums:
    rng = np.random.default_rng(seed)
    probabilities = rng.random(labels)
    return calibration_sums(probabilities, (rng.random(labels) < probabilities).astype(float))


def predicted(**classes: int) -> Distribution:
    return Distribution(classes=classes)


def kept(counted: Mapping[Kind, Mapping[Cell, Any]]) -> KeptSums:
    """As if these had been read from the database."""

    def tally(kind: Kind, layout: Layout) -> Tally:
        return Tally(layout, dict(counted.get(kind, {})))

    return KeptSums(
        tallies={layout: tally(kind, layout) for kind, layout in LAYOUTS.items()},
        latency=counted.get(Kind.LATENCY, {}),
        calibration=counted.get(Kind.CALIBRATION, {}),
        predictions=counted.get(Kind.PREDICTIONS, {}),
    )


def even_traffic(periods: Iterable[int], requests: int = 2_000) -> dict[Cell, ClusterSums]:
    """As many requests of either arm in each period."""
    return {
        cell(period, who): served(requests, seed=10 * period + who[1])
        for period in periods
        for who in (CHAMPION, CHALLENGER)
    }
