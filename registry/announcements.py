"""What webhooks are told of each change: MLflow's events, with the data that its server gives them.

The caller has just made the change in the same session. Prompts have events of their own, and plain models' tags
none, as with MLflow.
"""

from sqlalchemy.orm import Session

from registry.entities import ModelVersion, RegisteredModel
from registry.models import PROMPT_TAG, is_prompt, says_prompt
from registry.webhook_deliveries import announce, anybody_listens
from registry.webhook_events import WebhookEvent

# mlflow/prompt/constants.py: tags that say what a prompt is, which its events say by themselves.
_PROMPT_TYPE_TAG = "_mlflow_prompt_type"
_PROMPT_TEXT_TAG = "mlflow.prompt.text"


def model_was_created(session: Session, model: RegisteredModel) -> None:
    prompt = says_prompt(model.tags)
    tags = {key: value for key, value in model.tags.items() if not prompt or key not in {PROMPT_TAG, _PROMPT_TYPE_TAG}}
    announce(
        session,
        WebhookEvent.PROMPT_CREATED if prompt else WebhookEvent.REGISTERED_MODEL_CREATED,
        {"name": model.name, "tags": tags, "description": model.description or ""},
    )


def version_was_created(session: Session, version: ModelVersion) -> None:
    said = {"name": version.name, "version": str(version.version), "description": version.description}
    if says_prompt(version.tags):
        told = {PROMPT_TAG, _PROMPT_TYPE_TAG, _PROMPT_TEXT_TAG}
        tags = {key: value for key, value in version.tags.items() if key not in told}
        template = version.tags.get(_PROMPT_TEXT_TAG)
        announce(session, WebhookEvent.PROMPT_VERSION_CREATED, {**said, "template": template, "tags": tags})
    else:
        made_from = {"source": version.source, "run_id": version.run_id}
        announce(session, WebhookEvent.MODEL_VERSION_CREATED, {**said, **made_from, "tags": version.tags})


def model_tag_was_set(session: Session, name: str, key: str, value: str) -> None:
    _announce(session, None, WebhookEvent.PROMPT_TAG_SET, {"name": name, "key": key, "value": value})


def model_tag_was_deleted(session: Session, name: str, key: str) -> None:
    _announce(session, None, WebhookEvent.PROMPT_TAG_DELETED, {"name": name, "key": key})


def version_tag_was_set(session: Session, name: str, version: int, key: str, value: str) -> None:
    _announce(
        session,
        WebhookEvent.MODEL_VERSION_TAG_SET,
        WebhookEvent.PROMPT_VERSION_TAG_SET,
        {"name": name, "version": str(version), "key": key, "value": value},
    )


def version_tag_was_deleted(session: Session, name: str, version: int, key: str) -> None:
    _announce(
        session,
        WebhookEvent.MODEL_VERSION_TAG_DELETED,
        WebhookEvent.PROMPT_VERSION_TAG_DELETED,
        {"name": name, "version": str(version), "key": key},
    )


def alias_was_set(session: Session, name: str, alias: str, version: int) -> None:
    _announce(
        session,
        WebhookEvent.MODEL_VERSION_ALIAS_CREATED,
        WebhookEvent.PROMPT_ALIAS_CREATED,
        {"name": name, "alias": alias, "version": str(version)},
    )


def alias_was_deleted(session: Session, name: str, alias: str) -> None:
    _announce(
        session,
        WebhookEvent.MODEL_VERSION_ALIAS_DELETED,
        WebhookEvent.PROMPT_ALIAS_DELETED,
        {"name": name, "alias": alias},
    )


def _announce(session: Session, of_model: WebhookEvent | None, of_prompt: WebhookEvent, data: dict[str, str]) -> None:
    # Most registries have no webhook at all, and needn't be asked what kind of thing this is.
    if not anybody_listens(session):
        return
    event = of_prompt if is_prompt(session, data["name"]) else of_model
    if event is not None:
        announce(session, event, data)
