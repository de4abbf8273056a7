"""The file ``MLmodel``: what a saved model says of itself. Read with bounds, believed in nothing that runs code."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from loaders.errors import InvalidArtifact

MLMODEL_FILE = "MLmodel"
MLMODEL_BYTES_MAX = 8 * 1024 * 1024
"""A signature of ten thousand columns takes about one megabyte."""

_DEPTH_MAX = 50


class MLmodel(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of ``MLmodel`` that Titlebout uses; MLflow 3.17.2 writes these and more."""

    flavors: dict[str, dict[str, Any]]
    signature: dict[str, Any] | None = None
    """Its ``inputs``, ``outputs`` and ``params`` are JSON in strings; `loaders.signature` reads them."""
    saved_input_example_info: dict[str, Any] | None = None
    is_signature_from_type_hint: bool = False
    metadata: dict[str, Any] | None = None
    """What the model's author said of it, by ``log_model(..., metadata={...})``."""
    model_id: str | None = None
    model_uuid: str | None = None
    run_id: str | None = None
    mlflow_version: str | None = None


def read_mlmodel(model_dir: Path) -> MLmodel:
    """The ``MLmodel`` of the folder *model_dir*.

    Raises:
        InvalidArtifact: if it is missing, too large, no YAML, or lacks what every MLmodel has.
    """
    return parse_mlmodel(read_bounded(model_dir / MLMODEL_FILE, MLMODEL_BYTES_MAX))


def parse_mlmodel(text: bytes) -> MLmodel:
    try:
        _check_depth(text)
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidArtifact(MLMODEL_FILE, f"expected YAML, {_first_line(error)}") from error
    try:
        mlmodel = msgspec.convert(document, MLmodel)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidArtifact(MLMODEL_FILE, f"expected MLflow's keys, {_first_line(error)}") from error
    if not mlmodel.flavors:
        raise InvalidArtifact(MLMODEL_FILE, "expected at least one entry under 'flavors'")
    return mlmodel


def _check_depth(text: bytes) -> None:
    """Look at the nesting event by event, since libyaml's own reader recurses until the process is dead."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEPTH_MAX:
            raise InvalidArtifact(MLMODEL_FILE, f"expected at most {_DEPTH_MAX} levels of nesting")


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """The content of a small file of a model.

    Raises:
        InvalidArtifact: if it is missing, not a plain file, or larger than *bytes_max*.
    """
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidArtifact(path.name, "expected a readable file, found none") from error
    if len(content) > bytes_max:
        raise InvalidArtifact(path.name, f"expected at most {bytes_max:,} bytes")
    return content


def path_inside(model_dir: Path, relative: Any, key: str) -> Path:
    """The path of a file that ``MLmodel`` names under *key*, which must lie in *model_dir*.

    Raises:
        InvalidArtifact: if it is no plain relative path.
    """
    parts = relative.split("/") if isinstance(relative, str) else []
    if not parts or any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts):
        raise InvalidArtifact(MLMODEL_FILE, f"expected {key!r} to be a path within the model")
    return model_dir.joinpath(*parts)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
