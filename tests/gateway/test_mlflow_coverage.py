"""Every call of MLflow's protocol is answered here, or said not to be: none is a 404."""

import re

import httpx
import pytest
from mlflow.protos import databricks_pb2
from mlflow.protos.mlflow_artifacts_pb2 import MlflowArtifactsService
from mlflow.protos.model_registry_pb2 import ModelRegistryService
from mlflow.protos.service_pb2 import MlflowService
from mlflow.protos.webhooks_pb2 import WebhookService

from gateway.app import _PROTOCOLS

SERVICES = (MlflowService, ModelRegistryService, MlflowArtifactsService, WebhookService)
# Subjects that are none of Titlebout's.
ELSEWHERE = re.compile(
    r"/mlflow/(traces|unified-traces|get-online-trace-details|workspaces|scorers|issues|label-schemas|review-queues"
    r"|prompt-optimization|gateway)(/|$)"
)


def protocol():
    """(method, path) of each call, from the definitions that the client itself is made of."""
    endpoints = {
        (endpoint.method, f"/api/{endpoint.since.major}.0{endpoint.path}")
        for service in SERVICES
        for method in service.DESCRIPTOR.methods
        for endpoint in method.GetOptions().Extensions[databricks_pb2.rpc].endpoints
    }
    return sorted(endpoints)


def without_names(path):
    return re.sub(r"{[^}]*}|<[^>]*>", "{}", path)


@pytest.fixture(scope="module")
def answered():
    return {
        (method, without_names(path))
        for protocol in _PROTOCOLS
        for handler in protocol.handlers
        if handler.include_in_schema is not False
        for method in handler.http_methods
        for path in handler.paths
    }


@pytest.mark.parametrize(("method", "path"), [call for call in protocol() if not ELSEWHERE.search(call[1])])
def test_each_call_about_runs_models_and_artifacts_has_a_handler_and_a_twin(answered, method, path):
    path = without_names(path)
    assert (method, path) in answered
    assert (method, path.replace("/api/", "/ajax-api/", 1)) in answered


def test_calls_about_other_things_are_501_with_a_sentence(api_server):
    calls = [call for call in protocol() if ELSEWHERE.search(call[1])]
    calls += [("POST", "/graphql"), ("POST", "/v1/traces"), ("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run")]
    assert len(calls) > 90
    with httpx.Client(base_url=api_server) as wire:
        for method, path in calls:
            answer = wire.request(method, re.sub(r"{[^}]*}|<[^>]*>", "x", path), json={})
            assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED"), path
            assert "Titlebout doesn't have" in answer.json()["message"]
        assert wire.get("/api/2.0/mlflow/nothing").status_code == 404
        assert wire.get("/api/2.0/mlflow/tracestate").status_code == 404
