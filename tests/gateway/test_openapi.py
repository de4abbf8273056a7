"""The OpenAPI document, and what is answered to requests that a fuzzer makes from it."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

ERROR = {"$ref": "#/components/schemas/Error"}


def test_every_operation_declares_its_errors_as_they_are_answered(api_server):
    document = httpx.get(f"{api_server}/openapi.json").json()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) > 100
    for operation in operations:
        refused = [response for status, response in operation["responses"].items() if status >= "4"]
        assert [one["content"]["application/json"]["schema"] for one in refused] == [ERROR] * len(refused)
    unsupported = [path for path, methods in document["paths"].items() if "501" in str(methods.get("post"))]
    assert "/api/2.0/mlflow-artifacts/mpu/create/{path}" in unsupported


# What asks the routing table, and says by 503 that there is none yet: the server under test has no supervisor.
OF_THE_TABLE = (
    "/ready",
    "/v2/models/{path}",
    "/v1/models/{path}",
    "/endpoints/{name}/openapi.json",
    "/endpoints/{name}/docs",
    "/endpoints/{name}/versions/{version}/example",
    "/endpoints/{name}/versions/{version}/processor-time",
)


def undeclared_faults(operation) -> list[str]:
    """How to repeat those requests that were answered 5xx where the document says nothing of it."""
    faults = []

    @seed(0)
    @settings(max_examples=10, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck)
    @given(case=operation.as_strategy())
    def probe(case):
        answer = case.call()
        declared = str(answer.status_code) in operation.definition.raw["responses"]
        expected = declared and (answer.status_code == 501 or operation.path.endswith(OF_THE_TABLE))
        if answer.status_code >= 500 and not expected:
            faults.append(f"{answer.status_code} {case.as_curl_command()}")

    probe()
    return faults


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # What the fuzzer's own dependencies warn of.
def test_a_fuzzer_finds_no_fault_but_the_declared_501(api_server):
    document = schemathesis.openapi.from_url(f"{api_server}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    # The twins for MLflow's pages are the same handlers.
    own = [operation for operation in operations if not operation.path.startswith("/ajax-api/")]
    assert len(own) > 80
    faults = [fault for operation in own for fault in undeclared_faults(operation)]
    assert not faults, "\n".join(faults)
    assert httpx.get(f"{api_server}/health").text == "OK"
