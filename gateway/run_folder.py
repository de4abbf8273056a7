"""The folder that one run of the program has for what doesn't outlive it: sockets, metrics, scratch space."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "titlebout-run-"
_LOCK = "lock"


@contextmanager
def run_folder() -> Iterator[Path]:
    """A private folder, short because a socket's path may have about 100 characters; predecessors' are swept."""
    # Locked for as long as this process lives, however it ends. That is how a successor tells a dead one's.
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(path / "new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # It has its name only once it is locked, so that nobody finds it free in between.
        (path / "new").rename(path / _LOCK)
        for other in path.parent.glob(f"{_PREFIX}*/{_LOCK}"):
            _sweep(other)
        for name in ("metrics", "scratch"):
            (path / name).mkdir()
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _sweep(lock: Path) -> None:
    # Somebody else's folder, or one that is gone by now, is none of ours to remove.
    with suppress(OSError), lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.parent, ignore_errors=True)
