"""Natural batching: idle means send at once, busy means collect. No timer, so nobody waits for company.

While a host is at work on one message, what arrives for it is collected; when its answer comes, all that can go
together leaves as the next. Requests of different shapes, types or params never share a message, and a message that
fails is asked again request by request, so that a bad row fails its own request and nobody else's.

How long the queue may be is a matter of time: whoever would wait too long for a turn is refused at once, so that those
who are let in get their answer while they still want it.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from gateway.pool.model_pool import (
    DeadlinePassed,
    HostGone,
    ModelConnection,
    ModelFailed,
    Outcome,
    PredictionTimedOut,
    TooManyWaiting,
)
from gateway.scoring.pace import Pace
from loaders.base import Answer, Batch, DoubleRow, Form, JsonAnswer, Rows, joined_rows
from loaders.errors import BadInput
from registry.entities import VersionKey
from tracking.errors import Exhausted

_FLOAT64 = np.dtype(np.float64)
# Deadlines nearer to each other than this are looked after together.
_GRAIN_S = 0.001
# So many may wait however long it takes: a queue of two is no overload, even where a predict takes seconds.
_ALWAYS_WAITING_MAX = 16


class Limits(msgspec.Struct, frozen=True):
    """How much one message may carry, and how many requests may wait for the next, and how long."""

    rows_max: int
    bytes_max: int
    waiting_max: int
    waiting_s_max: float = math.inf


class TurnTooFar(Exhausted):
    """More is asked of a version than it can answer: the wait would be too long for this caller, or for any."""

    def __init__(self, key: VersionKey, wait_s: float) -> None:
        super().__init__(
            f"Too many requests are waiting for version {key[1]} of {key[0]!r}: a turn is {wait_s:.2g} s away. Try "
            "again shortly."
        )
        self.retry_after_s = max(1, math.ceil(wait_s))


class Deadline(msgspec.Struct, frozen=True):
    """Until when an answer is of use, counted from the arrival of the request."""

    at_s: float
    """By `time.monotonic`."""
    allowed_s: float

    @classmethod
    def after(cls, arrived_s: float, allowed_s: float) -> "Deadline":
        return cls(arrived_s + allowed_s, allowed_s)


class Asked(msgspec.Struct, eq=False):
    """One request on its way to a model, and when it got how far, by `time.monotonic`."""

    batch: Rows
    params: Mapping[str, Any]
    deadline: Deadline
    answer: "asyncio.Future[Answer]"
    entered_s: float
    rows: int
    sent_s: float = 0.0
    answered_s: float = 0.0
    _kind: Hashable = None

    @property
    def kind(self) -> Hashable:
        # Only looked at where there is company to be had.
        if self._kind is None:
            self._kind = kind_of(self.batch, self.params)
        return self._kind

    @property
    def queued_s(self) -> float:
        return self.sent_s - self.entered_s

    @property
    def computed_s(self) -> float:
        return self.answered_s - self.sent_s


def kind_of(batch: Rows, params: Mapping[str, Any]) -> Hashable:
    """What must be equal for two batches to travel together: form, names, types, shape of a row, params."""
    if isinstance(batch, DoubleRow):
        kind = _kind_of_doubles(batch.names)
    else:
        kind = batch.form, tuple((name, values.dtype, values.shape[1:]) for name, values in batch.columns.items())
    return kind, msgspec.json.encode(params, order="sorted") if params else b""


@lru_cache(maxsize=1024)
def _kind_of_doubles(names: tuple[str, ...]) -> Hashable:
    return Form.TABLE, tuple((name, _FLOAT64, ()) for name in names)


def bytes_of(batch: Rows) -> int:
    if isinstance(batch, DoubleRow):
        return len(batch.names) * _FLOAT64.itemsize
    return sum(values.nbytes for values in batch.columns.values())


def join(batches: Sequence[Rows]) -> Batch:
    """One batch of all rows, in order. All must be of one kind."""
    rows = [batch for batch in batches if isinstance(batch, DoubleRow)]
    if len(rows) == len(batches):
        return joined_rows(rows)
    arrays = [joined_rows([batch]) if isinstance(batch, DoubleRow) else batch for batch in batches]
    if len(arrays) == 1:
        return arrays[0]
    first = arrays[0]
    return Batch(first.form, {name: np.concatenate([one.columns[name] for one in arrays]) for name in first.columns})


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
    """The requests of one worker for one version: one message under way at a time.

    *patience_s* is the longest that a host may take for one message; then it counts as stuck. A caller's own, shorter
    deadline is between the caller and us.
    """

    def __init__(
        self,
        connection: ModelConnection,
        limits: Limits,
        *,
        patience_s: float,
        sent: Callable[[int, int], None] = lambda _requests, _rows: None,
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._patience_s = patience_s
        self._sent = sent
        self._joins = connection.description.batchable
        self._pace = Pace()
        self._queue: deque[Asked] = deque()
        self._rows_waiting = 0
        # Whose message failed: each is asked again by itself, before anybody else.
        self._alone: deque[Asked] = deque()
        self._under_way: list[Asked] = []
        # Of those, the ones that nobody waits for any more and that the host is at work on all the same.
        self._given_up = 0
        self._expected_at_s = 0.0
        self._stuck_at_s = math.inf
        self._alarm = _Alarm(self._look_at_the_time)

    @property
    def waiting(self) -> int:
        """Requests that haven't been sent yet."""
        return len(self._queue) + len(self._alone)

    @property
    def is_idle(self) -> bool:
        return not (self._under_way or self._queue or self._alone)

    def ask(self, batch: Rows, params: Mapping[str, Any], deadline: Deadline) -> Asked:
        """Send *batch*, or have it wait for the next message; its `answer` is as if it had been asked for alone.

        The answer may be `BadInput`, `ModelFailed`, `InputTooLarge`, `HostGone`, or `PredictionTimedOut` at the
        deadline, wherever the request is by then.

        Raises:
            TooManyWaiting: at once, when the bound on waiting requests is reached.
            TurnTooFar: at once, when it would wait for longer than any may, or than *deadline* allows.
        """
        now_s = time.monotonic()
        if self._under_way or self._queue:
            self._ensure_turn_is_near(batch, deadline, now_s)
        rows = batch.rows
        asked = Asked(batch, params, deadline, asyncio.get_running_loop().create_future(), now_s, rows)
        self._queue.append(asked)
        self._rows_waiting += rows
        self._alarm.set(deadline.at_s)
        self._connection.set_waited_for(True)
        if not self._under_way and len(self._queue) == 1:
            # At the end of this turn of the event loop: what it has read already goes along.
            asyncio.get_running_loop().call_soon(self._send_next)
        return asked

    def _ensure_turn_is_near(self, batch: Rows, deadline: Deadline, now_s: float) -> None:
        # With nothing under way the first of them leaves at the end of this turn, and doesn't wait.
        leaving = 0 if self._under_way else 1
        if len(self._queue) - leaving + self._given_up >= self._limits.waiting_max:
            raise TooManyWaiting(self._connection.key, self._limits.waiting_max)
        wait_s = self._expected_wait_s(now_s)
        too_long = wait_s > self._limits.waiting_s_max and len(self._queue) >= _ALWAYS_WAITING_MAX
        if too_long or now_s + wait_s + self._pace.expected_s(1, batch.rows) > deadline.at_s:
            raise TurnTooFar(self._connection.key, wait_s)

    def _expected_wait_s(self, now_s: float) -> float:
        """Until all are answered that are under way or wait."""
        under_way_s = self._expected_at_s - now_s
        messages = math.ceil(self._rows_waiting / self._limits.rows_max) if self._joins else len(self._queue)
        waiting_s = self._pace.expected_s(messages + len(self._alone), self._rows_waiting)
        # Overdue, it may come at any moment.
        return max(under_way_s, 0.0) + waiting_s

    # --- what leaves

    def _send_next(self) -> None:
        """Send what goes next, unless something is under way."""
        while not self._under_way and (group := self._take_group()):
            self._send(group)
        self._note_who_waits()

    def _take_group(self) -> list[Asked]:
        """Those at the head of the queue that can go together; none if nobody waits."""
        now_s = time.monotonic()
        while self._alone:
            is_wanted = self._can_be_in_time(self._alone[0], now_s)
            asked = self._alone.popleft()
            if is_wanted:
                return [asked]
        group: list[Asked] = []
        rows = size = 0
        while self._queue:
            head = self._queue[0]
            if self._can_be_in_time(head, now_s):
                rows += head.rows
                size += bytes_of(head.batch)
                if group and not self._can_join(group, head, rows, size):
                    break
                group.append(head)
            self._queue.popleft()
            self._rows_waiting -= head.rows
        return group

    def _can_join(self, group: list[Asked], asked: Asked, rows: int, size: int) -> bool:
        within = rows <= self._limits.rows_max and size <= self._limits.bytes_max
        return self._joins and within and asked.kind == group[0].kind

    def _is_in_time(self, asked: Asked, at_s: float) -> bool:
        """Whether somebody still waits for the answer at *at_s*; nobody does from its deadline on."""
        if asked.answer.done():
            return False
        if at_s < asked.deadline.at_s:
            return True
        _settle(asked, PredictionTimedOut(self._connection.key, asked.deadline.allowed_s))
        return False

    def _can_be_in_time(self, asked: Asked, now_s: float) -> bool:
        """Whether somebody will still wait when the answer comes.

        An overloaded model would else work on nothing but what is too late when it is done. Who waits alone is tried in
        any case: it costs nobody anything, and only trying shows that an expectation was wrong.
        """
        is_alone = len(self._queue) + len(self._alone) == 1
        takes_s = 0.0 if is_alone else self._pace.cautious_s(asked.rows)
        return self._is_in_time(asked, now_s + takes_s)

    def _send(self, group: list[Asked]) -> None:
        now_s = time.monotonic()
        batch = join([asked.batch for asked in group])
        deadline_s = max(asked.deadline.at_s for asked in group)
        try:
            self._connection.send(batch, group[0].params, deadline_s, self._answered)
        except Exception as error:  # Handed on to who asked; here there is nobody to tell.
            if len(group) > 1:
                self._alone.extend(group)
            else:
                _settle(group[0], error)
            return
        for asked in group:
            asked.sent_s = now_s
        self._under_way = group
        self._expected_at_s = now_s + self._pace.expected_s(1, batch.rows)
        self._stuck_at_s = now_s + self._patience_s
        self._alarm.set(self._stuck_at_s)
        self._sent(len(group), batch.rows)

    # --- what comes back

    def _answered(self, outcome: Outcome) -> None:
        group, self._under_way, self._given_up = self._under_way, [], 0
        answered_s = time.monotonic()
        if not isinstance(outcome, DeadlinePassed | HostGone):
            self._pace.learn(sum(asked.rows for asked in group), answered_s - group[0].sent_s)
        parts = [outcome] if len(group) == 1 else self._parts(group, outcome)
        if parts is None:
            self._alone.extend(group)
        # Before anybody reads the answers, so that the host has work meanwhile.
        self._send_next()
        for asked, part in zip(group, parts or (), strict=False):
            asked.answered_s = answered_s
            _settle(asked, part)

    def _parts(self, group: list[Asked], outcome: Outcome) -> Sequence[Outcome] | None:
        """What became of each of *group*; None if that takes asking one by one."""
        if isinstance(outcome, BadInput | ModelFailed):
            # One of them is to blame. Alone, each gets what it deserves.
            return None
        if isinstance(outcome, Exception):
            return [outcome] * len(group)
        answers = split(outcome, [asked.rows for asked in group])
        if answers is None:
            # A model that doesn't answer row for row can't share a message, now or later.
            self._joins = False
        return answers

    # --- time

    def _look_at_the_time(self) -> None:
        """Let those go whose deadline has come, wherever they are, and see whether the host is stuck."""
        now_s = time.monotonic()
        for asked in self._under_way:
            if not asked.answer.done() and not self._is_in_time(asked, now_s):
                self._given_up += 1
        self._queue = deque(asked for asked in self._queue if self._is_in_time(asked, now_s))
        self._rows_waiting = sum(asked.rows for asked in self._queue)
        self._alone = deque(asked for asked in self._alone if self._is_in_time(asked, now_s))
        if self._under_way and now_s >= self._stuck_at_s:
            self._stuck_at_s = math.inf
            self._connection.when_stuck(self._connection.socket)
        waiting = [asked.deadline.at_s for asked in (*self._under_way, *self._alone, *self._queue)]
        to_come = [at_s for at_s in waiting if at_s > now_s]
        if self._under_way:
            to_come.append(self._stuck_at_s)
        self._alarm.set(min(to_come, default=math.inf))
        self._note_who_waits()

    def _note_who_waits(self) -> None:
        waited_for = bool(self._queue or self._alone) or len(self._under_way) > self._given_up
        self._connection.set_waited_for(waited_for)


class _Alarm:
    """Rings no later than the earliest instant it was set to: one timer for all deadlines, since most never come."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._at_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        if at_s >= self._at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at_s = at_s
        delay_s = max(at_s - time.monotonic(), _GRAIN_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._go_off)

    def _go_off(self) -> None:
        self._timer, self._at_s = None, math.inf
        self._ring()


def _settle(asked: Asked, outcome: Answer | Exception) -> None:
    if asked.answer.done():
        return  # Whoever asked has given up, or hung up.
    if isinstance(outcome, Exception):
        asked.answer.set_exception(outcome)
    else:
        asked.answer.set_result(outcome)
