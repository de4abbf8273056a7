"""How far the database's clock is from this machine's, of what was asked about it."""

from collections import deque

_KEPT = 10


class ClockOffset:
    """Of the last questions the one answered quickest says it best: the clock was read somewhere in between."""

    def __init__(self) -> None:
        # From and to, in seconds that the database's clock is ahead.
        self._kept: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def learn(self, asked_s: float, database_s: float, answered_s: float) -> None:
        """The database said *database_s* between two instants of ours."""
        newest = (database_s - answered_s, database_s - asked_s)
        # One that can't be true beside it was learned before a clock was set.
        kept = [each for each in self._kept if each[0] <= newest[1] and newest[0] <= each[1]]
        self._kept = deque([*kept, newest], maxlen=_KEPT)

    @property
    def seconds(self) -> float:
        """To be added to our clock; 0 before anything was learned."""
        if not self._kept:
            return 0.0
        least, most = min(self._kept, key=lambda each: each[1] - each[0])
        return (least + most) / 2
