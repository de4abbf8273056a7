"""The supervisor's part: reads access whenever it changed, and has it on disk for a start without a database."""

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from tracking.access.book import Book, read_book
from tracking.access.changes import change_number
from tracking.access.first_admin import ensure_admin
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

# What is revoked is gone within two of these, and the question costs a tenth of a millisecond.
_INTERVAL_S = 1.0


class Books(Protocol):
    """Those who are told, `gateway.workers.WorkerGroup` by name."""

    def set_book(self, book: Book) -> None:
        """Have every worker, and those that come, know *book*."""
        ...


class AccessFollower:
    """Keeps *workers* told. *show_token* is given the first administrator's token, once, where nobody was before."""

    def __init__(
        self,
        database: Database,
        workers: Books,
        saved: Path,
        *,
        admin_token: str,
        show_token: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._workers = workers
        self._saved = saved
        self._admin_token = admin_token
        self._show_token = show_token
        self._clock = clock
        self._book = Book()
        self._has_admin = False

    async def begin(self) -> None:
        """Tell what the database says, or what it said last, before the first request is answered."""
        await self._look()
        if self._book.number < 0:
            self._recover()

    async def run(self) -> None:
        """Go on telling, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await self._look()

    async def _look(self) -> None:
        try:
            book = await asyncio.to_thread(self._read)
        except ServingError as error:
            _log.debug("access_not_read", extra={"reason": error.reason})
            return
        if book is not None:
            self._tell(book)
            await asyncio.to_thread(partial(self._save, book))

    def _read(self) -> Book | None:
        if not self._has_admin:
            with self._database.writing() as session:
                token = ensure_admin(session, given=self._admin_token, now_ms=int(self._clock() * 1000))
            self._has_admin = True
            if token is not None:
                self._show_token(token)
        with self._database.reading() as session:
            if change_number(session) == self._book.number:
                return None
            return read_book(session)

    def _tell(self, book: Book) -> None:
        self._book = book
        self._workers.set_book(book)

    def _recover(self) -> None:
        try:
            book = msgspec.json.decode(self._saved.read_bytes(), type=Book)
        except (OSError, msgspec.MsgspecError):
            return
        self._tell(book)
        # Known again, and still to be compared with the database once that is there.
        self._book = Book()

    def _save(self, book: Book) -> None:
        partial_path = self._saved.with_suffix(".partial")
        try:
            self._saved.parent.mkdir(parents=True, exist_ok=True)
            with open(partial_path, "wb", opener=partial(os.open, mode=0o600)) as file:
                file.write(msgspec.json.encode(book))
            partial_path.replace(self._saved)
        except OSError as error:
            _log.warning("access_not_saved", extra={"reason": error.strerror or str(error)})
