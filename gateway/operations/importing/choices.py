"""What an import decides: whether something is new, and where a folder of the other server is here."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

_MODEL_ID = re.compile(r"(?:^|[/:])(m-[0-9a-f]{32})(?:/|$)")
_RUN_ID = re.compile(r"(?:^|[/:])([0-9a-f]{32})(?:/|$)")


def fingerprint(described: msgspec.Struct) -> str:
    """SHA-256 of how a server describes something, whatever order it lists tags, params and metrics in."""
    return hashlib.sha256(msgspec.json.encode(_in_order(msgspec.to_builtins(described)))).hexdigest()


def is_unchanged(known: str, found: str, *, settled: bool) -> bool:
    """Whether something that had the fingerprint *known* when it was copied needn't be copied again.

    What isn't settled, such as a run that goes on, may change without its description changing.
    """
    return known == found and settled


def logged_model_in(uri: str) -> str | None:
    """The id of the logged model whose folder *uri* names or lies in."""
    found = _MODEL_ID.search(uri)
    return found[1] if found else None


def run_in(uri: str) -> str | None:
    """The id of the run whose folder *uri* names or lies in."""
    found = _RUN_ID.search(uri)
    return found[1] if found else None


def follow(uri: str, roots: Mapping[str, str]) -> str | None:
    """Where *uri* is here, if it is or lies below one of *roots*: folders there, each with the folder it became."""
    for there, here in roots.items():
        if uri == there or uri.startswith(f"{there}/"):
            return here + uri[len(there) :]
    return None


def _in_order(value: Any) -> Any:
    match value:
        case dict():
            return {key: _in_order(value[key]) for key in sorted(value)}
        case list():
            return sorted((_in_order(item) for item in value), key=msgspec.json.encode)
        case _:
            return value
