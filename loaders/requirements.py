"""The libraries that a model was saved with, beside those that are installed here."""

import re
from importlib import metadata
from pathlib import Path

from loaders.errors import InvalidArtifact
from loaders.mlmodel import read_bounded

_REQUIREMENTS_BYTES_MAX = 256 * 1024
_PIN = re.compile(r"^\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)", re.MULTILINE)


def pin_warnings(model_dir: Path, *packages: str) -> tuple[str, ...]:
    """A sentence for each pin in ``requirements.txt`` that isn't what is installed; *packages* narrows them down."""
    try:
        text = read_bounded(model_dir / "requirements.txt", _REQUIREMENTS_BYTES_MAX).decode(errors="replace")
    except InvalidArtifact:
        # The file is a note for people; a model without it loads just as well.
        return ()
    pins = {name.lower().replace("_", "-"): version for name, version in _PIN.findall(text)}
    # mlflow itself is pinned in each such file, and answers for no prediction.
    watched = [name for name in pins if name in packages or (not packages and not name.startswith("mlflow"))]
    return tuple(note for name in watched if (note := _find_difference(name, pins[name])))


def _find_difference(package: str, pinned: str) -> str | None:
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"The model was saved with {package} {pinned}, which isn't installed."
    if _public(installed) == _public(pinned):
        return None
    return f"The model was saved with {package} {pinned}; installed is {installed}."


def _public(version: str) -> str:
    """*version* without its local part: ``2.13.0+cpu`` is the same release as ``2.13.0``."""
    return version.partition("+")[0]
