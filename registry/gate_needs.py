"""Whether a version has what a gate needs; and if not, what is missing and how to get it, in one clause."""

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt

import msgspec
from sqlalchemy.orm import Session

from registry import history, interfaces, load_tests, verdicts
from registry.approvals import list_approvals
from registry.compatibility import why_incompatible
from registry.entities import (
    CHAMPION,
    ApprovalNeeded,
    Comparator,
    LoadTestNeeded,
    MetricNeeded,
    ModelVersion,
    Need,
    SignatureNeeded,
    VerdictNeeded,
)
from registry.gate_words import number
from registry.reach import Reach
from tracking.metrics import latest_metrics

_HOLDS: Mapping[Comparator, Callable[[float, float], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt}
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class Candidate(msgspec.Struct, frozen=True):
    """A version at a gate, and where it would go."""

    version: ModelVersion
    reach: Reach
    """As it was before."""
    now_ms: int
    name: str
    """That by which it would be asked: its model's, unless that is about to be another."""


def why_unmet(session: Session, needs: Need, candidate: Candidate) -> str | None:
    """Why *candidate* doesn't get through; None if it does."""
    match needs:
        case MetricNeeded():
            return _why_metric_unmet(session, needs, candidate.version)
        case ApprovalNeeded():
            return _why_approval_unmet(session, needs, candidate.version)
        case LoadTestNeeded():
            return _why_load_test_unmet(session, needs, candidate)
        case SignatureNeeded():
            return _why_signature_unmet(session, candidate)
        case VerdictNeeded():
            return _why_verdict_unmet(session, needs, candidate)


def _why_metric_unmet(session: Session, needed: MetricNeeded, version: ModelVersion) -> str | None:
    asked = f"needs {needed.metric} {needed.comparator} {number(needed.value)}"
    if version.run_id is None:
        return f"{asked}, and version {version.version} is of no run"
    latest = {metric.key: metric.value for metric in latest_metrics(session, [version.run_id])[version.run_id]}
    if needed.metric not in latest:
        return f"{asked}, and its run {version.run_id} has no such metric"
    value = latest[needed.metric]
    # NaN compares to nothing, and so meets nothing.
    return None if _HOLDS[needed.comparator](value, needed.value) else f"{asked}, and its run has {number(value)}"


def _why_approval_unmet(session: Session, needed: ApprovalNeeded, version: ModelVersion) -> str | None:
    approvals = list_approvals(session, version.name, version.version)
    # Its own author's word is worth nothing here, whoever that is.
    others = {approval.author for approval in approvals} - {version.author}
    if len(others) >= needed.count:
        return None
    by_whom = f"somebody other than {version.author}" if version.author else "somebody"
    return f"needs {needed.count} approval(s) by {by_whom}, and has {len(others)}"


def _why_load_test_unmet(session: Session, needed: LoadTestNeeded, candidate: Candidate) -> str | None:
    version = candidate.version
    asked = f"needs a passed load test of the last {needed.within_days} day(s)"
    how = f"`titlebout loadtest {version.name} {version.version}` makes one"
    found = load_tests.latest(session, version.name, version.version)
    if found is None:
        return f"{asked}, and there is none: {how}"
    if version.digest is None or found.digest != version.digest:
        return f"{asked}, and the newest is of other files: {how}"
    if not found.passed:
        return f"{asked}, and the newest, {found.author}'s, wasn't passed"
    days = (candidate.now_ms - found.at_ms) / _DAY_MS
    return None if days <= needed.within_days else f"{asked}, and the newest is {days:.1f} days old: {how}"


def _why_signature_unmet(session: Session, candidate: Candidate) -> str | None:
    asked = "needs a signature compatible with the champion's"
    champion = candidate.reach.champion
    if champion is None:
        return _why_nobody_to_compare_with(session, asked, candidate)
    if champion == candidate.version.version:
        return None
    new = interfaces.find(session, candidate.version.name, candidate.version.version)
    old = interfaces.find(session, candidate.version.name, champion)
    if new is None or old is None:
        unread = candidate.version.version if new is None else champion
        how = "set it again when its files are in the artifact store; elsewhere they take an override"
        return f"{asked}, and version {unread} couldn't be read: {how}"
    fault = why_incompatible(new, old)
    return None if fault is None else f"{asked}, version {champion}'s, and {fault}"


def _why_verdict_unmet(session: Session, needed: VerdictNeeded, candidate: Candidate) -> str | None:
    said = needed.verdict.replace("_", " ")
    asked = f"needs the comparison with the champion to say {said} by {needed.metric}"
    champion = candidate.reach.champion
    if champion is None:
        return _why_nobody_to_compare_with(session, asked, candidate)
    if champion == candidate.version.version:
        return None
    endpoint_id, version = candidate.reach.endpoint_id, candidate.version.version
    found = endpoint_id and verdicts.find(
        session, endpoint_id, champion=champion, challenger=version, metric=needed.metric
    )
    if not found:
        return f"{asked}, and nothing is known by that of it and version {champion}: give it a share, and feedback"
    # Locked, it says neither.
    if found.verdict != "better" and not (needed.verdict == "not_worse" and found.alike):
        return f"{asked}, and so far it says {found.verdict.replace('_', ' ')}: {found.reason}"
    hours = (candidate.now_ms - found.judged_ms) / _HOUR_MS
    if needed.within_hours is not None and hours > needed.within_hours:
        return f"{asked} in the last {needed.within_hours} hour(s), and it was {hours:.1f} hours ago"
    return None


def _why_nobody_to_compare_with(session: Session, asked: str, candidate: Candidate) -> str | None:
    """The first champion has nobody to be compared with. One that comes after another that was taken away had."""
    if not history.ever_meant(session, candidate.name, CHAMPION):
        return None
    return f"{asked}, and the champion that there was is gone: it takes an override"
