"""Reads a request's body, never more than its bound."""

import zlib
from typing import cast

from litestar.types import HTTPScope, Receive

from tracking.errors import BadRequest, ErrorCode, ServingError, TooLarge

_ZLIB_OR_GZIP = 47  # zlib's number for "either, as the data's own head says".


class BodyTooLarge(TooLarge):
    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The body is over the limit of {bytes_max} bytes for this path.")


class ClientGone(BadRequest):
    def __init__(self) -> None:
        super().__init__("The connection closed before the body was complete.")


class UnknownEncoding(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self, encoding: str) -> None:
        super().__init__(f"Content-Encoding {encoding!r} is not accepted here; expected gzip or deflate, or none.")


async def read_body(scope: HTTPScope, receive: Receive, bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: as soon as it is known to be over *bytes_max*, at best from its announced length.
        ClientGone: if the client hangs up midway.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > bytes_max:
            raise BodyTooLarge(bytes_max)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = cast("bytes", message.get("body", b""))
        size += len(chunk)
        if size > bytes_max:
            raise BodyTooLarge(bytes_max)
        if not message.get("more_body"):
            return chunk if not chunks else b"".join([*chunks, chunk])
        chunks.append(chunk)


def decompressed(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """*body* as it was before its sender applied *encoding*, a Content-Encoding.

    Raises:
        UnknownEncoding: for any but gzip, deflate and identity.
        BodyTooLarge: if it would be over *bytes_max*.
        BadRequest: if it isn't what it is called.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate"}:
        raise UnknownEncoding(encoding)
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        plain = stream.decompress(body, bytes_max + 1)
    except zlib.error as error:
        raise BadRequest(f"The body is not {encoding} as its Content-Encoding says.") from error
    if len(plain) > bytes_max:
        raise BodyTooLarge(bytes_max)
    if not stream.eof or stream.unused_data:
        raise BadRequest(f"The body is not one whole {encoding} stream.")
    return plain
