"""Webhooks and their outbox, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import aliases, announcements, models, webhook_deliveries, webhooks
from registry.webhook_events import WebhookEvent, example_of
from registry.webhooks import WebhookChanges, WebhookNotFound, WebhookStatus
from tracking.errors import InvalidParameter

NOW_MS = 1_700_000_000_000
URL = "https://hooks.example.org/titlebout"
SET, DELETED = WebhookEvent.MODEL_VERSION_ALIAS_CREATED, WebhookEvent.MODEL_VERSION_ALIAS_DELETED


@pytest.fixture
def make(database):
    def make(*events, name="ci", **more):
        with database.writing() as session:
            changes = WebhookChanges(name=name, url=URL, events=events or (SET,), **more)
            return webhooks.create_webhook(session, changes, now_ms=NOW_MS)

    return make


@pytest.fixture
def take(database):
    def take(now_ms=NOW_MS, until_ms=NOW_MS + 60_000, at_most=100):
        with database.writing() as session:
            return webhook_deliveries.take_due(session, now_ms=now_ms, until_ms=until_ms, at_most=at_most)

    return take


@pytest.fixture
def announce(database):
    def announce(event=SET, **data):
        with database.writing() as session:
            webhook_deliveries.announce(session, event, data)

    return announce


def test_a_webhook_is_made_changed_listed_and_deleted(database, make):
    made = make(SET, DELETED, SET, secret="s3cret", description="tells CI")
    assert (made.events, made.status) == ((SET, DELETED), WebhookStatus.ACTIVE)
    with database.writing() as session:
        changes = WebhookChanges(name="cd", events=[DELETED], description="", secret="")
        changed = webhooks.change_webhook(session, made.webhook_id, changes, now_ms=NOW_MS + 5)
        assert webhooks.get_webhook(session, made.webhook_id) == changed
        assert webhooks.get_secret(session, made.webhook_id) is None
        assert webhooks.list_webhooks(session).items == [changed]
        assert (changed.name, changed.url, changed.events, changed.description) == ("cd", URL, (DELETED,), None)
        assert (changed.created_ms, changed.updated_ms) == (NOW_MS, NOW_MS + 5)
        webhooks.delete_webhook(session, made.webhook_id)
        with pytest.raises(WebhookNotFound):
            webhooks.get_webhook(session, made.webhook_id)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"name": "-ci"}, id="a name that begins with a dash"),
        pytest.param({"name": "a" * 64}, id="a long name"),
        pytest.param({"name": "ci\n"}, id="a name with a line feed"),
        pytest.param({"events": ()}, id="no event"),
        pytest.param({"url": "https://a\0b"}, id="a URL with NUL"),
        pytest.param({"url": "https://" + "a" * 2_000}, id="a long URL"),
        pytest.param({"secret": "s" * 1_001}, id="a long secret"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(database, wrong):
    changes = WebhookChanges(**{"name": "ci", "url": URL, "events": (SET,), **wrong})
    with pytest.raises(InvalidParameter), database.writing() as session:
        webhooks.create_webhook(session, changes, now_ms=NOW_MS)


def test_only_who_asked_for_an_event_is_told_and_only_while_active(make, announce, take):
    asked = make(SET, secret="s3cret")
    make(DELETED, name="other")
    make(SET, name="off", status=WebhookStatus.DISABLED)
    announce(SET, name="iris", alias="champion", version="1")
    (delivery,) = take()
    assert (delivery.webhook_id, delivery.url, delivery.secret) == (asked.webhook_id, URL, "s3cret")
    assert (delivery.event, delivery.data["alias"], delivery.tries) == (SET, "champion", 1)
    assert "s3cret" not in repr(delivery)
    assert "example.org" not in repr(delivery)


def test_what_is_undone_is_told_to_nobody(database, make, take):
    make()
    with database.reading() as session:
        webhook_deliveries.announce(session, SET, {})
    assert take() == []


def test_a_taken_delivery_is_nobody_elses_until_its_lease_runs_out(database, make, announce, take):
    make()
    announce()
    (first,) = take(until_ms=NOW_MS + 40)
    assert take(now_ms=NOW_MS + 39) == []
    (again,) = take(now_ms=NOW_MS + 40)
    assert (again.delivery_id, again.tries) == (first.delivery_id, 2)
    assert again.first_tried_ms == first.first_tried_ms == NOW_MS
    with database.writing() as session:
        webhook_deliveries.settle(session, first.delivery_id)
    assert take(now_ms=NOW_MS + 10**9) == []


def test_a_postponed_delivery_waits(database, make, announce, take):
    make()
    announce()
    (delivery,) = take()
    with database.writing() as session:
        webhook_deliveries.postpone(session, delivery.delivery_id, NOW_MS + 5)
        assert not webhook_deliveries.any_due(session, now_ms=NOW_MS + 4)
        assert webhook_deliveries.any_due(session, now_ms=NOW_MS + 5)
    assert len(take(now_ms=NOW_MS + 5)) == 1


def test_replicas_that_take_at_once_never_take_the_same(make, announce, take):
    make()
    for number in range(30):
        announce(number=number)
    with ThreadPoolExecutor(6) as threads:
        taken = [one for some in threads.map(lambda _: take(at_most=7), range(12)) for one in some]
    assert sorted(one.data["number"] for one in taken) == list(range(30))


def test_a_webhook_that_nobody_answers_has_a_bounded_number_of_deliveries(database, make, take, caplog):
    make()
    for _ in range(5):
        with database.writing() as session:
            webhook_deliveries.announce(session, SET, {}, waiting_max=3)
    assert len(take()) == 3
    assert [record.message for record in caplog.records] == ["webhook_not_told"] * 2


def test_disabling_or_deleting_a_webhook_drops_what_it_waited_for(database, make, announce, take):
    disabled, deleted = make(), make(name="other")
    announce()
    with database.writing() as session:
        changes = WebhookChanges(status=WebhookStatus.DISABLED)
        webhooks.change_webhook(session, disabled.webhook_id, changes, now_ms=NOW_MS)
        webhooks.delete_webhook(session, deleted.webhook_id)
    assert take() == []


def test_a_change_never_fails_for_a_webhook_that_is_deleted_meanwhile(database, make, announce):
    made = [make(name=f"hook-{number}") for number in range(6)]

    def delete(webhook):
        with database.writing() as session:
            webhooks.delete_webhook(session, webhook.webhook_id)

    with ThreadPoolExecutor(6) as threads:
        announcing = [threads.submit(announce) for _ in range(12)]
        deleting = [threads.submit(delete, webhook) for webhook in made]
        for one in [*announcing, *deleting]:
            one.result()


def test_each_change_has_mlflows_event_and_data(database, make, take, iris):
    make(*WebhookEvent)
    with database.writing() as session:
        announcements.model_was_created(session, models.get_model(session, iris))
        announcements.model_tag_was_set(session, iris, "team", "bees")
        announcements.version_tag_was_set(session, iris, 1, "team", "bees")
        announcements.version_tag_was_deleted(session, iris, 1, "team")
        announcements.alias_was_set(session, iris, "champion", 1)
        announcements.alias_was_deleted(session, iris, "champion")
    told = {delivery.event: delivery.data for delivery in take()}
    assert told == {
        WebhookEvent.REGISTERED_MODEL_CREATED: {"name": iris, "tags": {}, "description": ""},
        WebhookEvent.MODEL_VERSION_TAG_SET: {"name": iris, "version": "1", "key": "team", "value": "bees"},
        WebhookEvent.MODEL_VERSION_TAG_DELETED: {"name": iris, "version": "1", "key": "team"},
        WebhookEvent.MODEL_VERSION_ALIAS_CREATED: {"name": iris, "alias": "champion", "version": "1"},
        WebhookEvent.MODEL_VERSION_ALIAS_DELETED: {"name": iris, "alias": "champion"},
    }


def test_a_version_is_told_with_its_source_and_a_prompts_with_its_template(database, make, take, iris, add_version):
    make(*WebhookEvent)
    version = add_version(description="first", tags={"team": "bees"})
    prompt_tags = {models.PROMPT_TAG: "true", "_mlflow_prompt_type": "text"}
    with database.writing() as session:
        announcements.version_was_created(session, version)
        prompt = models.create_model(session, "greeting", tags={**prompt_tags, "a": "b"}, now_ms=NOW_MS)
        announcements.model_was_created(session, prompt)
        announcements.model_tag_was_set(session, "greeting", "a", "c")
        announcements.model_tag_was_deleted(session, "greeting", "a")
    tags = {**prompt_tags, "mlflow.prompt.text": "Hello {{name}}"}
    prompt_version = add_version("greeting", source="prompt-template", tags=tags)
    with database.writing() as session:
        announcements.version_was_created(session, prompt_version)
        aliases.set_alias(session, "greeting", "live", 1, author="me", now_ms=NOW_MS)
        announcements.alias_was_set(session, "greeting", "live", 1)
    told = {delivery.event: delivery.data for delivery in take()}
    assert told == {
        WebhookEvent.MODEL_VERSION_CREATED: {
            "name": iris,
            "version": "1",
            "source": version.source,
            "run_id": None,
            "tags": {"team": "bees"},
            "description": "first",
        },
        WebhookEvent.PROMPT_CREATED: {"name": "greeting", "tags": {"a": "b"}, "description": ""},
        WebhookEvent.PROMPT_TAG_SET: {"name": "greeting", "key": "a", "value": "c"},
        WebhookEvent.PROMPT_TAG_DELETED: {"name": "greeting", "key": "a"},
        WebhookEvent.PROMPT_VERSION_CREATED: {
            "name": "greeting",
            "version": "1",
            "template": "Hello {{name}}",
            "tags": {},
            "description": None,
        },
        WebhookEvent.PROMPT_ALIAS_CREATED: {"name": "greeting", "alias": "live", "version": "1"},
    }


@pytest.mark.parametrize("event", WebhookEvent)
def test_each_event_has_an_example(event):
    assert example_of(event)
    assert f"{event.entity}.{event.action}" == event
