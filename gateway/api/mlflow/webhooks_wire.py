"""Webhooks as MLflow's client sends and reads them (mlflow/protos/webhooks.proto, by its JSON form).

No answer has a field for the secret.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from gateway.api.mlflow.numbers import choice
from registry.webhook_events import WebhookEvent
from registry.webhooks import Webhook, WebhookStatus
from tracking.errors import InvalidParameter

_STATUSES = dict(enumerate(WebhookStatus, 1))


class _Entity(StrEnum):
    REGISTERED_MODEL = "REGISTERED_MODEL"
    MODEL_VERSION = "MODEL_VERSION"
    MODEL_VERSION_TAG = "MODEL_VERSION_TAG"
    MODEL_VERSION_ALIAS = "MODEL_VERSION_ALIAS"
    PROMPT = "PROMPT"
    PROMPT_VERSION = "PROMPT_VERSION"
    PROMPT_TAG = "PROMPT_TAG"
    PROMPT_VERSION_TAG = "PROMPT_VERSION_TAG"
    PROMPT_ALIAS = "PROMPT_ALIAS"
    BUDGET_POLICY = "BUDGET_POLICY"


class _Action(StrEnum):
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"
    SET = "SET"
    EXCEEDED = "EXCEEDED"


_ENTITIES: Mapping[int, _Entity] = dict(enumerate(_Entity, 1))
_ACTIONS: Mapping[int, _Action] = dict(enumerate(_Action, 1))


class Event(msgspec.Struct):
    entity: str | int
    action: str | int


class CreateWebhook(msgspec.Struct):
    name: str
    url: str
    events: list[Event]
    description: str | None = None
    secret: str | None = None
    status: str | int | None = None


class UpdateWebhook(msgspec.Struct):
    name: str | None = None
    url: str | None = None
    events: list[Event] | None = None
    description: str | None = None
    secret: str | None = None
    status: str | int | None = None


class TryWebhook(msgspec.Struct):
    event: Event | None = None


class WebhookWire(msgspec.Struct, kw_only=True, omit_defaults=True):
    webhook_id: str
    name: str
    description: str | None = None
    url: str
    events: list[Event]
    status: str
    creation_timestamp: int
    last_updated_timestamp: int


class WebhookAnswer(msgspec.Struct):
    webhook: WebhookWire


class WebhooksAnswer(msgspec.Struct, omit_defaults=True):
    webhooks: list[WebhookWire] = []
    next_page_token: str | None = None


class TrialResult(msgspec.Struct, kw_only=True, omit_defaults=True):
    success: bool
    response_status: int | None = None
    response_body: str | None = None
    error_message: str | None = None


class TrialAnswer(msgspec.Struct):
    result: TrialResult


def event_sent(event: Event) -> WebhookEvent:
    """The event that is meant.

    Raises:
        InvalidParameter: if that can't happen to the entity.
    """
    entity, action = choice(event.entity, "entity", _ENTITIES), choice(event.action, "action", _ACTIONS)
    try:
        return WebhookEvent(f"{entity.lower()}.{action.lower()}")
    except ValueError as error:
        known = sorted(one.action for one in WebhookEvent if one.entity == entity.lower())
        raise InvalidParameter(
            f"Invalid action '{action.lower()}' for entity '{entity.lower()}'. Valid actions are: {known}"
        ) from error


def status_sent(status: str | int | None) -> WebhookStatus | None:
    return None if status is None else choice(status, "status", _STATUSES)


def webhook_on_wire(webhook: Webhook) -> WebhookWire:
    return WebhookWire(
        webhook_id=webhook.webhook_id,
        name=webhook.name,
        description=webhook.description,
        url=webhook.url,
        events=[Event(event.entity.upper(), event.action.upper()) for event in webhook.events],
        status=webhook.status,
        creation_timestamp=webhook.created_ms,
        last_updated_timestamp=webhook.updated_ms,
    )
