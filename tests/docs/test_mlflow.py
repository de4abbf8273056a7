"""docs/mlflow.md lists the routes that MLflow's client finds here: all of them, and no others."""

import re

from gateway.api import health
from gateway.api.mlflow import artifacts as mlflow_artifacts
from gateway.api.mlflow import datasets as mlflow_datasets
from gateway.api.mlflow import logged_models as mlflow_logged_models
from gateway.api.mlflow import metrics as mlflow_metrics
from gateway.api.mlflow import owned_artifacts as mlflow_owned_artifacts
from gateway.api.mlflow import registry as mlflow_registry
from gateway.api.mlflow import tracking as mlflow_tracking
from gateway.api.mlflow import webhooks as mlflow_webhooks
from tests.deployment.tools import ROOT

DOCS = (ROOT / "docs/mlflow.md").read_text()
PROTOCOLS = (
    mlflow_tracking,
    mlflow_metrics,
    mlflow_logged_models,
    mlflow_registry,
    mlflow_artifacts,
    mlflow_owned_artifacts,
    mlflow_datasets,
    mlflow_webhooks,
)


def answered():
    """(method, path) of each route, its parameters without their types."""
    return {
        (str(method), re.sub(r":\w+}", "}", path))
        for protocol in PROTOCOLS
        for handler in protocol.handlers
        for method in handler.http_methods
        for path in handler.paths
    }


def documented():
    """(method, path) of the table; a path that is cut short goes on where the first one of its row does."""
    for method, cell in re.findall(r"(?m)^\| (GET|HEAD|POST|PUT|PATCH|DELETE) \| (.+) \|$", DOCS):
        first, *others = re.findall(r"`([^`]+)`", cell)
        yield method, first
        # `/tags` below a logged model, `/{path}` below the artifacts, else beside the first one.
        folder = first if first.endswith(("}", "/logged-models", "/artifacts")) else first.rpartition("/")[0]
        yield from ((method, folder + other) for other in others)


def test_the_routes_of_the_table_are_the_routes_there_are():
    table = set(documented())
    below_api = {(method, path) for method, path in answered() if path.startswith("/api/")}
    assert table == below_api


def test_each_route_answers_below_ajax_api_too():
    routes = {(method, path) for method, path in answered() if path.startswith(("/api/", "/ajax-api/"))}
    assert {
        (method, "/ajax-api" + path.removeprefix("/api")) for method, path in routes if path.startswith("/api")
    } == {(method, path) for method, path in routes if path.startswith("/ajax-api")}


def test_the_paths_at_the_root_are_there():
    (line,) = re.findall(r"(?m)^At the root: (.+)$", DOCS)
    named = {path.removeprefix("GET ") for path in re.findall(r"`([^`]+)`", line)}
    there = {path for handler in health.handlers for path in handler.paths} | {path for _, path in answered()}
    assert named <= there
