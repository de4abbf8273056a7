"""What must not cost a request: arms and names that change under load, and models whose code does anything at all."""

import asyncio

import mlflow
import pytest

from gateway.cli.client import Client
from gateway.cli.load import Load
from tests.gateway.test_serving import BODY, ask, wait_until, wait_until_served
from tests.training import constant_classifier, register, register_function, set_alias

pytestmark = pytest.mark.e2e


@pytest.fixture
def iris(serve):
    """Three versions of `iris`, which answer 0, 1 and 2; the first two are the arms, with half of the traffic each."""
    server = serve("--workers", "2")
    for answer in range(3):
        register(server.url, "iris", constant_classifier(answer))
    set_alias(server.url, "iris", "champion", 1)
    set_alias(server.url, "iris", "challenger", 2)
    wait_until_served(server.url, "iris", champion=1, challenger=2)
    Client(server.url).change_split("iris", {"champion": 5_000, "challenger": 5_000})
    return server


def test_no_request_is_lost_when_an_arm_moves_or_goes_or_its_model_is_renamed(iris):
    registry = mlflow.MlflowClient(iris.url)

    def change_everything():
        set_alias(iris.url, "iris", "challenger", 3)
        wait_until_served(iris.url, "iris", champion=1, challenger=3)
        registry.delete_registered_model_alias("iris", "challenger")
        wait_until_served(iris.url, "iris", champion=1)
        registry.rename_registered_model("iris", "flower")
        wait_until(lambda: ask(iris.url).headers["X-Titlebout-Model"] == "flower")

    async def change_under_load():
        async with Load(f"{iris.url}/endpoints/iris/invocations", BODY, connections=8, pause_s=0.02).running() as load:
            await asyncio.to_thread(change_everything)
        return load

    load = asyncio.run(change_under_load())
    assert {outcome.version for outcome in load.outcomes} == {1, 2, 3}
    assert load.failures == []


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("even this fails")


class AnythingGoes(mlflow.pyfunc.PythonModel):
    """Does what its input says."""

    def predict(self, context, model_input, params=None):
        match model_input[0]:
            case "half a surrogate pair":
                raise ValueError("\udcff")
            case "an endless message":
                raise RuntimeError("x" * (5 << 20))
            case "an unspeakable error":
                raise _Unspeakable
            case "an endless answer":
                return [0.0] * 1_000_000
            case "an object":
                return [object()]
        return model_input


def test_whatever_a_model_does_is_its_own_requests_failure_and_it_serves_on(serve):
    server = serve(environment={"TITLEBOUT_FRAME_BYTES_MAX": "1000000"})
    register_function(server.url, "anything", AnythingGoes())
    set_alias(server.url, "anything", "champion", 1)
    wait_until(lambda: ask(server.url, "anything", b'{"inputs": ["hello"]}').is_success)
    for case in (
        "half a surrogate pair",
        "an endless message",
        "an unspeakable error",
        "an endless answer",
        "an object",
    ):
        failed = ask(server.url, "anything", b'{"inputs": ["%s"]}' % case.encode())
        assert (failed.status_code, failed.json()["error_code"]) == (500, "INTERNAL_ERROR"), case
        assert ask(server.url, "anything", b'{"inputs": ["hello"]}').json() == {"predictions": ["hello"]}
    too_large = ask(server.url, "anything", b'{"inputs": ["%s"]}' % (b"x" * 1_000_001))
    assert (too_large.status_code, too_large.json()["error_code"]) == (413, "REQUEST_TOO_LARGE")
    assert ask(server.url, "anything", b'{"inputs": ["hello"]}').is_success
