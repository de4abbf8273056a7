"""Reads a request's body, never more than its bound."""

from typing import cast

from litestar.types import HTTPScope, Receive

from tracking.errors import BadRequest, TooLarge


class BodyTooLarge(TooLarge):
    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"The body is over the limit of {bytes_max} bytes for this path.")


class ClientGone(BadRequest):
    def __init__(self) -> None:
        super().__init__("The connection closed before the body was complete.")


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
