"""Files in the data folder that kept predictions wait in until they are in the artifact store.

Whoever writes one holds a lock on it, which the kernel drops when they end, however that is: a file without a lock is
finished, or left behind. So nothing that was written is lost by a kill, of workers or of the supervisor.
"""

import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_log = logging.getLogger(__name__)

SPOOLED = ".spool"
"""What is written, or being written; not what has no lock yet."""
_NEW = ".new"


class SpoolWriter:
    """Writes records of one worker into files of bounded size and age, while *folder* has room. For one thread.

    *clock* is monotonic.
    """

    def __init__(
        self,
        folder: Path,
        *,
        file_bytes_max: int,
        file_s: float,
        folder_bytes_max: int,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._file_bytes_max = file_bytes_max
        self._file_s = file_s
        self._folder_bytes_max = folder_bytes_max
        self._clock = clock
        self._file: BinaryIO | None = None
        self._path = folder
        self._bytes = 0
        self._begun_s = 0.0
        self._is_failing = False

    def write(self, records: Sequence[bytes]) -> int:
        """Write *records*, and finish the file that has become old or large; how many couldn't be written."""
        lost = 0
        for record in records:
            try:
                lost += not self._write(record)
            except OSError as error:
                lost += 1
                self._give_up(error)
        if self._file is not None and self._clock() >= self._begun_s + self._file_s:
            self.close()
        return lost

    def close(self) -> None:
        """Finish the file that is being written."""
        if self._file is not None:
            file, self._file = self._file, None
            # Nothing is left to be written; what a file system over a network says now changes nothing.
            with suppress(OSError):
                file.close()

    def _write(self, record: bytes) -> bool:
        if self._file is not None and self._bytes + len(record) > self._file_bytes_max:
            self.close()
        file = self._file or self._begin()
        if file is None:
            return False
        left = memoryview(record)
        while left:
            left = left[file.write(left) :]
        self._bytes += len(record)
        self._is_failing = False
        return True

    def _begin(self) -> BinaryIO | None:
        """Another file; None while there is no room for one."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _bytes_in(self._folder) >= self._folder_bytes_max:
            self._say_failing(f"{self._folder} is full")
            return None
        self._path, self._file = _locked_file(self._folder)
        self._bytes, self._begun_s = 0, self._clock()
        return self._file

    def _give_up(self, error: OSError) -> None:
        """Leave the file at its last whole record, for whatever came of the one that failed."""
        self._say_failing(error.strerror or str(error))
        if self._file is not None:
            with suppress(OSError):
                # On a full disk there would be an empty one for each record.
                if self._bytes:
                    self._file.truncate(self._bytes)
                else:
                    self._path.unlink()
            self.close()

    def _say_failing(self, reason: str) -> None:
        # Once, until something is written again.
        if not self._is_failing:
            _log.warning("predictions_not_kept", extra={"reason": reason})
        self._is_failing = True


def spools_in(folder: Path) -> list[Path]:
    """The files in *folder*, the oldest first, of which some may be written still."""
    found = []
    for path in folder.glob(f"*{SPOOLED}"):
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Hold the file at *path* for this block, and say whether it could be had: nobody writes it, or has taken it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Whoever had it before may have been done with it in between.
        yield path.exists()


def _locked_file(folder: Path) -> tuple[Path, BinaryIO]:
    name = folder / uuid.uuid4().hex
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.fdopen(os.open(name.with_suffix(_NEW), flags, 0o600), "wb", buffering=0)
    # It has its name only once it is locked, so that nobody finds it free in between.
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return name.with_suffix(_NEW).rename(name.with_suffix(SPOOLED)), file


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total
