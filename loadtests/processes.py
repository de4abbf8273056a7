"""What a server's processes, all of them, have used: read from /proc, so that neither server is asked."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAMPLE_PAUSE_S = 0.01


def family(pid: int) -> list[int]:
    """*pid* and every process below it."""
    found = [pid]
    for parent in found:
        for children in (_PROC / str(parent) / "task").glob("*/children"):
            found += map(int, _read(children).split())
    return found


def processor_s(pid: int) -> float:
    """Processor time of the family since it began. A child that ended counts through the parent that waited for it."""
    return sum(_TICK_S * sum(_ticks(one)) for one in family(pid))


def own_processor_s(pid: int) -> float:
    """Processor time of *pid* alone."""
    return _TICK_S * sum(_ticks(pid)[:2])


def name(pid: int) -> str:
    """The module that a Python process runs, else its program."""
    words = _read(_PROC / str(pid) / "cmdline").split("\0")
    return words[words.index("-m") + 1] if "-m" in words[:-1] else words[0]


def memory_bytes(pid: int) -> int:
    """The family's proportional set size: pages that several share are counted once."""
    return sum(_pss(one) for one in family(pid))


def own_memory_bytes(pid: int) -> int:
    """The proportional set size of *pid* alone."""
    return _pss(pid)


@contextmanager
def peak_growth() -> Iterator["Growth"]:
    """Watches how far a family's resident memory rises while the block runs."""
    growth = Growth()
    try:
        yield growth
    finally:
        growth.stop()


class Growth:
    """Resident memory over what it was when the watching began, at most."""

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, pid: int) -> None:
        began = _resident_bytes(pid)

        def sample() -> None:
            while not self._ended.wait(_SAMPLE_PAUSE_S):
                self.bytes = max(self.bytes, _resident_bytes(pid) - began)

        self._thread = threading.Thread(target=sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()


def _ticks(pid: int) -> list[int]:
    # After the name in brackets, which may hold anything: user, system, children's user, children's system.
    return [int(field) for field in _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()[11:15]]


def _pss(pid: int) -> int:
    for line in _read(_PROC / str(pid) / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _resident_bytes(pid: int) -> int:
    return sum(int((_read(_PROC / str(one) / "statm") or "0 0").split()[1]) * _PAGE_BYTES for one in family(pid))


def _read(path: Path) -> str:
    # A process may end between being listed and being read.
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
