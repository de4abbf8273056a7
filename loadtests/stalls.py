"""When the machine itself stood still: measurements of instants say nothing of a program that had no processor."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_TICK_S = 0.005
_STALL_S = 0.03


class Stalls:
    """The times, by `time.monotonic`, in which a thread that only wanted to wake up could not."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def overlap(self, began_s: float, ended_s: float) -> bool:
        """Whether there was one between the two."""
        return any(began < ended_s and ended > began_s for began, ended in self.seen)

    def watch(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            began_s = time.monotonic()
            time.sleep(_TICK_S)
            ended_s = time.monotonic()
            if ended_s - began_s > _TICK_S + _STALL_S:
                self.seen.append((began_s, ended_s))


@contextmanager
def watched_stalls() -> Iterator[Stalls]:
    """Look out for as long as the block lasts."""
    stalls, stopping = Stalls(), threading.Event()
    watching = threading.Thread(target=stalls.watch, args=(stopping,), daemon=True)
    watching.start()
    try:
        yield stalls
    finally:
        stopping.set()
        watching.join()
