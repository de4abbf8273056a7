"""What webhooks can be told of, and how each event reads: MLflow's list (mlflow/entities/webhook.py)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class WebhookEvent(StrEnum):
    """An entity and what was done to it, with a dot between."""

    REGISTERED_MODEL_CREATED = "registered_model.created"
    MODEL_VERSION_CREATED = "model_version.created"
    MODEL_VERSION_TAG_SET = "model_version_tag.set"
    MODEL_VERSION_TAG_DELETED = "model_version_tag.deleted"
    MODEL_VERSION_ALIAS_CREATED = "model_version_alias.created"
    MODEL_VERSION_ALIAS_DELETED = "model_version_alias.deleted"
    PROMPT_CREATED = "prompt.created"
    PROMPT_VERSION_CREATED = "prompt_version.created"
    PROMPT_TAG_SET = "prompt_tag.set"
    PROMPT_TAG_DELETED = "prompt_tag.deleted"
    PROMPT_VERSION_TAG_SET = "prompt_version_tag.set"
    PROMPT_VERSION_TAG_DELETED = "prompt_version_tag.deleted"
    PROMPT_ALIAS_CREATED = "prompt_alias.created"
    PROMPT_ALIAS_DELETED = "prompt_alias.deleted"
    # Of MLflow's gateway for language models, which isn't here: it can be asked for, and never happens.
    BUDGET_POLICY_EXCEEDED = "budget_policy.exceeded"

    @property
    def entity(self) -> str:
        return self.value.partition(".")[0]

    @property
    def action(self) -> str:
        return self.value.partition(".")[2]


def example_of(event: WebhookEvent) -> Mapping[str, Any]:
    """Made-up data of the shape that *event* has: what a test of a webhook sends."""
    return _EXAMPLES[event]


_TAG = {"key": "team", "value": "bees"}
_CREATED = {"tags": {"team": "bees"}, "description": "An example."}
_EXAMPLES: Mapping[WebhookEvent, Mapping[str, Any]] = {
    WebhookEvent.REGISTERED_MODEL_CREATED: {"name": "example", **_CREATED},
    WebhookEvent.MODEL_VERSION_CREATED: {
        "name": "example",
        "version": "1",
        "source": "models:/m-0123456789abcdef0123456789abcdef",
        "run_id": "0123456789abcdef0123456789abcdef",
        **_CREATED,
    },
    WebhookEvent.MODEL_VERSION_TAG_SET: {"name": "example", "version": "1", **_TAG},
    WebhookEvent.MODEL_VERSION_TAG_DELETED: {"name": "example", "version": "1", "key": "team"},
    WebhookEvent.MODEL_VERSION_ALIAS_CREATED: {"name": "example", "alias": "champion", "version": "1"},
    WebhookEvent.MODEL_VERSION_ALIAS_DELETED: {"name": "example", "alias": "champion"},
    WebhookEvent.PROMPT_CREATED: {"name": "example", **_CREATED},
    WebhookEvent.PROMPT_VERSION_CREATED: {
        "name": "example",
        "version": "1",
        "template": "Hello {{name}}!",
        **_CREATED,
    },
    WebhookEvent.PROMPT_TAG_SET: {"name": "example", **_TAG},
    WebhookEvent.PROMPT_TAG_DELETED: {"name": "example", "key": "team"},
    WebhookEvent.PROMPT_VERSION_TAG_SET: {"name": "example", "version": "1", **_TAG},
    WebhookEvent.PROMPT_VERSION_TAG_DELETED: {"name": "example", "version": "1", "key": "team"},
    WebhookEvent.PROMPT_ALIAS_CREATED: {"name": "example", "alias": "production", "version": "1"},
    WebhookEvent.PROMPT_ALIAS_DELETED: {"name": "example", "alias": "production"},
    WebhookEvent.BUDGET_POLICY_EXCEEDED: {
        "budget_policy_id": "bp-example",
        "budget_unit": "USD",
        "budget_amount": 100.0,
        "current_spend": 105.5,
        "duration_unit": "MONTHS",
        "duration_value": 1,
        "target_scope": "WORKSPACE",
        "workspace": "default",
        "window_start": 1_704_067_200_000,
    },
}
