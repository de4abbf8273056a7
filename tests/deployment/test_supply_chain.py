"""What `make audit` finds in a lock, its hashes and an environment, and that ours have nothing of it."""

import importlib.util
import os
import subprocess
import zipfile

import pytest

from tests.deployment.tools import ROOT, run_tool

HASH = "--hash=sha256:" + "0" * 64


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheel(tmp_path):
    """The smallest one there can be."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


def test_each_pin_has_hashes_and_what_is_installed_is_what_is_pinned(audit):
    pins = audit.read_pins(audit.LOCK.read_text())
    assert len(pins) > 200
    assert audit.unhashed(pins, audit.read_hashed(audit.HASHES.read_text())) == []
    assert audit.unlike(pins, audit.installed()) == []


def test_a_pin_without_a_hash_and_a_hash_without_a_pin_are_found(audit):
    hashed = audit.read_hashed(f"left==1.0 \\\n    {HASH}\nMoved_On==1.0 \\\n    {HASH}\nbare==1.0\n")
    assert hashed == {"left": "1.0", "moved-on": "1.0"}
    assert audit.unhashed({"bare": "1.0", "moved-on": "2.0"}, hashed) == [
        "bare==1.0 has no hash: run `make hashes`",
        "left==1.0 has hashes and is not pinned: run `make hashes`",
        "moved-on==2.0 has no hash: run `make hashes`",
    ]


def test_an_environment_that_left_its_lock_is_found_and_a_local_build_is_not(audit):
    pins = {"torch": "2.13.0", "numpy": "2.4.0", "absent": "1.0"}
    found = {"torch": "2.13.0+cpu", "numpy": "2.3.0", "stranger": "0.1", "titlebout": "0.1.0"}
    assert audit.unlike(pins, found) == [
        "absent==1.0 is pinned and not installed: run `make install`",
        "numpy is 2.3.0 here and pinned to 2.4.0",
        "stranger==0.1 is installed and not pinned",
    ]


def test_known_vulnerabilities_are_named_and_who_knows_no_package_has_not_answered(audit):
    clean = {"name": "clean", "version": "1.0", "vulns": []}
    old = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}]}
    unknown = {"name": "clean", "skip_reason": "Dependency not found and could not be audited"}
    assert audit.known_vulnerabilities([clean, old]) == ["old==1.0: PYSEC-1, mended in 1.1 or 2.0"]
    assert audit.known_vulnerabilities([clean, unknown]) == []
    assert audit.known_vulnerabilities([unknown]) is None
    assert audit.known_vulnerabilities([]) is None


def test_a_file_that_is_not_the_one_whose_hash_was_taken_is_not_installed(wheel, tmp_path):
    (tmp_path / "lock").write_text("tiny==1.0\n")
    (tmp_path / "hashes").write_text(f"tiny==1.0 \\\n    {HASH}\n")

    def install(*constraint):
        # As `make install` has it: the pins are asked for, the hashes are constraints.
        return run_tool(
            *("uv", "pip", "install", "--no-index", "--no-cache", "--find-links", wheel.parent),
            *("--target", tmp_path / "there", "--requirement", tmp_path / "lock", *constraint),
        )

    assert install("--constraint", tmp_path / "hashes").returncode != 0
    assert not (tmp_path / "there/tiny.py").exists()
    assert install().returncode == 0
    assert (tmp_path / "there/tiny.py").exists()


def test_the_image_is_made_of_files_whose_hashes_were_taken():
    dockerfile = (ROOT / "Dockerfile").read_text()
    (check,) = [line for line in dockerfile.splitlines() if "grep" in line and "requirements.hashes" in line]
    known = (ROOT / "requirements.hashes").read_text().split("sha256:")[1][:64]
    for digest, status in ((known, 0), ("0" * 64, 1)):
        environment = {**os.environ, "digest": digest, "file": "tiny.whl"}
        found = subprocess.run(["sh", "-c", check.strip(" \\")], env=environment, cwd=ROOT, check=False)
        assert found.returncode == status
