"""``models:/NAME@ALIAS`` and its sisters: how people and programs name a version (docs/routes.md, "Names on the wire").

`parse_model_uri` knows no database, so that the gateway can read names against its routing table with it.
"""

from collections.abc import Callable
from urllib.parse import unquote

import msgspec
from sqlalchemy.orm import Session

from registry import aliases, history, models
from registry.entities import CHAMPION, ModelVersion
from registry.errors import ModelVersionNotFound, UnreadableModelUri
from registry.names import LATEST, read_version
from registry.rows import get_version_row, to_version
from tracking.errors import InvalidParameter, NotFound
from tracking.names import check_text

SCHEME = "models:/"

_URI_LENGTH_MAX = 2_000


class VersionGoneSince(NotFound):
    def __init__(self, text: str, version: int) -> None:
        super().__init__(f"{text!r} meant version {version} then, which is not there by that name any more.")


class ModelReference(msgspec.Struct, frozen=True):
    """What a URI says: a model, and at most one of version, alias and stage."""

    name: str
    version: int | None = None
    alias: str | None = None
    stage: str | None = None


def parse_model_uri(text: str, is_name: Callable[[str], bool] = lambda _: False) -> ModelReference:
    """Read ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/NAME/STAGE`` or ``NAME``; the scheme may lack.

    A text with '@' is first asked for as a whole name (*is_name*), then split at its last '@'. It may be
    percent-quoted; a name that has '%' in it is asked for as it stands first.

    Raises:
        UnreadableModelUri: if it is none of these.
    """
    check_text(text, "model URI", _URI_LENGTH_MAX)
    rest = text.removeprefix(SCHEME)
    as_written = _read(text, rest, is_name)
    unquoted = unquote(rest)
    if unquoted == rest or is_name(as_written.name):
        return as_written
    check_text(unquoted, "model URI", _URI_LENGTH_MAX)
    return _read(text, unquoted, is_name)


def resolve(session: Session, text: str) -> ModelVersion:
    """The version that *text* means now; a name alone means its champion.

    Raises:
        UnreadableModelUri: if *text* isn't a model's URI.
        RegisteredModelNotFound, ModelVersionNotFound, AliasNotFound: if it names what isn't there.
    """
    reference = parse_model_uri(text, lambda name: models.find_model(session, name) is not None)
    if reference.version is not None:
        return to_version(session, get_version_row(session, reference.name, reference.version))
    if reference.stage is not None:
        return _newest_in_stage(session, reference.name, reference.stage)
    return aliases.get_version_by_alias(session, reference.name, reference.alias or CHAMPION)


def resolve_at(session: Session, text: str, at_ms: int) -> ModelVersion:
    """The version that *text*, which names an alias, meant at the instant *at_ms*.

    Raises:
        UnreadableModelUri: if *text* isn't a model's URI.
        InvalidParameter: if it names no alias, and so always means the same, or what was newest then.
        AliasMeantNothing: if the alias meant nothing then, or the history doesn't reach back so far.
        VersionGoneSince: if what it meant isn't there any more.
    """
    reference = parse_model_uri(text, lambda name: models.find_model(session, name) is not None)
    alias = reference.alias or CHAMPION
    if reference.version is not None or reference.stage is not None or alias.lower() == LATEST:
        raise InvalidParameter(f"{text!r} names no alias, and only of aliases is it known what they meant.")
    number = history.version_at(session, reference.name, alias, at_ms)
    try:
        return to_version(session, get_version_row(session, reference.name, number))
    except NotFound:
        raise VersionGoneSince(text, number) from None


def _read(text: str, rest: str, is_name: Callable[[str], bool]) -> ModelReference:
    name, slash, suffix = rest.partition("/")
    if slash:
        if not name.strip() or not suffix.strip() or "/" in suffix:
            raise UnreadableModelUri(text)
        if suffix.isdigit():
            return ModelReference(name, version=read_version(suffix))
        if suffix.lower() == LATEST:
            return ModelReference(name, alias=LATEST)
        return ModelReference(name, stage=suffix)
    if "@" in rest and not is_name(rest):
        name, _, alias = rest.rpartition("@")
        if not name.strip() or not alias.strip():
            raise UnreadableModelUri(text)
        return ModelReference(name, alias=alias)
    if not rest.strip():
        raise UnreadableModelUri(text)
    return ModelReference(rest)


def _newest_in_stage(session: Session, name: str, stage: str) -> ModelVersion:
    found = models.get_latest_versions(session, name, [stage])
    if not found:
        raise ModelVersionNotFound(name, stage)
    return found[-1]
