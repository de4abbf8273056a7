"""One look at a rollout: what there is to see of it in the database, and what should be done."""

import math
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from gateway.comparison import kept_sums
from gateway.comparison.evidence import Evidence, assignment_ratio, gather
from gateway.comparison.latency_counts import no_requests
from gateway.comparison.sums import SERVING, Column
from gateway.rollouts import burn
from gateway.rollouts.decision import Decision, Finding, Judged, Move, Ruling
from gateway.rollouts.guard_findings import findings
from gateway.rollouts.guards import parse_guard
from gateway.rollouts.judging import Seen, judge_loading, judge_paused, judge_step
from registry import endpoints, serving
from registry.entities import CHAMPION, Cell, Endpoint
from registry.rollout_entities import ARM, Objective, Rollout, RolloutSpec, RolloutState, Sample, Watch

_REQUESTS, _FAILURES = SERVING.index(Column.REQUESTS), SERVING.index(Column.FAILURES)


_NOTED_EVERY_MS = 5_000
"""What is only told to people; each note is a transaction under the locks of all routing writes."""
_NOTHING = Decision(move=Move.NOTHING)
_MOVE_OF = {Ruling.GO: Move.ADVANCE, Ruling.STOP: Move.STOP, Ruling.WAIT: Move.WAIT, Ruling.NOT_YET: Move.NOTE}


def decide(session: Session, rollout: Rollout, *, now_ms: int, warm_ms: int) -> Decision:
    """What should be done with *rollout* now; *warm_ms* is how long a former champion stays in memory."""
    endpoint = endpoints.get_endpoint(session, rollout.endpoint)
    if rollout.served_ms is None and _is_in_force(session, rollout, now_ms):
        return Decision(move=Move.NOTE, served_ms=now_ms)
    if rollout.state is RolloutState.WATCHING and rollout.watch is not None:
        if rollout.served_ms is None:
            return _decide_promotion(session, rollout, now_ms)
        return _decide_watch(session, endpoint, rollout, rollout.watch, now_ms=now_ms, warm_ms=warm_ms)
    seen = see(session, endpoint, rollout, now_ms=now_ms)
    if rollout.state is RolloutState.RUNNING:
        return _as_decision(rollout, judge_step(rollout.spec, rollout.step, seen), seen, now_ms)
    return _as_decision(rollout, judge_paused(seen), seen, now_ms)


def see(session: Session, endpoint: Endpoint, rollout: Rollout, *, now_ms: int) -> Seen:
    """What there is to judge the present step by."""
    evidence = evidence_of(session, endpoint, rollout)
    ratio = None if evidence is None else assignment_ratio(evidence)
    return Seen(
        served_s=None if rollout.served_ms is None else (now_ms - rollout.served_ms) / 1000,
        since_s=(now_ms - rollout.step_ms) / 1000,
        requests=0.0 if evidence is None else _requests_since(evidence, rollout.period),
        findings=() if evidence is None else found_in(evidence, rollout.spec),
        mismatch=None
        if ratio is None or not ratio.mismatch
        else f"the challenger was given {ratio.observed:.2%} of the requests where the split says {ratio.asked:.2%}",
        problem=_problem(session, rollout, now_ms),
    )


def judge_beforehand(session: Session, rollout: Rollout, *, now_ms: int) -> tuple[Judged, tuple[Finding, ...]]:
    """What *rollout*, which hasn't begun, would do now, by what its two versions have been asked so far."""
    asked = msgspec.structs.replace(rollout, first_period=1)
    evidence = evidence_of(session, endpoints.get_endpoint(session, rollout.endpoint), asked)
    found = () if evidence is None or not evidence.periods else found_in(evidence, rollout.spec)
    is_there = _is_in_force(session, rollout, now_ms)
    seen = Seen(served_s=0.0 if is_there else None, since_s=0.0, findings=found)
    return judge_step(rollout.spec, 0, seen), found


def evidence_of(session: Session, endpoint: Endpoint, rollout: Rollout) -> Evidence | None:
    """What was counted of the two arms since the first step; None before that."""
    if not rollout.first_period:
        return None
    return gather(
        session,
        endpoint,
        champion=(CHAMPION, rollout.before.champion),
        challenger=(ARM, rollout.version),
        from_period=rollout.first_period,
    )


def found_in(evidence: Evidence, spec: RolloutSpec) -> tuple[Finding, ...]:
    return findings(evidence, [parse_guard(guard) for guard in spec.guards], spec.metric, margin=spec.margin)


def _as_decision(rollout: Rollout, judged: Judged, seen: Seen, now_ms: int) -> Decision:
    move = _MOVE_OF[judged.ruling]
    is_news = judged.reason not in {"", rollout.reason} and now_ms - rollout.updated_ms >= _NOTED_EVERY_MS
    if move is Move.NOTE and not is_news:
        return _NOTHING
    return Decision(move=move, reason=judged.reason, evidence=_told(seen))


def _told(seen: Seen) -> dict[str, Any]:
    """For the history: what it was judged by, in words and figures."""
    return {
        "served_s": None if seen.served_s is None else round(seen.served_s, 1),
        "requests": seen.requests,
        "findings": [msgspec.to_builtins(each) for each in seen.findings],
    }


def _is_in_force(session: Session, rollout: Rollout, now_ms: int) -> bool:
    arm = CHAMPION if rollout.state is RolloutState.WATCHING else ARM
    table = serving.newest_table(session)
    route = next((route for route in table.routes if route.id == rollout.endpoint_id), None)
    return (
        route is not None
        and table.activate_at_ms <= now_ms
        and route.period >= rollout.period
        and route.arms.get(arm) == rollout.version
    )


def _requests_since(evidence: Evidence, period: int) -> float:
    asked = zip(evidence.periods, evidence.serving, strict=False)
    return sum(float(challenger[_REQUESTS].sum()) for number, (_, challenger) in asked if number >= period)


def _problem(session: Session, rollout: Rollout, now_ms: int) -> str | None:
    if rollout.served_ms is not None:
        return None
    slots = [
        slot for replica in serving.list_replicas(session, now_ms=now_ms) if replica.live for slot in replica.slots
    ]
    wanted = (rollout.model, rollout.version)
    return next((slot.reason for slot in slots if slot.reason and (slot.model, slot.version) == wanted), None)


# --- the new champion


def _decide_promotion(session: Session, rollout: Rollout, now_ms: int) -> Decision:
    """Until the new champion answers: somebody may have promoted what was never in memory. It isn't watched before."""
    since_s = (now_ms - rollout.step_ms) / 1000
    seen = Seen(served_s=None, since_s=since_s, problem=_problem(session, rollout, now_ms))
    judged = judge_loading(0, seen)
    if judged.ruling is Ruling.WAIT:
        # There is no step at which a person could be asked; the alias means again what answers.
        return Decision(move=Move.ROLL_BACK, reason=judged.reason)
    return _as_decision(rollout, judged, seen, now_ms)


def _decide_watch(
    session: Session, endpoint: Endpoint, rollout: Rollout, watch: Watch, *, now_ms: int, warm_ms: int
) -> Decision:
    spec = rollout.spec
    if not watch.objectives:
        return _decide_objectives(session, endpoint, rollout, watch)
    taken = watch.samples[-1]
    is_over = now_ms - watch.began_ms >= spec.watch_s * 1000
    keeps_warm = _is_cooling(endpoint, now_ms=now_ms, warm_ms=warm_ms)
    if not is_over and now_ms - taken.at_ms < spec.watch_s * 1000 / burn.SAMPLES_PER_WATCH:
        return Decision(move=Move.NOTE, keeps_warm=True) if keeps_warm else _NOTHING
    samples = burn.kept(watch.samples, _sample(session, rollout, watch, now_ms), spec.watch_s)
    newest = samples[-1]
    evidence = {
        "watched_s": round((now_ms - watch.began_ms) / 1000, 1),
        "requests": newest.requests,
        "bad": {objective.name: bad for objective, bad in zip(watch.objectives, newest.bad, strict=True)},
    }
    why = burn.burnt(watch.objectives, samples, spec.watch_s)
    if why is not None:
        return Decision(move=Move.ROLL_BACK, reason=why, evidence=evidence)
    said = f"champion for {(now_ms - watch.began_ms) / 1000:.0f} s, {newest.requests:.0f} requests"
    if is_over:
        return Decision(move=Move.FINISH, reason=f"{said}: no budget was burnt too fast", evidence=evidence)
    return Decision(move=Move.NOTE, reason=said, samples=samples, evidence=evidence, keeps_warm=keeps_warm)


def _decide_objectives(session: Session, endpoint: Endpoint, rollout: Rollout, watch: Watch) -> Decision:
    evidence = evidence_of(session, endpoint, rollout)
    guards = [parse_guard(guard) for guard in rollout.spec.guards]
    # Promoted before its first step, there was nothing to see side by side.
    objectives = (
        (Objective(name=burn.FAILURES, budget=rollout.spec.budget),)
        if evidence is None
        else burn.objectives_of(guards, evidence, rollout.spec.budget)
    )
    nothing = Sample(at_ms=watch.began_ms, requests=0.0, bad=(0.0,) * len(objectives))
    return Decision(move=Move.NOTE, objectives=objectives, samples=(nothing,), reason="watching the new champion")


def _sample(session: Session, rollout: Rollout, watch: Watch, now_ms: int) -> Sample:
    kept = kept_sums.read(session, rollout.endpoint_id)

    def is_ours(cell: Cell) -> bool:
        return cell.period >= watch.period and (cell.arm, cell.version) == (CHAMPION, rollout.version)

    sums = [each.values for cell, each in kept.tally(SERVING).cells.items() if is_ours(cell)]
    latency = sum((counts for cell, counts in kept.latency.items() if is_ours(cell)), start=no_requests())
    requests, failures = (math.fsum(float(each[row].sum()) for each in sums) for row in (_REQUESTS, _FAILURES))
    return burn.sample(watch.objectives, requests, failures, latency, now_ms)


def _is_cooling(endpoint: Endpoint, *, now_ms: int, warm_ms: int) -> bool:
    """Whether the champion before has been let alone for half of its time in memory."""
    since_ms = endpoint.former_since_ms
    return since_ms is not None and now_ms - since_ms >= warm_ms / 2
