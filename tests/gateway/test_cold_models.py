"""However many ask for a version at once, it is loaded once; and one that can't be loaded is tried at its own pace."""

import asyncio
from collections import Counter
from datetime import datetime

import httpx
import pytest

from gateway.cli.server_process import free_port, server_process
from tests.gateway.events import events, states_of
from tests.gateway.slow_models import fails_to_load, loads_slowly
from tests.gateway.test_serving import BODY, JSON, ask, wait_until, wait_until_served
from tests.training import register_function, set_alias

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all of these tests, each of which has a model of its own."""
    environment = {"TITLEBOUT_RETRY_FIRST_S": "0.25"}
    data = tmp_path_factory.mktemp("cold")
    with server_process(data, "--workers", "2", port=free_port(), environment=environment) as server:
        yield server


async def at_once(*requests):
    """(status, headers) of requests, as (method, url, options), that are all sent before one is answered."""
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as http:
        answers = await asyncio.gather(*(http.request(method, url, **options) for method, url, options in requests))
    return [(answer.status_code, answer.headers) for answer in answers]


def prediction(server, name):
    return "POST", f"{server.url}/endpoints/{name}/invocations", {"content": BODY, "headers": JSON}


def test_five_hundred_wishes_and_requests_for_a_cold_model_make_one_load(server):
    register_function(server.url, "wanted", loads_slowly(7, seconds=1.0))
    wish = {"name": "wanted", "alias": "champion", "version": "1"}
    wishes = [("POST", f"{server.url}/api/2.0/mlflow/registered-models/alias", {"json": wish})] * 20
    pins = [("PUT", f"{server.url}/api/1.0/titlebout/pins/wanted/1", {})] * 20
    answers = asyncio.run(at_once(*wishes, *pins, *[prediction(server, "wanted")] * 460))
    statuses = Counter(status for status, _ in answers[40:])
    assert {status for status, _ in answers[:40]} == {200}
    # Cold is 404 before there is an endpoint, and 503 with a time to come back after that: nobody is kept waiting.
    assert set(statuses) <= {200, 404, 503}
    assert all("Retry-After" in headers for status, headers in answers if status == 503)
    wait_until_served(server.url, "wanted", champion=1)
    assert ask(server.url, "wanted").json() == {"predictions": [7]}
    assert states_of(server, "wanted", 1) == ["FETCHING", "LOADING", "WARMING", "READY"]


def test_versions_of_a_flavor_come_from_one_warm_parent_and_wait_for_their_own_load_alone(server):
    for answer, load_s in enumerate([0.0, 1.0], start=1):
        register_function(server.url, "twice", loads_slowly(answer, seconds=load_s))
        set_alias(server.url, "twice", "champion", answer)
        wait_until_served(server.url, "twice", champion=answer)

    def took_s(version):
        lines = events(server, "slot_changed", model="twice", version=version)
        at = {line["state"]: datetime.fromisoformat(line["time"]) for line in lines}
        return (at["READY"] - at["FETCHING"]).total_seconds()

    # Who imports anew takes seconds of processor time, and would say so; a busy machine takes as long for nothing.
    assert len(events(server, "warm_parent_started")) == 1
    assert 1.0 < took_s(2) < 10.0


def test_a_model_that_keeps_failing_is_tried_with_growing_pauses_however_often_it_is_asked(server):
    register_function(server.url, "broken", fails_to_load("the model's own reason"))
    set_alias(server.url, "broken", "champion", 1)

    def failures():
        return events(server, "slot_changed", model="broken", version=1, state="FAILED")

    async def ask_all_the_time():
        while len(failures()) < 4:
            answers = await at_once(*[prediction(server, "broken")] * 20)
            assert {status for status, _ in answers} == {503}
            await asyncio.sleep(0.05)

    asyncio.run(ask_all_the_time())
    assert [failure["next_try_in_s"] for failure in failures()[:4]] == [0.25, 0.5, 1.0, 2.0]
    assert states_of(server, "broken", 1)[:9].count("FETCHING") <= 4
    refused = ask(server.url, "broken")
    assert refused.status_code == 503
    wait_until(lambda: "the model's own reason" in ask(server.url, "broken").json()["message"])
