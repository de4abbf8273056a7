"""The id that each answer goes out with, by which feedback on it finds back to who gave it."""

import secrets
from collections.abc import Callable
from itertools import count

from gateway.feedback.prediction_ids import NONCE_PREFIX_BYTES, Answered, MakeId, id_maker
from gateway.routing_table import Choice
from registry.entities import PredictionKey

# Counted on from anywhere in the lower half, so that two processes with one prefix hardly ever meet.
_COUNT_BITS = 63


class AnswerIds:
    """Has ids made once there is a key to sign them with. *clock_ns* is of nanoseconds since the epoch."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        self._clock_ns = clock_ns
        self._key: PredictionKey | None = None
        self._prefix = secrets.token_bytes(NONCE_PREFIX_BYTES)
        self._counted = count(secrets.randbits(_COUNT_BITS))
        self.when_changed: Callable[[], None] = lambda: None
        """Called when another key signs: whoever keeps what `maker` gave must ask for it again."""

    def use(self, key: PredictionKey | None) -> None:
        """Sign with *key* from now on."""
        self._key = key
        self.when_changed()

    def maker(self, choice: Choice) -> MakeId | None:
        """What makes the ids of *choice*'s answers; None while there is no key."""
        if self._key is None:
            return None
        answered = Answered(choice.endpoint_id, choice.period, choice.arm, choice.version)
        return id_maker(self._key, answered, nonce_prefix=self._prefix, counted=self._counted, clock_ns=self._clock_ns)
