"""What a rollout should do now: go, stop, wait for a person, or none of it yet. Pure."""

from collections.abc import Sequence

import msgspec

from gateway.rollouts.decision import NOTHING_COUNTED, Finding, Judged, Ruling, Standing
from registry.rollout_entities import RolloutSpec

LOAD_LONGEST_S = 900.0
"""How long a version may take to be in memory everywhere before a person is asked."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to judge one step by."""

    served_s: float | None
    """For how long the step has been in force; None if it isn't yet."""
    since_s: float
    """For how long it has been asked for."""
    requests: float = 0.0
    """The challenger's in this step."""
    findings: Sequence[Finding] = ()
    """Of all steps together: by the guards and, at the end, by the metric if there is one."""
    mismatch: str | None = None
    """What is wrong with how requests fell on the arms."""
    problem: str | None = None
    """Why the version isn't in memory, if that is known."""


def judge_step(spec: RolloutSpec, step: int, seen: Seen) -> Judged:
    """Judge *step*, which counts from 1; at 0 the version is waited for.

    What is bad comes first, whoever waits for what: it is the one thing that can't wait.
    """
    broken = [each for each in seen.findings if each.standing is Standing.BROKEN]
    if broken:
        return Judged(ruling=Ruling.STOP, reason=_said(broken))
    if seen.served_s is None:
        return judge_loading(step, seen)
    if step == 0:
        return Judged(ruling=Ruling.GO, reason="the version is in memory")
    if seen.mismatch is not None:
        return Judged(ruling=Ruling.WAIT, reason=seen.mismatch)
    if seen.served_s < spec.every_s:
        return _not_yet(seen, f"{spec.every_s - seen.served_s:.0f} s of this step are left")
    if seen.requests < spec.requests_min or any(each.blind for each in seen.findings):
        return _judge_traffic(spec, seen, seen.served_s)
    return _judge_metric(spec, seen)


def judge_paused(seen: Seen) -> Judged:
    """The same while it is paused or waits for a person: nothing but what is bad moves it."""
    broken = [each for each in seen.findings if each.standing is Standing.BROKEN]
    if broken:
        return Judged(ruling=Ruling.STOP, reason=_said(broken))
    return Judged(ruling=Ruling.NOT_YET, reason="")


def judge_loading(step: int, seen: Seen) -> Judged:
    """The same until what is asked for is in force."""
    what = "the version to be in memory on every replica" if step == 0 else "the split to be in force"
    because = f": {seen.problem}" if seen.problem else ""
    if seen.since_s > LOAD_LONGEST_S:
        return Judged(ruling=Ruling.WAIT, reason=f"{LOAD_LONGEST_S:.0f} s were too short for {what}{because}")
    return Judged(ruling=Ruling.NOT_YET, reason=f"waiting for {what}{because}")


def _judge_traffic(spec: RolloutSpec, seen: Seen, served_s: float) -> Judged:
    blind = [each for each in seen.findings if each.blind]
    unlabelled = [each.name for each in blind if each.said == NOTHING_COUNTED]
    if seen.requests < spec.requests_min:
        said = (
            f"the challenger had {seen.requests:.0f} requests in this step that can be compared with the champion's, "
            f"where {spec.requests_min} are asked"
        )
    elif unlabelled:
        said = f"there is nothing to decide by, as nothing was counted of {unlabelled[0]} for both arms"
    else:
        said = f"the champion had too few requests to compare {' and '.join(each.name for each in blind)} with"
    if served_s > spec.longest_step_s:
        return Judged(ruling=Ruling.WAIT, reason=f"{said}, in {served_s:.0f} s")
    return _not_yet(seen, said)


def _judge_metric(spec: RolloutSpec, seen: Seen) -> Judged:
    metric = seen.findings[-1] if spec.metric is not None else None
    if metric is None or metric.standing is Standing.KEPT:
        return Judged(ruling=Ruling.GO, reason=_said(seen.findings) or "its time is over")
    if spec.on_undecided == "wait":
        return Judged(ruling=Ruling.WAIT, reason=f"undecided; {_said([metric])}")
    return Judged(ruling=Ruling.GO, reason=f"nothing bad was found; {_said(seen.findings)}")


def _not_yet(seen: Seen, said: str) -> Judged:
    return Judged(ruling=Ruling.NOT_YET, reason="; ".join(filter(None, (said, _said(seen.findings)))))


def _said(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{each.name}: {each.said}" for each in findings)
