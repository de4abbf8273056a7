"""The supervisor's part in keeping predictions: brings what workers wrote down to the artifact store as Parquet.

What is in a spool stays there until it is in the store. It is uploaded under a name that follows from the spool's, so
whoever is broken off does it once more, and nothing is there twice.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from gateway.kept_predictions.files import SUFFIX, remove_old
from gateway.kept_predictions.spool import SPOOLED, spools_in, taken
from tracking.artifact_paths import ArtifactPath
from tracking.artifacts import ArtifactStore
from tracking.errors import ErrorCode, InvalidParameter, ServingError, TemporarilyUnavailable

_log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_SWEEP_INTERVAL_S = 3600.0
_PAUSE_S = 30.0
"""After something failed."""
_TRIES_MAX = 3
_WRITE_TIMEOUT_S = 300.0
_FINISH_TIMEOUT_S = 20.0
_UNREADABLE = ".unreadable"
_WRITTEN = ".written"


class ArrowNotInstalled(InvalidParameter):
    def __init__(self) -> None:
        super().__init__(
            "TITLEBOUT_PREDICTION_LOG_SHARE has predictions kept as Parquet, for which pyarrow is missing: install "
            "titlebout[arrow]."
        )


class WriterFailed(ServingError):
    """The process that writes Parquet did not; the end of what it said."""

    code = ErrorCode.INTERNAL_ERROR

    def __init__(self, spool: Path, said: str) -> None:
        super().__init__(f"{spool.name} couldn't be written as Parquet: {said[-500:].strip() or 'it was ended'}")


class NoRoomToWrite(TemporarilyUnavailable):
    """The process that writes Parquet couldn't, whatever the spool says."""

    def __init__(self, spool: Path, said: str) -> None:
        super().__init__(f"{spool.name} can't be written as Parquet at the moment: {said[-500:].strip()}")


def ensure_can_write(share: float) -> None:
    """Find out at the start what would fail at each file.

    Raises:
        ArrowNotInstalled: if predictions are to be kept and nothing can write them.
    """
    if share > 0 and importlib.util.find_spec("pyarrow") is None:
        raise ArrowNotInstalled


@contextlib.asynccontextmanager
async def shipping(folder: Path, store: ArtifactStore, *, kept_days: int) -> AsyncIterator[None]:
    """Ship what is in *folder* for this block, whose workers write there and must have ended by its end."""
    shipper = PredictionShipper(folder, store, kept_days=kept_days)
    running = asyncio.create_task(shipper.run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        # What isn't soon done is done by whoever starts next.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_TIMEOUT_S):
                await shipper.ship()


class PredictionShipper:
    """Ships what is finished in *folder*, which is this replica's own. *clock* is of epoch seconds."""

    def __init__(
        self, folder: Path, store: ArtifactStore, *, kept_days: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._spools = folder
        self._store = store
        self._kept_days = kept_days
        self._clock = clock
        self._failures: Counter[Path] = Counter()

    async def run(self) -> None:
        """Ship whatever is finished, and remove what is old, now and every hour, until cancelled."""
        sweep_at_s = 0.0
        while True:
            if self._clock() >= sweep_at_s:
                await asyncio.to_thread(self._sweep)
                sweep_at_s = self._clock() + _SWEEP_INTERVAL_S
            is_well = await self.ship()
            await asyncio.sleep(_INTERVAL_S if is_well else _PAUSE_S)

    async def ship(self) -> bool:
        """Ship all that is finished; whether there was nothing in the way."""
        for spool in spools_in(self._spools):
            with taken(spool) as is_ours:
                if is_ours and not await self._try_one(spool):
                    return False
        return True

    async def _try_one(self, spool: Path) -> bool:
        try:
            await self._ship_one(spool)
        except WriterFailed as error:
            _log.exception("predictions_not_written", extra={"reason": error.message})
            self._failures[spool] += 1
            if self._failures[spool] >= _TRIES_MAX:
                # It never will be, and mustn't keep the others waiting. It still counts for the room there is.
                await asyncio.to_thread(spool.rename, spool.with_suffix(_UNREADABLE))
            return False
        except (ServingError, OSError) as error:
            # Also where no process can be started, or no file be removed: all of it is there still.
            reason = error.reason if isinstance(error, ServingError) else str(error)
            _log.warning("predictions_not_uploaded", extra={"reason": reason})
            return False
        self._failures.pop(spool, None)
        return True

    async def _ship_one(self, spool: Path) -> None:
        folder = spool.with_suffix(_WRITTEN)
        try:
            await _write(spool, folder)
            await asyncio.to_thread(self._upload, folder)
            await asyncio.to_thread(spool.unlink)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _upload(self, folder: Path) -> None:
        for file in sorted(folder.rglob(f"*{SUFFIX}")):
            path = ArtifactPath(file.relative_to(folder).parts)
            with self._store.upload(path) as upload:
                for chunk in _chunks(file):
                    upload.write(chunk)
                upload.finish()
                upload.publish()
            _log.debug("predictions_uploaded", extra={"path": str(path)})

    def _sweep(self) -> None:
        now_ms = int(self._clock() * 1000)
        try:
            removed = remove_old(self._store, now_ms=now_ms, kept_days=self._kept_days)
        except ServingError as error:
            _log.warning("predictions_not_swept", extra={"reason": error.reason})
        else:
            if removed:
                _log.info("predictions_swept", extra={"days": removed})
        for path in self._spools.glob("*"):
            # A worker may give it its name just now.
            with contextlib.suppress(OSError):
                self._sweep_one(path)

    def _sweep_one(self, path: Path) -> None:
        """Remove *path* if it never came to be a file, never can be read, or was left by whoever was killed."""
        if path.suffix == _WRITTEN:
            if not path.with_suffix(SPOOLED).exists():
                shutil.rmtree(path)
        elif path.suffix != SPOOLED and path.stat().st_mtime < self._clock() - self._kept_days * 86_400:
            path.unlink()


async def _write(spool: Path, folder: Path) -> None:
    """Have a process of its own write *spool* as Parquet below *folder*.

    Raises:
        WriterFailed: if it didn't.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.prediction_writer",
        str(spool),
        str(folder),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_WRITE_TIMEOUT_S):
            _, said = await process.communicate()
    except TimeoutError:
        raise WriterFailed(spool, f"it took over {_WRITE_TIMEOUT_S:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.returncode == os.EX_TEMPFAIL:
        raise NoRoomToWrite(spool, said.decode(errors="replace"))
    if process.returncode:
        raise WriterFailed(spool, said.decode(errors="replace"))


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while chunk := content.read(1024 * 1024):
            yield chunk
