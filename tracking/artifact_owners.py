"""Whose an artifact is, by where it lies: the experiment's whose artifact location it is under, by the longest.

Where several experiments share a place, it is for those who are granted all of them; what lies nowhere is for those who
are granted everything.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

from sqlalchemy import String, Table, literal, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session

from tracking.access.caller import caller_of
from tracking.access.grants import Names
from tracking.artifact_paths import PREDICTIONS, ArtifactPath, InvalidArtifactPath, is_storable_name
from tracking.artifact_uris import InvalidArtifactUri, parse_artifact_uri
from tracking.artifacts import ArtifactStore
from tracking.experiments import DEFAULT_ARTIFACT_ROOT, default_artifact_location
from tracking.schema import ExperimentRow

_COLUMNS = cast(Table, ExperimentRow.__table__).c


class _Places(NamedTuple):
    """The names of the experiments that keep their artifacts in one folder, by folder."""

    owners: dict[ArtifactPath, list[str]]

    def are_granted(self, path: ArtifactPath, names: Names) -> bool:
        """Whether what lies at *path* is of experiments that are all among *names*."""
        if path.segments[0] == PREDICTIONS:
            return False
        owners: Iterable[str] = next((self.owners[one] for one in path.ancestors() if one in self.owners), ())
        return bool(owners) and all(owner in names for owner in owners)


def may_read(session: Session, store: ArtifactStore, path: ArtifactPath) -> bool:
    """Whether the artifact at *path* is of an experiment that the caller sees."""
    names = caller_of(session).reading.experiments
    return names.all or _places(session, store, path).are_granted(path, names)


def may_change(session: Session, store: ArtifactStore, path: ArtifactPath) -> bool:
    """Whether the artifact at *path*, with all that is below it, is of experiments that the caller may change."""
    names = caller_of(session).acting.experiments
    if names.all:
        return True
    places = _places(session, store, path)
    below = (place for place in places.owners if place.is_within(path))
    return places.are_granted(path, names) and all(places.are_granted(place, names) for place in below)


def shown_in(session: Session, store: ArtifactStore, folder: ArtifactPath | None) -> Callable[[str], bool]:
    """Tells of a name in *folder* (None is the root) whether the caller sees it.

    That is what they may read, and the folders on the way there.
    """
    names = caller_of(session).reading.experiments
    if names.all:
        return lambda _: True
    places = _places(session, store, folder)
    granted = [place for place in places.owners if places.are_granted(place, names)]
    on_the_way = {one for place in granted for one in place.ancestors()}

    def is_shown(name: str) -> bool:
        if not is_storable_name(name):  # Put there by other means; nobody can ask for it.
            return False
        below = ArtifactPath((name,))
        path = below if folder is None else folder / below
        return path in on_the_way or places.are_granted(path, names)

    return is_shown


def _places(session: Session, store: ArtifactStore, near: ArtifactPath | None) -> _Places:
    """All places of experiments, or at least those at, above and below *near*."""
    number = sql_cast(_COLUMNS.experiment_id, String)
    statement = select(_COLUMNS.name, _COLUMNS.artifact_location)
    if near is not None:
        # Most lie where new ones are put, below the root and by their number; of these one at most is near. The others
        # may be written in many ways.
        usual = [literal(default_artifact_location(root, "")) + number for root in (DEFAULT_ARTIFACT_ROOT, store.uri)]
        statement = statement.where(or_(_COLUMNS.artifact_location.not_in(usual), number == near.segments[0]))
    owners: dict[ArtifactPath, list[str]] = {}
    for name, location in session.execute(statement):
        place = _located(store, location)
        if place is not None:
            owners.setdefault(place, []).append(name)
    return _Places(owners)


def _located(store: ArtifactStore, location: str) -> ArtifactPath | None:
    try:
        return store.locate(parse_artifact_uri(location))
    except (InvalidArtifactUri, InvalidArtifactPath):
        return None  # Of another kind, and so elsewhere.
