"""docs/deployment.md names files, variables and build arguments that exist, and all of those that matter."""

import re

from gateway.settings import Settings, environment_name
from tests.deployment.tools import ROOT

DOCS = (ROOT / "docs/deployment.md").read_text()


def test_files_that_are_named_are_there():
    named = set(re.findall(r"(?:k8s|tests|\.github)/[\w./-]*\w", DOCS)) | set(re.findall(r"compose[\w.]*\.yaml", DOCS))
    assert "k8s/overlays/staging" in named
    assert [path for path in named if not (ROOT / path).exists()] == []
    scripts = set(re.findall(r"\w+\.py", DOCS))
    assert [name for name in scripts if not (ROOT / ".github/scripts" / name).is_file()] == []


def test_the_load_tests_variables_are_all_there():
    used = {
        name
        for path in (ROOT / "loadtests").glob("*.py")
        for name in re.findall(r"\"(LOADTEST_\w+|TITLEBOUT_URL)\"", path.read_text())
    }
    documented = set(re.findall(r"LOADTEST_\w+|TITLEBOUT_URL", DOCS))
    assert documented == used


def test_settings_that_are_named_are_settings():
    named = set(re.findall(r"\bTITLEBOUT_[A-Z_]+[A-Z]\b", DOCS)) - {"TITLEBOUT_URL"}
    assert named <= {environment_name(field) for field in Settings.__struct_fields__}


def test_build_arguments_are_all_there():
    arguments = set(re.findall(r"(?m)^ARG (\w+)", (ROOT / "Dockerfile").read_text()))
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", DOCS.split("## Compose")[0])) == arguments
