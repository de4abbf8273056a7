"""MLflow's API of webhooks. Translates; `gateway.webhooks` tells them of things.

These handlers run on the event loop, because looking at a URL and trying one out wait for somebody else; what the
database does is done in its threads.
"""

import asyncio
import uuid
from collections.abc import Callable

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api.mlflow.tracking_wire import Empty
from gateway.api.mlflow.webhooks_wire import (
    CreateWebhook,
    TrialAnswer,
    TrialResult,
    TryWebhook,
    UpdateWebhook,
    WebhookAnswer,
    WebhooksAnswer,
    event_sent,
    status_sent,
    webhook_on_wire,
)
from gateway.auth import needs
from gateway.webhooks.requests import WebhookSender, make_call
from registry import webhooks
from registry.webhook_events import example_of
from registry.webhooks import Webhook, WebhookChanges
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import ServingError

Clock = Callable[[], float]

# A webhook is told of every model, so whoever is granted some has no part in it.
_SHOWS = needs(Permission.WEBHOOK_READ, for_all="see webhooks, which are told of every model,")
_CHANGES = needs(Permission.WEBHOOK_WRITE, for_all="change webhooks, which are told of every model,")


def _paths(path: str = "") -> list[str]:
    return [f"/api/2.0/mlflow/webhooks{path}", f"/ajax-api/2.0/mlflow/webhooks{path}"]


def _now_ms(clock: Clock) -> int:
    return int(clock() * 1000)


@post(_paths(), status_code=HTTP_200_OK, opt=_CHANGES)
async def create_webhook(
    data: JSONBody[CreateWebhook],
    database: NamedDependency[Database],
    webhook_sender: NamedDependency[WebhookSender],
    clock: NamedDependency[Clock],
) -> WebhookAnswer:
    changes = _changes_sent(data)
    await webhook_sender.check_url(data.url)

    def create() -> Webhook:
        with database.writing() as session:
            return webhooks.create_webhook(session, changes, now_ms=_now_ms(clock))

    return WebhookAnswer(webhook_on_wire(await asyncio.to_thread(create)))


@get(_paths(), sync_to_thread=True, opt=_SHOWS)
def list_webhooks(
    database: NamedDependency[Database],
    max_results: FromQuery[int] = 100,
    page_token: FromQuery[str | None] = None,
) -> WebhooksAnswer:
    with database.reading() as session:
        page = webhooks.list_webhooks(session, max_results=max_results, page_token=page_token or None)
    return WebhooksAnswer([webhook_on_wire(one) for one in page.items], page.next_page_token)


@get(_paths("/{webhook_id:str}"), sync_to_thread=True, opt=_SHOWS)
def get_webhook(webhook_id: FromPath[str], database: NamedDependency[Database]) -> WebhookAnswer:
    with database.reading() as session:
        webhook = webhooks.get_webhook(session, webhook_id)
    return WebhookAnswer(webhook_on_wire(webhook))


@patch(_paths("/{webhook_id:str}"), opt=_CHANGES)
async def update_webhook(
    webhook_id: FromPath[str],
    data: JSONBody[UpdateWebhook],
    database: NamedDependency[Database],
    webhook_sender: NamedDependency[WebhookSender],
    clock: NamedDependency[Clock],
) -> WebhookAnswer:
    changes = _changes_sent(data)
    if changes.url is not None:
        await webhook_sender.check_url(changes.url)

    def change() -> Webhook:
        with database.writing() as session:
            return webhooks.change_webhook(session, webhook_id, changes, now_ms=_now_ms(clock))

    return WebhookAnswer(webhook_on_wire(await asyncio.to_thread(change)))


@delete(_paths("/{webhook_id:str}"), status_code=HTTP_200_OK, sync_to_thread=True, opt=_CHANGES)
def delete_webhook(webhook_id: FromPath[str], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        webhooks.delete_webhook(session, webhook_id)
    return Empty()


@post(_paths("/{webhook_id:str}/test"), status_code=HTTP_200_OK, opt=_CHANGES)
async def try_webhook(
    webhook_id: FromPath[str],
    data: JSONBody[TryWebhook],
    database: NamedDependency[Database],
    webhook_sender: NamedDependency[WebhookSender],
    clock: NamedDependency[Clock],
) -> TrialAnswer:
    """Send an example now, once, and say what came of it."""

    def read() -> tuple[Webhook, str | None]:
        with database.reading() as session:
            return webhooks.get_webhook(session, webhook_id), webhooks.get_secret(session, webhook_id)

    webhook, secret = await asyncio.to_thread(read)
    event = webhook.events[0] if data.event is None else event_sent(data.event)
    call = make_call(
        webhook.url,
        secret,
        delivery_id=str(uuid.uuid4()),
        event=event,
        data=example_of(event),
        at_s=clock(),
        now_s=clock(),
    )
    try:
        answer = await webhook_sender.send(call)
    except ServingError as error:
        return TrialAnswer(TrialResult(success=False, error_message=f"Failed to test webhook: {error.message}"))
    return TrialAnswer(TrialResult(success=answer.accepted, response_status=answer.status, response_body=answer.body))


def _changes_sent(data: CreateWebhook | UpdateWebhook) -> WebhookChanges:
    return WebhookChanges(
        # Empty is protobuf's way to say nothing.
        name=data.name or None,
        url=data.url or None,
        events=[event_sent(event) for event in data.events] if data.events else None,
        description=data.description,
        secret=data.secret,
        status=status_sent(data.status),
    )


handlers = [create_webhook, list_webhooks, get_webhook, update_webhook, delete_webhook, try_webhook]
