"""The image: linted, not root, holding the packages and nothing else, with a health check that works."""

import json
import os
import re
import subprocess
import sys
import tomllib
from urllib.parse import urlsplit

from gateway.cli.server_process import free_port
from gateway.settings import environment_name, load_settings
from tests.deployment.tools import ROOT, run_tool

DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Instructions on a line each, without comments.
INSTRUCTIONS = [
    re.sub(r"\s+", " ", line)
    for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
    if line.strip()
]


def instructions(name):
    return [line.removeprefix(f"{name} ") for line in INSTRUCTIONS if line.startswith(f"{name} ")]


def python_of_the_health_check():
    (check,) = instructions("HEALTHCHECK")
    program, flag, code = json.loads(check[check.index("CMD ") :].removeprefix("CMD "))
    assert (program, flag) == ("python", "-c")
    return code


def health_check(port):
    environment = {**os.environ, "TITLEBOUT_PORT": str(port)}
    return subprocess.run(
        [sys.executable, "-c", python_of_the_health_check()], env=environment, capture_output=True, check=False
    ).returncode


def test_hadolint_has_nothing_to_say():
    judged = run_tool("hadolint", "--failure-threshold", "style", "Dockerfile")
    assert judged.returncode == 0, judged.stdout


def test_the_base_and_the_extras_are_chosen_from_outside():
    defaults = dict(argument.partition("=")[::2] for argument in instructions("ARG"))
    assert defaults["BASE"].startswith("python:3.11")
    assert defaults["EXTRAS"] == "mlflow"
    assert all(line.startswith("${BASE}") for line in instructions("FROM"))
    assert len(instructions("FROM")) == 2


def test_the_server_runs_as_the_user_that_the_manifests_name(overlay):
    assert instructions("USER") == ["${UID}:${UID}"]
    (uid,) = [argument.removeprefix("UID=") for argument in instructions("ARG") if argument.startswith("UID=")]
    for pod in overlay.pods:
        context = pod["spec"]["securityContext"]
        assert context["runAsUser"] == context["runAsGroup"] == int(uid)


def test_the_image_serves_where_the_manifests_expect_it(overlay):
    environment = dict(re.findall(r"(TITLEBOUT_\w+)=(\S+)", " ".join(instructions("ENV"))))
    settings = load_settings(environment=environment)
    assert str(settings.port) == overlay.settings["TITLEBOUT_PORT"] == instructions("EXPOSE")[0]
    assert settings.data == overlay.settings[environment_name("data")]
    assert json.loads(instructions("CMD")[0]) == overlay.server["args"]


def test_all_packages_and_nothing_private_are_sent_to_the_build():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert {line.split("/")[0] for line in instructions("COPY") if "/ " in line and "--from" not in line} == packages
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.strip("!/") for rule in rules if rule.startswith("!")}
    assert allowed == packages | {"pyproject.toml", "requirements.lock", "requirements.hashes", "README.md"}


def test_the_health_check_accepts_a_server_that_answers(api_server):
    assert health_check(urlsplit(api_server).port) == 0


def test_the_health_check_refuses_a_port_where_nobody_is():
    assert health_check(free_port()) != 0
