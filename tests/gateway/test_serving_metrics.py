"""What a running server counts and says of its models: each figure that was promised, for a real prediction."""

import asyncio
import subprocess
import sys
from collections import Counter, defaultdict

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli.client import Client
from tests.gateway.slow_models import answers_slowly
from tests.gateway.test_serving import BODY, JSON, ask, descendants, wait_until, wait_until_served
from tests.training import constant_classifier, register, register_function, set_alias

pytestmark = pytest.mark.e2e

WARM_PARENT = "gateway.pool.warm_parent"


def samples(url):
    """All samples of the exposition, by their names."""
    found = defaultdict(list)
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            found[sample.name].append(sample)
    return found


def test_each_figure_of_a_prediction_is_exposed_and_what_answers_is_said_with_its_reason(serve):
    server = serve("--workers", "2", environment={"TITLEBOUT_ACCELERATION": "false"})
    # A flavor's libraries are imported when it is first needed, and not before.
    assert descendants(server, WARM_PARENT) == {}
    register(server.url, "iris", constant_classifier(0))
    set_alias(server.url, "iris", "champion", 1)
    wait_until_served(server.url, "iris", champion=1)
    assert len(descendants(server, WARM_PARENT)) == 2, "one parent, and one host for both workers"
    for _ in range(3):
        assert ask(server.url).is_success
    assert ask(server.url, body=b'{"inputs": [["a", 1, 2, 3]]}').status_code == 400
    # What a caller makes up is no label, or anybody could make series without end.
    assert ask(server.url, "made-up").status_code == 404
    assert ask(server.url, X_Titlebout_Arm="made-up").status_code == 400

    def exposed():
        # The supervisor's own figures are up to a second old, and may still tell of the load.
        found = samples(server.url)
        asked = {one.labels["status"]: one.value for one in found["gateway_requests_total"] if one.labels["model"]}
        ready = any(one.labels["state"] == "READY" and one.value for one in found["gateway_slots"])
        switched = any(one.value for one in found["gateway_epoch"])
        counted = asked == {"200": 3, "400": 1}
        return counted and ready and switched and found["gateway_host_memory_bytes"] and found

    found = wait_until(exposed)
    assert "made-up" not in httpx.get(f"{server.url}/metrics").text
    iris = {"model": "iris", "version": "1"}
    for name, labels in [
        ("gateway_requests_total", {**iris, "endpoint": "iris", "arm": "champion", "status": "200"}),
        ("gateway_failures_total", {**iris, "endpoint": "iris", "arm": "champion"}),
        ("gateway_request_seconds_bucket", {**iris, "endpoint": "iris", "arm": "champion"}),
        *[
            ("gateway_phase_seconds_bucket", {**iris, "arm": "champion", "phase": phase})
            for phase in ("decode", "queue", "compute", "encode")
        ],
        ("gateway_batch_requests_bucket", iris),
        ("gateway_batch_rows_bucket", iris),
        ("gateway_slots", {"state": "READY"}),
        ("gateway_load_seconds_bucket", {}),
        ("gateway_epoch", {}),
        ("gateway_host_memory_bytes", iris),
        ("gateway_host_cpu_seconds", iris),
        ("gateway_predictor_info", {**iris, "predictor": "sklearn", "reason": "acceleration is switched off"}),
    ]:
        values = [one.value for one in found[name] if labels.items() <= one.labels.items()]
        assert max(values, default=0) > 0, (name, labels)

    (replica,) = Client(server.url).status()["replicas"]
    (slot,) = replica["slots"]
    assert (slot["predictor"], slot["predictor_reason"]) == ("sklearn", "acceleration is switched off")
    command = [sys.executable, "-m", "gateway.cli", "status", "--server", server.url]
    assert "acceleration is switched" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_who_finds_a_full_queue_is_told_at_once_when_to_come_again(serve):
    server = serve(environment={"TITLEBOUT_REQUESTS_WAITING_MAX": "1"})
    register_function(server.url, "slow", answers_slowly(2.0))
    set_alias(server.url, "slow", "champion", 1)
    wait_until_served(server.url, "slow", champion=1)

    async def ask_while_it_is_full():
        async with httpx.AsyncClient(timeout=60) as http:

            async def ask_once():
                return await http.post(f"{server.url}/endpoints/slow/invocations", content=BODY, headers=JSON)

            # One is with the model and one waits, so the third is refused, and who comes before the first is answered.
            first_three = [asyncio.create_task(ask_once()) for _ in range(3)]
            await asyncio.wait(first_three, return_when=asyncio.FIRST_COMPLETED)
            more = []
            while sum(asked.done() for asked in first_three) == 1:
                more.append(await ask_once())
            return await asyncio.gather(*first_three), more

    first_three, more = asyncio.run(ask_while_it_is_full())
    assert Counter(answer.status_code for answer in first_three) == {200: 2, 429: 1}
    rejections = [answer for answer in (*first_three, *more) if answer.status_code == 429]
    # Whoever asked last may have come after the first answer.
    assert len(rejections) >= len(more) > 20
    for answer in rejections:
        assert answer.json()["error_code"] == "RESOURCE_EXHAUSTED"
        assert int(answer.headers["Retry-After"]) >= 1
    taken_s = sorted(answer.elapsed.total_seconds() for answer in rejections)
    # However busy the machine, nobody waited for the model, which takes two seconds.
    assert taken_s[len(taken_s) // 2] < 0.5
    assert taken_s[-1] < 2.0
