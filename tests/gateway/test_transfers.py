import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.transfers import Transfers
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import Upload
from tracking.manifest import FileDigest


class SlowUpload(Upload):
    """An upload into memory whose writes wait until they are let go."""

    def __init__(self) -> None:
        super().__init__(ArtifactPath.parse("a"))
        self.written: list[bytes] = []
        self.writing = threading.Event()
        self.let_go = threading.Event()
        self.busy = False

    def _append(self, chunk: bytes) -> None:
        assert not self.busy
        self.busy = True
        self.writing.set()
        assert self.let_go.wait(10)
        self.written.append(chunk)
        self.busy = False

    def finish(self) -> FileDigest:
        return self.digest

    def publish(self) -> None: ...

    def close(self) -> None:
        assert not self.busy


@pytest.fixture
def transfers() -> Iterator[Transfers]:
    transfers = Transfers(2)
    yield transfers
    transfers.close()


async def blocks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number])


async def in_thread(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


def test_blocks_are_written_in_order_one_at_a_time(transfers):
    upload = SlowUpload()
    upload.let_go.set()
    asyncio.run(transfers.receive(blocks(50), upload))
    assert upload.written == [bytes([number]) for number in range(50)]


def test_no_more_than_one_block_is_fetched_ahead_of_a_slow_store(transfers):
    upload, fetched = SlowUpload(), []

    async def counted() -> AsyncIterator[bytes]:
        async for block in blocks(10):
            fetched.append(block)
            yield block

    async def scene() -> None:
        receiving = asyncio.create_task(transfers.receive(counted(), upload))
        await in_thread(upload.writing)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(fetched) == 2
        upload.let_go.set()
        await receiving

    asyncio.run(scene())
    assert len(upload.written) == 10


def test_a_cancelled_receive_waits_for_its_thread(transfers):
    upload = SlowUpload()

    async def scene() -> None:
        receiving = asyncio.create_task(transfers.receive(blocks(3), upload))
        await in_thread(upload.writing)
        receiving.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not receiving.done()
        upload.let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        upload.close()

    asyncio.run(scene())


def test_a_sender_s_failure_reaches_the_caller_after_its_thread_is_done(transfers):
    upload = SlowUpload()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        await in_thread(upload.writing)
        upload.let_go.set()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(transfers.receive(broken(), upload))
    upload.close()


def test_a_store_s_failure_reaches_the_caller(transfers):
    class Full(SlowUpload):
        def _append(self, chunk: bytes) -> None:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        asyncio.run(transfers.receive(blocks(3), Full()))


def test_chunks_are_given_out_in_order_and_closed_when_the_taker_stops_early(transfers):
    closed = threading.Event()

    def chunks() -> Iterator[bytes]:
        try:
            yield from (bytes([number]) for number in range(5))
        finally:
            closed.set()

    async def take(count: int) -> list[bytes]:
        taken, sending = [], transfers.send(chunks())
        async for chunk in sending:
            taken.append(chunk)
            if len(taken) == count:
                break
        await sending.aclose()
        return taken

    assert asyncio.run(take(9)) == [bytes([number]) for number in range(5)]
    closed.clear()
    assert asyncio.run(take(2)) == [b"\x00", b"\x01"]
    assert closed.is_set()
