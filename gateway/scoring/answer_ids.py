"""The id that each answer goes out with, by which feedback on it finds back to who gave it."""

import secrets
from collections.abc import Callable
from itertools import count

from gateway.comparison.single_predictions import Value
from gateway.feedback.prediction_ids import NONCE_PREFIX_BYTES, Answered, IdMaker, can_be_carried
from gateway.routing_table import Choice
from registry.entities import NO_PERIOD, PredictionKey

# Counted on from anywhere in the lower half, so that two processes with one prefix hardly ever meet.
_COUNT_BITS = 63


class AnswerIds:
    """Makes ids once there is a key to sign them with. *clock* is of epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key: PredictionKey | None = None
        self._prefix = secrets.token_bytes(NONCE_PREFIX_BYTES)
        self._count = count(secrets.randbits(_COUNT_BITS))
        self.when_changed: Callable[[], None] = lambda: None
        """Called when another key signs: whoever keeps what `maker` gave must ask for it again."""

    def use(self, key: PredictionKey | None) -> None:
        """Sign with *key* from now on."""
        self._key = key
        self.when_changed()

    def maker(self, choice: Choice) -> IdMaker | None:
        """What makes the ids of *choice*'s answers; None while there is no key."""
        if self._key is None:
            return None
        answered = Answered(choice.endpoint_id, choice.period, choice.arm, choice.version)
        return IdMaker(self._key, answered, self._prefix)

    def make(self, maker: IdMaker, choice: Choice, bucket: int | None, single: Value | None) -> bytes:
        """The id of one answer: *single* is what it says, if that is one value; *bucket* is the split's, if it chose.

        Nothing is compared while the split isn't whole, and so such an answer has no bucket.
        """
        if single is not None and not can_be_carried(single):
            single = None
        at_ms = int(self._clock() * 1000)
        return maker.make(next(self._count), at_ms, None if choice.period == NO_PERIOD else bucket, single)
