"""Rollouts: how far each is, and every way in which one goes on, each in one transaction.

Who acts on a rollout has judged it as it was when they read it, so each of their functions takes that and raises
`RolloutMoved` unless it is so still, under the locks that all writes of routing take. A replica that crashed in between
has done nothing or all of it; a second one that judged the same does nothing. What people ask goes by what is so when
their turn comes.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from registry import aliases, announcements, endpoints, history, rollbacks, serving
from registry.endpoints import EndpointNotFound
from registry.entities import CHAMPION, Action, Endpoint
from registry.gates import Override
from registry.granted import ensure_may_change, in_sight
from registry.history import REASON_LENGTH_MAX
from registry.rollbacks import FormerChampionNotWarm, NothingServed, NothingToGoBackTo
from registry.rollout_entities import (
    ARM,
    Before,
    Objective,
    Rollout,
    RolloutSpec,
    RolloutState,
    Sample,
    Watch,
    check_spec,
)
from registry.rows import ensure_version, get_model_row
from registry.running_rollouts import ensure_none_running
from registry.schema import AliasRow, EndpointRow, RolloutRow
from registry.splits import BUCKETS
from tracking.errors import Conflict, NotFound
from tracking.names import check_text

ROLLOUTS_LISTED_MAX = 100


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Who does something, when and why; and what was known then, for the history."""

    author: str
    now_ms: int
    reason: str = ""
    evidence: Mapping[str, Any] = {}


_STEPPING = frozenset({RolloutState.RUNNING, RolloutState.WAITING, RolloutState.PAUSED})


class NoRollout(NotFound):
    def __init__(self, endpoint: str) -> None:
        super().__init__(f"There has been no rollout on endpoint {endpoint!r}.")


class NoRolloutRunning(Conflict):
    def __init__(self, endpoint: str) -> None:
        super().__init__(f"No rollout is running on endpoint {endpoint!r}.")


class RolloutMoved(Conflict):
    """Somebody else has acted, or the rollout has ended."""

    def __init__(self, rollout: str) -> None:
        super().__init__(f"The rollout {rollout} isn't what it was when it was looked at.")


class NotForThat(Conflict):
    def __init__(self, rollout: Rollout, asked: str) -> None:
        super().__init__(f"The rollout on endpoint {rollout.endpoint!r} is {rollout.state}, so it can't be {asked}.")


class NothingToRollOut(Conflict):
    def __init__(self, endpoint: str, version: int) -> None:
        super().__init__(f"Version {version} is the champion of endpoint {endpoint!r} already.")


class NoChampion(Conflict):
    def __init__(self, endpoint: str) -> None:
        super().__init__(f"Endpoint {endpoint!r} has no champion in service to compare with.")


class OtherArmsServe(Conflict):
    def __init__(self, endpoint: str, arms: Sequence[str]) -> None:
        super().__init__(
            f"Other arms of endpoint {endpoint!r} have a share of its traffic: {', '.join(arms)}. A rollout is between "
            f"{CHAMPION} and {ARM}; give theirs to the {CHAMPION} first."
        )


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What of a `Rollout` is kept as JSON."""

    spec: RolloutSpec
    before: Before
    step: int
    reason: str
    period: int = 0
    first_period: int = 0
    step_ms: int
    served_ms: int | None = None
    watch: Watch | None = None
    override: str | None = None
    evidence: dict[str, Any] = {}


# --- questions


def newest(session: Session, endpoint: str) -> Rollout:
    """The rollout that runs on *endpoint*, else the one that ran last.

    Raises:
        EndpointNotFound: if there is no such endpoint that the caller may see.
        NoRollout: if there has been none on it.
    """
    found = endpoints.get_endpoint(session, endpoint)
    order = (RolloutRow.running_on.is_(None), RolloutRow.created_ms.desc(), RolloutRow.id)
    row = session.scalars(
        select(RolloutRow).where(RolloutRow.endpoint_id == found.id).order_by(*order).limit(1)
    ).first()
    if row is None:
        raise NoRollout(endpoint)
    return _rollout(row, found)


def list_rollouts(session: Session) -> list[Rollout]:
    """The newest rollouts of models that the caller may see, those that run first."""
    order = (RolloutRow.running_on.is_(None), RolloutRow.created_ms.desc(), RolloutRow.id)
    return _listed(session, select(RolloutRow, EndpointRow).order_by(*order).limit(ROLLOUTS_LISTED_MAX))


def list_running(session: Session) -> list[Rollout]:
    """All that run: what replicas ask."""
    return _listed(session, select(RolloutRow, EndpointRow).where(RolloutRow.running_on.is_not(None)))


# --- the beginning


def start(
    session: Session,
    endpoint: str,
    version: int,
    spec: RolloutSpec,
    act: Act,
    *,
    override: Override | None = None,
) -> Rollout:
    """Begin to roll out *version* on *endpoint*: as the challenger, without a share until it is in memory.

    Gates that keep it from its first step are found out now; later ones have it wait for a person. An *override* holds
    for all of its steps.

    Raises:
        EndpointNotFound: if there is no such endpoint that the caller may see.
        ModelVersionNotFound: if the version isn't registered.
        InvalidParameter: if *spec* can't be carried out.
        NothingToRollOut, NoChampion, OtherArmsServe, RolloutRunning: if the endpoint is in no state for it.
        GatesNotMet: if a gate keeps the version from its first step.
    """
    check_spec(spec)
    check_text(act.reason, "reason", REASON_LENGTH_MAX)
    found = _lock(session, endpoint)
    ensure_version(session, found.model, version)
    ensure_none_running(session, found.model)
    before = _before(session, found, version)
    row = _new_row(
        found,
        version,
        Course(
            spec=spec,
            before=before,
            step=0,
            reason="waiting until the version is in memory",
            step_ms=act.now_ms,
            override=None if override is None else override.reason,
        ),
        act,
    )
    session.add(row)
    session.flush()
    rollout = _rollout(row, found)
    _record(session, Action.ROLLOUT_STARTED, rollout, act, asked=msgspec.to_builtins(spec))
    if before.challenger != version:
        # What another version answers as challenger would count against this one.
        aside = msgspec.structs.replace(act, reason=f"version {before.challenger} steps aside")
        _split_if_needed(session, rollout, 0, aside)
        _set_alias(session, rollout, ARM, version, act, override=override)
    _try_first_step(session, rollout, act, override)
    return rollout


def _new_row(endpoint: Endpoint, version: int, course: Course, act: Act) -> RolloutRow:
    return RolloutRow(
        id=secrets.token_hex(8),
        endpoint_id=endpoint.id,
        running_on=endpoint.id,
        version=version,
        state=RolloutState.RUNNING,
        course=_encoded(course),
        revision=0,
        lease_until_ms=0,
        author=act.author,
        created_ms=act.now_ms,
        updated_ms=act.now_ms,
    )


def _before(session: Session, endpoint: Endpoint, version: int) -> Before:
    meant = _meant(session, endpoint.model)
    champion = meant.get(CHAMPION)
    if endpoint.stopped or champion is None:
        raise NoChampion(endpoint.name)
    if champion == version:
        raise NothingToRollOut(endpoint.name, version)
    shares = endpoints.get_split(session, endpoint.id).shares_bp
    others = sorted(arm for arm, share in shares.items() if share and arm not in {CHAMPION, ARM})
    if others:
        raise OtherArmsServe(endpoint.name, others)
    return Before(champion=champion, challenger=meant.get(ARM), shares_bp=shares)


def _try_first_step(session: Session, rollout: Rollout, act: Act, override: Override | None) -> None:
    """Find out whether gates allow it, and change nothing."""
    tried = session.begin_nested()
    try:
        if rollout.spec.share_bp(1) == BUCKETS:
            _give_all(session, rollout, act, override)
        else:
            _give_share(session, rollout, act, override)
    finally:
        tried.rollback()


# --- one actor


def claim(session: Session, seen: Rollout, actor: str, *, now_ms: int, lease_ms: int) -> bool:
    """Whether *actor* is the one that acts on it for another *lease_ms*: nobody else's lease holds."""
    row = RolloutRow
    free = (row.actor == actor) | row.actor.is_(None) | (row.lease_until_ms < now_ms)
    taken = session.execute(
        update(row)
        .where(row.id == seen.id, row.running_on.is_not(None), free)
        .values(actor=actor, lease_until_ms=now_ms + lease_ms)
    )
    return bool(taken.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result counts its rows


def note(
    session: Session,
    seen: Rollout,
    *,
    now_ms: int,
    reason: str | None = None,
    served_ms: int | None = None,
    objectives: tuple[Objective, ...] = (),
    samples: tuple[Sample, ...] = (),
    evidence: Mapping[str, Any] = {},
    keeps_warm: bool = False,
) -> None:
    """Keep what was seen. It changes nothing that is served, so the history isn't told.

    *served_ms* says since when the step is in force, and a new champion is watched. With *keeps_warm* the champion
    before stays in memory for another warm time, so that the way back is short.

    Raises:
        RolloutMoved: as all that follow here.
    """
    row, now = _taken(session, seen)
    said = now.reason if reason is None else reason
    watch = now.watch
    if watch is not None:
        watch = msgspec.structs.replace(
            watch,
            began_ms=watch.began_ms if served_ms is None else served_ms,
            objectives=objectives or watch.objectives,
            samples=samples or watch.samples,
        )
    if keeps_warm:
        endpoints.keep_former_champion_warm(session, now.endpoint_id, now_ms=now_ms)
    act = Act(author="", now_ms=now_ms, reason=said, evidence=evidence)
    _change(session, row, act, served_ms=now.served_ms if served_ms is None else served_ms, watch=watch)


def advance(session: Session, seen: Rollout, act: Act) -> Rollout:
    """Go to the next step; the last one is the promotion, after which it is watched.

    Raises:
        GatesNotMet: if a gate keeps the version from it, and whoever started the rollout didn't override that.
    """
    row, now = _taken(session, seen)
    return _advance(session, row, now, act)


def wait(session: Session, seen: Rollout, act: Act) -> Rollout:
    """Leave it to a person."""
    row, now = _taken(session, seen)
    if now.state not in _STEPPING:
        raise RolloutMoved(now.id)
    _record(session, Action.ROLLOUT_WAITING, now, act)
    return _change(session, row, act, state=RolloutState.WAITING)


def stop(session: Session, seen: Rollout, act: Act) -> Rollout:
    """Put back what was before, because the version is bad."""
    row, now = _taken(session, seen)
    if now.state not in _STEPPING:
        raise RolloutMoved(now.id)
    _record(session, Action.ROLLOUT_STOPPED, now, act)
    _put_back(session, now, act)
    return _end(session, row, RolloutState.STOPPED, act)


def roll_back(session: Session, seen: Rollout, act: Act, *, lead_ms: int) -> Rollout:
    """Make the champion before champion again, because the new one is bad."""
    row, now = _taken(session, seen)
    if now.state is not RolloutState.WATCHING:
        raise RolloutMoved(now.id)
    _record(session, Action.ROLLOUT_ROLLED_BACK, now, act)
    _go_back(session, now, act, lead_ms=lead_ms)
    return _end(session, row, RolloutState.ROLLED_BACK, act)


def finish(session: Session, seen: Rollout, act: Act) -> Rollout:
    """Stop watching the new champion, which was good."""
    row, now = _taken(session, seen)
    if now.state is not RolloutState.WATCHING:
        raise RolloutMoved(now.id)
    _record(session, Action.ROLLOUT_ENDED, now, act)
    return _end(session, row, RolloutState.SUCCEEDED, act)


# --- what people ask


def pause(session: Session, endpoint: str, act: Act) -> Rollout:
    """Leave the shares as they are until it is resumed.

    Raises:
        EndpointNotFound, NoRolloutRunning: as for all that people ask.
        NotForThat: if it is paused, or the version is champion already.
    """
    row, now = _running(session, endpoint)
    if now.state not in {RolloutState.RUNNING, RolloutState.WAITING}:
        raise NotForThat(now, "paused")
    _record(session, Action.ROLLOUT_PAUSED, now, act)
    return _change(session, row, _said(act, "paused"), state=RolloutState.PAUSED)


def resume(session: Session, endpoint: str, act: Act) -> Rollout:
    """Go on: what was paused looks at its step anew, what waits for a person has one's word and goes to its next step.

    Raises:
        NotForThat: if it neither was paused nor waits.
        GatesNotMet: if a gate keeps it from the next step.
    """
    row, now = _running(session, endpoint)
    if now.state not in {RolloutState.PAUSED, RolloutState.WAITING}:
        raise NotForThat(now, "resumed")
    _record(session, Action.ROLLOUT_RESUMED, now, act)
    has_word = now.state is RolloutState.WAITING and now.served_ms is not None
    said = _said(act, "resumed")
    resumed = _change(session, row, said, state=RolloutState.RUNNING, step_ms=act.now_ms, served_ms=None)
    return _advance(session, row, resumed, said) if has_word else resumed


def abort(session: Session, endpoint: str, act: Act, *, lead_ms: int) -> Rollout:
    """Put back what was before, the former champion too if the version is champion already."""
    row, now = _running(session, endpoint)
    _record(session, Action.ROLLOUT_ABORTED, now, act)
    said = _said(act, "aborted")
    if now.state is RolloutState.WATCHING:
        _go_back(session, now, said, lead_ms=lead_ms)
    else:
        _put_back(session, now, said)
    return _end(session, row, RolloutState.ABORTED, said)


def promote(session: Session, endpoint: str, act: Act, *, override: Override | None = None) -> Rollout:
    """Make the version champion now, whatever was seen of it; where it is, stop watching it.

    Raises:
        GatesNotMet: if a gate keeps it from being champion, and there is no *override*.
    """
    row, now = _running(session, endpoint)
    _record(session, Action.ROLLOUT_PROMOTED, now, act)
    if now.state is RolloutState.WATCHING:
        return _end(session, row, RolloutState.SUCCEEDED, _said(act, "promoted"))
    return _promote(session, row, now, _said(act, "promoted"), override)


def _said(act: Act, what: str) -> Act:
    """What people read of it while it is so."""
    said = f"{what} by {act.author}" + (f": {act.reason}" if act.reason else "")
    return msgspec.structs.replace(act, reason=said)


# --- the ways on and back


def _advance(session: Session, row: RolloutRow, now: Rollout, act: Act) -> Rollout:
    if now.state not in _STEPPING:
        raise RolloutMoved(now.id)
    step = now.step + 1
    steps = len(now.spec.steps_bp)
    _record(session, Action.ROLLOUT_STEPPED, now, act, step=step, steps=steps, share_bp=now.spec.share_bp(step))
    override = None if now.override is None else Override(row.author, now.override, act.now_ms)
    if now.spec.share_bp(step) == BUCKETS:
        return _promote(session, row, now, act, override)
    period = _give_share(session, now, act, override)
    return _change(
        session,
        row,
        act,
        state=RolloutState.RUNNING,
        step=step,
        period=period,
        first_period=now.first_period or period,
        step_ms=act.now_ms,
        served_ms=None,
        # What the act goes by was seen of the step before.
        evidence={},
    )


def _give_share(session: Session, now: Rollout, act: Act, override: Override | None) -> int:
    """Give the version what it has at the next step; the number of the period that begins."""
    step = now.step + 1
    said = msgspec.structs.replace(
        act, reason=f"rollout of version {now.version}, step {step} of {len(now.spec.steps_bp)}"
    )
    return _split(session, now, now.spec.share_bp(step), said, override)


def _promote(session: Session, row: RolloutRow, now: Rollout, act: Act, override: Override | None) -> Rollout:
    """Champion := the version, with all of the traffic: one change, and so one epoch."""
    period = _give_all(session, now, act, override)
    watch = Watch(began_ms=act.now_ms, period=period)
    watched = _change(
        session,
        row,
        act,
        state=RolloutState.WATCHING,
        step=len(now.spec.steps_bp),
        period=period,
        step_ms=act.now_ms,
        served_ms=None,
        watch=watch,
        evidence={},
    )
    if now.spec.watch_s > 0:
        return watched
    # Why it was promoted is said by its last step's entry.
    _record(session, Action.ROLLOUT_ENDED, watched, Act(author=act.author, now_ms=act.now_ms, reason="not watched"))
    return _end(session, row, RolloutState.SUCCEEDED, act)


def _give_all(session: Session, now: Rollout, act: Act, override: Override | None) -> int:
    """The number of the first period in which the version is champion."""
    before = endpoints.get_split(session, now.endpoint_id)
    _set_alias(session, now, CHAMPION, now.version, act, override=override)
    # Setting the champion to an arm's version gives it all that the arm had, in a period of its own.
    after = endpoints.get_split(session, now.endpoint_id)
    if after.period > before.period:
        return after.period
    reason = f"version {now.version} rolled out"
    return endpoints.begin_period(session, now.endpoint_id, author=act.author, now_ms=act.now_ms, reason=reason).period


def _put_back(session: Session, now: Rollout, act: Act) -> None:
    """The split that was, and the challenger that was."""
    act = _putting_back(now, act)
    if now.before.challenger != now.version:
        # Without a share first, so that the one doesn't answer with what the other had.
        _split_if_needed(session, now, 0, act)
        _put_challenger_back(session, now, act)
    _put_share_back(session, now, act)


def _go_back(session: Session, now: Rollout, act: Act, *, lead_ms: int) -> None:
    """The champion that was, by a switch of table if it is still warm; the version itself is left without a share."""
    who = {"author": act.author, "now_ms": act.now_ms}
    try:
        with session.begin_nested():
            back = rollbacks.roll_back(session, now.endpoint, lead_ms=lead_ms, rollout=now.id, **who)  # type: ignore[arg-type]
            announcements.alias_was_set(session, now.model, CHAMPION, back.version)
    except (FormerChampionNotWarm, NothingToGoBackTo, NothingServed):
        # It left memory, so it has to be loaded first; nobody asks the gates of what was served.
        _set_alias(session, now, CHAMPION, now.before.champion, act, is_gated=False)
    if now.before.challenger != now.version:
        _put_challenger_back(session, now, act)
        _put_share_back(session, now, act)


def _put_challenger_back(session: Session, now: Rollout, act: Act) -> None:
    before = now.before.challenger
    if before is None:
        aliases.delete_alias(session, now.model, ARM, author=act.author, now_ms=act.now_ms, rollout=now.id)
        announcements.alias_was_deleted(session, now.model, ARM)
    elif _is_registered(session, now.model, before):
        _set_alias(session, now, ARM, before, act, is_gated=False)


def _put_share_back(session: Session, now: Rollout, act: Act) -> None:
    # Its version may have been deleted meanwhile.
    if _meant(session, now.model).get(ARM) == now.before.challenger:
        _split_if_needed(session, now, now.before.shares_bp.get(ARM, 0), _putting_back(now, act))


def _putting_back(now: Rollout, act: Act) -> Act:
    return msgspec.structs.replace(act, reason=f"put back after the rollout of version {now.version}")


def _set_alias(
    session: Session,
    now: Rollout,
    alias: str,
    version: int,
    act: Act,
    *,
    override: Override | None = None,
    is_gated: bool = True,
) -> None:
    aliases.set_alias(
        session,
        now.model,
        alias,
        version,
        author=act.author,
        now_ms=act.now_ms,
        reason=f"rollout of version {now.version}",
        override=override,
        is_gated=is_gated,
        rollout=now.id,
    )
    announcements.alias_was_set(session, now.model, alias, version)


def _split_if_needed(session: Session, now: Rollout, share_bp: int, act: Act) -> None:
    if endpoints.get_split(session, now.endpoint_id).shares_bp.get(ARM, 0) != share_bp:
        # A gate that has come since doesn't keep out what was there before it; the history says that it was passed by.
        override = Override(act.author, f"put back after the rollout of version {now.version}", act.now_ms)
        _split(session, now, share_bp, act, override)


def _split(session: Session, now: Rollout, share_bp: int, act: Act, override: Override | None = None) -> int:
    split = endpoints.change_split(
        session,
        now.endpoint,
        {CHAMPION: BUCKETS - share_bp, ARM: share_bp} if share_bp else {CHAMPION: BUCKETS},
        author=act.author,
        now_ms=act.now_ms,
        reason=act.reason[:REASON_LENGTH_MAX],
        override=override,
        rollout=now.id,
    )
    return split.period


# --- rows


def _lock(session: Session, name: str) -> Endpoint:
    # In the order of all writers (docs/decisions/0008): the model's row, then the generation.
    model = session.scalar(select(EndpointRow.model).where(EndpointRow.name == name))
    if model is None:
        raise EndpointNotFound(name)
    ensure_may_change(session, model, EndpointNotFound(name))
    get_model_row(session, model, lock=True)
    serving.lock_generation(session)
    return endpoints.get_endpoint(session, name)


def _taken(session: Session, seen: Rollout) -> tuple[RolloutRow, Rollout]:
    """*seen* as it is now, locked, if nobody has changed it since."""
    try:
        endpoint = _lock(session, seen.endpoint)
    except NotFound as error:
        raise RolloutMoved(seen.id) from error
    row = session.get(RolloutRow, seen.id, populate_existing=True)
    if row is None or row.running_on != endpoint.id or row.revision != seen.revision:
        raise RolloutMoved(seen.id)
    return row, _rollout(row, endpoint)


def _running(session: Session, name: str) -> tuple[RolloutRow, Rollout]:
    endpoint = _lock(session, name)
    on_it = select(RolloutRow).where(RolloutRow.running_on == endpoint.id)
    row = session.scalars(on_it.execution_options(populate_existing=True)).first()
    if row is None:
        raise NoRolloutRunning(name)
    return row, _rollout(row, endpoint)


def _change(
    session: Session, row: RolloutRow, act: Act, *, state: RolloutState | None = None, **course: Any
) -> Rollout:
    if state is not None:
        row.state = state
    if act.evidence:
        course = {"evidence": dict(act.evidence), **course}
    row.course = _encoded(msgspec.structs.replace(_course(row), reason=act.reason, **course))
    row.revision += 1
    row.updated_ms = act.now_ms
    session.flush()
    return _rollout(row, _endpoint(session, row))


def _end(session: Session, row: RolloutRow, state: RolloutState, act: Act) -> Rollout:
    row.running_on = row.actor = None
    row.ended_ms = act.now_ms
    return _change(session, row, act, state=state)


def _record(session: Session, action: Action, rollout: Rollout, act: Act, **details: Any) -> None:
    where = {"rollout": rollout.id, "endpoint": rollout.endpoint, "step": rollout.step}
    history.record(
        session,
        action,
        rollout.model,
        author=act.author,
        now_ms=act.now_ms,
        alias=ARM,
        version=rollout.version,
        reason=act.reason[:REASON_LENGTH_MAX] or None,
        details={**where, **act.evidence, **details},
    )


def _meant(session: Session, model: str) -> dict[str, int]:
    rows = session.execute(select(AliasRow.alias, AliasRow.version).where(AliasRow.name == model))
    return dict(rows.all())


def _is_registered(session: Session, model: str, version: int) -> bool:
    try:
        ensure_version(session, model, version)
    except NotFound:
        return False
    return True


def _endpoint(session: Session, row: RolloutRow) -> Endpoint:
    return endpoints.to_endpoint(session.get_one(EndpointRow, row.endpoint_id))


def _listed(session: Session, query: Any) -> list[Rollout]:
    joined = query.join(EndpointRow, EndpointRow.id == RolloutRow.endpoint_id)
    rows = session.execute(joined.where(*in_sight(session, EndpointRow.model))).all()
    return [_rollout(row, endpoints.to_endpoint(endpoint)) for row, endpoint in rows]


def _course(row: RolloutRow) -> Course:
    return msgspec.json.decode(row.course, type=Course)


def _encoded(course: Course) -> str:
    return msgspec.json.encode(course).decode()


def _rollout(row: RolloutRow, endpoint: Endpoint) -> Rollout:
    return Rollout(
        id=row.id,
        endpoint=endpoint.name,
        endpoint_id=endpoint.id,
        model=endpoint.model,
        version=row.version,
        state=RolloutState(row.state),
        author=row.author,
        actor=row.actor,
        lease_until_ms=row.lease_until_ms,
        revision=row.revision,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        ended_ms=row.ended_ms,
        **msgspec.structs.asdict(_course(row)),
    )
