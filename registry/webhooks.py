"""Webhooks: who wants to be told of which changes, and where. Telling them is `registry.webhook_deliveries`'s."""

import re
import uuid
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, cast

import msgspec
from sqlalchemy import Table, delete
from sqlalchemy.orm import Session

from registry.names import check_description
from registry.schema import WebhookDeliveryRow, WebhookRow
from registry.webhook_events import WebhookEvent
from tracking.errors import InvalidParameter, NotFound
from tracking.names import check_text, is_storable
from tracking.paging import Page, Term, Turn, check_page_size, read_page
from tracking.search import ValueType

PAGE_SIZE_MAX = 1_000

_URL_LENGTH_MAX = 2_000
_SECRET_LENGTH_MAX = 1_000
_NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.ASCII | re.IGNORECASE)
_TABLE = cast(Table, WebhookRow.__table__)


class WebhookStatus(StrEnum):
    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of what, and where. The secret that signs it isn't part of this, so that no answer can hold it."""

    webhook_id: str
    name: str
    url: str
    events: tuple[WebhookEvent, ...]
    description: str | None = None
    status: WebhookStatus = WebhookStatus.ACTIVE
    created_ms: int
    updated_ms: int


class WebhookNotFound(NotFound):
    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"Webhook with ID {webhook_id[:100]} not found.")


class WebhookChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field as it is, an empty secret takes it away."""

    name: str | None = None
    url: str | None = None
    events: Sequence[WebhookEvent] | None = None
    description: str | None = None
    secret: str | None = None
    status: WebhookStatus | None = None


def create_webhook(session: Session, changes: WebhookChanges, *, now_ms: int) -> Webhook:
    """Make a webhook that has a name, a URL and events; whether the URL may be called is the caller's to know."""
    if changes.events is None or changes.name is None or changes.url is None:
        raise InvalidParameter("A webhook needs a name, a url and at least one event.")
    row = WebhookRow(
        webhook_id=str(uuid.uuid4()),
        name="",
        url="",
        events=[],
        status=WebhookStatus.ACTIVE,
        created_ms=now_ms,
        updated_ms=now_ms,
    )
    _apply(row, changes)
    session.add(row)
    session.flush()
    return _to_webhook(row)


def get_webhook(session: Session, webhook_id: str) -> Webhook:
    """The webhook.

    Raises:
        WebhookNotFound: if there is none with this id.
    """
    return _to_webhook(_get_row(session, webhook_id))


def get_secret(session: Session, webhook_id: str) -> str | None:
    """What the webhook's deliveries are signed with: for signing, and for no answer.

    Raises:
        WebhookNotFound: if there is none with this id.
    """
    return _get_row(session, webhook_id).secret


def list_webhooks(session: Session, *, max_results: int = 100, page_token: str | None = None) -> Page[Webhook]:
    """A page of webhooks, newest first."""
    check_page_size(max_results, PAGE_SIZE_MAX)
    newest_first = [
        Term(_TABLE.c.created_ms, ValueType.NUMBER, ascending=False),
        Term(_TABLE.c.webhook_id, ValueType.TEXT),
    ]
    page = read_page(
        session,
        list(_TABLE.columns),
        [Turn(_TABLE, [], newest_first)],
        search_key="webhooks",
        max_results=max_results,
        token=page_token,
    )
    return Page([_to_webhook(row) for row in page.items], page.next_page_token)


def change_webhook(session: Session, webhook_id: str, changes: WebhookChanges, *, now_ms: int) -> Webhook:
    """Change what is given. One that gets disabled isn't told what it still waited for, either.

    Raises:
        WebhookNotFound: if there is none with this id.
    """
    row = _get_row(session, webhook_id, lock=True)
    _apply(row, changes)
    row.updated_ms = now_ms
    if row.status == WebhookStatus.DISABLED:
        session.execute(delete(WebhookDeliveryRow).where(WebhookDeliveryRow.webhook_id == webhook_id))
    session.flush()
    return _to_webhook(row)


def delete_webhook(session: Session, webhook_id: str) -> None:
    """Delete a webhook with all that it still waits for.

    Raises:
        WebhookNotFound: if there is none with this id.
    """
    session.delete(_get_row(session, webhook_id, lock=True))
    session.flush()


def _get_row(session: Session, webhook_id: str, *, lock: bool = False) -> WebhookRow:
    row = session.get(WebhookRow, webhook_id, with_for_update=lock or None) if is_storable(webhook_id) else None
    if row is None:
        raise WebhookNotFound(webhook_id)
    return row


def _apply(row: WebhookRow, changes: WebhookChanges) -> None:
    if changes.name is not None:
        row.name = _checked_name(changes.name)
    if changes.url is not None:
        row.url = check_text(changes.url, "url", _URL_LENGTH_MAX)
    if changes.events is not None:
        if not changes.events:
            raise InvalidParameter("Webhook events must be a non-empty list.")
        row.events = [event.value for event in dict.fromkeys(changes.events)]
    if changes.description is not None:
        check_description(changes.description)
        row.description = changes.description or None
    if changes.secret is not None:
        row.secret = check_text(changes.secret, "secret", _SECRET_LENGTH_MAX) or None
    if changes.status is not None:
        row.status = changes.status


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f"Webhook name {name[:100]!r} is invalid. It must start and end with a letter or digit, be at most 63 "
            "characters long, and contain only letters, digits, dots (.), underscores (_), and hyphens (-)."
        )
    return name


def _to_webhook(row: Any) -> Webhook:
    return Webhook(
        webhook_id=row.webhook_id,
        name=row.name,
        url=row.url,
        events=tuple(WebhookEvent(event) for event in row.events),
        description=row.description,
        status=WebhookStatus(row.status),
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )
