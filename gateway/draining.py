"""uvicorn's server with a stop that costs no request.

uvicorn closes idle connections the moment it is told to stop, and a client that is just sending its next request on one
of them is reset. Here each answer first says that it is its connection's last, and idle connections stay open for a
while, so that a request on its way is still answered.
"""

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Generator
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LAST_ANSWER = (b"connection", b"close")
_POLL_S = 0.02


class DrainingServer(uvicorn.Server):
    """*started* is called once connections are accepted; *drain_timeout_s* bounds the whole of a stop.

    Signals are the caller's: the server only ends by `drain`.
    """

    def __init__(self, config: uvicorn.Config, *, drain_timeout_s: float, started: Callable[[], None]) -> None:
        super().__init__(config)
        if not config.loaded:
            # Else it would be later, and forget what `close_after_answers` has added.
            config.load()
        self._drain_timeout_s = drain_timeout_s
        self._when_started = started
        self._idle_grace_s = drain_timeout_s

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_started()

    def close_after_answers(self) -> None:
        """Let each answer that begins from now on say ``Connection: close``, and close after it."""
        if _LAST_ANSWER in self.config.encoded_headers:
            return
        # The server takes these up into its default headers once a second; requests that come before that need both.
        self.config.encoded_headers.append(_LAST_ANSWER)
        self.server_state.default_headers = [*self.server_state.default_headers, _LAST_ANSWER]
        for connection in cast("set[HttpToolsProtocol]", self.server_state.connections):
            # An answer that has begun has promised to keep its connection, and keeps the promise.
            if connection.cycle is not None and not connection.cycle.response_started:
                connection.cycle.keep_alive = False

    def drain(self, idle_grace_s: float) -> None:
        """Stop accepting, finish what was asked, and let `serve` return.

        Connections without a request are closed after *idle_grace_s*, or when there are no others. Said again, the
        shorter grace counts.
        """
        self._idle_grace_s = min(self._idle_grace_s, idle_grace_s)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.close_after_answers()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        began_s = asyncio.get_running_loop().time()
        await self._let_connections_go(began_s)
        left_s = began_s + self._drain_timeout_s - asyncio.get_running_loop().time()
        self.config.timeout_graceful_shutdown = max(0, math.ceil(left_s))
        # It finishes what is in flight, and closes at once what is idle.
        await super().shutdown(sockets)

    async def _let_connections_go(self, began_s: float) -> None:
        loop = asyncio.get_running_loop()
        # What was accepted a moment ago is among the connections only after the loop's next turn.
        await asyncio.sleep(_POLL_S)
        # The set of connections is uvicorn's, and tells nobody that it has changed.
        while self.server_state.connections and loop.time() < began_s + self._idle_grace_s:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
