"""How long a model takes, learned from what it has answered: what a request that comes now will have to wait."""

# What the latest message counts: the last twenty or so make the figure, so that it follows a model that turns slow.
_LATEST_SHARE = 0.1
# Twice the average error covers nine of ten, as they scatter.
_DEVIATIONS = 2.0


class Pace:
    """A straight line through the last messages: so long for each, and so much more for each row.

    Two figures, because models differ in which of them counts: a message of a hundred rows takes a forest as long as
    one row, and a transformer a hundred times that. Where all messages were of one size, rows count as free: the first
    large one shows what they cost.
    """

    def __init__(self) -> None:
        self._message_s = 0.0
        self._row_s = 0.0
        self._messages = 0
        # By how much the line was wrong, on average.
        self._astray_s = 0.0
        # Averages of both, of the square of the one, and of their product.
        self._rows = self._took_s = self._rows_rows = self._rows_took_s = 0.0

    def learn(self, rows: int, took_s: float) -> None:
        """A message of *rows* rows was answered *took_s* after it was sent."""
        astray_s = abs(took_s - self.expected_s(1, rows)) if self._messages else 0.0
        self._messages += 1
        # All alike at first: the very first one is often slow, and mustn't count for long.
        share = max(_LATEST_SHARE, 1 / self._messages)
        self._astray_s += share * (astray_s - self._astray_s)
        self._rows += share * (rows - self._rows)
        self._took_s += share * (took_s - self._took_s)
        self._rows_rows += share * (rows * rows - self._rows_rows)
        self._rows_took_s += share * (rows * took_s - self._rows_took_s)
        spread = self._rows_rows - self._rows * self._rows
        # Under a millionth it is what rounding has left of nothing.
        slope_s = 0.0
        if spread > 1e-6 * self._rows_rows:
            slope_s = (self._rows_took_s - self._rows * self._took_s) / spread
        # No steeper than if messages themselves cost nothing, however the times of small ones scatter.
        self._row_s = min(max(slope_s, 0.0), self._took_s / self._rows) if self._rows else 0.0
        self._message_s = self._took_s - self._row_s * self._rows

    def expected_s(self, messages: int, rows: int) -> float:
        """How long so many messages of so many rows together will take; nothing before anything was learned."""
        return messages * self._message_s + rows * self._row_s

    def cautious_s(self, rows: int) -> float:
        """How long one message of so many rows will take if it is one of the slower ones."""
        expected_s = self.expected_s(1, rows)
        # Twice as long at most: after the machine stood still, it would else be long before anybody was let through.
        return expected_s + min(expected_s, _DEVIATIONS * self._astray_s)
