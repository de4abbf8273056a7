"""A host that ends takes what it was asked; what was still waiting for it is asked of the next."""

import asyncio
import time

import msgspec
import pytest

from gateway.observability.metrics import Metrics
from gateway.pool import frames
from gateway.pool.absences import Absences
from gateway.pool.messages import HostAddress, ModelDescription
from gateway.pool.model_pool import HostGone, ModelPool
from gateway.routing_table import Choice, CurrentTable
from gateway.scoring.batching import Deadline, Limits
from gateway.scoring.inference import Inference, ModelNotReady
from loaders.payload import read_document

CHOICE = Choice(endpoint="iris", model="iris", version=1, arm="champion", epoch=1)
BOUND = 1 << 20


class Host:
    """Reads what it is asked and, if it isn't *silent*, gives the input back as the answer."""

    def __init__(self, path, *, silent):
        self.path = str(path)
        self.asked = asyncio.Event()
        self._silent = silent

    @property
    def address(self):
        description = ModelDescription(
            flavor="sklearn", predictor="predict", batchable=True, mlmodel="flavors: {sklearn: {}}"
        )
        return HostAddress(model="iris", version=1, socket=self.path, description=description)

    async def start(self):
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader, writer):
        self._writer = writer
        unread = frames.FrameReader(BOUND)
        while data := await reader.read(BOUND):
            for header, body in unread.feed(data):
                self.asked.set()
                if not self._silent:
                    answer = frames.encode_answer(header.id, frames.decode_batch(header, bytearray(body)))
                    writer.writelines(answer)
        writer.close()

    def end(self):
        self._server.close()
        self._writer.transport.abort()


def predicting(inference):
    def read_input():
        return read_document(msgspec.json.decode(b'{"inputs": [[1.5]]}'))

    return asyncio.create_task(inference.predict(CHOICE, read_input, Deadline.after(time.monotonic(), 20)))


def pool_and_inference(*, wait_s):
    pool = ModelPool(
        frame_bytes_max=BOUND,
        drain_timeout_s=1,
        changed=lambda _: None,
        stuck=lambda _: None,
        absences=Absences(wait_s=wait_s, waiting_max=10),
    )
    limits = Limits(rows_max=10, bytes_max=BOUND, waiting_max=10)
    return pool, Inference(CurrentTable(), pool, limits=limits, patience_s=20, metrics=Metrics())


def test_only_what_the_lost_host_was_asked_fails(tmp_path):
    async def scenario():
        pool, inference = pool_and_inference(wait_s=20)
        first, second = Host(tmp_path / "1.sock", silent=True), Host(tmp_path / "2.sock", silent=False)
        await first.start()
        await second.start()
        await pool.set_hosts([first.address])
        asked = predicting(inference)
        await first.asked.wait()
        queued = predicting(inference)
        await asyncio.sleep(0)
        first.end()
        with pytest.raises(HostGone):
            await asked
        late = predicting(inference)
        await asyncio.sleep(0)
        await pool.set_hosts([second.address])
        for prediction in await asyncio.gather(queued, late):
            assert prediction.answer.columns[""].tolist() == [[1.5]]
        await pool.close()
        second.end()

    asyncio.run(scenario())


def test_a_host_that_does_not_come_back_is_waited_for_no_longer_than_it_may(tmp_path):
    async def scenario():
        pool, inference = pool_and_inference(wait_s=0.05)
        host = Host(tmp_path / "1.sock", silent=True)
        await host.start()
        await pool.set_hosts([host.address])
        asked = predicting(inference)
        await host.asked.wait()
        host.end()
        with pytest.raises(HostGone):
            await asked
        with pytest.raises(ModelNotReady):
            await predicting(inference)
        await pool.close()

    asyncio.run(scenario())
