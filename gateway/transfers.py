"""Moves files between connections and the artifact store, in threads of their own and in bounded memory.

Store and sender work at the same time: while one block is written or sent, the next is fetched, and no more than that.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from tracking.artifacts import Upload

Params = ParamSpec("Params")
Result = TypeVar("Result")


class Transfers:
    """*threads* of the store's work at a time; more transfers than that take turns, block by block."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="artifacts")

    def run(
        self, function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
    ) -> asyncio.Future[Result]:
        """Call *function*, which may touch the store, in one of the threads."""
        call = partial(contextvars.copy_context().run, partial(function, *args, **kwargs))
        return asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def receive(self, blocks: AsyncIterator[bytes], upload: Upload) -> None:
        """Write all of *blocks* to *upload*. Whatever happens, no thread is at *upload* any more afterwards."""
        writing: asyncio.Future[None] | None = None
        try:
            async for block in blocks:
                if writing is not None:
                    await writing
                writing = self.run(upload.write, block)
            if writing is not None:
                await writing
        finally:
            await _settled(writing)

    async def send(self, chunks: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Give out *chunks*, reading one ahead. Whatever happens, no thread is at *chunks* any more afterwards."""
        reading = self.run(next, chunks, None)
        try:
            while (chunk := await reading) is not None:
                reading = self.run(next, chunks, None)
                yield chunk
        finally:
            await _settled(reading)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


async def _settled(future: "asyncio.Future[Result] | None") -> None:
    if future is not None:
        # Its outcome has been raised already, or something more important is being raised.
        with suppress(Exception):
            await asyncio.wait([future])
            future.exception()
