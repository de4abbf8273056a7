"""The rest of a URL's path as it came over the wire.

The path that a framework hands out is decoded, and its repeated slashes are folded; what was asked for could no longer
be told.
"""

from typing import Any

from litestar import Request

from tracking.errors import InvalidParameter


def raw_path_below(request: Request[Any, Any, Any], prefix: str) -> bytes:
    """What follows *prefix*, still percent-encoded.

    Raises:
        InvalidParameter: if *prefix* itself came percent-encoded.
    """
    raw: bytes = request.scope["raw_path"]
    _, found, rest = raw.partition(prefix.encode())
    if not found:
        raise InvalidParameter(f"The path must hold '{prefix}' as it is, not percent-encoded.")
    return rest
