"""Shadows: an arm is asked a copy of what others have answered, after they did, and nobody waits for what it says.

A copy gives way. It waits, bounded, until no request does; it goes to an idle model; and several go as one message
where the arm has no traffic of its own, which takes a fraction of the time that as many alone would. What finds no room
is dropped, and counted, as is what the shadow refuses, fails at or doesn't answer.
"""

import asyncio
import logging
import time
from collections import deque
from random import Random

import msgspec

from gateway.routing_table import Choice, Shadowing
from gateway.scoring.batching import Asked, Deadline, bytes_of
from gateway.scoring.inference import Inference, Prediction, ReadInput
from gateway.scoring.routing import BUCKETS
from gateway.scoring.shadow_counts import Compared, ShadowCounts
from loaders.base import Answer, JsonAnswer
from tracking.errors import Exhausted, ServingError

_log = logging.getLogger(__name__)

# Nobody waits, so the first copy waits for others to go along with it.
_GATHERING_S = 0.02
# How soon it is looked again whether anybody waits.
_PATIENCE_S = 0.002
_TOGETHER_MAX = 16
# So many are looked at in one turn of the event loop: who comes meanwhile waits for some 50 µs.
_LOOKED_AT_MAX = 4


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
        copy = Copy(prediction.choice, shadowing, prediction, read_input, size)
        key = shadowing.choice.endpoint_id
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        if len(line.waiting) >= self._waiting_max or line.bytes + size > self._bytes_max:
            self._counts.dropped(copy.shadowing, copy.choice)
            return
        line.put(copy)
        if line.at_work is None:
            line.at_work = asyncio.create_task(self._work(key, line))

    async def _work(self, key: str, line: "_Line") -> None:
        try:
            await asyncio.sleep(_GATHERING_S)
            while line.waiting:
                if self._must_wait(line.waiting[0].shadowing):
                    await asyncio.sleep(_PATIENCE_S)
                else:
                    await self._ask(line.take())
        except Exception:  # An edge: nobody waits for a shadow, so nobody else would see what went wrong with it.
            _log.exception("shadow_crashed")
        finally:
            line.at_work = None
            if not line.waiting:
                self._lines.pop(key, None)

    def _must_wait(self, shadowing: Shadowing) -> bool:
        return self._inference.somebody_waits or not self._inference.is_idle(shadowing.choice)

    async def _ask(self, group: list[Copy]) -> None:
        deadline = Deadline.after(time.monotonic(), self._timeout_s)
        asked = [(copy, self._begin(copy, deadline)) for copy in group]
        compared: list[Compared] = []
        for number, (copy, shadows) in enumerate(asked, start=1):
            if shadows is None:
                continue
            try:
                answer = await shadows.answer
            except ServingError as error:
                self._failed(copy, error)
                continue
            times_s = (copy.prediction.asked.computed_s, shadows.computed_s) if len(group) == 1 else None
            compared.append(Compared(copy.choice, copy.prediction, shadows, answer, copy.size, times_s))
            if number % _LOOKED_AT_MAX == 0:
                self._counts.compared(group[0].shadowing, compared)
                compared = []
                await asyncio.sleep(0)
        self._counts.compared(group[0].shadowing, compared)

    def _begin(self, copy: Copy, deadline: Deadline) -> Asked | None:
        """The shadow's answer to be; None if it comes to none."""
        try:
            return self._inference.ask_again(copy.shadowing.choice, copy.prediction, copy.read_input, deadline)
        except ServingError as error:
            self._failed(copy, error)
            return None

    def _failed(self, copy: Copy, error: ServingError) -> None:
        if isinstance(error, Exhausted):
            self._counts.dropped(copy.shadowing, copy.choice)
        else:
            self._counts.failed(copy.shadowing, copy.choice, error.code)


class _Line:
    """The copies that wait for one endpoint's shadow."""

    def __init__(self) -> None:
        self.waiting: deque[Copy] = deque()
        self.bytes = 0
        self.at_work: asyncio.Task[None] | None = None
        self._last_was_alone = False

    def put(self, copy: Copy) -> None:
        self.waiting.append(copy)
        self.bytes += copy.size

    def take(self) -> list[Copy]:
        """Those that go as one message: one alone, whose time can be told, and some together, by turns."""
        shadowing = self.waiting[0].shadowing
        self._last_was_alone = not self._last_was_alone or not shadowing.is_dark
        count = 1 if self._last_was_alone else _TOGETHER_MAX
        group: list[Copy] = []
        while self.waiting and len(group) < count and self.waiting[0].shadowing is shadowing:
            group.append(self.waiting.popleft())
        self.bytes -= sum(copy.size for copy in group)
        return group


def _answer_bytes(answer: Answer) -> int:
    return len(answer.text) if isinstance(answer, JsonAnswer) else bytes_of(answer)
