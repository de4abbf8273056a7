"""One call of a webhook: its body and its signature, as MLflow's receivers check them, and the sending of it."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpcore
import msgspec

from gateway.webhooks.addresses import GuardedNetwork, ReceiverUnreachable
from registry.webhook_events import WebhookEvent

_CALLS_AT_ONCE = 8
# Of an answer, this much is read; a receiver can't fill the memory.
_ANSWER_BYTES_MAX = 64 * 1024


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What goes over the wire."""

    url: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Call({len(self.body)} bytes)"


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: str

    @property
    def accepted(self) -> bool:
        return self.status < 400

    @property
    def worth_another_try(self) -> bool:
        return self.status in {408, 425, 429} or self.status >= 500


def make_call(
    url: str,
    secret: str | None,
    *,
    delivery_id: str,
    event: WebhookEvent,
    data: Mapping[str, Any],
    at_s: float,
    now_s: float,
) -> Call:
    """The request that tells of *event*, which is from *at_s*, signed for *now_s*.

    The signature is HMAC-SHA256 over ``delivery id.seconds.body``, in base64 (mlflow/webhooks/delivery.py).
    """
    happened = datetime.fromtimestamp(at_s, UTC).isoformat()
    said = {"entity": event.entity, "action": event.action, "timestamp": happened, "data": data}
    body = json.dumps(said)
    seconds = str(int(now_s))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "titlebout",
        "X-MLflow-Delivery-Id": delivery_id,
        "X-MLflow-Timestamp": seconds,
    }
    if secret:
        signed = hmac.digest(secret.encode(), f"{delivery_id}.{seconds}.{body}".encode(), hashlib.sha256)
        headers["X-MLflow-Signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return Call(url=url, headers=headers, body=body.encode())


class WebhookSender:
    """Makes calls, a few at a time. An async context manager."""

    def __init__(self, *, allow_private: bool, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._network = GuardedNetwork(allow_private=allow_private)

    @cached_property
    def _pool(self) -> httpcore.AsyncConnectionPool:
        # Made at the first call, because reading the certificates of the system costs more than most servers ever need.
        # A connection is used once, so that each call looks at where it goes. Redirects are answers like others.
        return httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=_CALLS_AT_ONCE,
            max_keepalive_connections=0,
            network_backend=self._network,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if "_pool" in self.__dict__:
            await self._pool.aclose()
        self._network.close()

    async def check_url(self, url: str) -> None:
        """Raise `UrlNotAllowed` unless *url* may be called, as far as can be told now."""
        await self._network.check_url(url)

    async def send(self, call: Call) -> Answer:
        """Make the call.

        Raises:
            UrlNotAllowed: if the URL leads to an address that isn't public.
            ReceiverUnreachable: if there was no answer in time.
        """
        self._network.read_url(call.url)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._send(call)
        except TimeoutError as error:
            raise ReceiverUnreachable(f"no answer in {self._timeout_s:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise ReceiverUnreachable(type(error).__name__) from error

    async def _send(self, call: Call) -> Answer:
        headers = {**call.headers, "Host": urlsplit(call.url).netloc, "Content-Length": str(len(call.body))}
        async with self._pool.stream("POST", call.url, headers=list(headers.items()), content=call.body) as response:
            chunks, size = list[bytes](), 0
            async for chunk in response.aiter_stream():
                chunks.append(chunk)
                size += len(chunk)
                if size >= _ANSWER_BYTES_MAX:
                    break
            return Answer(response.status, b"".join(chunks)[:_ANSWER_BYTES_MAX].decode(errors="replace"))
