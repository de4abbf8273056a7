"""Whose requests share a call of a real model's predict under load: those of one version, shape and params alone."""

import asyncio
import json
from collections import Counter, defaultdict

import httpx
import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from gateway.cli.client import Client
from tests.gateway.test_serving import JSON, wait_until, wait_until_served
from tests.training import mlflow, register_function, set_alias

pytestmark = pytest.mark.e2e

# So many may wait for a version however long it takes; more might be refused on a slow machine.
CONNECTIONS = 16


def sociable(version):
    """A model whose answer for each row says which call it was in, and all that the call was given.

    A class of a function, so that it is pickled by value.
    """

    class Sociable(mlflow.pyfunc.PythonModel):
        calls = 0

        def predict(self, context, model_input, params=None):
            import time

            # So that others have come together meanwhile.
            time.sleep(0.01)
            self.calls += 1
            rows, width = model_input.shape
            return [f"{version} {self.calls} {rows} {width} {params['factor']}"] * rows

    return Sociable()


SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype("float64"), (-1, -1))]),
    outputs=Schema([TensorSpec(np.dtype("str"), (-1,))]),
    params=ParamSchema([ParamSpec("factor", "long", 1)]),
)


@pytest.fixture
def server(serve):
    """A server whose `sociable` has two versions, with half of the traffic each, and `shy` one that shares no call."""
    server = serve()
    for version in (1, 2):
        options = {"signature": SIGNATURE, "metadata": {"titlebout.batchable": True}}
        assert register_function(server.url, "sociable", sociable(version), **options) == version
    register_function(server.url, "shy", sociable(1), signature=SIGNATURE)
    for name, alias, version in [("sociable", "champion", 1), ("sociable", "challenger", 2), ("shy", "champion", 1)]:
        set_alias(server.url, name, alias, version)
    wait_until_served(server.url, "sociable", champion=1, challenger=2)
    wait_until_served(server.url, "shy", champion=1)
    client = Client(server.url)
    period = client.change_split("sociable", {"champion": 5_000, "challenger": 5_000})["period"]
    wait_until(lambda: client.endpoint("sociable")["serving_period"] == period)
    return server


def calls_of(url, name, requests):
    """How many rows each request brought, by the (version, number, rows) of the call of predict that answered it."""

    async def ask_one(http, number):
        # Neighbours are often alike, or they would have no company.
        rows, width, factor = 1 + number % 3, 2 + number // 20 % 2, 1 + number // 50 % 2
        body = {"inputs": [[0.5] * width] * rows, "params": {"factor": factor}}
        answer = await http.post(f"{url}/endpoints/{name}/invocations", content=json.dumps(body), headers=JSON)
        assert answer.status_code == 200, answer.text
        predictions = answer.json()["predictions"]
        (said,) = {tuple(prediction.split()) for prediction in predictions}
        version, call, call_rows, call_width, call_factor = map(int, said)
        assert len(predictions) == rows
        assert (version, call_width, call_factor) == (int(answer.headers["X-Titlebout-Version"]), width, factor)
        return (version, call, call_rows), rows

    async def ask_all():
        limits = httpx.Limits(max_connections=CONNECTIONS)
        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            return await asyncio.gather(*(ask_one(http, number) for number in range(requests)))

    calls = defaultdict(list)
    for call, rows in asyncio.run(ask_all()):
        calls[call].append(rows)
    return calls


def test_under_load_a_call_has_rows_of_one_version_shape_and_params_and_of_one_request_where_no_more_was_said(server):
    calls = calls_of(server.url, "sociable", 600)
    # Each call's rows are those of the requests that it answered, to the last one.
    assert [call for call, asked in calls.items() if sum(asked) != call[-1]] == []
    shared = Counter(version for (version, *_), asked in calls.items() if len(asked) > 1)
    assert min(shared[1], shared[2]) > 10, "nobody had company, so nothing was shown"

    # A custom model whose author didn't say that rows may come together gets each request by itself.
    calls = calls_of(server.url, "shy", 100)
    assert [(call, asked) for call, asked in calls.items() if asked != [call[-1]]] == []
