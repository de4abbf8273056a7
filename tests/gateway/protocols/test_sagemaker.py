"""SageMaker's runtime as boto3 speaks it: variants, sessions, and errors of the right classes."""

import json
import time

import boto3
import httpx
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

pytestmark = pytest.mark.e2e

BODY = json.dumps({"inputs": [[5.1, 3.5, 1.4, 0.2]]})


def runtime(served, **config):
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=served.url,
        region_name="us-east-1",
        aws_access_key_id="anybody",
        aws_secret_access_key="anything",
        config=Config(retries={"max_attempts": 0}, **config),
    )


@pytest.fixture
def client(served):
    return runtime(served)


def invoke(client, endpoint="iris", body=BODY, **options):
    return client.invoke_endpoint(EndpointName=endpoint, Body=body, **{"ContentType": "application/json", **options})


def test_an_endpoint_is_invoked_and_says_which_variant_answered(served, client):
    answer = invoke(client, "petal", InferenceId="order-17")
    assert json.loads(answer["Body"].read()) == {"predictions": served.expected[0]}
    assert answer["InvokedProductionVariant"] == "champion"
    assert answer["ContentType"] == "application/json"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-sagemaker-inference-id"] == "order-17"


def test_a_target_variant_forces_the_arm(client):
    for variant, label in [("champion", 0), ("challenger", 1)]:
        answer = invoke(client, TargetVariant=variant)
        assert answer["InvokedProductionVariant"] == variant
        assert json.loads(answer["Body"].read()) == {"predictions": [label]}


@pytest.fixture
def halves(served):
    """`iris` with half of its traffic on each arm."""
    path = "/api/1.0/titlebout/endpoints/iris"

    def split(**shares_bp):
        period = httpx.put(f"{served.url}{path}/split", json={"shares_bp": shares_bp}).json()["period"]
        while served.get(path).json()["serving_period"] != period:
            time.sleep(0.02)

    split(champion=5_000, challenger=5_000)
    yield
    split(champion=10_000, challenger=0)


@pytest.mark.usefixtures("halves")
def test_a_session_is_the_unit(served, client):
    arms = {f"session-{n}": invoke(client, SessionId=f"session-{n}")["InvokedProductionVariant"] for n in range(20)}
    assert set(arms.values()) == {"champion", "challenger"}
    for session, arm in arms.items():
        # Whom a session was assigned to, a unit of that name is assigned to in other protocols.
        headers = {"X-Titlebout-Unit": session}
        answer = served.post("/endpoints/iris/invocations", json=json.loads(BODY), headers=headers)
        assert answer.headers["X-Titlebout-Arm"] == arm


def test_errors_are_of_the_classes_that_boto_knows(client):
    with pytest.raises(client.exceptions.ModelError) as caught:
        invoke(client, body='{"inputs": [["a", 1, 2, 3]]}')
    assert caught.value.response["OriginalStatusCode"] == 400
    assert "sepal length" in caught.value.response["OriginalMessage"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 424

    for wrong, words in [
        ({"endpoint": "nothing"}, "nothing"),
        ({"TargetVariant": "nobody"}, "nobody"),
        ({"ContentType": "image/png"}, "image/png"),
    ]:
        with pytest.raises(ClientError) as caught:
            invoke(client, **wrong)
        assert caught.value.response["Error"]["Code"] == "ValidationError"
        assert type(caught.value) is client.exceptions.from_code("ValidationError")
        assert words in caught.value.response["Error"]["Message"]


def test_calls_without_a_signature_are_sagemakers_too(served):
    answer = invoke(runtime(served, signature_version=UNSIGNED))
    assert answer["InvokedProductionVariant"] == "champion"


def test_mlflows_callers_get_mlflows_errors_on_the_same_path(served):
    answer = served.post("/endpoints/iris/invocations", json={"inputs": [["a", 1, 2, 3]]})
    assert answer.status_code == 400
    assert set(answer.json()) == {"error_code", "message"}
    assert "x-amzn-invoked-production-variant" not in answer.headers
