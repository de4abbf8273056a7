"""Copies for a shadow, with real hosts' loops on real sockets: they give way, keep their bounds, and are counted."""

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from gateway.api.scoring.json_answers import row_of
from gateway.comparison.disagreement import PairSums, latency_counts
from gateway.comparison.latency_counts import quantile_s
from gateway.observability.metrics import Metrics
from gateway.pool.messages import HostAddress, ModelDescription
from gateway.pool.model_host import _Answering
from gateway.pool.model_pool import ModelPool
from gateway.routing_table import CurrentTable, LiveTable
from gateway.scoring.batching import Deadline, Limits
from gateway.scoring.inference import Inference
from gateway.scoring.shadow import Shadows
from gateway.scoring.shadow_counts import ShadowCounts
from loaders.base import Batch, Form, JsonAnswer
from loaders.payload import Arrays
from registry.entities import CHAMPION, Route, RoutingTable, Shadow

BOUND = 1 << 20
WITHIN_S = 20
FAILS, WAITS, SAYS_MORE = 13.0, 7.0, 5.0


class Model:
    """Adds *more* to what it is given; fails on 13, waits on 7 until it is let go, and says more to 5."""

    flavor = predictor = "test"
    batchable = True
    warnings = ()

    def __init__(self, more):
        self.more = more
        self.calls = []
        self.started, self.go_on = threading.Event(), threading.Event()

    def predict(self, batch, params):
        values = next(iter(batch.columns.values()))
        self.calls.append(values.tolist())
        if self.more and WAITS in values:
            self.started.set()
            assert self.go_on.wait(WITHIN_S)
        if self.more and FAILS in values:
            raise RuntimeError("unlucky")
        if self.more and SAYS_MORE in values:
            return JsonAnswer(b"[1, 2]")
        return Batch(Form.TENSOR, {"": values + self.more})


class Stage:
    """Version 1, which answers, version 2, which shadows it, and what is counted."""

    def __init__(self, inference, shadows, counts, choice, model):
        self._inference, self._shadows, self._counts, self._choice = inference, shadows, counts, choice
        self.model = model
        self.inputs = []

    async def answer(self, *values, size=100):
        """Have each of *values* answered, and offered to the shadow as of a body of *size* bytes."""
        for value in values:
            read = Arrays({"": np.array([value])}), None
            deadline = Deadline.after(time.monotonic(), WITHIN_S)
            prediction = await self._inference.predict(self._choice, lambda read=read: read, deadline)
            assert prediction.answer.columns[""].tolist() == [value]
            self._shadows.offer(self._choice.shadowing, prediction, lambda read=read: read, size)

    async def counted(self, copies):
        """The sums, once so many copies have come to something."""
        found = PairSums()
        async with asyncio.timeout(WITHIN_S):
            while found.compared + found.failed + found.dropped < copies:
                await asyncio.sleep(0.001)
                taken = self._counts.take()
                self.inputs += [one.input for kept in taken.inputs.values() for one in kept]
                for sums in (sums for cells in taken.sums.values() for sums in cells.values()):
                    found.merge(sums.beside((CHAMPION, 1)))
        return found


@asynccontextmanager
async def host(model, version, folder, *, batchable):
    """The address of a host of *model*."""
    path = str(folder / f"host-{version}.sock")
    ours, theirs = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listener, ours, theirs:
        listener.bind(path)
        listener.listen()
        answering = threading.Thread(target=_Answering(model, listener, theirs, BOUND).run, daemon=True)
        answering.start()
        described = ModelDescription(flavor="test", predictor="test", batchable=batchable, mlmodel="flavors: {a: {}}\n")
        yield HostAddress(model="m", version=version, socket=path, description=described)
        ours.close()
        await asyncio.to_thread(answering.join, 10)


@asynccontextmanager
async def stage(folder, *, batchable=True, **wanted):
    """Whose challenger shadows as *wanted*, with room for four copies."""
    models = Model(0), Model(1)
    route = Route(
        id="e",
        name="m",
        model="m",
        salt="s",
        fallback=False,
        period=1,
        arms={CHAMPION: 1, "challenger": 2},
        owners=((CHAMPION, 10_000),),
        shadow=Shadow(arm="challenger", **wanted),
    )
    choice = LiveTable(RoutingTable(epoch=1, routes=(route,))).routes["m"].choice(CHAMPION)
    limits, metrics = Limits(rows_max=1_000, bytes_max=BOUND, waiting_max=100), Metrics()
    pool = ModelPool(frame_bytes_max=BOUND, drain_timeout_s=WITHIN_S, changed=lambda _: None, stuck=lambda _: None)
    inference = Inference(CurrentTable(), pool, limits=limits, patience_s=WITHIN_S, metrics=metrics)
    counts = ShadowCounts(metrics, row_of)
    async with (
        host(models[0], 1, folder, batchable=batchable) as first,
        host(models[1], 2, folder, batchable=batchable) as second,
    ):
        await pool.set_hosts([first, second])
        shadows = Shadows(inference, counts, waiting_max=4, bytes_max=10_000, timeout_s=WITHIN_S)
        try:
            yield Stage(inference, shadows, counts, choice, models[1])
        finally:
            models[1].go_on.set()
            await pool.close()


def run(folder, scenario, **options):
    async def within():
        async with stage(folder, **options) as staged:
            return await scenario(staged)

    return asyncio.run(within())


def test_what_a_shadow_says_is_laid_beside_what_was_said(tmp_path):
    async def scenario(it):
        await it.answer(1.0, 2.0)
        return await it.counted(2)

    pair = run(tmp_path, scenario)
    assert (pair.compared, pair.agreed, pair.dropped, pair.failures) == (2, 0, 0, {})
    assert pair.outputs[""].differences.mean == 1.0


def test_copies_that_find_no_room_are_dropped_and_those_that_wait_go_together(tmp_path):
    async def scenario(it):
        await it.answer(1.0)
        await it.counted(1)
        await it.answer(WAITS)
        await asyncio.to_thread(it.model.started.wait, WITHIN_S)
        # Four wait, and two more have no room; all are answered.
        await it.answer(*[2.0] * 6)
        it.model.go_on.set()
        return await it.counted(7)

    pair = run(tmp_path, scenario)
    assert (pair.compared, pair.dropped) == (5, 2)


def test_how_much_longer_a_shadow_takes_is_told(tmp_path):
    async def scenario(it):
        began_s = time.monotonic()
        await it.answer(WAITS)
        await asyncio.to_thread(it.model.started.wait, WITHIN_S)
        answered_s = time.monotonic()
        # Longer than the answer can have taken, whatever else the machine does.
        await asyncio.sleep(1.5 * (answered_s - began_s) + 0.05)
        held_s = time.monotonic() - answered_s
        it.model.go_on.set()
        return held_s, await it.counted(1)

    held_s, pair = run(tmp_path, scenario)
    given_s, shadows_s = (quantile_s(latency_counts(each), 0.99) for each in (pair.given_latency, pair.shadow_latency))
    assert given_s < held_s <= shadows_s


def test_bodies_that_are_too_large_together_find_no_room(tmp_path):
    async def scenario(it):
        await it.answer(1.0, 2.0, size=9_950)
        return await it.counted(2)

    assert run(tmp_path, scenario).dropped == 1


def test_a_row_that_fails_fails_alone_and_an_answer_of_another_form_is_none(tmp_path):
    async def scenario(it):
        # Until they have learned to go together.
        while max(map(len, it.model.calls), default=0) < 4:
            await it.answer(1.0, 2.0, 3.0, 4.0)
            await it.counted(4)
        await it.answer(1.0, FAILS, SAYS_MORE, 2.0)
        return await it.counted(4)

    pair = run(tmp_path, scenario)
    assert (pair.compared, pair.failures) == (3, {"INTERNAL_ERROR": 1})
    assert pair.outputs[""].rows == 2


def test_a_model_that_shares_no_call_is_asked_one_by_one(tmp_path):
    async def scenario(it):
        for _ in range(4):
            await it.answer(1.0, 2.0, 3.0)
            await it.counted(3)
        return it.model.calls

    assert {len(call) for call in run(tmp_path, scenario, batchable=False)} == {1}


@pytest.mark.parametrize(("keep_inputs", "kept"), [(0, []), (2, [1.0, 2.0])])
def test_inputs_are_kept_once_each_and_only_when_asked_for(tmp_path, keep_inputs, kept):
    async def scenario(it):
        await it.answer(1.0, 2.0, 2.0)
        await it.counted(3)
        return it.inputs

    assert sorted(x for (x,) in map(dict.values, run(tmp_path, scenario, keep_inputs=keep_inputs))) == kept


def test_a_share_of_the_requests_is_drawn(tmp_path):
    async def scenario(it):
        await it.answer(*[1.0] * 200)
        return it.model.calls

    assert sum(map(len, run(tmp_path, scenario, share_bp=1))) < 20
