"""Moves files between connections and the artifact store, in threads of their own and in bounded memory.

Store and connection work at the same time: while one block is written or sent, the next is fetched, and no more than
that. A call that is cancelled still waits for its thread, so that nobody closes a file under it.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from tracking.artifacts import Upload

Params = ParamSpec("Params")
Result = TypeVar("Result")


class Transfers:
    """*threads* of the store's work at a time; more transfers than that take turns, block by block."""

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="artifacts")

    async def run(self, function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Call *function*, which may touch the store, in one of the threads."""
        return await _outcome(self._begin(partial(function, *args, **kwargs)))

    async def receive(self, blocks: AsyncIterator[bytes], upload: Upload) -> None:
        """Write all of *blocks* to *upload*."""
        writing = None
        try:
            async for block in blocks:
                if writing is not None:
                    await _outcome(writing)
                writing = self._begin(partial(upload.write, block))
            if writing is not None:
                await _outcome(writing)
        finally:
            if writing is not None:
                await asyncio.wait([writing])

    async def send(self, chunks: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
        """Give out *chunks*, reading one ahead, and close them."""
        reading = self._begin(partial(next, chunks, None))
        try:
            while (chunk := await _outcome(reading)) is not None:
                reading = self._begin(partial(next, chunks, None))
                yield chunk
        finally:
            await asyncio.wait([reading])
            await self.run(chunks.close)

    def _begin(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        context = contextvars.copy_context()
        return asyncio.get_running_loop().run_in_executor(self._executor, partial(context.run, call))

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


async def _outcome(future: asyncio.Future[Result]) -> Result:
    try:
        # Unshielded, a cancelled task would cancel the future, and nobody would know when the thread is done.
        return await asyncio.shield(future)
    finally:
        await asyncio.wait([future])
