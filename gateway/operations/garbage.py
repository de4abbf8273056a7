"""Clears away what was deleted long ago, and artifacts that belong to nobody.

Rows go first. Once a run's row is gone nobody owns its files, and files that nobody owns go next; if that is broken
off, the next collection finds them. What a version needs is kept, together with the run or logged model it lies in.
Files that neither came through us nor lie where a run of ours did are somebody else's, perhaps another server's that
has the same bucket: they are only counted, unless their removal is asked for.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from gateway.operations.folders import Folders
from gateway.operations.progress import Progress
from registry.holdings import held_folders
from tracking import artifact_records, expiry
from tracking.artifact_paths import PREDICTIONS, ArtifactPath, InvalidArtifactPath
from tracking.artifact_records import ArtifactFrozen
from tracking.artifact_uris import ArtifactUri, InvalidArtifactUri, parse_artifact_uri
from tracking.artifacts import ArtifactStore, StoredArtifact
from tracking.database import Database
from tracking.errors import InvalidParameter
from tracking.expiry import ExpiredExperiment, Owner

AGE_MS_MIN = 24 * 3600 * 1000
"""Nothing younger than a day is ever removed: it may be a mistake that nobody has noticed yet, or on its way."""

# Files in one transaction, during which an embedded database's other writers wait.
_FILES_AT_ONCE = 20

Locate = Callable[[ArtifactUri], ArtifactPath | None]


class TooYoung(InvalidParameter):
    def __init__(self) -> None:
        super().__init__("Nothing younger than a day is removed; ask for an age of 1d or more.")


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """What the database says was deleted before the cutoff."""

    runs: Sequence[Owner]
    logged_models: Sequence[Owner]
    experiments: Sequence[ExpiredExperiment]


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """What of it goes, and what stays because a version lies in its folder."""

    run_ids: tuple[str, ...]
    model_ids: tuple[str, ...]
    experiments: tuple[ExpiredExperiment, ...]
    kept: tuple[str, ...]
    """Ids of runs and logged models."""


class Garbage(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection removes, or has removed."""

    doomed: Doomed
    files: tuple[StoredArtifact, ...]
    strangers: tuple[StoredArtifact, ...] = ()
    """Files that nobody here owns and that we know nothing of; they stay."""


def choose_doomed(expired: Expired, owners: Iterable[Owner], held: Folders, locate: Locate) -> Doomed:
    """Decide what goes. An experiment goes when nothing would be left in it.

    *owners* are all runs and logged models there are.
    """
    kept = {one.id for one in (*expired.runs, *expired.logged_models) if _is_held(one, held, locate)}
    run_ids = tuple(run.id for run in expired.runs if run.id not in kept)
    model_ids = tuple(model.id for model in expired.logged_models if model.id not in kept)
    going = {*run_ids, *model_ids}
    inhabited = {owner.experiment_id for owner in owners if owner.id not in going}
    return Doomed(
        run_ids=run_ids,
        model_ids=model_ids,
        experiments=tuple(one for one in expired.experiments if one.experiment_id not in inhabited),
        kept=tuple(sorted(kept)),
    )


def is_garbage(file: StoredArtifact, owned: Folders, before_ms: int) -> bool:
    """Whether nobody owns *file*, and it is old enough that nobody is about to."""
    return file.modified_ms <= before_ms and not owned.cover(file.path)


def size_of(files: Iterable[StoredArtifact]) -> int:
    """Bytes of all of them."""
    return sum(file.size for file in files)


def find_garbage(
    database: Database, store: ArtifactStore, *, age_ms: int, progress: Progress, strangers_too: bool = False
) -> Garbage:
    """Look through the database and the whole store; change nothing.

    With *strangers_too* files that we know nothing of count as garbage as well.

    Raises:
        TooYoung: if *age_ms* is less than a day.
    """
    if age_ms < AGE_MS_MIN:
        raise TooYoung
    with database.reading() as session:
        before_ms = database.now_ms(session) - age_ms
        owners = expiry.owners(session)
        held = held_folders(session, store.locate)
        expired = Expired(
            runs=expiry.expired_runs(session, before_ms),
            logged_models=expiry.expired_logged_models(session, before_ms),
            experiments=expiry.expired_experiments(session, before_ms),
        )
    doomed = choose_doomed(expired, owners, Folders(held), store.locate)
    going = {*doomed.run_ids, *doomed.model_ids}
    owned = _owned((owner for owner in owners if owner.id not in going), held, store.locate)
    progress.begin("look through artifacts")
    files = []
    for file in store.walk(None):
        if is_garbage(file, owned, before_ms):
            files.append(file)
        progress.advance()
    if strangers_too:
        return Garbage(doomed=doomed, files=tuple(files))
    ours = _owned((owner for owner in owners if owner.id in going), (), store.locate)
    with database.reading() as session:
        recorded = expiry.recorded_among(session, [file.path for file in files])
    known = [file.path in recorded or ours.cover(file.path) for file in files]
    return Garbage(
        doomed=doomed,
        files=tuple(file for file, is_known in zip(files, known, strict=True) if is_known),
        strangers=tuple(file for file, is_known in zip(files, known, strict=True) if not is_known),
    )


def remove_garbage(
    database: Database, store: ArtifactStore, garbage: Garbage, *, age_ms: int, progress: Progress
) -> Garbage:
    """Remove what `find_garbage` found, but for what was restored, registered or written since; say what went."""
    doomed = garbage.doomed
    progress.begin("remove rows")
    with database.writing() as session:
        before_ms = database.now_ms(session) - age_ms
        expiry.remove_runs(session, doomed.run_ids, before_ms)
        expiry.remove_logged_models(session, doomed.model_ids, before_ms)
        expiry.remove_experiments(session, [one.experiment_id for one in doomed.experiments], before_ms)
    with database.reading() as session:
        owners = expiry.owners(session)
        experiments = {one.experiment_id for one in expiry.expired_experiments(session, before_ms)}
        owned = _owned(owners, held_folders(session, store.locate), store.locate)
    left = {owner.id for owner in owners}
    files = [file for file in garbage.files if not owned.cover(file.path)]
    progress.begin("remove artifacts", len(files))
    removed: list[StoredArtifact] = []
    for start in range(0, len(files), _FILES_AT_ONCE):
        removed += _remove_files(database, store, files[start : start + _FILES_AT_ONCE])
        progress.advance(len(files[start : start + _FILES_AT_ONCE]))
    return Garbage(
        doomed=Doomed(
            run_ids=tuple(one for one in doomed.run_ids if one not in left),
            model_ids=tuple(one for one in doomed.model_ids if one not in left),
            experiments=tuple(one for one in doomed.experiments if one.experiment_id not in experiments),
            kept=doomed.kept,
        ),
        files=tuple(removed),
        strangers=garbage.strangers,
    )


def _remove_files(database: Database, store: ArtifactStore, files: Sequence[StoredArtifact]) -> list[StoredArtifact]:
    removed = []
    with database.writing() as session:
        for file in files:
            try:
                artifact_records.delete_artifact(session, store, file.path)
            except ArtifactFrozen:
                continue  # Registered a moment ago.
            removed.append(file)
    return removed


def _owned(owners: Iterable[Owner], held: Iterable[ArtifactPath], locate: Locate) -> Folders:
    located = (_located(owner, locate) for owner in owners)
    # What is kept of predictions grows old by a rule of its own.
    return Folders([ArtifactPath((PREDICTIONS,)), *held, *(folder for folder in located if folder is not None)])


def _is_held(owner: Owner, held: Folders, locate: Locate) -> bool:
    folder = _located(owner, locate)
    return folder is not None and held.touch(folder)


def _located(owner: Owner, locate: Locate) -> ArtifactPath | None:
    """Where the owner's artifacts are in the store; None if they lie elsewhere, where nothing is removed."""
    try:
        return locate(parse_artifact_uri(owner.artifact_uri))
    except (InvalidArtifactUri, InvalidArtifactPath):
        return None
