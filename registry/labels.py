"""Which predictions were given a label or a reward already, and how much feedback there was. Not what it said.

Nothing here is narrowed to what a caller may see: whoever shows an id that was signed here was given it with an answer,
and whether they may speak for its endpoint is for who takes the feedback to say.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import NamedTuple, cast

from sqlalchemy import Insert, Table, delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from registry.schema import EndpointRow, FeedbackCountRow, LabelRow, SplitRow
from tracking.schema import Base
from tracking.upserts import DialectInsert, upsert_by

Period = tuple[str, int]
"""An endpoint's id and the number of one of its periods."""

_SWEPT_AT_ONCE = 10_000
_LABELS = cast("Table", LabelRow.__table__)


class Given(NamedTuple):
    """That a prediction was given a label or a reward; by the nonce of its id.

    What has several rows may be given a label for each, and has the row behind the nonce (`nonce_of_row`).
    """

    nonce: bytes
    is_reward: bool
    predicted_ms: int


class Asked(NamedTuple):
    """The endpoint that an id means, as it is called now."""

    name: str
    model: str


def add_new(session: Session, given: Collection[Given]) -> set[tuple[bytes, bool]]:
    """Remember what was *given*, and say by nonce and kind what hadn't been before, by whomever."""
    if not given:
        return set()
    # In one order, so that two who add the same ones never wait for each other in a ring.
    values = [one._asdict() for one in sorted(given)]
    statement = _insert_new(session.get_bind().dialect.name)
    return {(bytes(nonce), is_reward) for nonce, is_reward in session.execute(statement, values)}


def nonce_of_row(nonce: bytes, row: int) -> bytes:
    """What one row of an answer is known by."""
    return nonce + row.to_bytes(4, "big")


def forget(session: Session, given: Collection[Given]) -> None:
    """Have what was *given* be new again, as nothing has come of it."""
    key = tuple_(_LABELS.c.nonce, _LABELS.c.is_reward)
    session.execute(delete(_LABELS).where(key.in_([one[:2] for one in given])))


def endpoints_of(session: Session, ids: Collection[str]) -> dict[str, Asked]:
    """The endpoints that are there still, of those with one of *ids*."""
    found = session.execute(
        select(EndpointRow.id, EndpointRow.name, EndpointRow.model).where(EndpointRow.id.in_(set(ids)))
    )
    return {endpoint_id: Asked(name, model) for endpoint_id, name, model in found}


def hold(session: Session, ids: Collection[str]) -> set[str]:
    """Which of these endpoints are there; they stay until the transaction ends."""
    # Lightly: whoever changes one of them otherwise doesn't wait for this.
    held = select(EndpointRow.id).where(EndpointRow.id.in_(set(ids))).order_by(EndpointRow.id)
    return set(session.scalars(held.with_for_update(read=True, key_share=True)))


def arms_of(session: Session, periods: Collection[Period]) -> dict[Period, tuple[str, ...]]:
    """The arms of each of *periods*; without those that there never were."""
    key = tuple_(SplitRow.endpoint_id, SplitRow.period)
    found = session.execute(select(SplitRow.endpoint_id, SplitRow.period, SplitRow.shares_bp).where(key.in_(periods)))
    return {(endpoint_id, period): tuple(shares_bp) for endpoint_id, period, shares_bp in found}


def count(session: Session, endpoint_id: str, outcomes: Mapping[str, int]) -> None:
    """Add to how much feedback the endpoint was given, by what became of it."""
    rows = [{"endpoint_id": endpoint_id, "outcome": name, "count": more} for name, more in outcomes.items() if more]
    upsert_by(session, FeedbackCountRow, rows, _add_up)


def counts_of(session: Session, endpoint_id: str) -> dict[str, int]:
    """How much feedback the endpoint was given, by what became of it."""
    rows = session.scalars(select(FeedbackCountRow).where(FeedbackCountRow.endpoint_id == endpoint_id))
    return {row.outcome: row.count for row in rows}


def sweep(session: Session, *, before_ms: int) -> int:
    """Forget some of what was given to predictions older than *before_ms*, and say how many; 0 once all are gone."""
    doomed = select(LabelRow.nonce, LabelRow.is_reward).where(LabelRow.predicted_ms < before_ms).limit(_SWEPT_AT_ONCE)
    key = tuple_(_LABELS.c.nonce, _LABELS.c.is_reward)
    return session.connection().execute(delete(_LABELS).where(key.in_(doomed))).rowcount


@cache
def _insert_new(dialect: str) -> Insert:
    insert = sqlite.insert(_LABELS) if dialect == "sqlite" else postgresql.insert(_LABELS)
    new: Insert = insert.on_conflict_do_nothing().returning(_LABELS.c.nonce, _LABELS.c.is_reward)
    return new


def _add_up(insert: DialectInsert, row: type[Base]) -> Insert:
    table = row.__table__
    more = table.c["count"] + insert.excluded["count"]
    return insert.on_conflict_do_update(index_elements=list(table.primary_key), set_={"count": more})
