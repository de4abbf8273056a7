"""What names, aliases, tags, versions and stages look like: MLflow's rules (mlflow/utils/validation.py)."""

import posixpath
import re

from tracking.errors import InvalidParameter
from tracking.names import check_key, check_text

# The width of the columns; MLflow leaves longer names to the database, which may cut or crash.
NAME_LENGTH_MAX = 256
ALIAS_LENGTH_MAX = 255
TAG_VALUE_LENGTH_MAX = 100_000
DESCRIPTION_LENGTH_MAX = 100_000

LATEST = "latest"
STAGES = ("None", "Staging", "Production", "Archived")
ACTIVE_STAGES = ("Staging", "Production")

_ALIAS = re.compile(r"[\w\-]+")
_VERSION_ALIAS = re.compile(r"[vV]\d+")
_CANONICAL_STAGE = {stage.lower(): stage for stage in STAGES}


def check_model_name(name: str, field: str = "name") -> None:
    if not name.strip():
        raise InvalidParameter(f"Missing value for required parameter '{field}'")
    check_text(name, field, NAME_LENGTH_MAX)
    if "/" in name or ":" in name:
        raise InvalidParameter(f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if _is_path_in_disguise(name):
        raise InvalidParameter(f"Invalid value '{name}' for parameter '{field}' supplied: it reads as a path.")


def check_alias(alias: str) -> None:
    if not alias:
        raise InvalidParameter("Registered model alias name cannot be empty.")
    check_text(alias, "alias", ALIAS_LENGTH_MAX)
    if not _ALIAS.fullmatch(alias):
        raise InvalidParameter(
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )


def check_alias_may_be_set(alias: str) -> None:
    check_alias(alias)
    if alias.lower() == LATEST:
        raise InvalidParameter("'latest' alias name (case insensitive) is reserved.")
    if _VERSION_ALIAS.fullmatch(alias):
        raise InvalidParameter(f"Version alias name '{alias}' is reserved.")


def check_tag_key(key: str) -> None:
    if not key:
        raise InvalidParameter("Missing value for required parameter 'key'")
    check_key(key, "key")


def check_tag(key: str, value: str) -> None:
    check_tag_key(key)
    check_text(value, "value", TAG_VALUE_LENGTH_MAX)


def check_description(description: str | None) -> None:
    if description is not None:
        check_text(description, "description", DESCRIPTION_LENGTH_MAX)


def read_version(text: str) -> int:
    """A version's number from its spelling on the wire, where it is a string."""
    # Bounded, because Python refuses to read endless digits with an error of its own; no version has more than ten.
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise InvalidParameter(f"Invalid value '{text[:40]}' for parameter 'version' supplied: it must be an integer.")
    return int(text)


def canonical_stage(stage: str) -> str:
    """*stage* as MLflow spells it, whatever its case."""
    canonical = _CANONICAL_STAGE.get(stage.lower())
    if canonical is None:
        raise InvalidParameter(f"Invalid Model Version stage: {stage}. Value must be one of {', '.join(STAGES)}.")
    return canonical


def _is_path_in_disguise(name: str) -> bool:
    # MLflow's path_not_unique: names end up in folders there, and clients rely on such names being refused.
    return posixpath.normpath(name) != name or name == "." or name.startswith(("..", "/"))
