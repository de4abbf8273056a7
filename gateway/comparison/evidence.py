"""What the kept sums say of two arms: gathered once from the database, and then compared in any number of ways.

Which requests may be compared is decided here. A period of the split counts where both arms had a share in it, and
where hardly anything was answered by another version of either: what another version answered was asked at another
time, and a difference of times isn't one of versions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from sqlalchemy.orm import Session

from gateway.comparison import kept_sums, rates, sample_ratio
from gateway.comparison.calibration import BINS, CalibrationSums
from gateway.comparison.distribution import Distribution
from gateway.comparison.kept_sums import LAYOUTS, KeptSums
from gateway.comparison.latency import quantile_ratio
from gateway.comparison.latency_counts import Counts, no_requests
from gateway.comparison.metrics import BRIER, LOG_LOSS, METRICS, SLOW_RATE, Combination, Metric, combine
from gateway.comparison.sample_ratio import SampleRatio, SplitSums
from gateway.comparison.statistics import ALPHA, Comparison, PeriodSums, compare, estimate, likeness_bound, pool
from gateway.comparison.sums import CLUSTERS, SERVING, Answerer, Column, Floats, Layout, buckets_by_cluster
from registry import endpoints
from registry.entities import Cell, Endpoint, Split
from registry.splits import expand
from registry.tallies import PERIODS_MAX

OTHERS_MAX = 0.01
"""Of an arm's requests in a period, that another version may have answered.

Not 0: a version that is set while another still answers is waited for, and takes over within the period.
"""
_REQUESTS, _UNITLESS = SERVING.index(Column.REQUESTS), SERVING.index(Column.UNITLESS)

T = TypeVar("T")


class Evidence(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Sums of champion and challenger; of pairs the champion's come first."""

    champion: Answerer
    challenger: Answerer
    from_period: int = 1
    """Before which nothing would count, whatever was asked for: that of the last reshuffle."""
    periods: tuple[int, ...] = ()
    """Those that count, oldest first."""
    left_out: tuple[int, ...] = ()
    """Those in which both were asked, and other versions of an arm too."""
    sums: Mapping[Layout, list[PeriodSums]]
    """By layout, one for each of the periods that count; one of zeros if there is none."""
    splits: tuple[SplitSums, ...] = ()
    latency: tuple[Counts, Counts]
    calibration: tuple[CalibrationSums, CalibrationSums]
    predictions: tuple[Distribution, Distribution]

    @property
    def is_one_version(self) -> bool:
        """Both arms answer by the same version: whatever differs is chance, or comes from elsewhere."""
        return self.champion[1] == self.challenger[1]

    @property
    def serving(self) -> list[PeriodSums]:
        return self.sums[SERVING]

    def total(self, arm: int, column: Column, layout: Layout = SERVING) -> float:
        """The sum of *column* over all periods, of the champion (0) or the challenger (1)."""
        return float(sum(period[arm][layout.index(column)].sum() for period in self.sums[layout]))


# --- from the database


def gather(
    session: Session, endpoint: Endpoint, *, champion: Answerer, challenger: Answerer, from_period: int = 1
) -> Evidence:
    """What was counted of the two since *from_period*, or since units were assigned anew, whichever is later.

    Raises:
        UnreadableSums: if what was kept is damaged, or of a later release.
    """
    kept = kept_sums.read(session, endpoint.id)
    newest = endpoints.get_split(session, endpoint.id).period
    splits = endpoints.splits_from(session, endpoint.id, newest - PERIODS_MAX + 1)
    return evidence_of(kept, splits, champion=champion, challenger=challenger, from_period=from_period)


def evidence_of(
    kept: KeptSums, splits: Sequence[Split], *, champion: Answerer, challenger: Answerer, from_period: int = 1
) -> Evidence:
    both = (champion, challenger)
    # Before a reshuffle a unit was of another cluster, so that clusters aren't independent over both.
    reshuffled = max((split.period for split in splits if split.reshuffled), default=1)
    counted = [split for split in splits if split.period >= max(reshuffled, from_period)]
    shared = [split for split in counted if all(split.shares_bp.get(arm) for arm, _ in both)]
    asked = [split for split in shared if all(_requests(kept, split.period, {who})[0] for who in both)]
    used = [split for split in asked if all(_is_alone(kept, split.period, who) for who in both)]
    periods = tuple(split.period for split in used)

    def merged(cells: Mapping[Cell, T], nothing: Callable[[], T], merge: Callable[[T, T], T]) -> tuple[T, T]:
        return _merged(cells, periods, champion, nothing, merge), _merged(cells, periods, challenger, nothing, merge)

    return Evidence(
        champion=champion,
        challenger=challenger,
        from_period=reshuffled,
        periods=periods,
        left_out=tuple(split.period for split in asked if split not in used),
        sums={layout: _period_sums(kept, layout, periods, both) for layout in LAYOUTS.values()},
        splits=tuple(_split_sums(kept, split, (champion[0], challenger[0])) for split in used),
        latency=merged(kept.latency, no_requests, np.add),
        calibration=merged(kept.calibration, _no_labels, CalibrationSums.merged),
        predictions=merged(kept.predictions, Distribution, _both_distributions),
    )


def _is_alone(kept: KeptSums, period: int, who: Answerer) -> bool:
    arm, version = who
    versions = {cell.version for cell in kept.tally(SERVING).cells if (cell.period, cell.arm) == (period, arm)}
    others = _requests(kept, period, {(arm, other) for other in versions - {version}})[0]
    return others <= OTHERS_MAX * _requests(kept, period, {who})[0]


def _requests(kept: KeptSums, period: int, answerers: Iterable[Answerer]) -> tuple[float, Floats, Floats]:
    """How many there were; by cluster; those of them without a unit by cluster."""
    cells = kept.tally(SERVING).cells
    sums = [cells[cell].values for who in answerers if (cell := Cell(period, *who)) in cells]
    both: Floats = sum(sums, start=np.zeros((len(SERVING), CLUSTERS)))
    return float(both[_REQUESTS].sum()), both[_REQUESTS], both[_UNITLESS]


def _split_sums(kept: KeptSums, split: Split, arms: tuple[str, str]) -> SplitSums:
    # Of all versions: what is tested is how requests fell on the arms, whoever answered.
    answerers = [{(cell.arm, cell.version) for cell in kept.tally(SERVING).cells if cell.arm == arm} for arm in arms]
    asked = [_requests(kept, split.period, each) for each in answerers]
    owners = expand(split.owners)
    return SplitSums(
        requests=np.stack([requests for _, requests, _ in asked]),
        unitless=np.stack([unitless for _, _, unitless in asked]),
        buckets=np.stack([buckets_by_cluster(owners, arm) for arm in arms]),
    )


def _period_sums(
    kept: KeptSums, layout: Layout, periods: tuple[int, ...], both: tuple[Answerer, Answerer]
) -> list[PeriodSums]:
    cells, nothing = kept.tally(layout).cells, np.zeros((len(layout), CLUSTERS))

    def of(period: int, who: Answerer) -> Floats:
        sums = cells.get(Cell(period, *who))
        return nothing if sums is None else sums.values

    return [(of(period, both[0]), of(period, both[1])) for period in periods] or [(nothing, nothing)]


def _merged(
    cells: Mapping[Cell, T],
    periods: tuple[int, ...],
    who: Answerer,
    nothing: Callable[[], T],
    merge: Callable[[T, T], T],
) -> T:
    merged = nothing()
    for period in periods:
        if (cell := Cell(period, *who)) in cells:
            merged = merge(merged, cells[cell])
    return merged


def _no_labels() -> CalibrationSums:
    return CalibrationSums(labels=np.zeros(BINS), probabilities=np.zeros(BINS), outcomes=np.zeros(BINS))


def _both_distributions(one: Distribution, other: Distribution) -> Distribution:
    one.merge(other)
    return one


# --- what it comes to


def metrics_counted(evidence: Evidence) -> list[Metric]:
    """The metrics that both arms have something of."""
    return [metric for metric in METRICS.values() if _is_counted(evidence, metric)]


def _is_counted(evidence: Evidence, metric: Metric) -> bool:
    periods = evidence.sums[metric.layout]
    counted = all(_total(metric.below, [period[arm] for period in periods], metric.layout) > 0 for arm in (0, 1))
    if metric not in _OPTIONAL:
        return counted
    return counted and any(evidence.total(arm, _OPTIONAL[metric], metric.layout) > 0 for arm in (0, 1))


_OPTIONAL: Mapping[Metric, Column] = {
    # Nothing is slow where nothing says what slow is, and no loss is 0 over all labels where there were probabilities.
    SLOW_RATE: Column.SLOW,
    LOG_LOSS: Column.LOG_LOSS,
    BRIER: Column.LOG_LOSS,
}


def _total(combination: Combination, sums: Iterable[Floats], layout: Layout) -> float:
    return sum(float(combine(combination, each, layout).sum()) for each in sums)


def compare_metric(evidence: Evidence, metric: Metric, *, alpha: float = ALPHA) -> Comparison:
    """Champion and challenger by *metric*, over all periods that count."""
    return compare(metric, evidence.sums[metric.layout], alpha=alpha)


def failure_ratio(evidence: Evidence, *, alpha: float = ALPHA) -> tuple[float, float]:
    """Between which bounds the challenger's failure rate over the champion's lies, whenever one looks."""
    return rates.failure_ratio(evidence.serving, alpha=alpha)


def latency_ratio(evidence: Evidence, share: float, *, alpha: float = ALPHA) -> tuple[float, float]:
    """The same of the time within which *share* of the requests are answered: 0.99 for p99."""
    champion, challenger = evidence.latency
    return quantile_ratio(champion, challenger, share, alpha=alpha, design_effect=slowness_effect(evidence))


def slowness_effect(evidence: Evidence) -> float:
    """How alike a unit's requests are in being slow; 1 where nothing says what slow is."""
    if not _is_counted(evidence, SLOW_RATE):
        return 1.0
    periods = evidence.serving
    difference = pool([(estimate(SLOW_RATE, one), estimate(SLOW_RATE, other)) for one, other in periods])
    return likeness_bound(SLOW_RATE, periods, difference)


def assignment_ratio(evidence: Evidence) -> SampleRatio:
    """Whether requests fell on the arms as the split says; nothing is wrong where there is nothing yet."""
    if not evidence.splits:
        return SampleRatio(asked=np.nan, observed=np.nan, p_value=1.0, mismatch=False)
    return sample_ratio.sample_ratio(evidence.splits)
