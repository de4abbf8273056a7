"""The workflows: sound by their schema and by zizmor, and no input of a person's is ever part of a shell line."""

import re

import pytest
import yaml

from tests.deployment.tools import ROOT, run_tool

FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
# YAML 1.1 reads the key `on` as true.
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in FILES}
STEPS = [
    pytest.param(step, id=f"{name}-{job}-{number}")
    for name, workflow in WORKFLOWS.items()
    for job, body in workflow["jobs"].items()
    for number, step in enumerate(body["steps"])
]


@pytest.mark.parametrize("schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"])
def test_workflows_keep_to_their_schema(schema):
    judged = run_tool("check-jsonschema", "--builtin-schema", schema, *FILES)
    assert judged.returncode == 0, judged.stdout


def test_zizmor_finds_nothing_even_when_pedantic():
    judged = run_tool("zizmor", "--offline", "--persona=pedantic", "--no-progress", ".github")
    assert judged.returncode == 0, judged.stdout


@pytest.mark.parametrize("step", STEPS)
def test_a_step_interpolates_nothing_into_a_shell_and_pins_what_it_uses(step):
    assert "${{" not in step.get("run", "")
    if "uses" in step:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
    if step.get("uses", "").startswith("actions/checkout@"):
        assert step["with"]["persist-credentials"] is False
    for script in re.findall(r"\S+\.py", step.get("run", "")):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_permissions_start_from_none(workflow):
    assert workflow["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in workflow["jobs"].values())


def test_ci_runs_what_a_person_runs():
    runs = [step["run"] for step in WORKFLOWS["ci.yml"]["jobs"]["check"]["steps"] if "run" in step]
    assert runs[-1] == ".ci/run"
    assert (ROOT / ".ci/run").read_text().splitlines()[-2:] == ["make check", "make audit"]


def test_a_promotion_is_validated_then_staged_then_approved():
    jobs = WORKFLOWS["promote.yml"]["jobs"]
    assert list(jobs) == ["validate", "staging", "production"]
    assert jobs["staging"]["needs"] == "validate"
    assert jobs["production"]["needs"] == "staging"
    assert jobs["production"]["environment"] == "production"
    assert jobs["production"]["steps"][-1]["run"].endswith("--alias=champion")
