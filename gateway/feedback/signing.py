"""The supervisor's part in feedback: has workers know the key that ids are signed with, and forgets what is too old."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from gateway.feedback.times import DAY_MS, ROTATION_MS
from registry import labels, prediction_keys
from registry.entities import PredictionKey
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
_LOOKS_FOR_A_SWEEP = 3_600


class Signers(Protocol):
    """Those who are told, `gateway.workers.WorkerGroup` by name."""

    def set_prediction_key(self, key: PredictionKey | None) -> None:
        """Have every worker, and those that come, sign with *key*."""
        ...


class SigningFollower:
    """Keeps *workers* told of the key that signs, and the database free of what no feedback needs any more.

    Without the database there is no key: it is kept nowhere else, and answers go out without an id until it is known.
    """

    def __init__(
        self,
        database: Database,
        workers: Signers,
        *,
        feedback_days: int,
        clock: Callable[[], float],
        interval_s: float = 1.0,
    ) -> None:
        self._database = database
        self._workers = workers
        self._kept_ms = feedback_days * DAY_MS
        self._clock = clock
        self._interval_s = interval_s
        self._key: PredictionKey | None = None

    async def begin(self) -> None:
        """Tell before the first request is answered, if the database says so soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._look()

    async def run(self) -> None:
        """Go on telling, and sweep now and every hour, until cancelled."""
        while True:
            await asyncio.to_thread(self._sweep)
            for _ in range(_LOOKS_FOR_A_SWEEP):
                await asyncio.sleep(self._interval_s)
                await self._look()

    async def _look(self) -> None:
        try:
            key = await asyncio.to_thread(self._read)
        except ServingError as error:
            _log.debug("prediction_key_not_read", extra={"reason": error.reason})
            return
        if key != self._key:
            self._key = key
            self._workers.set_prediction_key(key)

    def _read(self) -> PredictionKey:
        with self._database.reading() as session:
            found = prediction_keys.find_signing_key(session)
        if found is not None:
            return found
        with self._database.writing() as session:
            return prediction_keys.ensure_key(session, now_ms=self._now_ms())

    def _sweep(self) -> None:
        before_ms = self._now_ms() - self._kept_ms - ROTATION_MS
        try:
            while self._sweep_some(before_ms):
                pass
            with self._database.writing() as session:
                prediction_keys.remove_retired(session, before_ms=before_ms)
        except ServingError as error:
            _log.debug("labels_not_swept", extra={"reason": error.reason})

    def _sweep_some(self, before_ms: int) -> int:
        with self._database.writing() as session:
            return labels.sweep(session, before_ms=before_ms)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
