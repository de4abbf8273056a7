"""What there is to challenge a champion with can be had over the API, typed, on the command line and in /metrics."""

import re

import click
import httpx
import pytest

from gateway.cli import cli
from tests.deployment.tools import ROOT

OURS = "/api/1.0/titlebout"
ENDPOINT, MODEL = f"{OURS}/endpoints/{{name}}", f"{OURS}/models/{{name}}"
VERSION, ROLLOUT = f"{MODEL}/versions/{{version}}", f"{OURS}/rollouts/{{name}}"

# What is asked and not kept has no metric: it says of others what these have.
PARTS = {
    "splits": ([("put", f"{ENDPOINT}/split")], ["split"], ["gateway_split_share", "gateway_requests"]),
    "assignment": ([("get", f"{ENDPOINT}/assignment")], ["assign", "assign --replay"], []),
    "fallback": ([("put", f"{ENDPOINT}/fallback")], ["fallback"], ["gateway_fallbacks"]),
    "shadow": (
        [(method, f"{ENDPOINT}/shadow") for method in ("get", "put", "delete")]
        + [(method, f"{ENDPOINT}/shadow/inputs") for method in ("get", "delete")],
        ["shadow", "shadow --off", "shadow --inputs", "shadow --forget"],
        ["gateway_shadow_requests"],
    ),
    "feedback": (
        [
            ("post", "/feedback"),
            ("get", f"{ENDPOINT}/feedback"),
            ("get", f"{OURS}/prediction-keys"),
            ("post", f"{OURS}/prediction-keys/rotate"),
        ],
        ["feedback", "feedback --file", "keys list", "keys rotate"],
        ["gateway_feedback"],
    ),
    "prediction log": ([("get", f"{ENDPOINT}/predictions")], ["predictions"], ["gateway_predictions_kept"]),
    "comparison": (
        [("get", f"{ENDPOINT}/comparison")],
        ["compare"],
        ["gateway_comparison_verdict", "gateway_comparison_difference", "gateway_comparison_mismatch_p"],
    ),
    "planner": ([("get", f"{OURS}/plan")], ["plan"], []),
    "rollouts": (
        [("get", f"{OURS}/rollouts"), ("post", f"{OURS}/rollouts"), ("get", ROLLOUT)]
        + [("post", f"{ROLLOUT}/{verb}") for verb in ("dry-run", "pause", "resume", "abort", "promote")],
        ["rollout start", "rollout start --dry-run"]
        + [f"rollout {verb}" for verb in ("status", "pause", "resume", "abort", "promote")],
        ["gateway_rollout_step", "gateway_rollout_state"],
    ),
    "gates": (
        [
            ("get", f"{MODEL}/gates"),
            ("put", f"{MODEL}/gates/{{gate_name}}"),
            ("delete", f"{MODEL}/gates/{{gate_name}}"),
        ],
        ["gate list", "gate set", "gate remove"],
        ["gateway_changes"],
    ),
    "approvals": (
        [(method, f"{VERSION}/approvals") for method in ("get", "put", "delete")],
        ["approve", "approve --withdraw", "approve --list"],
        ["gateway_changes"],
    ),
    "overrides": (
        [("put", f"{ENDPOINT}/split"), ("post", "/api/2.0/mlflow/registered-models/alias")],
        ["promote --override", "split --override", "rollout start --override", "rollout promote --override"],
        ["gateway_changes"],
    ),
    "load tests": (
        [
            ("get", f"{VERSION}/load-tests"),
            ("post", f"{VERSION}/load-tests"),
            ("get", f"{VERSION}/load-tests/{{number}}"),
        ],
        ["loadtest", "loadtest --list"],
        ["gateway_changes", "gateway_host_cpu_seconds"],
    ),
    "history": (
        [("get", f"{MODEL}/history"), ("get", f"{OURS}/history/check"), ("get", f"{OURS}/resolve")],
        ["log", "log --verify", "resolve --at"],
        ["gateway_changes"],
    ),
}


@pytest.fixture
def document(api_server):
    return httpx.get(f"{api_server}/openapi.json").json()


@pytest.mark.parametrize("part", PARTS)
def test_its_routes_are_in_the_document_with_what_they_take_and_give(document, part):
    for method, path in PARTS[part][0]:
        operation = document["paths"][path][method]
        (status,) = [status for status in operation["responses"] if status.startswith("2")]
        content = operation["responses"][status]["content"]["application/json"]
        assert is_typed(content["schema"], document), f"{method} {path} answers anything"
        if method in {"post", "put"}:
            body = operation["requestBody"]["content"]["application/json"]
            assert is_typed(body["schema"], document), f"{method} {path} takes anything"


def is_typed(schema, document):
    """Whether it says which fields there are, or of what type all are."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    one_of = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return all("properties" in each or "additionalProperties" in each or "$ref" in each for each in one_of)


@pytest.mark.parametrize("part", PARTS)
def test_it_is_on_the_command_line(part):
    for line in PARTS[part][1]:
        verb, *others = line.split()
        found = cli.get_command(click.Context(cli), verb)
        for word in others:
            if word.startswith("--"):
                assert word in {name for option in found.params for name in option.opts}, line
            else:
                found = found.commands[word]


@pytest.mark.parametrize("part", [part for part in PARTS if PARTS[part][2]])
def test_it_is_in_the_metrics(part):
    made = {
        name
        for path in (ROOT / "gateway/observability").glob("*_metrics.py")
        for name in re.findall(r'"(gateway_\w+)"', path.read_text())
    }
    assert set(PARTS[part][2]) <= made


def test_each_option_that_passes_gates_by_is_in_the_document(document):
    schemas = document["components"]["schemas"]
    with_one = {
        name.rpartition("_")[2] for name, schema in schemas.items() if "override" in schema.get("properties", {})
    }
    assert {"ChangeSplit", "SetAlias", "StartRollout", "Promote"} <= {name.rpartition(".")[2] for name in with_one}, (
        with_one
    )
