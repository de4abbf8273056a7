"""How many requests a second a scoring key may send: a bucket that fills at its rate and holds a second's worth."""

from tracking.errors import Exhausted


class RateExceeded(Exhausted):
    def __init__(self, name: str, rate: float, wait_s: float) -> None:
        super().__init__(f"The key {name!r} may ask {rate:g} times a second here, and has.")
        self.retry_after_s = max(1, round(wait_s))


class Bucket:
    """One key's. It begins full."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._room = max(1.0, rate)
        self._level = self._room
        self._at_s: float | None = None

    def take(self, now_s: float) -> float:
        """Take one, if there is one; else how long it is until there will be. Both by the same clock, in seconds."""
        if self._at_s is not None:
            self._level = min(self._room, self._level + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate
