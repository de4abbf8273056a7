"""Natural batching against a real host's loop on a real socket: idle sends at once, busy collects, nobody pays for a
neighbour."""

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from gateway.pool.messages import HostAddress, ModelDescription
from gateway.pool.model_host import _Answering
from gateway.pool.model_pool import (
    DeadlinePassed,
    HostGone,
    InputTooLarge,
    ModelConnection,
    ModelFailed,
    PredictionTimedOut,
    TooManyWaiting,
)
from gateway.scoring.batching import Batcher, Deadline, Limits, TurnTooFar, join, kind_of, split
from gateway.scoring.pace import Pace
from loaders.base import Batch, Form, JsonAnswer
from loaders.errors import BadInput

BOUND = 1 << 24
LIMITS = Limits(rows_max=1_000, bytes_max=BOUND, waiting_max=100)


class Doubling:
    """A model that doubles, refuses negative numbers, fails on 13, and waits until it is let go on 0 and on 7."""

    flavor = predictor = "test"
    batchable = True
    warnings = ()

    def __init__(self):
        self.calls = []
        self.started = {0: threading.Event(), 7: threading.Event()}
        self.go_on = {0: threading.Event(), 7: threading.Event()}

    def predict(self, batch, params):
        values = next(iter(batch.columns.values()))
        self.calls.append(values.tolist())
        for held in self.go_on.keys() & set(values.ravel()):
            self.started[held].set()
            assert self.go_on[held].wait(20)
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
async def batching(model, tmp_path, limits=LIMITS, *, batchable=True, patience_s=20):
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
    connection = await ModelConnection.open(address, frame_bytes_max=BOUND)
    try:
        yield Batcher(connection, limits, patience_s=patience_s)
    finally:
        connection.close()
        ours.close()
        await asyncio.to_thread(host.join, 10)
        listener.close()
        theirs.close()


def ask(batcher, batch, params=None, *, within_s=20):
    return batcher.ask(batch, params or {}, Deadline.after(time.monotonic(), within_s)).answer


async def under_way(model, batcher, held=0, **deadline):
    """A request that keeps the host busy until it is let go."""
    first = ask(batcher, rows(float(held)), **deadline)
    await asyncio.to_thread(model.started[held].wait, 20)
    return first


async def let_go(model, *answers):
    for held in model.go_on.values():
        held.set()
    return await asyncio.gather(*answers, return_exceptions=True)


def values(answer):
    return answer.columns[""].tolist()


def test_idle_requests_go_out_alone_and_what_comes_meanwhile_leaves_together(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            later = [ask(batcher, rows(float(n))) for n in (1, 2, 3)]
            answers = await let_go(model, first, *later)
        assert [values(answer) for answer in answers] == [[0], [2], [4], [6]]
        assert model.calls == [[0], [1, 2, 3]]

    asyncio.run(scenario())


def test_what_one_turn_of_the_loop_has_read_leaves_together(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            await asyncio.gather(*(ask(batcher, rows(float(n))) for n in (1, 2, 3)))
        assert model.calls == [[1, 2, 3]]

    asyncio.run(scenario())


def test_a_bad_row_fails_its_own_request_with_its_own_words(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            later = [ask(batcher, rows(float(n))) for n in (1, -1, 13, 2)]
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
            later = [ask(batcher, batch, params) for batch, params in asked]
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
            later = [ask(batcher, rows(float(n))) for n in range(1, 6)]
            await let_go(model, first, *later)
        assert model.calls == [[0], [1, 2], [3, 4], [5]]

    asyncio.run(scenario())


def test_over_the_bound_a_request_is_refused_at_once(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=10, bytes_max=BOUND, waiting_max=1)
        async with batching(model, tmp_path, limits) as batcher:
            first = await under_way(model, batcher)
            second = ask(batcher, rows(1.0))
            with pytest.raises(TooManyWaiting) as refused:
                ask(batcher, rows(2.0))
            assert refused.value.retry_after_s == 1
            await let_go(model, first, second)

    asyncio.run(scenario())


def test_of_those_that_come_at_once_the_first_waits_for_nobody_and_takes_nobodys_place(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=1, bytes_max=BOUND, waiting_max=1)
        async with batching(model, tmp_path, limits) as batcher:
            first, second = ask(batcher, rows(0.0)), ask(batcher, rows(1.0))
            with pytest.raises(TooManyWaiting):
                ask(batcher, rows(2.0))
            await let_go(model, first, second)

    asyncio.run(scenario())


def test_who_would_wait_too_long_for_a_turn_is_refused_at_once(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=10, bytes_max=BOUND, waiting_max=100, waiting_s_max=1.0)
        async with batching(model, tmp_path, limits, batchable=False) as batcher:
            batcher._pace.learn(1, 0.1)
            first = await under_way(model, batcher)
            # Sixteen may wait in any case; more have a turn that is over a second away.
            later = [ask(batcher, rows(n + 0.5)) for n in range(16)]
            with pytest.raises(TurnTooFar, match=r"1\.[67] s away") as refused:
                ask(batcher, rows(17.0))
            assert refused.value.retry_after_s == 2
            answers = await let_go(model, first, *later)
            # That it was quicker than expected is learned.
            assert values(await ask(batcher, rows(18.0))) == [36]
        assert [values(answer) for answer in answers] == [[0], *([2.0 * n + 1] for n in range(16))]

    asyncio.run(scenario())


def test_who_could_not_be_answered_by_its_deadline_is_refused_at_once_unless_nobody_is_before_it(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path, batchable=False) as batcher:
            batcher._pace.learn(1, 5.0)
            assert values(await ask(batcher, rows(1.0), within_s=4)) == [2]
            batcher._pace = Pace()
            batcher._pace.learn(1, 5.0)
            first = await under_way(model, batcher)
            with pytest.raises(TurnTooFar):
                ask(batcher, rows(2.0), within_s=9)
            long = ask(batcher, rows(3.0), within_s=30)
            await let_go(model, first, long)
        assert model.calls == [[1], [0], [3]]

    asyncio.run(scenario())


def test_no_work_is_done_for_an_answer_that_would_come_too_late(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            late, in_time = ask(batcher, rows(1.0), within_s=15), ask(batcher, rows(2.0), within_s=200)
            # What was learned since they were let in: each takes long.
            for _ in range(100):
                batcher._pace.learn(1, 20.0)
            _, outcome, answer = await let_go(model, first, late, in_time)
        assert isinstance(outcome, PredictionTimedOut)
        assert values(answer) == [4]
        assert model.calls == [[0], [2]]

    asyncio.run(scenario())


def test_a_message_holds_no_more_bytes_than_it_may(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=1_000, bytes_max=16, waiting_max=100)
        async with batching(model, tmp_path, limits) as batcher:
            first = await under_way(model, batcher)
            later = [ask(batcher, rows(float(n))) for n in (1, 2, 3)]
            wide = ask(batcher, rows(4.0, 5.0, 6.0))
            *_, last = await let_go(model, first, *later, wide)
        # More than the bound in one request is that request's own affair.
        assert model.calls == [[0], [1, 2], [3], [4, 5, 6]]
        assert values(last) == [8, 10, 12]

    asyncio.run(scenario())


def test_requests_of_different_shapes_names_or_forms_never_share_a_message(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            asked = [
                rows(1.0),
                Batch(Form.TABLE, {"y": np.array([2.0])}),
                Batch(Form.TENSOR, {"": np.array([3.0])}),
                Batch(Form.TENSOR, {"": np.array([[4.0, 5.0]])}),
                Batch(Form.TENSOR, {"": np.array([[6.0]])}),
            ]
            answers = await let_go(model, first, *(ask(batcher, batch) for batch in asked))
        assert [values(answer) for answer in answers] == [[0], [2], [4], [6], [[8, 10]], [[12]]]
        assert len(model.calls) == 6

    asyncio.run(scenario())


def test_a_model_that_is_not_batchable_is_asked_one_request_at_a_time(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path, batchable=False) as batcher:
            first = await under_way(model, batcher)
            await let_go(model, first, *(ask(batcher, rows(float(n))) for n in (1, 2)))
        assert model.calls == [[0], [1], [2]]

    asyncio.run(scenario())


def test_an_idle_host_is_asked_in_the_same_turn_of_the_loop(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            answer = ask(batcher, rows(0.0))
            await asyncio.sleep(0)
            # The event loop stands still from here, so it was no timer: the turn in which it came is all it waited for.
            assert model.started[0].wait(20)
            await let_go(model, answer)

    asyncio.run(scenario())


def test_what_cannot_be_sent_is_refused_by_itself_and_the_next_has_its_turn(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            large = Batch(Form.TABLE, {"x": np.zeros(BOUND // 8 + 1)})
            _, refused, answered = await let_go(model, first, ask(batcher, large), ask(batcher, rows(1.0)))
        assert isinstance(refused, InputTooLarge)
        assert values(answered) == [2]

    asyncio.run(scenario())


def test_whoever_waits_hears_that_the_host_is_gone(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            asked = [await under_way(model, batcher), ask(batcher, rows(1.0))]
            batcher._connection.close()
            outcomes = await let_go(model, *asked, ask(batcher, rows(2.0)))
        assert [type(outcome) for outcome in outcomes] == [HostGone] * 3

    asyncio.run(scenario())


def test_a_deadline_that_has_passed_is_a_time_out_without_a_predict_call(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            with pytest.raises(PredictionTimedOut):
                await ask(batcher, rows(1.0), within_s=0)
            await ask(batcher, rows(2.0))
        assert model.calls == [[2]]

    asyncio.run(scenario())


def test_a_deadline_comes_while_its_request_waits_and_costs_the_model_nothing(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            short, long = ask(batcher, rows(1.0), within_s=0.02), ask(batcher, rows(2.0))
            with pytest.raises(PredictionTimedOut, match=r"0\.02 s"):
                await short
            assert not first.done()
            await let_go(model, first, long)
        assert model.calls == [[0], [2]]

    asyncio.run(scenario())


def test_each_request_of_a_message_under_way_has_its_own_deadline(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            short, long = ask(batcher, rows(1.0), within_s=0.3), ask(batcher, rows(7.0))
            model.go_on[0].set()
            await asyncio.to_thread(model.started[7].wait, 20)
            with pytest.raises(PredictionTimedOut):
                await short
            assert not long.done()
            answers = await let_go(model, first, long)
        assert values(answers[1]) == [14]
        assert model.calls == [[0], [1, 7]]

    asyncio.run(scenario())


def test_a_host_is_stuck_only_when_it_takes_longer_than_any_may(tmp_path):
    async def scenario():
        model, stuck = Doubling(), asyncio.Event()
        async with batching(model, tmp_path, patience_s=0.3) as batcher:
            batcher._connection.when_stuck = lambda _socket: stuck.set()
            began_s = time.monotonic()
            with pytest.raises(PredictionTimedOut):
                await (await under_way(model, batcher, within_s=0.05))
            assert not stuck.is_set()
            await asyncio.wait_for(stuck.wait(), 20)
            assert time.monotonic() - began_s >= 0.3
            await let_go(model)

    asyncio.run(scenario())


def test_what_was_given_up_counts_as_waiting_until_the_host_is_done_with_it(tmp_path):
    async def scenario():
        model = Doubling()
        limits = Limits(rows_max=10, bytes_max=BOUND, waiting_max=1)
        async with batching(model, tmp_path, limits) as batcher:
            with pytest.raises(PredictionTimedOut):
                await (await under_way(model, batcher, within_s=0.05))
            with pytest.raises(TooManyWaiting):
                ask(batcher, rows(1.0))
            next_answer = asyncio.get_running_loop().create_future()
            batcher._connection.send(rows(3.0), {}, time.monotonic() + 20, next_answer.set_result)
            model.go_on[0].set()
            await next_answer
            assert values(await ask(batcher, rows(1.0))) == [2]

    asyncio.run(scenario())


def test_a_host_skips_what_nobody_waits_for_any_more(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            outcome = asyncio.get_running_loop().create_future()
            # As another worker's message would, it lies in the host's socket while the host is busy.
            batcher._connection.send(rows(1.0), {}, time.monotonic(), outcome.set_result)
            await let_go(model, first)
            assert isinstance(await outcome, DeadlinePassed)
        assert model.calls == [[0]]

    asyncio.run(scenario())


def test_a_model_that_does_not_answer_row_for_row_is_asked_one_request_at_a_time(tmp_path):
    async def scenario():
        model = Doubling()
        async with batching(model, tmp_path) as batcher:
            first = await under_way(model, batcher)
            params = {"json": True}
            later = [ask(batcher, rows(float(n)), params) for n in (1, 2)]
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
