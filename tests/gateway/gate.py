"""A door before a server that can be shut: how a test takes a database away, from one replica or from all."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.cli.server_process import free_port


class Gate:
    """Passes bytes on to *host*:*port* while it is open. Shut, it breaks off and refuses; hung, it is silent."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.open()

    def open(self) -> None:
        self._do(self._open())

    def shut(self) -> None:
        self._do(self._shut())

    def hang(self) -> None:
        """Go on accepting, and pass nothing on: what a machine does that lost its disk."""
        self._do(self._hang())

    def close(self) -> None:
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _open(self) -> None:
        self._passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        # Whoever waits at a hung gate finds both ends broken.
        self._passing.set()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _hang(self) -> None:
        self._passing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._to)
            self._writers |= {writer, far_writer}
            try:
                await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
            finally:
                self._writers -= {writer, far_writer}
        writer.transport.abort()
        # One turn of the loop, in which the transports close their sockets.
        await asyncio.sleep(0)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                await self._passing.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


@contextlib.contextmanager
def gate_to(url: str) -> Iterator[tuple[Gate, str]]:
    """A gate before the server of *url*, and the URL that leads through it."""
    parts = urlsplit(url)
    gate = Gate(parts.hostname or "127.0.0.1", parts.port or 5432)
    try:
        yield gate, url.replace(f":{parts.port}/", f":{gate.port}/")
    finally:
        gate.close()
