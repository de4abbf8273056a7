"""Natural batching: idle means send at once, busy means collect. No timer, so nobody waits for company.

While a host is at work on one message, what arrives for it is collected; when its answer comes, all that can go
together leaves as the next. Requests of different shapes, types or params never share a message, and a message that
fails is asked again row by row, so that a bad row fails its own request and nobody else's.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from gateway.pool.model_pool import ModelConnection, ModelFailed, PredictionTimedOut, TooManyWaiting
from loaders.base import Answer, Batch, JsonAnswer
from loaders.errors import BadInput


class Limits(msgspec.Struct, frozen=True):
    """How much one message may carry, and how many requests may wait for the next."""

    rows_max: int
    bytes_max: int
    waiting_max: int


class _Waiting(msgspec.Struct, frozen=True, eq=False):
    batch: Batch
    params: Mapping[str, Any]
    kind: Hashable
    future: "asyncio.Future[Answer]"
    deadline_s: float
    timeout_s: float


def kind_of(batch: Batch, params: Mapping[str, Any]) -> Hashable:
    """What must be equal for two batches to travel together: form, names, types, shape of a row, params."""
    columns = tuple((name, values.dtype, values.shape[1:]) for name, values in batch.columns.items())
    return batch.form, columns, msgspec.json.encode(params, order="sorted") if params else b""


def join(batches: Sequence[Batch]) -> Batch:
    """One batch of all rows, in order. All must be of one kind."""
    first = batches[0]
    return Batch(
        first.form, {name: np.concatenate([batch.columns[name] for batch in batches]) for name in first.columns}
    )


def split(answer: Answer, rows: Sequence[int]) -> list[Answer] | None:
    """The answers for parts of *rows* rows each; None if the answer isn't row for row."""
    if isinstance(answer, JsonAnswer) or any(len(values) != sum(rows) for values in answer.columns.values()):
        return None
    parts: list[Answer] = []
    begin = 0
    for count in rows:
        part = {name: values[begin : begin + count] for name, values in answer.columns.items()}
        parts.append(Batch(answer.form, part))
        begin += count
    return parts


class Batcher:
    """The requests of one worker for one version: one message under way at a time."""

    def __init__(self, connection: ModelConnection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._queue: deque[_Waiting] = deque()
        self._busy = False
        self._joins = connection.description.batchable
        # The event loop keeps only weak references to tasks.
        self._sending: set[asyncio.Task[None]] = set()

    async def predict(self, batch: Batch, params: Mapping[str, Any], *, timeout_s: float) -> Answer:
        """The answer for *batch*, as if it had been asked for alone.

        Raises:
            TooManyWaiting: at once, when the bound on waiting requests is reached.
            PredictionTimedOut: if it took longer than *timeout_s*, the time spent waiting included.
            As `ModelConnection.predict`, for the rest.
        """
        if not self._joins:
            return await self._connection.predict(batch, params, timeout_s=timeout_s)
        if not self._busy:
            self._busy = True
            try:
                return await self._connection.predict(batch, params, timeout_s=timeout_s)
            finally:
                self._send_next()
        if len(self._queue) >= self._limits.waiting_max:
            raise TooManyWaiting(self._connection.key, self._limits.waiting_max)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue.append(_Waiting(batch, params, kind_of(batch, params), future, loop.time() + timeout_s, timeout_s))
        with self._connection.leased():
            return await future

    def _send_next(self) -> None:
        group = self._take_group()
        if not group:
            self._busy = False
            return
        task = asyncio.create_task(self._send(group))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._send_next()

    def _take_group(self) -> list[_Waiting]:
        """The requests at the head of the queue that can go together; those that nobody waits for are dropped."""
        group: list[_Waiting] = []
        rows = size = 0
        now_s = asyncio.get_running_loop().time()
        while self._queue:
            head = self._queue[0]
            if head.future.done():
                self._queue.popleft()
                continue
            if now_s >= head.deadline_s:
                head.future.set_exception(PredictionTimedOut(self._connection.key, head.timeout_s))
                self._queue.popleft()
                continue
            rows += head.batch.rows
            size += sum(values.nbytes for values in head.batch.columns.values())
            if group and (head.kind != group[0].kind or rows > self._limits.rows_max or size > self._limits.bytes_max):
                break
            group.append(self._queue.popleft())
        return group

    async def _send(self, group: list[_Waiting]) -> None:
        if len(group) > 1 and await self._send_together(group):
            return
        for waiting in group:
            await self._send_alone(waiting)

    async def _send_together(self, group: list[_Waiting]) -> bool:
        """Whether all of *group* were answered by one message."""
        timeout_s = max(waiting.deadline_s for waiting in group) - asyncio.get_running_loop().time()
        try:
            batch = join([waiting.batch for waiting in group])
            answer = await self._connection.predict(batch, group[0].params, timeout_s=timeout_s)
        except (BadInput, ModelFailed):
            # One of them is to blame. Alone, each gets what it deserves.
            return False
        except Exception as error:  # Handed on to those who asked; here there is nobody to tell.
            for waiting in group:
                _settle(waiting, error)
            return True
        answers = split(answer, [waiting.batch.rows for waiting in group])
        if answers is None:
            # A model that doesn't answer row for row can't share a message, now or later.
            self._joins = False
            return False
        for waiting, part in zip(group, answers, strict=True):
            _settle(waiting, part)
        return True

    async def _send_alone(self, waiting: _Waiting) -> None:
        timeout_s = waiting.deadline_s - asyncio.get_running_loop().time()
        try:
            _settle(waiting, await self._connection.predict(waiting.batch, waiting.params, timeout_s=timeout_s))
        except Exception as error:  # As above.
            _settle(waiting, error)


def _settle(waiting: _Waiting, outcome: Answer | Exception) -> None:
    if waiting.future.done():
        return  # Whoever asked has hung up.
    if isinstance(outcome, Exception):
        waiting.future.set_exception(outcome)
    else:
        waiting.future.set_result(outcome)
