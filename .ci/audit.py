"""Hold the dependencies to what was decided on: `make audit`.

Each pin of requirements.lock has hashes, what is installed is what is pinned, and no pinned version is known to be
vulnerable. The last needs an advisory database. Where none can be reached that is said, and is no failure: the two
others still hold, and whoever must be sure runs this where one can be.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
HASHES = ROOT / "requirements.hashes"
PIP_AUDIT = ROOT / ".venv-audit" / "bin" / "pip-audit"

# What `make install` brings beside the lock: ourselves, and who installs.
_UNPINNED = {"titlebout", "pip", "uv"}
_SERVICES = ("pypi", "osv")
_ASK_TIMEOUT_S = 600


def main() -> int:
    """Print each fault in a line, and give the exit status."""
    pins = read_pins(LOCK.read_text())
    faults = [*unhashed(pins, read_hashed(HASHES.read_text())), *unlike(pins, installed())]
    if not faults:
        print(f"ok    {len(pins)} packages are pinned with hashes, and installed as pinned")
    advisories = ask_advisories(LOCK.read_text())
    if advisories is None:
        print("skip  no advisory database answered: known vulnerabilities were NOT looked for")
    elif not advisories:
        print("ok    no pinned version is known to be vulnerable")
    for fault in [*faults, *(advisories or [])]:
        print(f"FAIL  {fault}")
    return 1 if faults or advisories else 0


def read_pins(lock: str) -> dict[str, str]:
    """Versions by name; names as `importlib.metadata` and pip compare them."""
    return {canonical(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lock)}


def read_hashed(hashes: str) -> dict[str, str]:
    """The pins that at least one hash stands below."""
    return read_pins("\n".join(re.findall(r"(?m)^\S.*?(?= \\\n +--hash=sha256:[0-9a-f]{64})", hashes)))


def installed() -> dict[str, str]:
    return {canonical(each.metadata["Name"]): each.version for each in distributions()}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def unhashed(pins: Mapping[str, str], hashed: Mapping[str, str]) -> list[str]:
    """Where the two files part."""
    missing = [f"{name}=={version} has no hash: run `make hashes`" for name, version in (pins.items() - hashed.items())]
    left = [f"{name}=={version} has hashes and is not pinned: run `make hashes`" for name, version in hashed.items()]
    return sorted(missing + [line for line in left if line.split("==")[0] not in pins])


def unlike(pins: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What is installed and not as it is pinned. A local version, such as ``+cpu``, is a build of the same one."""
    faults = []
    for name in sorted((pins.keys() | found.keys()) - _UNPINNED):
        pinned, version = pins.get(name), found.get(name)
        if version is None:
            faults.append(f"{name}=={pinned} is pinned and not installed: run `make install`")
        elif pinned is None:
            faults.append(f"{name}=={version} is installed and not pinned")
        elif version.partition("+")[0] != pinned:
            faults.append(f"{name} is {version} here and pinned to {pinned}")
    return faults


def ask_advisories(lock: str) -> list[str] | None:
    """The known vulnerabilities of what *lock* pins; None if nobody can be asked."""
    for service in _SERVICES:
        # A single question first. A mirror of the index that carries no advisories answers "not found" to all of them.
        first = lock.splitlines()[0]
        if known_vulnerabilities(_ask(service, first)) is not None:
            return known_vulnerabilities(_ask(service, lock))
    return None


def _ask(service: str, requirements: str) -> list[dict[str, Any]]:
    asked = subprocess.run(
        [
            *(str(PIP_AUDIT), "--vulnerability-service", service, "--requirement", "/dev/stdin"),
            *("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"),
        ],
        input=requirements,
        capture_output=True,
        text=True,
        timeout=_ASK_TIMEOUT_S,
        check=False,
    )
    # Status 1 is a vulnerability or a service that can't be reached, and only the former has an answer.
    return json.loads(asked.stdout)["dependencies"] if asked.stdout.strip() else []


def known_vulnerabilities(dependencies: list[dict[str, Any]]) -> list[str] | None:
    """A line for each that pip-audit's answer names; None if it knew none of the packages at all."""
    judged = [each for each in dependencies if "vulns" in each]
    if not judged:
        return None
    return [
        f"{each['name']}=={each['version']}: {found['id']}, mended in {' or '.join(found['fix_versions']) or 'nothing'}"
        for each in judged
        for found in each["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main())
