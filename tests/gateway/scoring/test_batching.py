"""Natural batching against a real host's loop on a real socket: idle sends at once, busy collects, nobody pays for a
neighbour."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest

from gateway.pool.messages import HostAddress, ModelDescription
from gateway.pool.model_host import _Answering
from gateway.pool.model_pool import ModelConnection, ModelFailed, TooManyWaiting
from gateway.scoring.batching import Batcher, Limits, join, kind_of, split
from loaders.base import Batch, Form, JsonAnswer
from loaders.errors import BadInput

BOUND = 1 << 24
LIMITS = Limits(rows_max=1_000, bytes_max=BOUND, waiting_max=100)


class Doubling:
    """A model that doubles, refuses negative numbers, fails on 13, and waits until it is let go on 0."""

    flavor = predictor = "test"
    batchable = True
    warnings = ()

    def __init__(self):
        self.calls = []
        self.started = threading.Event()
        self.go_on = threading.Event()

    def predict(self, batch, params):
        values = batch.columns["x"]
        self.calls.append(values.tolist())
        if 0 in values:
            self.started.set()
            assert self.go_on.wait(20)
        if (values < 0).any():
            raise BadInput("x must not be negative")
        if 13 in values:
            raise RuntimeError("unlucky")
        if params.get("json"):
            return JsonAnswer(b"1")
        return Batch(Form.TENSOR, {"": values * params.get("factor", 2)})


def rows(*values, dtype=np.float64):
    return Batch(Form.TABLE, {"x": np.array(values, dtype=dtype)})


@asynccontextmanager
async def batching(model, tmp_path, limits=LIMITS, *, batchable=True):
    path = str(tmp_path / "host.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    ours, theirs = socket.socketpair()
    host = threading.Thread(target=_Answering(model, listener, theirs, BOUND).run, daemon=True)
    host.start()
    mlmodel = "flavors: {sklearn: {}}\n"
    description = ModelDescription(flavor="test", predictor="test", batchable=batchable, mlmodel=mlmodel)
    address = HostAddress(model="m", version=1, socket=path, description=description)
    connection = await ModelConnection.open(address, waiting_max=100, frame_bytes_max=BOUND)
    try:
        yield Batcher(connection, limits)
    finally:
        connection.close()
        ours.close()
        await asyncio.to_thread(host.join, 10)
        listener.close()
        theirs.close()


async def under_way(model, batcher):
    """A first request that keeps the host busy until `go_on`."""
    first = asyncio.create_task(batcher.predict(rows(0.0), {}, timeout_s=20))
    await asyncio.to_thread(model.started.wait, 20)
    return first


async def let_go(model, *tasks):
    await asyncio.sleep(0)  # Each task has by now taken its place in the queue.
    model.go_on.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def values(answer):
    return answer.columns[""].tolist()


def test_idle_requests_go_out_alone_and_what_comes_meanwhile_leaves_together(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            later = [asyncio.create_task(batcher.predict(rows(float(n)), {}, timeout_s=20)) for n in (1, 2, 3)]
            answers = await let_go(model, first, *later)
        assert [values(answer) for answer in answers] == [[0], [2], [4], [6]]
        assert model.calls == [[0], [1, 2, 3]]

    asyncio.run(scenario())


def test_a_bad_row_fails_its_own_request_with_its_own_words(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            later = [asyncio.create_task(batcher.predict(rows(float(n)), {}, timeout_s=20)) for n in (1, -1, 13, 2)]
            _, one, negative, unlucky, two = await let_go(model, first, *later)
        assert (values(one), values(two)) == ([2], [4])
        assert isinstance(negative, BadInput)
        assert "negative" in negative.message
        assert isinstance(unlucky, ModelFailed)

    asyncio.run(scenario())


def test_requests_of_different_params_or_types_never_share_a_message(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            asked = [
                (rows(1.0), {}),
                (rows(2.0), {"factor": 3}),
                (rows(3.0), {"factor": 3}),
                (rows(4, dtype=np.int64), {}),
            ]
            later = [asyncio.create_task(batcher.predict(batch, params, timeout_s=20)) for batch, params in asked]
            answers = await let_go(model, first, *later)
        assert [values(answer) for answer in answers] == [[0], [2], [6], [9], [8]]
        assert model.calls == [[0], [1], [2, 3], [4]]

    asyncio.run(scenario())


def test_a_message_holds_no_more_rows_than_it_may(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=2, bytes_max=BOUND, waiting_max=100)
        async with batching(model, tmp_path, limits) as batcher:
            first = await under_way(model, batcher)
            later = [asyncio.create_task(batcher.predict(rows(float(n)), {}, timeout_s=20)) for n in range(1, 6)]
            await let_go(model, first, *later)
        assert model.calls == [[0], [1, 2], [3, 4], [5]]

    asyncio.run(scenario())


def test_over_the_bound_a_request_is_refused_at_once(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=10, bytes_max=BOUND, waiting_max=1)
        async with batching(model, tmp_path, limits) as batcher:
            first = await under_way(model, batcher)
            second = asyncio.create_task(batcher.predict(rows(1.0), {}, timeout_s=20))
            await asyncio.sleep(0)
            with pytest.raises(TooManyWaiting):
                await batcher.predict(rows(2.0), {}, timeout_s=20)
            await let_go(model, first, second)

    asyncio.run(scenario())


def test_a_model_that_does_not_answer_row_for_row_is_asked_one_request_at_a_time(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            params = {"json": True}
            later = [asyncio.create_task(batcher.predict(rows(float(n)), params, timeout_s=20)) for n in (1, 2)]
            answers = await let_go(model, first, *later)
        assert answers[1:] == [JsonAnswer(b"1")] * 2
        assert model.calls == [[0], [1, 2], [1], [2]]

    asyncio.run(scenario())


def test_joined_rows_come_apart_as_they_were():
    batches = [rows(1.0, 2.0), rows(3.0)]
    assert kind_of(batches[0], {}) == kind_of(batches[1], {})
    parts = split(join(batches), [2, 1])
    assert [part.columns["x"].tolist() for part in parts] == [[1, 2], [3]]
    assert split(Batch(Form.TENSOR, {"": np.array([1])}), [2, 1]) is None
