"""What is deployed, read once: the manifests as Kustomize renders them."""

from typing import Any

import pytest
import yaml

from tests.deployment.tools import run_tool


class Overlay:
    """One rendered overlay: its text, and its objects by kind and name."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.objects: list[dict[str, Any]] = [document for document in yaml.safe_load_all(text) if document]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.all(kind)
        return found

    @property
    def pods(self) -> list[dict[str, Any]]:
        """The templates of the server's pods and the migration's."""
        return [self.one(kind)["spec"]["template"] for kind in ("Deployment", "Job")]

    @property
    def server(self) -> dict[str, Any]:
        (container,) = self.one("Deployment")["spec"]["template"]["spec"]["containers"]
        return container

    @property
    def settings(self) -> dict[str, str]:
        return self.one("ConfigMap")["data"]


@pytest.fixture(scope="session", params=["staging", "production"])
def overlay(request: pytest.FixtureRequest) -> Overlay:
    rendered = run_tool("kubectl", "kustomize", f"k8s/overlays/{request.param}")
    assert rendered.returncode == 0, rendered.stderr
    return Overlay(request.param, rendered.stdout)
