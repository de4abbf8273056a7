"""What signals ask of the supervisor: to stop at no one's cost, to stop quickly, to put new workers in place."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable


class Signals:
    """SIGTERM stops, with notice given. SIGINT stops quickly, and by a second one at once. SIGHUP replaces workers.

    A SIGHUP because the terminal was closed is the end, as for any program that was started there.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.quick = asyncio.Event()
        self.replace = asyncio.Event()
        self.on_quick: Callable[[], None] = lambda: None
        self.on_kill: Callable[[], None] = lambda: None
        self._had_terminal = _has_terminal()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _interrupted(self) -> None:
        if self.quick.is_set():
            self.on_kill()
        self.quick.set()
        self.stop.set()
        self.on_quick()

    def _hung_up(self) -> None:
        if self._had_terminal and not _has_terminal():
            self.stop.set()
        else:
            self.replace.set()


def _has_terminal() -> bool:
    with contextlib.suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
        return True
    return False
