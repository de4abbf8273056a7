"""The outbox of webhooks: a change says in its own transaction who is to be told, and a replica tells them later.

A delivery is taken for a while, not for good: who dies with one in hand loses it to the next. So each is made at
least once, and by one replica at a time.
"""

import logging
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from registry.schema import WebhookDeliveryRow, WebhookRow
from registry.webhook_events import WebhookEvent
from registry.webhooks import WebhookStatus

_log = logging.getLogger(__name__)

WAITING_MAX = 10_000
"""Deliveries that one webhook may have waiting; what happens after that, it isn't told."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell one webhook, taken for a try."""

    delivery_id: str
    webhook_id: str
    url: str
    secret: str | None
    event: WebhookEvent
    data: dict[str, Any]
    tries: int
    """This one included."""
    first_tried_ms: int

    def __repr__(self) -> str:
        # A secret in a log would be one no longer, and a URL is often as good as one.
        return f"Delivery({self.delivery_id}, {self.event}, tries={self.tries})"


# Built once, because every change of the registry asks them.
_ANY_ACTIVE = select(WebhookRow.webhook_id).where(WebhookRow.status == WebhookStatus.ACTIVE).limit(1)
# Nobody may delete a webhook between here and the commit:
# its delivery would then belong to nothing.
_ACTIVE = (
    select(WebhookRow.webhook_id, WebhookRow.events)
    .where(WebhookRow.status == WebhookStatus.ACTIVE)
    .with_for_update(read=True, key_share=True)
)


def anybody_listens(session: Session) -> bool:
    """Whether there is any active webhook."""
    return session.connection().execute(_ANY_ACTIVE).first() is not None


def announce(session: Session, event: WebhookEvent, data: Mapping[str, Any], *, waiting_max: int = WAITING_MAX) -> None:
    """Have all active webhooks for *event* told of it, if this transaction is committed."""
    asked = [webhook_id for webhook_id, events in session.connection().execute(_ACTIVE) if event in events]
    for webhook_id in asked:
        if _waiting(session, webhook_id, waiting_max) >= waiting_max:
            _log.warning("webhook_not_told", extra={"webhook": webhook_id, "of": event.value})
            continue
        session.add(
            WebhookDeliveryRow(
                delivery_id=str(uuid.uuid4()),
                webhook_id=webhook_id,
                event=event.value,
                data=msgspec.json.encode(data).decode(),
                tries=0,
                due_ms=0,
            )
        )
    if asked:
        session.flush()


def any_due(session: Session, *, now_ms: int) -> bool:
    """Whether there is something to take: a look that locks nothing."""
    return bool(session.scalar(select(exists().where(WebhookDeliveryRow.due_ms <= now_ms))))


def take_due(session: Session, *, now_ms: int, until_ms: int, at_most: int) -> list[Delivery]:
    """Take deliveries that are due, those that have waited longest first; nobody else takes them before *until_ms*."""
    row = WebhookDeliveryRow
    due = (
        select(row, WebhookRow.url, WebhookRow.secret)
        .join(WebhookRow, WebhookRow.webhook_id == row.webhook_id)
        .where(row.due_ms <= now_ms)
        .order_by(row.due_ms, row.delivery_id)
        .limit(at_most)
        # What another replica is just taking is passed over, not waited for.
        .with_for_update(of=row, skip_locked=True)
    )
    taken = []
    for found, url, secret in session.execute(due).all():
        found.tries += 1
        found.due_ms = until_ms
        found.first_tried_ms = found.first_tried_ms or now_ms
        taken.append(_to_delivery(found, url, secret))
    session.flush()
    return taken


def settle(session: Session, delivery_id: str) -> None:
    """It was told, or never will be."""
    session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.delivery_id == delivery_id))


def postpone(session: Session, delivery_id: str, due_ms: int) -> None:
    """It is to be tried again, not before *due_ms*."""
    row = WebhookDeliveryRow
    session.execute(update(row).where(row.delivery_id == delivery_id).values(due_ms=due_ms))


def _waiting(session: Session, webhook_id: str, at_most: int) -> int:
    some = select(WebhookDeliveryRow.delivery_id).where(WebhookDeliveryRow.webhook_id == webhook_id).limit(at_most)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def _to_delivery(row: WebhookDeliveryRow, url: str, secret: str | None) -> Delivery:
    return Delivery(
        delivery_id=row.delivery_id,
        webhook_id=row.webhook_id,
        url=url,
        secret=secret,
        event=WebhookEvent(row.event),
        data=msgspec.json.decode(row.data, type=dict[str, Any]),
        tries=row.tries,
        first_tried_ms=row.first_tried_ms or 0,
    )
