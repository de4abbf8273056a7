"""Shadows: an arm is asked a copy of what others have answered, after they did, and nobody waits for what it says.

A copy gives way. It waits, bounded, until no request does; it goes to a model that is idle; and several go as one
request, which takes a fraction of the time that as many alone would. How many is found by trying: twice as many as
before, or half if that took long or failed, so that a bad row fails alone in the end. What finds no room is dropped,
and counted, as is what the shadow refuses, fails at or doesn't answer.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from gateway.comparison.disagreement import answers_each
from gateway.pool.model_pool import ModelFailed
from gateway.routing_table import Choice, Shadowing
from gateway.scoring.batching import Deadline, bytes_of, join, kind_of
from gateway.scoring.inference import Inference, Prediction, ReadInput
from gateway.scoring.routing import BUCKETS
from gateway.scoring.shadow_counts import Compared, ShadowCounts
from loaders.base import Answer, JsonAnswer, Rows
from loaders.errors import BadInput
from tracking.errors import Exhausted, ServingError

_log = logging.getLogger(__name__)

# Nobody waits, so the first copy waits for others to go along with it.
_GATHERING_S = 0.01
# How soon it is looked again whether anybody waits.
_PATIENCE_S = 0.002
_TOGETHER_MAX = 64
# A message that takes longer keeps the processors from others, or, of an arm with traffic of its own, the arm.
_LONG_S = 0.005
_LONG_BESIDE_TRAFFIC_S = 0.001
# One message in so many carries one copy, by which the time of a request is told.
_ONE_ALONE_OF = 8


class Copy(msgspec.Struct, eq=False):
    """A request that was answered, to be asked again."""

    choice: Choice
    """Who answered."""
    shadowing: Shadowing
    prediction: Prediction
    read_input: ReadInput
    size: int
    """Bytes that it keeps in memory, about."""


class Shadows:
    """The copies of one worker.

    *waiting_max* and *bytes_max* are for the copies that wait for one endpoint's shadow.
    """

    def __init__(
        self,
        inference: Inference,
        counts: ShadowCounts,
        *,
        waiting_max: int,
        bytes_max: int,
        timeout_s: float,
    ) -> None:
        self._inference = inference
        self._counts = counts
        self._waiting_max = waiting_max
        self._bytes_max = bytes_max
        self._timeout_s = timeout_s
        self._lines: dict[str, _Line] = {}
        self._random = Random()  # noqa: S311  (it draws a sample, and keeps no secret)

    def offer(self, shadowing: Shadowing, prediction: Prediction, read_input: ReadInput, body_bytes: int) -> None:
        """Ask *shadowing*'s arm what was just answered, some time, if there is room. Costs some 2 µs."""
        share_bp = shadowing.wish.share_bp
        if share_bp < BUCKETS and self._random.random() * BUCKETS >= share_bp:
            return
        size = body_bytes + bytes_of(prediction.asked.batch) + _answer_bytes(prediction.answer)
        line = self._lines.get(shadowing.choice.endpoint_id)
        if line is None:
            line = self._lines[shadowing.choice.endpoint_id] = _Line()
        if len(line.waiting) >= self._waiting_max or line.bytes + size > self._bytes_max:
            self._counts.dropped(shadowing, prediction.choice)
            return
        line.put(Copy(prediction.choice, shadowing, prediction, read_input, size))
        if line.at_work is None:
            line.at_work = asyncio.create_task(self._work(line))

    async def _work(self, line: "_Line") -> None:
        """Ask what waits in *line*, until nothing does."""
        try:
            await asyncio.sleep(_GATHERING_S)
            while line.waiting:
                await self._until_quiet(line.waiting[0].shadowing)
                for group in self._of_one_kind(line.take()):
                    line.learn(*await self._ask(group), group[0][0].shadowing)
                if len(line.waiting) < _TOGETHER_MAX:
                    await asyncio.sleep(_GATHERING_S)
        except Exception:  # An edge: nobody waits for a shadow, so nobody else would see what went wrong with it.
            _log.exception("shadow_crashed")
        finally:
            line.at_work = None

    async def _until_quiet(self, shadowing: Shadowing) -> None:
        """Until no request waits for any version, and nothing is asked of the shadow's."""
        # Looked at now and then: an event would have to be set on every prediction's way.
        while self._inference.somebody_waits or not self._inference.is_idle(shadowing.choice):  # noqa: ASYNC110  (so)
            await asyncio.sleep(_PATIENCE_S)

    def _of_one_kind(self, copies: Sequence[Copy]) -> list[list["_Readied"]]:
        """The copies as the shadow takes them, by who may go together."""
        groups: dict[Hashable, list[_Readied]] = {}
        joins = self._inference.may_join(copies[0].shadowing.choice)
        for copy in copies:
            try:
                batch, params = self._inference.read_again(copy.shadowing.choice, copy.prediction, copy.read_input)
            except ServingError as error:
                self._failed(copy, error)
                continue
            kind = kind_of(batch, params) if joins else id(copy)
            groups.setdefault(kind, []).append((copy, batch, params))
        return list(groups.values())

    async def _ask(self, group: list["_Readied"]) -> tuple[bool, float]:
        """Whether all of *group*, which is of one kind, was answered at once, and how long it took."""
        (first, _, params), rows = group[0], [batch.rows for _, batch, _ in group]
        shadowing, together = first.shadowing, join([batch for _, batch, _ in group])
        deadline = Deadline.after(time.monotonic(), self._timeout_s)
        try:
            asked = self._inference.ask_now(shadowing.choice, together, params, deadline)
            answer = await asked.answer
        except ServingError as error:
            if len(group) > 1 and isinstance(error, BadInput | ModelFailed):
                # One of them is to blame. Alone, each gets what it deserves.
                await self._ask_each(group)
            else:
                for copy, _, _ in group:
                    self._failed(copy, error)
            return False, 0.0
        if len(group) > 1 and not answers_each(answer, sum(rows)):
            # It doesn't answer row for row, and so not several at once.
            await self._ask_each(group)
            return False, 0.0
        copies = [copy for copy, _, _ in group]
        self._counts.compared(
            Compared(
                shadowing=shadowing,
                choice=first.choice,
                given=[copy.prediction.answer for copy in copies],
                rows=rows,
                asked=together,
                answer=answer,
                sizes=[copy.size for copy in copies],
                times_s=(first.prediction.asked.computed_s, asked.computed_s) if len(group) == 1 else None,
            )
        )
        return True, asked.computed_s

    async def _ask_each(self, group: list["_Readied"]) -> None:
        """Ask one by one."""
        for one in group:
            await self._until_quiet(one[0].shadowing)
            await self._ask([one])

    def _failed(self, copy: Copy, error: ServingError) -> None:
        if isinstance(error, Exhausted):
            self._counts.dropped(copy.shadowing, copy.choice)
        else:
            self._counts.failed(copy.shadowing, copy.choice, error.code)


_Readied = tuple[Copy, Rows, Mapping[str, Any]]
"""A copy, and rows and params as the shadow's signature has them."""


class _Line:
    """The copies that wait for one endpoint's shadow, and how many of them may go together."""

    def __init__(self) -> None:
        self.waiting: deque[Copy] = deque()
        self.bytes = 0
        self.at_work: asyncio.Task[None] | None = None
        self._together = 1
        self._taken = 0

    def put(self, copy: Copy) -> None:
        self.waiting.append(copy)
        self.bytes += copy.size

    def take(self) -> list[Copy]:
        """The longest waiting and who may go along: those that the same arm answered."""
        first = self.waiting[0]
        self._taken += 1
        count = self._together if self._taken % _ONE_ALONE_OF else 1
        group: list[Copy] = []
        left: deque[Copy] = deque()
        for copy in self.waiting:
            is_alike = copy.choice is first.choice and copy.shadowing is first.shadowing
            (group if is_alike and len(group) < count else left).append(copy)
        self.waiting = left
        self.bytes -= sum(copy.size for copy in group)
        return group

    def learn(self, went_well: bool, took_s: float, shadowing: Shadowing) -> None:
        """Have more go together, or fewer."""
        long_s = _LONG_S if shadowing.is_dark else _LONG_BESIDE_TRAFFIC_S
        if went_well and took_s < long_s:
            self._together = min(2 * self._together, _TOGETHER_MAX)
        else:
            self._together = max(self._together // 2, 1)


def _answer_bytes(answer: Answer) -> int:
    return len(answer.text) if isinstance(answer, JsonAnswer) else bytes_of(answer)
