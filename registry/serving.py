"""Serving state as it stands: the generation, the replicas that are alive, the newest epoch."""

from collections.abc import Sequence
from typing import cast

import msgspec
from sqlalchemy import Table, delete, select, update
from sqlalchemy.orm import Session

from registry.entities import Replica, RoutingTable, SlotStatus
from registry.granted import may_see
from registry.schema import EpochRow, GenerationRow, ReplicaRow

_ONLY_ROW = 1


def generation(session: Session) -> int:
    """The number that every change of desired or serving state raises; the one thing that replicas poll."""
    return session.scalar(select(GenerationRow.value).where(GenerationRow.id == _ONLY_ROW)) or 0


def lock_generation(session: Session) -> None:
    """Make this transaction the only one that changes what is desired or served until it ends."""
    session.connection().execute(_LOCKED)


def raise_generation(session: Session) -> None:
    session.flush()
    session.connection().execute(_RAISED)


# Built once: every alias write runs them, and building one takes longer than running it.
_LOCKED = select(GenerationRow.value).where(GenerationRow.id == _ONLY_ROW).with_for_update()
# The migration made the row. An UPDATE that reads for itself, so that no two writers raise it to the same value.
_GENERATION = cast("Table", GenerationRow.__table__)
_RAISED = update(_GENERATION).where(_GENERATION.c.id == _ONLY_ROW).values(value=_GENERATION.c.value + 1)


# --- replicas


def heartbeat(
    session: Session, replica_id: str, *, slots: Sequence[SlotStatus], epoch: int, now_ms: int, lease_ms: int
) -> None:
    """Say that *replica_id* lives for another *lease_ms*, what it holds and which epoch it answers from."""
    row = session.get(ReplicaRow, replica_id)
    if row is None:
        row = ReplicaRow(id=replica_id, started_ms=now_ms)
        session.add(row)
    row.slots = [msgspec.to_builtins(slot) for slot in slots]
    row.epoch = epoch
    row.lease_until_ms = now_ms + lease_ms


def leave(session: Session, replica_id: str) -> None:
    """Take a replica that stops in order off the list, so that nobody waits for its lease to end."""
    session.execute(delete(ReplicaRow).where(ReplicaRow.id == replica_id))


def forget_dead_replicas(session: Session, *, now_ms: int, older_than_ms: int) -> None:
    session.execute(delete(ReplicaRow).where(ReplicaRow.lease_until_ms < now_ms - older_than_ms))


def list_replicas(session: Session, *, now_ms: int) -> list[Replica]:
    """All replicas, with what they hold of the models that the caller may see."""
    return [
        Replica(
            id=row.id,
            live=row.lease_until_ms >= now_ms,
            slots=tuple(slot for slot in msgspec.convert(row.slots, list[SlotStatus]) if may_see(session, slot.model)),
            epoch=row.epoch,
        )
        for row in session.scalars(select(ReplicaRow).order_by(ReplicaRow.id))
    ]


# --- the newest epoch


def newest_table(session: Session) -> RoutingTable:
    """The table committed last; an empty one of epoch 0 if there is none yet."""
    row = session.scalars(select(EpochRow).order_by(EpochRow.number.desc()).limit(1)).first()
    return RoutingTable() if row is None else msgspec.json.decode(row.table, type=RoutingTable)


def table_in_force(session: Session, replicas: Sequence[Replica]) -> RoutingTable:
    """The newest table that every live one of *replicas* answers from; it trails a commit until all have switched."""
    return table_of(session, min((replica.epoch for replica in replicas if replica.live), default=0))


def table_of(session: Session, epoch: int) -> RoutingTable:
    """The table of *epoch*; an empty one if it was forgotten."""
    row = session.get(EpochRow, epoch)
    return RoutingTable() if row is None else msgspec.json.decode(row.table, type=RoutingTable)
