"""The last table on disk, with what its versions are held to: enough to serve on after a restart without a database."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from registry.entities import RoutingTable, VersionKey

_log = logging.getLogger(__name__)


class SavedTable(msgspec.Struct, frozen=True):
    table: RoutingTable
    digests: list[tuple[str, int, str]]


class TableOnDisk:
    """One file. What was served when the power went is there after it, whole, or what was served before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: SavedTable | None = None
        self._failing = False

    def find(self) -> tuple[RoutingTable, dict[VersionKey, str | None]] | None:
        """The table and the digests that were kept last, None if there are none that can be read."""
        try:
            saved = msgspec.json.decode(self._path.read_bytes(), type=SavedTable)
        except (OSError, msgspec.MsgspecError):
            return None
        return saved.table, {(model, version): digest for model, version, digest in saved.digests}

    def keep(self, table: RoutingTable, digests: Mapping[VersionKey, str]) -> None:
        """Have *table* on disk. A disk that takes nothing is logged, once, and no reason not to serve."""
        saved = SavedTable(table, [(model, version, digest) for (model, version), digest in sorted(digests.items())])
        if saved == self._written:
            return
        try:
            self._write(msgspec.json.encode(saved))
        except OSError as error:
            if not self._failing:
                _log.warning("table_not_saved", extra={"epoch": table.epoch, "reason": error.strerror or str(error)})
            self._failing = True
        else:
            self._written, self._failing = saved, False

    def _write(self, content: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = self._path.with_suffix(".partial")
        with partial_path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial_path.replace(self._path)
