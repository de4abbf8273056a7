"""What keys, names and values may look like, and how long they may be: MLflow's rules (mlflow/utils/validation.py).

What no database can hold (NUL, half a surrogate pair) is refused here, before PostgreSQL refuses it in words of its
own and SQLite takes it.
"""

import posixpath
import re

from tracking.errors import InvalidParameter

KEY_LENGTH_MAX = 250
PARAM_LENGTH_MAX = 6_000
RUN_TAG_LENGTH_MAX = 8_000
EXPERIMENT_TAG_LENGTH_MAX = 20_000
EXPERIMENT_NAME_LENGTH_MAX = 500
TEXT_LENGTH_MAX = 65_535

_KEY = re.compile(r"[/\w.\- :]+")
# Most keys: nothing in them that any of the rules below could mind.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]{1,250}")
_LOGGED_MODEL_NAME_REFUSES = "/:.%\"'"


def is_storable(text: str) -> bool:
    """Whether both databases can hold *text*; what can't be held can't be found either."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text))


def check_text(text: str, field: str, length_max: int = TEXT_LENGTH_MAX) -> str:
    """*text*, if it can be stored in *length_max* signs.

    Raises:
        InvalidParameter: if not, naming *field*.
    """
    if not is_storable(text):
        raise InvalidParameter(
            f"Invalid value for parameter '{field}' supplied: it has a NUL or a lone surrogate in it."
        )
    if len(text) > length_max:
        raise InvalidParameter(f"'{field}' exceeds the maximum length of {length_max} characters")
    return text


def check_and_cut(text: str, field: str, length_max: int) -> str:
    """*text*, cut to *length_max* without a word, as the genuine server does with params and run tags."""
    return check_text(text[:length_max], field, length_max)


def check_key(key: str, field: str) -> str:
    """*key*, if it may name a metric, a param or a tag.

    Raises:
        InvalidParameter: if it has other signs than MLflow allows, reads as a path elsewhere, or is too long.
    """
    if _PLAIN_KEY.fullmatch(key):
        return key
    if not _KEY.fullmatch(key):
        raise InvalidParameter(
            f"Invalid value {key[:100]!r} for parameter '{field}' supplied: Names may only contain alphanumerics, "
            "underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    if _reads_as_another_path(key):
        raise InvalidParameter(
            f"Invalid value {key[:100]!r} for parameter '{field}' supplied: Names may be treated as files in certain "
            f"cases, and must not resolve to other names when treated as such."
        )
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidParameter(f"'{field}' exceeds the maximum length of {KEY_LENGTH_MAX} characters")
    return key


def _reads_as_another_path(key: str) -> bool:
    normal = posixpath.normpath(key)
    return normal != key or normal == "." or normal.startswith(("..", "/"))


def check_experiment_name(name: str, field: str = "name") -> str:
    if not name:
        raise InvalidParameter(f"Invalid experiment name: {name!r}")
    return check_text(name, field, EXPERIMENT_NAME_LENGTH_MAX)


def check_logged_model_name(name: str) -> str:
    if not name or any(sign in name for sign in _LOGGED_MODEL_NAME_REFUSES):
        refused = " ".join(_LOGGED_MODEL_NAME_REFUSES)
        raise InvalidParameter(
            f"Invalid model name ({name[:100]!r}) provided. Model name must be a non-empty string and cannot contain "
            f"the following characters: {refused}"
        )
    return check_text(name, "name", EXPERIMENT_NAME_LENGTH_MAX)
