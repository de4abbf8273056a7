"""One artifact as the answer to a request: streamed, by range if asked for, and never shown as a page of ours."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing, suppress
from http import HTTPStatus
from urllib.parse import quote

import msgspec
from litestar.types import Receive, Scope, Send

from gateway.api.byte_ranges import ByteRange, RangeNotSatisfiable, read_range
from gateway.errors import error_body
from gateway.settings import Settings
from gateway.transfers import Transfers
from tracking import artifact_records
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactReader, ArtifactStore
from tracking.database import Database
from tracking.errors import ErrorCode
from tracking.manifest import FileDigest

_log = logging.getLogger(__name__)


class ArtifactDownload:
    """An ASGI answer. It opens the file when it is called, so that nothing is open if it never is."""

    def __init__(
        self,
        path: ArtifactPath,
        *,
        store: ArtifactStore,
        transfers: Transfers,
        recorded: FileDigest | None,
        headers: Mapping[str, str],
        idle_timeout_s: float,
    ) -> None:
        self._path = path
        self._store = store
        self._transfers = transfers
        self._recorded = recorded
        self._asked = headers
        self._idle_timeout_s = idle_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opening = self._store.open(self._path)
        reader = await self._transfers.run(opening.__enter__)
        try:
            await self._answer(scope, receive, send, reader)
        finally:
            await self._transfers.run(opening.__exit__, None, None, None)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, reader: ArtifactReader) -> None:
        headers = self._headers(reader.size)
        etag = headers.get("etag")
        if etag is not None and etag in _tags(self._asked.get("if-none-match")):
            await _start(send, HTTPStatus.NOT_MODIFIED, headers)
            await _end(send)
            return
        try:
            part = read_range(self._range_header(etag), reader.size)
        except RangeNotSatisfiable:
            await _refuse_range(send, reader.size)
            return
        status = HTTPStatus.OK
        if part is None:
            part = ByteRange(0, reader.size)
        else:
            status = HTTPStatus.PARTIAL_CONTENT
            headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{reader.size}"
        headers["content-length"] = str(part.stop - part.start)
        await _start(send, status, headers)
        if scope["method"] == "HEAD":  # type: ignore[typeddict-item]  # only HTTP requests come here
            await _end(send)
        else:
            await self._send_part(receive, send, reader, part)

    def _headers(self, size: int) -> dict[str, str]:
        headers = {
            "content-type": "application/octet-stream",
            "content-disposition": f"attachment; filename*=UTF-8''{quote(self._path.name, safe='')}",
            # It may be kept, since it is named by its digest, and is asked for anew each time, since rights may change.
            "cache-control": "private, no-cache",
            "accept-ranges": "bytes",
        }
        # A file of another size than the one we recorded was put there behind our back.
        if self._recorded is not None and self._recorded.size == size:
            headers["etag"] = f'"{self._recorded.sha256}"'
        return headers

    def _range_header(self, etag: str | None) -> str | None:
        wanted = self._asked.get("if-range")
        # The rest of another file than the one that was begun would be no use.
        if wanted is not None and wanted.strip() != etag:
            return None
        return self._asked.get("range")

    async def _send_part(self, receive: Receive, send: Send, reader: ArtifactReader, part: ByteRange) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            async with aclosing(self._transfers.send(reader.chunks(part.start, part.stop))) as chunks:
                async for chunk in chunks:
                    if gone.done():
                        return
                    async with asyncio.timeout(self._idle_timeout_s):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await _end(send)
        except TimeoutError:
            # Returning before the answer is whole makes the server close the connection, which is how a taker
            # learns of it.
            _log.info("artifact_taker_stalled", extra={"artifact": str(self._path)})
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone


async def begin_download(
    path: ArtifactPath,
    *,
    headers: Mapping[str, str],
    database: Database,
    store: ArtifactStore,
    transfers: Transfers,
    settings: Settings,
) -> ArtifactDownload:
    """The answer that sends *path*, with what the database knows of it."""
    recorded = await asyncio.to_thread(_find_digest, database, path)
    return ArtifactDownload(
        path,
        store=store,
        transfers=transfers,
        recorded=recorded,
        headers=headers,
        idle_timeout_s=settings.artifact_idle_timeout_s,
    )


def _find_digest(database: Database, path: ArtifactPath) -> FileDigest | None:
    with database.reading() as session:
        return artifact_records.find_digest(session, path)


async def _start(send: Send, status: HTTPStatus, headers: Mapping[str, str]) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse_range(send: Send, size: int) -> None:
    message = f"The range lies outside of the artifact's {size} bytes."
    body = msgspec.json.encode(error_body(ErrorCode.INVALID_PARAMETER_VALUE, message))
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "content-range": f"bytes */{size}",
    }
    await _start(send, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _tags(header: str | None) -> set[str]:
    # A proxy that compresses weakens our tag to W/"…"; for this comparison that is the same (RFC 9110, 13.1.2).
    return {tag.strip().removeprefix("W/") for tag in header.split(",")} if header else set()
