"""Who waits when there are more at work than processors: a load gives way to predictions.

By the kernel's policy for work that runs when nobody else wants to (SCHED_IDLE). Any process may take it; to come back
from it takes CAP_SYS_NICE or an RLIMIT_NICE of 20, so whoever must come back gives way only where that is given.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

LONGEST_S = 3.0
"""So long a load gives way. On a machine that is never idle it would else never end, nor a host be replaced."""


def give_way() -> None:
    """Have this thread, and all threads and processes that it starts, run when nobody else wants to."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def can_come_back() -> bool:
    """Whether a process of ours that gives way can be brought back; tried, since capabilities don't tell in containers.

    In a thread of its own, which if it can't come back is gone.
    """
    if not hasattr(os, "SCHED_IDLE"):
        return False
    came_back: list[bool] = []

    def go_and_come_back() -> None:
        with contextlib.suppress(OSError):
            give_way()
            _come_back_alone(0)
            came_back.append(True)

    trying = threading.Thread(target=go_and_come_back)
    trying.start()
    trying.join()
    return bool(came_back)


def come_back(pid: int) -> None:
    """Have all threads of *pid*, and of what it has started, take their full share again.

    Raises:
        PermissionError: if that isn't ours to say; see `can_come_back`.
    """
    # Who is brought back starts nobody any more that gives way, so the second look finds all there are.
    for _ in range(2):
        for thread in _threads_of_family(pid):
            with contextlib.suppress(ProcessLookupError):
                if os.sched_getscheduler(thread) == os.SCHED_IDLE:
                    _come_back_alone(thread)


@contextlib.contextmanager
def giving_way(longest_s: float = LONGEST_S) -> Iterator[None]:
    """Have this process, which does nothing else, give way while the block runs, but no longer than that.

    In the main thread only: an alarm brings it back.
    """
    if not can_come_back():
        yield
        return
    give_way()
    before = signal.signal(signal.SIGALRM, lambda *_: come_back(os.getpid()))
    signal.setitimer(signal.ITIMER_REAL, longest_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        come_back(os.getpid())


def _come_back_alone(thread: int) -> None:
    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _threads_of_family(pid: int) -> list[int]:
    """The threads of *pid* and of all below it, as far as they can still be found."""
    members, threads = [pid], []
    for member in members:
        for task in Path(f"/proc/{member}/task").glob("*"):
            threads.append(int(task.name))
            with contextlib.suppress(OSError):
                members += map(int, (task / "children").read_text().split())
    return threads
