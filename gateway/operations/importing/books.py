"""The books of an import: what was copied before, what is copied now, what could not be."""

from collections.abc import Callable

import msgspec

from gateway.operations.importing.choices import is_unchanged
from gateway.operations.importing.counts import Counts
from gateway.operations.progress import Progress
from registry.sources import SourcePolicy
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.errors import ServingError, TemporarilyUnavailable
from tracking.imports import Import, Kind, find_import, record_import


class Target(msgspec.Struct, frozen=True):
    """Where the copies go."""

    database: Database
    store: ArtifactStore
    policy: SourcePolicy
    """Which folders outside of runs and logged models versions may be made from."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one thing."""

    counts: Counts
    """What it holds there."""
    copied: bool = False
    """Just now."""
    problem: str | None = None


class Books:
    """Added up by the thread that runs the import; what is known may be asked by any."""

    def __init__(self, source: str, target: Target, progress: Progress) -> None:
        self.source, self.target, self.progress = source, target, progress
        self.there, self.copied = Counts(), Counts()
        self.problems: list[str] = []

    def known(self, kind: Kind, id: str) -> Import | None:
        with self.target.database.reading() as session:
            return find_import(session, self.source, kind, id)

    def unchanged(self, kind: Kind, id: str, found: str, *, settled: bool = True) -> Import | None:
        """The copy that was made before, if there is nothing new to copy."""
        known = self.known(kind, id)
        return known if known is not None and is_unchanged(known.fingerprint, found, settled=settled) else None

    def record(
        self, kind: Kind, id: str, found: str, *, local_id: str = "", points: int = 0, files: int = 0, size: int = 0
    ) -> Import:
        """Remember that it is here whole, as it was described there."""
        done = Import(
            source=self.source,
            kind=kind,
            id=id,
            local_id=local_id or id,
            fingerprint=found,
            points=points,
            files=files,
            size=size,
        )
        with self.target.database.writing() as session:
            record_import(session, done, self.target.database.now_ms(session))
        return done

    def attempt(self, what: str, counts: Counts, copy: Callable[[], Done]) -> Done:
        """*copy*, or why not; what is away altogether ends the import."""
        try:
            return copy()
        except TemporarilyUnavailable:
            raise
        except ServingError as error:
            return Done(counts=counts, problem=f"{what}: {error.message}")

    def add(self, done: Done) -> None:
        self.there += done.counts
        if done.copied:
            self.copied += done.counts
        if done.problem is not None:
            self.problems.append(done.problem)
        self.progress.advance()
