"""Webhooks are told of things: signed, at least once, in the background, and nowhere private."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time

import pytest

from gateway.settings import Settings
from gateway.webhooks.addresses import ReceiverUnreachable, UrlNotAllowed, is_public
from gateway.webhooks.deliverer import WebhookDeliverer, next_pause_s
from gateway.webhooks.requests import Answer, WebhookSender, make_call
from registry import webhook_deliveries, webhooks
from registry.webhook_events import WebhookEvent
from registry.webhooks import WebhookChanges
from tests.gateway.receiver import running_receiver
from tracking.database import Database

SET = WebhookEvent.MODEL_VERSION_ALIAS_CREATED
NOW_MS = 1_700_000_000_000


@pytest.fixture
def receiver():
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def sqlite(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/titlebout.db")
    database.upgrade()
    yield database
    database.dispose()


@pytest.fixture
def tell(sqlite, receiver):
    """Announces events to one webhook at the receiver."""
    with sqlite.writing() as session:
        changes = WebhookChanges(name="ci", url=receiver.url + "/hook?a=b", events=(SET,), secret="s3cret")
        webhooks.create_webhook(session, changes, now_ms=NOW_MS)

    def tell(**data):
        with sqlite.writing() as session:
            webhook_deliveries.announce(session, SET, data)

    return tell


def waiting(database):
    with database.reading() as session:
        return webhook_deliveries.any_due(session, now_ms=2**62)


def delivering(database, until, **settings):
    """Runs a deliverer until *until*, a function that blocks, is through."""
    given = Settings(webhook_allow_private=True, **settings)

    async def run():
        task = asyncio.create_task(WebhookDeliverer(given, database, clock=time.time).run())
        try:
            return await asyncio.to_thread(until)
        finally:
            task.cancel()
            await asyncio.wait([task])

    return asyncio.run(run())


def until_nothing_waits(database):
    deadline = time.monotonic() + 20
    while waiting(database):
        assert time.monotonic() < deadline, "deliveries still wait"
        time.sleep(0.02)


def test_a_webhook_is_told_with_a_signature_that_it_can_check(sqlite, receiver, tell):
    tell(name="iris", alias="champion", version="1")
    delivering(sqlite, lambda: until_nothing_waits(sqlite))
    headers, body = receiver.take()
    said = json.loads(body)
    assert said.pop("timestamp")
    assert said == {
        "entity": "model_version_alias",
        "action": "created",
        "data": {"name": "iris", "alias": "champion", "version": "1"},
    }
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["x-mlflow-timestamp"]) - time.time()) < 60
    signed = b".".join([headers["x-mlflow-delivery-id"].encode(), headers["x-mlflow-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.digest(b"s3cret", signed, hashlib.sha256)).decode()
    assert headers["x-mlflow-signature"] == f"v1,{expected}"
    assert b"s3cret" not in body
    assert receiver.idle()


def test_the_signature_is_the_one_that_mlflow_makes():
    delivery = pytest.importorskip("mlflow.webhooks.delivery", exc_type=ImportError)
    call = make_call(
        "https://a", "s3cret", delivery_id="d-1", event=SET, data={"name": "ü"}, at_s=1.0, now_s=1_700_000_000.9
    )
    expected = delivery._generate_hmac_signature("s3cret", "d-1", "1700000000", call.body.decode())
    assert call.headers["X-MLflow-Signature"] == expected


def test_a_webhook_without_a_secret_gets_no_signature():
    call = make_call("https://a", None, delivery_id="d-1", event=SET, data={}, at_s=1.0, now_s=1.0)
    assert "X-MLflow-Signature" not in call.headers


def test_a_receiver_that_stumbles_is_told_again_with_the_same_id(sqlite, receiver, tell):
    receiver.statuses = [503, 200]
    tell(name="iris")
    delivering(sqlite, lambda: until_nothing_waits(sqlite))
    first, second = receiver.take(), receiver.take()
    assert first.headers["x-mlflow-delivery-id"] == second.headers["x-mlflow-delivery-id"]
    assert first.body == second.body


@pytest.mark.parametrize("status", [400, 404, 302])
def test_a_receiver_that_refuses_is_told_once_and_redirects_lead_nowhere(sqlite, receiver, tell, status):
    receiver.statuses = [status]
    tell(name="iris")
    delivering(sqlite, lambda: until_nothing_waits(sqlite))
    receiver.take()
    assert receiver.idle()


def test_a_receiver_that_is_gone_is_given_up_after_as_many_tries_as_allowed(sqlite, receiver, caplog):
    with sqlite.writing() as session:
        changes = WebhookChanges(name="ci", url="http://127.0.0.1:1/", events=(SET,))
        webhooks.create_webhook(session, changes, now_ms=NOW_MS)
        webhook_deliveries.announce(session, SET, {})
    delivering(sqlite, lambda: until_nothing_waits(sqlite), webhook_tries_max=1)
    (record,) = [record for record in caplog.records if record.message == "webhook_given_up"]
    assert (record.tries, record.of) == (1, SET)
    assert "127.0.0.1" not in str(record.__dict__.get("reason"))


def test_one_slow_receiver_holds_up_nobody_else(sqlite, receiver, tell):
    """The slow one accepts connections and never answers; five of its deliveries come before those of the others."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with sqlite.writing() as session:
            url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
            changes = WebhookChanges(name="mute", url=url, events=(WebhookEvent.PROMPT_CREATED,))
            webhooks.create_webhook(session, changes, now_ms=NOW_MS)
            for _ in range(5):
                webhook_deliveries.announce(session, WebhookEvent.PROMPT_CREATED, {})
        for _ in range(10):
            tell(name="iris")
        delivering(sqlite, lambda: [receiver.take(5) for _ in range(10)])


def test_of_two_replicas_one_tells_of_each_event(sqlite, receiver, tell):
    for number in range(20):
        tell(number=number)
    other = Database(sqlite.url.render_as_string())
    try:
        delivering(sqlite, lambda: delivering(other, lambda: until_nothing_waits(sqlite)))
    finally:
        other.dispose()
    told = [json.loads(receiver.take().body)["data"]["number"] for _ in range(20)]
    assert sorted(told) == list(range(20))
    assert receiver.idle()


@pytest.mark.parametrize(
    ("tries", "outcome", "pause_s"),
    [
        pytest.param(1, Answer(204, ""), None, id="told"),
        pytest.param(1, Answer(302, ""), None, id="a redirect is an answer"),
        pytest.param(1, Answer(410, ""), None, id="refused"),
        pytest.param(1, Answer(429, ""), 1, id="busy"),
        pytest.param(4, Answer(500, ""), 8, id="broken, for the fourth time"),
        pytest.param(7, ReceiverUnreachable("x"), 64, id="away"),
        pytest.param(8, ReceiverUnreachable("x"), None, id="away for too long"),
        pytest.param(1, UrlNotAllowed("x"), None, id="a private address"),
    ],
)
def test_when_to_try_again(tries, outcome, pause_s):
    assert next_pause_s(tries, outcome, tries_max=8) == pause_s


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::a9fe:a9fe", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://[::1]:8443/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "http://8.8.8.8/",
        "ftp://8.8.8.8/",
        "https://user:secret@8.8.8.8/",
        "https://",
        "https://8.8.8.8:99999/",
        "https://8.8.8.8/a b",
        "https://[8.8.8.8/",
        "no url",
    ],
)
def test_a_url_that_leads_inside_or_nowhere_is_refused(url):
    async def check():
        async with WebhookSender(allow_private=False, timeout_s=5) as sender:
            await sender.check_url(url)

    with pytest.raises(UrlNotAllowed):
        asyncio.run(check())


def test_a_name_that_leads_inside_only_when_it_is_called_is_refused_then(receiver):
    """What was checked when the webhook was made doesn't count: the address of the connection itself does."""
    port = receiver.url.rpartition(":")[2]

    async def send():
        async with WebhookSender(allow_private=False, timeout_s=5) as sender:
            call = make_call(
                f"https://localhost:{port}/", None, delivery_id="d", event=SET, data={}, at_s=1.0, now_s=1.0
            )
            await sender.send(call)

    with pytest.raises(UrlNotAllowed, match="isn't public"):
        asyncio.run(send())
    assert receiver.idle()
