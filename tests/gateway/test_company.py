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

REQUESTS = 600
CONNECTIONS = 48


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
def halves(serve):
    """A server whose `sociable` has two versions, with half of the traffic each."""
    server = serve()
    for version in (1, 2):
        options = {"signature": SIGNATURE, "metadata": {"titlebout.batchable": True}}
        assert register_function(server.url, "sociable", sociable(version), **options) == version
    set_alias(server.url, "sociable", "champion", 1)
    set_alias(server.url, "sociable", "challenger", 2)
    wait_until_served(server.url, "sociable", champion=1, challenger=2)
    client = Client(server.url)
    period = client.change_split("sociable", {"champion": 5_000, "challenger": 5_000})["period"]
    wait_until(lambda: client.endpoint("sociable")["serving_period"] == period)
    return server.url


def test_under_load_a_call_has_rows_of_one_version_shape_and_params_only(halves):
    async def ask_one(http, number):
        rows, width, factor = 1 + number % 3, 2 + number % 2, 1 + number % 5 // 4
        body = {"inputs": [[0.5] * width] * rows, "params": {"factor": factor}}
        answer = await http.post(f"{halves}/endpoints/sociable/invocations", content=json.dumps(body), headers=JSON)
        assert answer.status_code == 200, answer.text
        return answer.headers["X-Titlebout-Version"], rows, width, factor, answer.json()["predictions"]

    async def ask_all():
        limits = httpx.Limits(max_connections=CONNECTIONS)
        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            return await asyncio.gather(*(ask_one(http, number) for number in range(REQUESTS)))

    calls = defaultdict(list)
    for version, rows, width, factor, predictions in asyncio.run(ask_all()):
        (said,) = {tuple(prediction.split()) for prediction in predictions}
        model_version, call, call_rows, call_width, call_factor = said
        assert len(predictions) == rows
        assert (model_version, int(call_width), int(call_factor)) == (version, width, factor)
        calls[version, call, int(call_rows)].append(rows)
    # Each call's rows are those of the requests that it answered, to the last one.
    for (version, call, call_rows), asked in calls.items():
        assert sum(asked) == call_rows, (version, call)
    shared = Counter(version for (version, *_), asked in calls.items() if len(asked) > 1)
    assert min(shared["1"], shared["2"]) > 10, "nobody had company, so nothing was shown"
