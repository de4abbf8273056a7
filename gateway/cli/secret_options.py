"""Keeps passwords out of `ps`: given as an option, one is handed on as a variable, which only its owner can read."""

import os
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

_OPTIONS = ("--database-url", "--backend-store-uri")
_VARIABLE = "TITLEBOUT_DATABASE_URL"


def hide_secret_options() -> None:
    """Start this program anew, as the same process, if its arguments hold a password; else do nothing."""
    arguments, variables = without_secrets(sys.orig_argv)
    if variables:
        os.execve(sys.executable, [sys.executable, *arguments[1:]], {**os.environ, **variables})  # noqa: S606  (no shell)


def without_secrets(arguments: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """*arguments* without the URLs that hold a password, and the variable that says the same."""
    kept, variables = list[str](), dict[str, str]()
    rest = iter(arguments)
    for argument in rest:
        option, assigned, value = argument.partition("=")
        if option not in _OPTIONS:
            kept.append(argument)
            continue
        if not assigned:
            value = next(rest, "")
        if _holds_password(value):
            variables[_VARIABLE] = value
        else:
            kept += [option, value]
    return kept, variables


def _holds_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.password) or any("password" in name for name in parse_qs(parts.query))
    except ValueError:
        # Nobody can read it, so nobody knows what is in it.
        return True
