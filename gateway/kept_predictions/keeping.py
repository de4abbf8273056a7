"""The worker's part in keeping predictions: samples them once they are answered, and has a thread write them down.

A sample is made bytes at once. That costs a fraction of what its answer cost to encode, holds on to no message of a
model that it was a part of, and makes the bound on memory exact.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from gateway.kept_predictions.records import KeptPrediction, pack, to_record
from gateway.kept_predictions.sampling import is_sampled, threshold_of
from gateway.kept_predictions.spool import SpoolWriter
from gateway.observability.metrics import Metrics
from gateway.observability.prediction_metrics import KEPT_PREDICTIONS, LOST_PREDICTIONS
from gateway.routing_table import Choice
from loaders.base import Answer, Rows

_INTERVAL_S = 0.2


class PredictionKeeper:
    """Keeps *share* of the predictions, with what was asked if *with_inputs*. Used on one event loop.

    *clock* is of epoch seconds.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        *,
        share: float,
        with_inputs: bool,
        bytes_max: int,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._threshold = threshold_of(share)
        self._with_inputs = with_inputs
        self._bytes_max = bytes_max
        self._kept, self._lost = metrics.number(KEPT_PREDICTIONS), metrics.number(LOST_PREDICTIONS)
        self._clock = clock
        self._waiting: list[bytes] = []
        self._bytes = 0
        """Of all that isn't written yet."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kept-predictions")
        self._writing: tuple[list[bytes], Future[int]] | None = None

    def keep(
        self, prediction_id: bytes, choice: Choice, bucket: int | None, rows: int, asked: Rows, answer: Answer
    ) -> None:
        """Keep one prediction, if it is one of those that are kept and there is room."""
        if not is_sampled(prediction_id, self._threshold):
            return
        if self._bytes >= self._bytes_max:
            self._lost.add()
            return
        record = to_record(
            KeptPrediction(
                prediction_id.decode(),
                int(self._clock() * 1000),
                choice.endpoint_id,
                choice.endpoint,
                choice.model,
                choice.version,
                choice.arm,
                choice.period,
                bucket,
                rows,
                pack(answer),
                pack(asked) if self._with_inputs else None,
            )
        )
        if self._bytes + len(record) > self._bytes_max:
            self._lost.add()
            return
        self._bytes += len(record)
        self._waiting.append(record)

    async def keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            # Whoever stops waiting doesn't stop what was taken from being written.
            await asyncio.shield(asyncio.wrap_future(self._begin_writing()))
            self._account()

    def close(self) -> None:
        """Write the last of it, and let go of the file."""
        self._account()
        self._begin_writing()
        self._account()
        self._writer.submit(self._spool.close).result()
        self._writer.shutdown()

    def _begin_writing(self) -> Future[int]:
        records, self._waiting = self._waiting, []
        # Without records too: the file may have become old.
        future = self._writer.submit(self._spool.write, records)
        self._writing = records, future
        return future

    def _account(self) -> None:
        """Take note of what has become of the records that were handed over last."""
        if self._writing is None:
            return
        (records, future), self._writing = self._writing, None
        lost = future.result()
        self._bytes -= sum(map(len, records))
        self._kept.add(len(records) - lost)
        self._lost.add(lost)
