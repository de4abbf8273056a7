"""Epochs: the routing tables that are served one after the other, each committed whole."""

from functools import reduce

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from registry import serving
from registry.endpoints import desired_routes
from registry.entities import CHAMPION, RoutingTable, VersionKey
from registry.routing_plan import next_routes
from registry.schema import EndpointRow, EpochRow
from registry.versions import find_digests
from tracking.access.caller import as_program

# Enough to see what was served through a long incident; the history proper is an audit log of its own.
_EPOCHS_KEPT = 1_000


def commit_epoch(session: Session, *, now_ms: int, lead_ms: int) -> RoutingTable | None:
    """Commit the next routing table if desired state and readiness ask for one; None if all is as it should be.

    All replicas switch at ``activate_at_ms``, *lead_ms* from *now_ms*, which gives each of them time to read it.
    """
    # One replica decides at a time. The lock is the generation's, which the commit raises anyway.
    serving.lock_generation(session)
    current = serving.newest_table(session)
    # A table is everybody's, whoever it is that a rollback has one committed for: narrowed to what they may see, it
    # would take all other endpoints out of service.
    with as_program(session):
        routes = next_routes(current, desired_routes(session, now_ms=now_ms), ready_everywhere(session, now_ms=now_ms))
    if routes == current.routes:
        return None
    table = RoutingTable(epoch=current.epoch + 1, activate_at_ms=now_ms + lead_ms, routes=routes)
    session.add(
        EpochRow(
            number=table.epoch,
            table=msgspec.json.encode(table).decode(),
            activate_at_ms=table.activate_at_ms,
            created_ms=now_ms,
        )
    )
    _note_former_champions(session, current, table, now_ms=now_ms)
    session.execute(delete(EpochRow).where(EpochRow.number <= table.epoch - _EPOCHS_KEPT))
    serving.raise_generation(session)
    return table


def ready_everywhere(session: Session, *, now_ms: int) -> frozenset[VersionKey]:
    """The versions that each live replica could serve now, with the very bytes that they are registered with."""
    replicas = [replica.ready for replica in serving.list_replicas(session, now_ms=now_ms) if replica.live]
    held = reduce(frozenset.intersection, (frozenset(replica) for replica in replicas)) if replicas else frozenset()
    registered = find_digests(session, held)
    return frozenset(
        key for key in held if key in registered and all(replica[key] == registered[key] for replica in replicas)
    )


def _note_former_champions(session: Session, before: RoutingTable, after: RoutingTable, *, now_ms: int) -> None:
    served = {route.id: route for route in before.routes}
    for route in after.routes:
        previous = served.get(route.id)
        if previous is None or previous.arms[CHAMPION] == route.arms[CHAMPION]:
            continue
        endpoint = session.get(EndpointRow, route.id)
        if endpoint is not None:
            endpoint.former_champion = previous.arms[CHAMPION]
            endpoint.former_since_ms = now_ms
