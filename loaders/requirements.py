"""The libraries that a model was saved with, beside those that are installed here."""

import re
from importlib import metadata
from pathlib import Path

from loaders.errors import InvalidArtifact
from loaders.mlmodel import read_bounded

_REQUIREMENTS_BYTES_MAX = 256 * 1024
_PIN = re.compile(r"^\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)", re.MULTILINE)


def pin_warnings(model_dir: Path, *packages: str) -> tuple[str, ...]:
    """A sentence for each of *packages* that ``requirements.txt`` pins to another version than the installed one."""
    try:
        text = read_bounded(model_dir / "requirements.txt", _REQUIREMENTS_BYTES_MAX).decode(errors="replace")
    except InvalidArtifact:
        # The file is a note for people; a model without it loads just as well.
        return ()
    pins = {name.lower().replace("_", "-"): version for name, version in _PIN.findall(text)}
    return tuple(
        f"The model was saved with {package} {pins[package]}; installed is {installed}."
        for package in packages
        if package in pins and (installed := metadata.version(package)) and _public(installed) != _public(pins[package])
    )


def _public(version: str) -> str:
    """*version* without its local part: ``2.13.0+cpu`` is the same release as ``2.13.0``."""
    return version.partition("+")[0]
