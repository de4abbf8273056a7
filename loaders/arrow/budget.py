"""How much memory the decoding of one body may take."""

from loaders.errors import DecodedTooLarge


class Budget:
    """Spent before memory is taken, since a small body may say that it is a large table."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._spent = 0

    def spend(self, size: int) -> None:
        """Raise `DecodedTooLarge` if *size* bytes more are too many."""
        self._spent += size
        if self._spent > self._bytes_max:
            raise DecodedTooLarge(self._spent, self._bytes_max)
