"""Endpoints and their splits: what an alias write does to routing, in the same transaction (docs/routes.md).

The functions named for an event (`alias_was_set`, …) are called by the registry's own writes, so that desired state
is never half changed.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from registry import gates, history, serving
from registry.entities import CHALLENGER, CHAMPION, Action, DesiredRoute, Endpoint, Shadow, Split
from registry.gates import Override
from registry.granted import ensure_may_change, ensure_may_name, in_sight, may_see
from registry.history import REASON_LENGTH_MAX
from registry.names import check_model_name
from registry.running_rollouts import ensure_none_running, ensure_not_gone_back_to, is_running
from registry.schema import AliasRow, EndpointRow, PinRow, ShadowRow, SplitRow, TallyRow
from registry.splits import BUCKETS, all_to, check_shares, move_buckets
from tracking.errors import Conflict, InvalidParameter, NotFound
from tracking.names import check_text


class EndpointNotFound(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no endpoint {name!r}. One is made when a model gets its first `champion` alias.")


class EndpointNameTaken(Conflict):
    """*model* is None where the caller may not see which it is."""

    def __init__(self, name: str, model: str | None) -> None:
        owner = "another model" if model is None else f"model {model!r}"
        super().__init__(f"The endpoint name {name!r} belongs to {owner}; rename that endpoint first.")


class ArmWithoutAlias(InvalidParameter):
    def __init__(self, model: str, arm: str, aliases: list[str]) -> None:
        known = ", ".join(sorted(aliases)) or "none"
        super().__init__(f"Arm {arm!r} is no alias of {model!r}; its aliases are: {known}.")


class NameInService(Conflict):
    """*endpoint* is None where the caller may not see which it is."""

    def __init__(self, name: str, endpoint: str | None) -> None:
        said = "An endpoint" if endpoint is None else f"Endpoint {endpoint!r}"
        super().__init__(
            f"{said} still answers from versions under the name {name!r}, whose model was renamed. "
            "Try again once they are in memory under the new name; `titlebout status` says when."
        )


class VersionInService(Conflict):
    def __init__(self, model: str, version: int, endpoint: str) -> None:
        super().__init__(
            f"Version {version} of {model!r} answers for endpoint {endpoint!r}. Move its alias and let the flip "
            "happen, or stop the endpoint, then delete it."
        )


# --- questions


def get_endpoint(session: Session, name: str) -> Endpoint:
    """Endpoint *name*, whose model decides who may see it.

    Raises:
        EndpointNotFound: if there is none that the caller may see.
    """
    row = session.scalar(select(EndpointRow).where(EndpointRow.name == name))
    if row is None or not may_see(session, row.model):
        raise EndpointNotFound(name)
    return to_endpoint(row)


def model_of(session: Session, name: str) -> str:
    """The model behind endpoint *name*, and nothing that would be remembered of it when it is locked later.

    Raises:
        EndpointNotFound: if there is none that the caller may see.
    """
    model = session.scalar(select(EndpointRow.model).where(EndpointRow.name == name))
    if model is None or not may_see(session, model):
        raise EndpointNotFound(name)
    return model


def list_endpoints(session: Session) -> list[Endpoint]:
    """The endpoints of all models that the caller may see."""
    shown = select(EndpointRow).where(*in_sight(session, EndpointRow.model))
    return [to_endpoint(row) for row in session.scalars(shown.order_by(EndpointRow.name))]


def get_split(session: Session, endpoint_id: str) -> Split:
    """The split of the present period."""
    return to_split(_newest_split(session, endpoint_id))


def splits_from(session: Session, endpoint_id: str, period: int) -> list[Split]:
    """The splits of *period* and of those after it, oldest first."""
    wanted = select(SplitRow).where(SplitRow.endpoint_id == endpoint_id, SplitRow.period >= period)
    return [to_split(row) for row in session.scalars(wanted.order_by(SplitRow.period))]


def endpoints_with_challengers(session: Session) -> list[Endpoint]:
    """Those in service of which anything was counted that isn't the champion's."""
    counted = select(TallyRow.endpoint_id).where(TallyRow.arm != CHAMPION).distinct()
    rows = select(EndpointRow).where(EndpointRow.id.in_(counted), EndpointRow.stopped.is_(False))
    return [to_endpoint(row) for row in session.scalars(rows.order_by(EndpointRow.name))]


def versions_of_arms(session: Session, endpoint: Endpoint) -> dict[str, int]:
    """Arms of the present split to the versions that their aliases mean; the one with the largest share comes first."""
    shares_bp, aliases = _newest_split(session, endpoint.id).shares_bp, _aliases(session, endpoint.model)
    largest_first = sorted(shares_bp, key=lambda arm: (-shares_bp[arm], arm))
    return {arm: aliases[arm] for arm in largest_first if arm in aliases}


def desired_routes(session: Session, *, now_ms: int) -> list[DesiredRoute]:
    """What each endpoint that isn't stopped should be, of those that the caller may see."""
    gated = gates.names_with_gates(session)
    newest = (
        select(SplitRow.endpoint_id, func.max(SplitRow.period).label("period"))
        .group_by(SplitRow.endpoint_id)
        .subquery()
    )
    rows = session.execute(
        select(EndpointRow, SplitRow, ShadowRow)
        .join(newest, newest.c.endpoint_id == EndpointRow.id)
        .join(SplitRow, (SplitRow.endpoint_id == EndpointRow.id) & (SplitRow.period == newest.c.period))
        .outerjoin(ShadowRow, ShadowRow.endpoint_id == EndpointRow.id)
        .where(EndpointRow.stopped.is_(False), *in_sight(session, EndpointRow.model))
        .order_by(EndpointRow.name)
    ).all()
    aliases: dict[str, dict[str, int]] = {}
    models = [endpoint.model for endpoint, _, _ in rows]
    for name, alias, version in session.execute(
        select(AliasRow.name, AliasRow.alias, AliasRow.version).where(AliasRow.name.in_(models))
    ):
        aliases.setdefault(name, {})[alias] = version
    return [
        DesiredRoute(
            endpoint=to_endpoint(endpoint),
            split=to_split(split),
            versions={
                arm: version for arm, version in aliases.get(endpoint.model, {}).items() if arm in split.shares_bp
            },
            shadow=None if shadow is None else to_shadow(shadow),
            by_name=None
            if gated.isdisjoint((endpoint.model, endpoint.name))
            else gates.open_by_name(session, endpoint.model, now_ms=now_ms),
        )
        for endpoint, split, shadow in rows
    ]


# --- changes that people ask for


def change_split(
    session: Session,
    name: str,
    shares_bp: Mapping[str, int],
    *,
    author: str,
    now_ms: int,
    reason: str = "split changed",
    reshuffle: bool = False,
    override: Override | None = None,
    rollout: str | None = None,
) -> Split:
    """Begin a period in which the arms of endpoint *name* have *shares_bp*; arms not named stay, dark.

    *reshuffle* draws a new salt, so that every unit is assigned anew. *rollout* is the one whose step it is.

    Raises:
        EndpointNotFound: if there is no such endpoint.
        SharesDoNotAddUp: if they aren't 10,000 basis points.
        ArmWithoutAlias: if an arm isn't an alias of the model.
        GatesNotMet: if a gate keeps an arm's version from so much, and there is no *override*.
        RolloutRunning: if another rollout decides what the shares are.
    """
    endpoint = _lock_endpoint(session, name)
    ensure_none_running(session, endpoint.model, rollout=rollout)
    check_shares(shares_bp)
    check_text(reason, "reason", REASON_LENGTH_MAX)
    aliases = _aliases(session, endpoint.model)
    for arm in shares_bp:
        if arm not in aliases and arm != CHAMPION:
            raise ArmWithoutAlias(endpoint.model, arm, list(aliases))
    before = _newest_split(session, endpoint.id)
    shares = {**dict.fromkeys(before.shares_bp, 0), **shares_bp}
    gates.ensure_shares_may_be(session, endpoint.model, shares, now_ms=now_ms, override=override)
    dormant = {arm: share for arm, share in before.dormant_bp.items() if arm not in shares_bp}
    if reshuffle:
        endpoint.salt = secrets.token_hex(8)
    return _begin_period(
        session, before, shares, dormant, author=author, now_ms=now_ms, reason=reason, reshuffled=reshuffle
    )


def begin_period(session: Session, endpoint_id: str, *, author: str, now_ms: int, reason: str) -> Split:
    """Begin a period with the same shares, because what the arms mean has changed by a decision worth a record."""
    before = _newest_split(session, endpoint_id)
    return _begin_period(
        session, before, before.shares_bp, before.dormant_bp, author=author, now_ms=now_ms, reason=reason
    )


def join_dark(session: Session, name: str, arm: str, *, author: str, now_ms: int) -> Endpoint:
    """Have *arm* be one of endpoint *name*'s, without a share if it is none yet. Locks the endpoint.

    Raises:
        EndpointNotFound: if there is no such endpoint.
        ArmWithoutAlias: if the arm isn't an alias of the model.
        RolloutRunning: if it would have to join, and a rollout decides what the arms are.
    """
    endpoint = _lock_endpoint(session, name)
    aliases = _aliases(session, endpoint.model)
    if arm not in aliases:
        raise ArmWithoutAlias(endpoint.model, arm, list(aliases))
    if arm not in _newest_split(session, endpoint.id).shares_bp:
        ensure_none_running(session, endpoint.model)
    _join_dark(session, endpoint, arm, author=author, now_ms=now_ms, reason=f"arm {arm} joined")
    return to_endpoint(endpoint)


def lock_endpoint(session: Session, name: str) -> Endpoint:
    """Endpoint *name*, which nobody else changes until this transaction ends.

    Raises:
        EndpointNotFound: if there is no such endpoint.
    """
    return to_endpoint(_lock_endpoint(session, name))


def keep_former_champion_warm(session: Session, endpoint_id: str, *, now_ms: int) -> None:
    """Begin the warm time of the champion before anew."""
    row = session.get_one(EndpointRow, endpoint_id)
    if row.former_champion is not None:
        row.former_since_ms = now_ms
        serving.raise_generation(session)


def forget_former_champion(session: Session, endpoint_id: str) -> None:
    """Keep no version warm for a way back."""
    row = session.get_one(EndpointRow, endpoint_id)
    row.former_champion = row.former_since_ms = None


def stop_endpoint(session: Session, name: str, *, author: str, now_ms: int) -> None:
    """Take endpoint *name* out of service with the next epoch; setting its champion again brings it back."""
    endpoint = _lock_endpoint(session, name)
    ensure_none_running(session, endpoint.model)
    if not endpoint.stopped:
        endpoint.stopped = True
        _record(session, Action.ENDPOINT_STOPPED, endpoint, author=author, now_ms=now_ms)
    serving.raise_generation(session)


def rename_endpoint(session: Session, name: str, new_name: str, *, author: str, now_ms: int) -> None:
    """Answer under *new_name*, which must be one that a model could have. Assignments stay: they hang on the id.

    Raises:
        EndpointNotFound: if there is no endpoint *name*.
        NotGranted: if the caller may not change its model, or may have nothing by the new name, taken or not.
        EndpointNameTaken: if another has *new_name*.
        GatesNotMet: if gates wait under the new name, and keep out what the endpoint answers from.
    """
    check_model_name(new_name)
    endpoint = _lock_endpoint(session, name)
    ensure_none_running(session, endpoint.model)
    ensure_may_name(session, new_name)
    taken = session.scalar(select(EndpointRow).where(EndpointRow.name == new_name))
    if taken is not None and taken.id != endpoint.id:
        raise _name_taken(session, taken)
    if new_name != name:
        pass_gates(session, endpoint.model, new_name, now_ms=now_ms)
        endpoint.name = new_name
        details = {"from": name}
        _record(session, Action.ENDPOINT_RENAMED, endpoint, author=author, now_ms=now_ms, details=details)
    serving.raise_generation(session)


# --- what other writes of the registry do to routing


def alias_was_set(
    session: Session, model: str, alias: str, version: int, *, author: str, now_ms: int, rollout: str | None = None
) -> None:
    """Follow an alias write: the first champion makes the endpoint, a challenger joins dark, a promotion takes all.

    Raises:
        RolloutRunning: if a rollout other than *rollout* decides what the arm means.
    """
    _ensure_arm_is_nobodys(session, model, alias, rollout)
    # Any other alias may be an arm, whose version is read from it anew; by itself it makes nothing and joins nothing.
    if alias in {CHAMPION, CHALLENGER}:
        endpoint = _lock_endpoint_of(session, model)
        if endpoint is None:
            if alias == CHAMPION:
                _create_endpoint(session, model, author=author, now_ms=now_ms)
        elif alias == CHAMPION:
            if endpoint.stopped:
                endpoint.stopped = False
                _record(session, Action.ENDPOINT_STARTED, endpoint, author=author, now_ms=now_ms)
            _take_over_equal_arms(session, endpoint, version, author=author, now_ms=now_ms)
        else:
            _join_dark(session, endpoint, alias, author=author, now_ms=now_ms, reason=f"alias {alias} set")
    serving.raise_generation(session)


def alias_was_deleted(
    session: Session, model: str, alias: str, *, author: str, now_ms: int, rollout: str | None = None
) -> None:
    """Give a deleted arm's buckets to the champion and remember its share as dormant.

    A deleted champion changes nothing here: the version last served stays in service until the endpoint is stopped.

    Raises:
        RolloutRunning: if a rollout other than *rollout* decides what the arm means.
    """
    _ensure_arm_is_nobodys(session, model, alias, rollout)
    endpoint = _lock_endpoint_of(session, model)
    if endpoint is not None and alias != CHAMPION:
        before = _newest_split(session, endpoint.id)
        if alias in before.shares_bp:
            shares = dict(before.shares_bp)
            share = shares.pop(alias)
            shares[CHAMPION] = shares.get(CHAMPION, 0) + share
            dormant = {**before.dormant_bp, alias: share}
            reason = f"alias {alias} deleted"
            _begin_period(session, before, shares, dormant, author=author, now_ms=now_ms, reason=reason)
    serving.raise_generation(session)


def ensure_version_deletable(session: Session, model: str, version: int) -> None:
    """Raise a `Conflict` if *version* answers in the newest epoch, or is what a rollout would go back to."""
    _ensure_not_served(session, model, version)
    ensure_not_gone_back_to(session, model, version)


def ensure_model_deletable(session: Session, model: str) -> None:
    """Raise a `Conflict` if any version of *model* answers in the newest epoch, or a rollout is running."""
    _ensure_not_served(session, model, None)
    ensure_none_running(session, model)


def ensure_name_unserved(session: Session, name: str, *, renamed_from: str | None = None) -> None:
    """Raise `NameInService` if the newest epoch answers from a model that had *name* until it was renamed.

    Until its versions are loaded under their new name, version 1 of *name* means theirs; another model of that name
    would be answered for by them. Giving a model (*renamed_from*) its own old name back is fine.
    """
    models = {endpoint.id: endpoint.model for endpoint in session.scalars(select(EndpointRow))}
    for route in serving.newest_table(session).routes:
        if route.model == name and models.get(route.id, name) not in {name, renamed_from}:
            raise NameInService(name, route.name if may_see(session, models.get(route.id, name)) else None)


def pass_gates(session: Session, model: str, name: str, *, now_ms: int) -> None:
    """Ask the gates that wait under *name*, which *model* or its endpoint takes, unless the other of them has it.

    Raises:
        GatesNotMet: if one isn't met.
    """
    endpoint = _lock_endpoint_of(session, model)
    if endpoint is not None and name in {endpoint.model, endpoint.name}:
        return  # They have been asked all along.
    gates.ensure_may_be_called(session, model, name, now_ms=now_ms)
    if endpoint is not None and name in gates.names_with_gates(session):
        # No gate would be asked on the way back to it, and these never were.
        forget_former_champion(session, endpoint.id)


def model_was_deleted(session: Session, model: str) -> None:
    """Forget the endpoint and the pins of a model that is gone."""
    serving.lock_generation(session)
    session.execute(delete(EndpointRow).where(EndpointRow.model == model))
    session.execute(delete(PinRow).where(PinRow.model == model))
    serving.raise_generation(session)


def model_was_renamed(session: Session, old: str, new: str) -> None:
    """Follow a model to its new name. The endpoint keeps its id and, until told otherwise, its name."""
    endpoint = _lock_endpoint_of(session, old)
    if endpoint is not None:
        ensure_none_running(session, old)
        endpoint.model = new
    for pin in session.scalars(select(PinRow).where(PinRow.model == old)):
        pin.model = new
    serving.raise_generation(session)


# --- inside


def _ensure_arm_is_nobodys(session: Session, model: str, alias: str, rollout: str | None) -> None:
    # What an alias means that is no arm is no rollout's business.
    if not is_running(session, model, rollout=rollout):
        return
    endpoint_id = session.scalars(select(EndpointRow.id).where(EndpointRow.model == model)).one()
    if alias in {CHAMPION, CHALLENGER} or alias in _newest_split(session, endpoint_id).shares_bp:
        ensure_none_running(session, model, rollout=rollout)


def _create_endpoint(session: Session, model: str, *, author: str, now_ms: int) -> None:
    taken = session.scalar(select(EndpointRow).where(EndpointRow.name == model))
    if taken is not None:
        raise _name_taken(session, taken)
    endpoint = EndpointRow(
        id=secrets.token_hex(16), name=model, model=model, salt=secrets.token_hex(8), created_ms=now_ms
    )
    session.add(endpoint)
    session.flush()
    shares = {CHAMPION: BUCKETS}
    if CHALLENGER in _aliases(session, model):
        shares[CHALLENGER] = 0
    _add_period(
        session,
        SplitRow(
            endpoint_id=endpoint.id,
            period=1,
            shares_bp=shares,
            dormant_bp={},
            owners=all_to(CHAMPION),
            reason="first champion",
            author=author,
            created_ms=now_ms,
        ),
    )


def _take_over_equal_arms(session: Session, endpoint: EndpointRow, version: int, *, author: str, now_ms: int) -> None:
    # The guide's promotion: the champion alias is set to the challenger's version. Two arms of one version compare
    # nothing, so the champion takes that arm's traffic; the alias stays where it is.
    before = _newest_split(session, endpoint.id)
    aliases = _aliases(session, endpoint.model)
    equal = [
        arm for arm, share in before.shares_bp.items() if arm != CHAMPION and share and aliases.get(arm) == version
    ]
    if not equal:
        return
    shares = {arm: 0 if arm in equal else share for arm, share in before.shares_bp.items()}
    shares[CHAMPION] = BUCKETS - sum(share for arm, share in shares.items() if arm != CHAMPION)
    reason = f"version {version} promoted"
    _begin_period(session, before, shares, before.dormant_bp, author=author, now_ms=now_ms, reason=reason)


def _join_dark(session: Session, endpoint: EndpointRow, alias: str, *, author: str, now_ms: int, reason: str) -> None:
    before = _newest_split(session, endpoint.id)
    if alias not in before.shares_bp:
        shares = {**before.shares_bp, alias: 0}
        _begin_period(session, before, shares, before.dormant_bp, author=author, now_ms=now_ms, reason=reason)


def _begin_period(
    session: Session,
    before: SplitRow,
    shares_bp: dict[str, int],
    dormant_bp: dict[str, int],
    *,
    author: str,
    now_ms: int,
    reason: str,
    reshuffled: bool = False,
) -> Split:
    owners = move_buckets(to_split(before).owners, shares_bp)
    row = SplitRow(
        endpoint_id=before.endpoint_id,
        period=before.period + 1,
        shares_bp=shares_bp,
        dormant_bp=dormant_bp,
        owners=owners,
        reason=reason,
        author=author,
        created_ms=now_ms,
        reshuffled=reshuffled,
    )
    _add_period(session, row)
    serving.raise_generation(session)
    return to_split(row)


def _add_period(session: Session, row: SplitRow) -> None:
    session.add(row)
    endpoint = session.get_one(EndpointRow, row.endpoint_id)
    _record(
        session,
        Action.SPLIT_CHANGED,
        endpoint,
        author=row.author,
        now_ms=row.created_ms,
        reason=row.reason,
        details={"period": row.period, "shares_bp": row.shares_bp},
    )


def _record(
    session: Session,
    action: Action,
    endpoint: EndpointRow,
    *,
    author: str,
    now_ms: int,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    said = {"endpoint": endpoint.name, **(details or {})}
    history.record(session, action, endpoint.model, author=author, now_ms=now_ms, reason=reason, details=said)


def _ensure_not_served(session: Session, model: str, version: int | None) -> None:
    # Locked, so that no epoch with this version is committed between the question and the delete.
    serving.lock_generation(session)
    models = {endpoint.id: endpoint.model for endpoint in session.scalars(select(EndpointRow))}
    for route in serving.newest_table(session).routes:
        # By id, because the table of the epoch may still hold the name that the model had before a rename.
        if models.get(route.id, route.model) != model:
            continue
        for served in route.arms.values():
            if version is None or served == version:
                raise VersionInService(model, served, route.name)


# Locks are taken in one order, so that no two writers wait for each other: the model's row, then the generation. The
# generation's lock covers all endpoints and splits: such writes are rare, and one lock is one order less to get wrong.


def _lock_endpoint_of(session: Session, model: str) -> EndpointRow | None:
    serving.lock_generation(session)
    return session.scalar(select(EndpointRow).where(EndpointRow.model == model))


def _lock_endpoint(session: Session, name: str) -> EndpointRow:
    serving.lock_generation(session)
    row = session.scalar(select(EndpointRow).where(EndpointRow.name == name))
    if row is None:
        raise EndpointNotFound(name)
    ensure_may_change(session, row.model, EndpointNotFound(name))
    return row


def _name_taken(session: Session, taken: EndpointRow) -> EndpointNameTaken:
    return EndpointNameTaken(taken.name, taken.model if may_see(session, taken.model) else None)


def _newest_split(session: Session, endpoint_id: str) -> SplitRow:
    newest = select(func.max(SplitRow.period)).where(SplitRow.endpoint_id == endpoint_id).scalar_subquery()
    return session.scalars(select(SplitRow).where(SplitRow.endpoint_id == endpoint_id, SplitRow.period == newest)).one()


def _aliases(session: Session, model: str) -> dict[str, int]:
    rows = session.execute(select(AliasRow.alias, AliasRow.version).where(AliasRow.name == model))
    return dict(rows.all())


def to_endpoint(row: EndpointRow) -> Endpoint:
    return Endpoint(
        id=row.id,
        name=row.name,
        model=row.model,
        salt=row.salt,
        fallback=row.fallback,
        stopped=row.stopped,
        former_champion=row.former_champion,
        former_since_ms=row.former_since_ms,
        created_ms=row.created_ms,
    )


def to_shadow(row: ShadowRow) -> Shadow:
    return Shadow(arm=row.arm, share_bp=row.share_bp, keep_inputs=row.keep_inputs, tolerance=row.tolerance)


def to_split(row: SplitRow) -> Split:
    return Split(
        endpoint_id=row.endpoint_id,
        period=row.period,
        shares_bp=row.shares_bp,
        dormant_bp=row.dormant_bp,
        owners=tuple((arm, count) for arm, count in row.owners),
        reason=row.reason,
        author=row.author,
        created_ms=row.created_ms,
        reshuffled=row.reshuffled,
    )
