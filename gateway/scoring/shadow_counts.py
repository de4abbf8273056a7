"""What a worker knows of its shadows since it last told the database: sums, and inputs if some are to be kept."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from gateway.comparison.disagreement import Comparison, PairSums, ShadowSums, Worst, compare, merged
from gateway.observability.metrics import Metrics
from gateway.observability.shadow_metrics import count_copies
from gateway.routing_table import Choice, Shadowing
from gateway.scoring.batching import Asked
from gateway.scoring.inference import Prediction
from loaders.base import Answer, Batch, DoubleRow, JsonAnswer, Rows, joined_rows
from registry import shadows, tallies
from registry.entities import Cell
from registry.shadows import INPUT_BYTES_MAX, KeptInput
from registry.tallies import Kind
from tracking.access.caller import CALLER, PROGRAM
from tracking.database import Database
from tracking.errors import ServingError

_INTERVAL_S = 1.0

WriteRow = Callable[[Batch, int], Any]
"""One row as JSON has it."""


class Compared(msgspec.Struct, frozen=True, eq=False):
    """A shadow's answer, and the one that was given."""

    choice: Choice
    """Who gave it."""
    prediction: Prediction
    asked: Asked
    """What the shadow was asked."""
    answer: Answer
    size: int
    """Bytes of the input and of the answer that was given, about."""
    times_s: tuple[float, float] | None
    """What each took, if the shadow was asked this alone."""


class Counted(msgspec.Struct, frozen=True, eq=False):
    """What there is to tell, by endpoint."""

    sums: dict[str, dict[Cell, ShadowSums]]
    inputs: dict[str, list[KeptInput]]


class ShadowCounts:
    def __init__(self, metrics: Metrics, write_row: WriteRow) -> None:
        self._metrics = metrics
        self._write_row = write_row
        self._counted = Counted({}, {})

    def compared(self, shadowing: Shadowing, some: Sequence[Compared]) -> None:
        """Count answers of one shadow."""
        by_answerer: dict[Choice, list[Comparison]] = {}
        for one in some:
            comparison = compare(one.prediction.answer, one.answer, tolerance=shadowing.wish.tolerance)
            by_answerer.setdefault(one.choice, []).append(comparison)
            if one.times_s is not None:
                self._pair(shadowing, one.choice).add_latency(*one.times_s)
            if shadowing.wish.keep_inputs and not comparison.agrees:
                self._keep(shadowing, one, comparison)
        for choice, comparisons in by_answerer.items():
            self._pair(shadowing, choice).add(comparisons)
            agreed = sum(comparison.agrees for comparison in comparisons)
            count_copies(self._metrics, shadowing.choice, "agreed", agreed)
            count_copies(self._metrics, shadowing.choice, "differed", len(comparisons) - agreed)

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

    def _keep(self, shadowing: Shadowing, one: Compared, comparison: Comparison) -> None:
        worst = comparison.worst
        if worst is None and one.asked.rows == 1:
            # Answers that can't be laid side by side. Of several rows nobody could say which.
            worst = Worst(labels=True, difference=0.0, row=0)
        if worst is None or one.size > INPUT_BYTES_MAX * one.asked.rows:
            return
        kept = self._counted.inputs.setdefault(shadowing.choice.endpoint_id, [])
        count = shadowing.wish.keep_inputs
        if len(kept) >= count and (worst.labels, worst.difference) <= kept[-1].rank:
            return
        kept.append(self._kept_input(shadowing, one, worst))
        kept.sort(key=lambda each: each.rank, reverse=True)
        del kept[count:]

    def _kept_input(self, shadowing: Shadowing, one: Compared, worst: Worst) -> KeptInput:
        return KeptInput(
            labels_differ=worst.labels,
            difference=worst.difference if worst.difference != float("inf") else None,
            input=self._row(one.asked.batch, worst.row),
            given=self._row(one.prediction.answer, worst.row),
            given_by=(one.choice.arm, one.choice.version),
            shadows=self._row(one.answer, worst.row),
            version=shadowing.choice.version,
            at_ms=int(time.time() * 1000),
        )

    def _row(self, rows: Rows | Answer, row: int) -> Any:
        match rows:
            case JsonAnswer():
                return msgspec.json.decode(rows.text)
            case DoubleRow():
                return self._write_row(joined_rows([rows]), row)
            case Batch():
                return self._write_row(rows, row)


async def keep_telling(counts: ShadowCounts, database: Database) -> None:
    """Have the database know every second; what it can't be told while it is away is told later."""
    while True:
        await asyncio.sleep(_INTERVAL_S)
        counted = counts.take()
        try:
            await asyncio.to_thread(tell, database, counted)
        except ServingError:
            counts.put_back(counted)


def tell(database: Database, counted: Counted) -> None:
    """Have *counted* be in the database as well."""
    if not counted.sums:
        return
    CALLER.set(PROGRAM)
    with database.writing() as session:
        for endpoint_id, cells in sorted(counted.sums.items()):
            contents = {cell: sums.to_bytes() for cell, sums in cells.items()}
            tallies.add(session, endpoint_id, Kind.SHADOW, contents, merged)
    # Apart, so that nobody who removes a shadow waits for what waits for its sums.
    if counted.inputs:
        with database.writing() as session:
            for endpoint_id, inputs in sorted(counted.inputs.items()):
                shadows.keep_inputs(session, endpoint_id, inputs)
