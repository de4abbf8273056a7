"""A host that sends what is no frame loses its connection and is told of; the worker that hears it goes on."""

import asyncio

import msgspec
import numpy as np
import pytest

from gateway.pool import frames
from gateway.pool.messages import HostAddress, ModelDescription
from gateway.pool.model_pool import HostGone, ModelConnection, ModelPool
from loaders.base import Batch, Form

BOUND = 1 << 20
BATCH = Batch(Form.TENSOR, {"": np.zeros(2)})


def frame(header, body=b""):
    return b"".join(map(bytes, frames._frame(header, [body])))


def answer(dtype="<f8", shape=(1,), nbytes=8, body=bytes(8), request=1):
    return frame(frames.AnswerHeader(request, Form.TENSOR, [frames._Column("", dtype, shape, nbytes)]), body)


FORGED = [
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="another protocol"),
    pytest.param(frames._PREFIX.pack(b"TBF1", 10, BOUND + 1), id="more than the bound"),
    pytest.param(frames._PREFIX.pack(b"TBF1", 3, 0) + b"\xff\xff\xff", id="no header"),
    pytest.param(frame(frames.PredictHeader(1, Form.TENSOR, [], {})), id="a question"),
    pytest.param(answer(request=99), id="an answer that nobody asked for"),
    pytest.param(answer(nbytes=16), id="shorter than it says"),
    pytest.param(answer(shape=(1,) * 65), id="a shape that no array has"),
    pytest.param(answer(dtype="O", body=b"\x80\x04K\x01."), id="a pickle"),
    pytest.param(msgspec.msgpack.encode({"id": 1}) * 10, id="MessagePack without a frame"),
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_frame_costs_its_host_the_connection_and_is_told_of(tmp_path, forged):
    path = str(tmp_path / "host.sock")

    async def answer_wrongly(reader, writer):
        await reader.readexactly(frames.PREFIX_BYTES)
        writer.write(forged)
        await writer.drain()
        # It stays, as a host that lives on does, until the other end has had enough.
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def ask():
        outcome, told = asyncio.get_running_loop().create_future(), []
        description = ModelDescription(flavor="t", predictor="t", batchable=True, mlmodel="flavors: {sklearn: {}}\n")
        address = HostAddress(model="m", version=1, socket=path, description=description)
        pool = ModelPool(
            frame_bytes_max=BOUND,
            drain_timeout_s=1,
            changed=lambda _: None,
            stuck=lambda _: None,
            broken=told.append,
        )
        async with await asyncio.start_unix_server(answer_wrongly, path):
            await pool.set_hosts([address])
            connection = pool.find(address.key)
            assert isinstance(connection, ModelConnection)
            connection.send(BATCH, {}, 1e9, outcome.set_result)
            assert isinstance(await asyncio.wait_for(outcome, 10), HostGone)
            assert connection.closed
            assert pool.find(address.key) is None
        return told

    assert asyncio.run(ask()) == [path]
