"""What a worker knows of its shadows since it last told the database: sums, and inputs if some are to be kept."""

import asyncio
import logging
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import msgspec
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.orm import Session

from gateway.comparison.disagreement import (
    Comparison,
    PairSums,
    ShadowSums,
    Worst,
    compare,
    laid_end_to_end,
    merged,
)
from gateway.comparison.sums import UnreadableSums
from gateway.observability.metrics import Metrics
from gateway.observability.shadow_metrics import count_copies
from gateway.routing_table import Choice, Shadowing
from gateway.scoring.batching import split
from loaders.base import Answer, Batch, JsonAnswer
from registry import shadows, tallies
from registry.entities import Cell
from registry.shadows import INPUT_BYTES_MAX, KeptInput
from registry.tallies import Kind
from tracking.access.caller import CALLER, PROGRAM
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_INTERVAL_S = 1.0

WriteRow = Callable[[Batch, int], Any]
"""One row as JSON has it."""


class Compared(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A shadow's answer to some requests at once, and those that one arm gave."""

    shadowing: Shadowing
    choice: Choice
    """Who gave them."""
    given: Sequence[Answer]
    rows: Sequence[int]
    """Of each request."""
    asked: Batch
    """The rows of all requests, as the shadow was asked them."""
    answer: Answer
    sizes: Sequence[int]
    """Bytes of each request and of the answer that was given, about."""
    times_s: tuple[float, float] | None
    """What each took, if the shadow was asked one request alone."""

    def one_by_one(self) -> "list[Compared]":
        """The same of each request; the answer must be row for row."""
        parts = zip(
            self.given,
            self.rows,
            split(self.asked, self.rows) or (),
            split(self.answer, self.rows) or (),
            self.sizes,
            strict=True,
        )
        return [
            msgspec.structs.replace(self, given=[given], rows=[rows], asked=asked, answer=answer, sizes=[size])
            for given, rows, asked, answer, size in parts
        ]


class Counted(msgspec.Struct, frozen=True, eq=False):
    """What there is to tell, by endpoint."""

    sums: dict[str, dict[Cell, ShadowSums]]
    inputs: dict[str, list[KeptInput]]


class ShadowCounts:
    def __init__(self, metrics: Metrics, write_row: WriteRow) -> None:
        self._metrics = metrics
        self._write_row = write_row
        self._counted = Counted({}, {})

    def compared(self, some: Compared) -> None:
        """Count what a shadow has answered."""
        given = laid_end_to_end(some.given)
        if given is None and len(some.given) > 1:
            # Answers of one arm that differ in what they are made of.
            for one in some.one_by_one():
                self.compared(one)
            return
        wish, shadow = some.shadowing.wish, some.shadowing.choice
        comparison = compare(given or some.given[0], some.answer, rows=sum(some.rows), tolerance=wish.tolerance)
        pair = self._pair(some.shadowing, some.choice)
        agreed = pair.add(comparison, some.rows)
        count_copies(self._metrics, shadow, "agreed", agreed)
        count_copies(self._metrics, shadow, "differed", len(some.rows) - agreed)
        if some.times_s is not None:
            pair.add_latency(*some.times_s)
        if wish.keep_inputs and agreed < len(some.rows):
            self._keep(some, comparison)

    def failed(self, shadowing: Shadowing, choice: Choice, code: str) -> None:
        self._pair(shadowing, choice).add_failure(code)
        count_copies(self._metrics, shadowing.choice, "failed")

    def dropped(self, shadowing: Shadowing, choice: Choice) -> None:
        self._pair(shadowing, choice).dropped += 1
        count_copies(self._metrics, shadowing.choice, "dropped")

    def take(self) -> Counted:
        """All since it was taken last."""
        counted, self._counted = self._counted, Counted({}, {})
        return counted

    def put_back(self, counted: Counted) -> None:
        """Have what couldn't be told be told with the next."""
        for endpoint_id, cells in counted.sums.items():
            mine = self._counted.sums.setdefault(endpoint_id, {})
            for cell, sums in cells.items():
                mine.setdefault(cell, ShadowSums()).merge(sums)
        # The inputs are let go: nothing is owed of them, and what is kept in memory stays bounded.

    def _pair(self, shadowing: Shadowing, choice: Choice) -> PairSums:
        shadow = shadowing.choice
        cells = self._counted.sums.setdefault(shadow.endpoint_id, {})
        cell = Cell(period=shadow.period, arm=shadow.arm, version=shadow.version)
        sums = cells.get(cell) or cells.setdefault(cell, ShadowSums())
        return sums.beside((choice.arm, choice.version))

    def _keep(self, some: Compared, comparison: Comparison) -> None:
        kept = self._counted.inputs.setdefault(some.shadowing.choice.endpoint_id, [])
        count = some.shadowing.wish.keep_inputs
        for worst in comparison.worst(count):
            if len(kept) >= count and (worst.labels, worst.difference) <= kept[-1].rank:
                return
            one = self._kept_input(some, worst)
            # Asked again, an input would take the place of another.
            if one is not None and all(one.input != other.input for other in kept):
                kept.append(one)
                kept.sort(key=lambda each: each.rank, reverse=True)
                del kept[count:]

    def _kept_input(self, some: Compared, worst: Worst) -> KeptInput | None:
        """The row, and what was said to it; None if it is too large, or nobody can say which row it is."""
        place = bisect_right(list(accumulate(some.rows)), worst.row)
        rows, begin = some.rows[place], sum(some.rows[:place])
        is_whole = isinstance(some.answer, JsonAnswer) or isinstance(some.given[place], JsonAnswer)
        if some.sizes[place] > INPUT_BYTES_MAX * rows or (is_whole and rows > 1):
            return None
        return KeptInput(
            labels_differ=worst.labels,
            difference=worst.difference if math.isfinite(worst.difference) else None,
            input=self._row(some.asked, worst.row),
            given=self._row(some.given[place], worst.row - begin),
            given_by=(some.choice.arm, some.choice.version),
            shadows=self._row(some.answer, worst.row),
            version=some.shadowing.choice.version,
            at_ms=int(time.time() * 1000),
        )

    def _row(self, rows: Answer, row: int) -> Any:
        if isinstance(rows, JsonAnswer):
            return _value(rows)
        return self._write_row(rows, row) if row < rows.rows else None


def _value(answer: JsonAnswer) -> Any:
    try:
        return msgspec.json.decode(answer.text)
    except (msgspec.DecodeError, RecursionError):
        # Python's own writer has a word for NaN.
        return answer.text.decode(errors="replace")


async def keep_telling(counts: ShadowCounts, database: Database) -> None:
    """Have the database know every second; what it can't be told while it is away is told later."""
    while True:
        await asyncio.sleep(_INTERVAL_S)
        await tell_or_put_back(counts, database)


async def tell_or_put_back(counts: ShadowCounts, database: Database) -> None:
    """Have the database know what was counted, or know it here until it is there again."""
    counted = counts.take()
    try:
        await asyncio.to_thread(tell, database, counted)
    except (ServingError, NoConnectionFree):
        counts.put_back(counted)
    except Exception:  # An edge: what fails always must not keep all that follows from being told.
        _log.exception("counts_not_written")


def tell(database: Database, counted: Counted) -> None:
    """Have *counted* be in the database as well; its sums are no more in *counted* once they are there."""
    if not counted.sums:
        return
    CALLER.set(PROGRAM)
    with database.writing() as session:
        for endpoint_id, cells in sorted(counted.sums.items()):
            _add(session, endpoint_id, cells)
    # Whatever becomes of the inputs, the sums count once.
    counted.sums.clear()
    # Apart, so that nobody who removes a shadow waits for what waits for its sums.
    if counted.inputs:
        with database.writing() as session:
            for endpoint_id, inputs in sorted(counted.inputs.items()):
                shadows.keep_inputs(session, endpoint_id, inputs)


def _add(session: Session, endpoint_id: str, cells: dict[Cell, ShadowSums]) -> None:
    try:
        contents = {cell: sums.to_bytes() for cell, sums in cells.items()}
        tallies.add(session, endpoint_id, Kind.SHADOW, contents, merged)
    except UnreadableSums as error:
        # As of the other sums: it never will be readable here, and other endpoints' shadows go on.
        _log.exception("counts_unreadable", extra={"endpoint_id": endpoint_id, "reason": error.message})
