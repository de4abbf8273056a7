"""The way back: to the champion before, while it is still in memory everywhere. A switch of table, not a load."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import aliases, endpoints, epochs, serving
from registry.endpoints import EndpointNotFound
from registry.entities import CHAMPION, Endpoint, Rollback, Route
from registry.granted import ensure_may_change
from registry.rows import get_model_row
from registry.schema import AliasRow, EndpointRow
from tracking.access.caller import as_program
from tracking.errors import Conflict


class NothingServed(Conflict):
    def __init__(self, name: str) -> None:
        super().__init__(f"Endpoint {name!r} answers from no version now, so there is nothing to go back from.")


class NothingToGoBackTo(Conflict):
    def __init__(self, endpoint: Endpoint, version: int) -> None:
        super().__init__(
            f"There is nothing to go back to: endpoint {endpoint.name!r} has had no champion before version {version}, "
            f"or version {version} is what it went back to. `titlebout promote {endpoint.model} {CHAMPION} VERSION` "
            "serves any version."
        )


class FormerChampionNotWarm(Conflict):
    def __init__(self, endpoint: Endpoint, version: int) -> None:
        super().__init__(
            f"Version {version} of {endpoint.model!r}, the champion before, is not in memory on every replica any "
            f"more, so going back takes a load: `titlebout promote {endpoint.model} {CHAMPION} {version}`."
        )


class ChampionMoved(Conflict):
    def __init__(self, endpoint: Endpoint, version: int, expected: int) -> None:
        super().__init__(
            f"The champion of {endpoint.model!r} is version {version} and not {expected}; somebody else moved it."
        )


def roll_back(
    session: Session,
    name: str,
    *,
    author: str,
    now_ms: int,
    lead_ms: int,
    expected_version: int | None = None,
    rollout: str | None = None,
) -> Rollback:
    """Let endpoint *name* answer from its champion before, by one epoch, and let the alias mean that version.

    The alias moves too, or the reconciler would follow it forward again. A promotion that isn't in force yet is what
    is taken back, if there is one: the alias means again what serves. It is no toggle: the version that was gone back
    from is not gone back to, so that a call which is sent twice doesn't undo itself. With *expected_version* nothing
    happens unless the champion alias means that one. The author and the reason are those of a new period; *rollout* is
    the one that goes back.

    Raises:
        RolloutRunning: if another one decides what the champion is.
        EndpointNotFound: if there is no such endpoint that the caller may see.
        NotGranted: if they may not change its model.
        NothingServed, NothingToGoBackTo, FormerChampionNotWarm: if there is no way back that is a mere switch.
        ChampionMoved: if it isn't *expected_version* any more.
    """
    endpoint = _lock(session, name)
    served = _served_route(session, endpoint).arms[CHAMPION]
    meant = session.scalar(select(AliasRow.version).where(AliasRow.name == endpoint.model, AliasRow.alias == CHAMPION))
    left = served if meant is None else meant
    if expected_version is not None and expected_version != left:
        raise ChampionMoved(endpoint, left, expected_version)
    is_switch = left == served
    version = _former_champion(session, endpoint, served, now_ms=now_ms) if is_switch else served
    reason = f"rolled back from version {left} to version {version}"
    aliases.set_alias(
        session,
        endpoint.model,
        CHAMPION,
        version,
        author=author,
        now_ms=now_ms,
        reason=reason,
        is_gated=False,
        rollout=rollout,
    )
    endpoints.begin_period(session, endpoint.id, author=author, now_ms=now_ms, reason=reason)
    table = epochs.commit_epoch(session, now_ms=now_ms, lead_ms=lead_ms) or serving.newest_table(session)
    if is_switch:
        endpoints.forget_former_champion(session, endpoint.id)
    return Rollback(endpoint=endpoint.name, model=endpoint.model, version=version, left=left, epoch=table.epoch)


def _lock(session: Session, name: str) -> Endpoint:
    # In the order of all writers (docs/decisions/0008): the model's row, then the generation. Only a column is read
    # before, since a row that is read now would be remembered as it was before the lock.
    model = session.scalar(select(EndpointRow.model).where(EndpointRow.name == name))
    if model is None:
        raise EndpointNotFound(name)
    ensure_may_change(session, model, EndpointNotFound(name))
    get_model_row(session, model, lock=True)
    serving.lock_generation(session)
    return endpoints.get_endpoint(session, name)


def _served_route(session: Session, endpoint: Endpoint) -> Route:
    for route in serving.newest_table(session).routes:
        if route.id == endpoint.id and not endpoint.stopped:
            return route
    raise NothingServed(endpoint.name)


def _former_champion(session: Session, endpoint: Endpoint, served: int, *, now_ms: int) -> int:
    former = endpoint.former_champion
    if former is None:
        raise NothingToGoBackTo(endpoint, served)
    with as_program(session):  # Whoever may move the alias needn't be able to see what replicas hold.
        ready = epochs.ready_everywhere(session, now_ms=now_ms)
    if (endpoint.model, former) not in ready:
        raise FormerChampionNotWarm(endpoint, former)
    return former
