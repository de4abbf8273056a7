"""Where a browser is led to after signing in: to a place of this server's, whoever made the link."""

import re
from urllib.parse import urlsplit

_LENGTH_MAX = 2000
# Browsers take a backslash for a slash, and drop tabs and line ends before they look.
_PLAIN = re.compile(r"/(?![/\\])[!-\[\]-~]*", re.ASCII)


def local_path(text: str | None, otherwise: str) -> str:
    """*text*, if it is a path of this server's, with a query or without; else *otherwise*."""
    if not text or len(text) > _LENGTH_MAX or not _PLAIN.fullmatch(text):
        return otherwise
    try:
        parts = urlsplit(text)
    except ValueError:
        return otherwise
    return otherwise if parts.scheme or parts.netloc else text
