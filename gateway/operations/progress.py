"""How long operations say how far they are."""

from typing import Protocol


class Progress(Protocol):
    """One step at a time: a name, how much there is of it if that is known, and how much of it is done."""

    def begin(self, step: str, total: int | None = None) -> None: ...

    def expect(self, more: int) -> None:
        """More of it has been found."""

    def advance(self, count: int = 1) -> None: ...


class Silent:
    """For tests and programs."""

    def begin(self, step: str, total: int | None = None) -> None:
        pass

    def expect(self, more: int) -> None:
        pass

    def advance(self, count: int = 1) -> None:
        pass
