"""Slows those down who guess: failures are counted, and each over a few makes the next try wait twice as long."""

from collections import OrderedDict

import msgspec

from tracking.errors import Exhausted

_FREE = 5
_PAUSE_FIRST_S = 1.0
_FORGOTTEN_AFTER_S = 900.0
_KNOWN_MAX = 10_000
# No user's name is longer, and nobody fills the memory with those that they make up.
_LENGTH_MAX = 256


class TooManyFailures(Exhausted):
    def __init__(self, wait_s: float) -> None:
        super().__init__("Too many tries to sign in have failed; wait before the next one.")
        self.retry_after_s = max(1, round(wait_s))


class _Failures(msgspec.Struct):
    count: int = 0
    until_s: float = 0.0
    last_s: float = 0.0


class Throttle:
    """Failures of each of some sources, or names; at most 10,000, of which those go first that failed longest ago.

    Who shares a source or a name with one who guesses waits with them, so the pause has a bound.
    """

    def __init__(self, pause_max_s: float) -> None:
        self._pause_max_s = pause_max_s
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def check(self, whose: str, now_s: float) -> None:
        """Let *whose* next try through.

        Raises:
            TooManyFailures: if it comes too early.
        """
        failures = self._failures.get(whose[:_LENGTH_MAX])
        if failures is not None and now_s < failures.until_s:
            raise TooManyFailures(failures.until_s - now_s)

    def failed(self, whose: str, now_s: float) -> None:
        whose = whose[:_LENGTH_MAX]
        failures = self._failures.pop(whose, None)
        if failures is None or now_s - failures.last_s > _FORGOTTEN_AFTER_S:
            failures = _Failures()
        failures.count += 1
        failures.last_s = now_s
        if failures.count > _FREE:
            pause_s = _PAUSE_FIRST_S * 2.0 ** min(failures.count - _FREE - 1, 30)
            failures.until_s = now_s + min(pause_s, self._pause_max_s)
        self._failures[whose] = failures
        while len(self._failures) > _KNOWN_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, whose: str) -> None:
        self._failures.pop(whose[:_LENGTH_MAX], None)
