"""Copies registered models and prompts, their versions and their aliases."""

import msgspec

from gateway.operations.importing.books import Books, Done
from gateway.operations.importing.choices import fingerprint, follow, logged_model_in, run_in
from gateway.operations.importing.counts import Counts
from gateway.operations.importing.mlflow_server import MlflowServer
from gateway.operations.importing.mlflow_wire import Alias, RegisteredModel, Version, as_dict
from registry import adoption, aliases, models
from registry.entities import ModelVersion
from registry.errors import SourceNotAllowed
from registry.sources import Claim, trace
from tracking import logged_models, runs
from tracking.artifact_uris import FileUri, InvalidArtifactUri, S3Uri, parse_artifact_uri
from tracking.errors import Conflict, NotFound
from tracking.imports import Kind

AUTHOR = "titlebout import"


class FilesElsewhere(Conflict):
    """A version whose files no run and no logged model has."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"Its files lie at {uri[:300]}, in no run or logged model that was copied, and not below a prefix in "
            "TITLEBOUT_SOURCE_PREFIXES."
        )


def copy_registry(server: MlflowServer, books: Books) -> None:
    """Copy all models and prompts; each with its versions, then its aliases, which refer to those."""
    books.progress.begin("registered models, versions and aliases")
    for model in server.registered_models():
        versions = server.versions(model)
        books.progress.expect(1 + len(versions) + len(model.aliases))
        _copy_model_and_all(server, books, model, versions)


def _copy_model_and_all(server: MlflowServer, books: Books, model: RegisteredModel, versions: list[Version]) -> None:
    what = f"Registered model {model.name!r}"
    books.add(books.attempt(what, Counts(registered_models=1), lambda: _copy_model(books, model)))
    for version in versions:

        def copy_version(one: Version = version) -> Done:
            return _copy_version(server, books, one, prompt=_is_prompt(model, one))

        books.add(books.attempt(f"{what}, version {version.version}", Counts(versions=1), copy_version))
    for alias in model.aliases:

        def copy_alias(one: Alias = alias) -> Done:
            return _copy_alias(books, model, one)

        books.add(books.attempt(f"{what}, alias {alias.alias!r}", Counts(aliases=1), copy_alias))


def _is_prompt(model: RegisteredModel, version: Version) -> bool:
    return models.says_prompt(as_dict(model.tags)) or models.says_prompt(as_dict(version.tags))


def _copy_model(books: Books, model: RegisteredModel) -> Done:
    # Aliases are copied, and remembered, one by one.
    counts, found = Counts(registered_models=1), fingerprint(msgspec.structs.replace(model, aliases=[]))
    if books.unchanged(Kind.REGISTERED_MODEL, model.name, found):
        return Done(counts=counts)
    with books.target.database.writing() as session:
        adoption.adopt_model(
            session,
            model.name,
            description=model.description,
            tags=as_dict(model.tags),
            created_ms=model.creation_timestamp,
            updated_ms=model.last_updated_timestamp,
        )
    books.record(Kind.REGISTERED_MODEL, model.name, found)
    return Done(counts=counts, copied=True)


def _copy_version(server: MlflowServer, books: Books, version: Version, *, prompt: bool) -> Done:
    counts, found = Counts(versions=1), fingerprint(version)
    called = adoption.version_id(version.name, version.version)
    if books.unchanged(Kind.VERSION, called, found):
        return Done(counts=counts)
    if prompt:
        entity = version.entity(source=version.source, artifact_uri=version.source, model_id=None)
    else:
        entity = _entity(version, server.artifact_uri(version), server, books)
    with books.target.database.writing() as session:
        adoption.adopt_version(session, entity)
    books.record(Kind.VERSION, called, found)
    return Done(counts=counts, copied=True)


def _entity(version: Version, uri: str, server: MlflowServer, books: Books) -> ModelVersion:
    here = _folder_here(version, uri, server, books)
    # runs:/ and models:/ mean here what they mean there; a place doesn't.
    moved = version.source == uri
    return version.entity(source=here if moved else version.source, artifact_uri=here, model_id=logged_model_in(uri))


def _folder_here(version: Version, uri: str, server: MlflowServer, books: Books) -> str:
    """Where the folder that is at *uri* there is here.

    Raises:
        FilesElsewhere: if it wasn't copied, and may not be used where it is.
    """
    model_id, run_id = logged_model_in(uri), version.run_id or run_in(uri)
    here = follow(uri, {**_model_root(model_id, server, books), **_run_root(run_id, server, books)})
    if here is not None:
        return here
    try:
        if not isinstance(parse_artifact_uri(uri), S3Uri | FileUri):
            raise FilesElsewhere(uri)  # In the other server's own store.
        with books.target.database.reading() as session:
            return trace(session, Claim(source=uri), books.target.policy).artifact_uri
    except (InvalidArtifactUri, SourceNotAllowed) as error:
        raise FilesElsewhere(uri) from error


def _model_root(model_id: str | None, server: MlflowServer, books: Books) -> dict[str, str]:
    """The folder of a logged model there, with the one that it has here; empty unless it is on both sides."""
    if model_id is None:
        return {}
    try:
        there = server.logged_model(model_id).info.artifact_uri
        with books.target.database.reading() as session:
            return {there: logged_models.get_logged_model(session, model_id).artifact_uri}
    except NotFound:
        return {}


def _run_root(run_id: str | None, server: MlflowServer, books: Books) -> dict[str, str]:
    """The same for a run."""
    if run_id is None:
        return {}
    try:
        there = server.run(run_id).info.artifact_uri
        with books.target.database.reading() as session:
            return {there: runs.get_run_info(session, run_id).artifact_uri}
    except NotFound:
        return {}


def _copy_alias(books: Books, model: RegisteredModel, alias: Alias) -> Done:
    counts, found = Counts(aliases=1), fingerprint(alias)
    called = adoption.alias_id(model.name, alias.alias)
    # One that was moved here since stays where it is, unless it was moved there too.
    if books.unchanged(Kind.ALIAS, called, found):
        return Done(counts=counts)
    with books.target.database.writing() as session:
        now_ms = books.target.database.now_ms(session)
        aliases.set_alias(session, model.name, alias.alias, int(alias.version), author=AUTHOR, now_ms=now_ms)
    books.record(Kind.ALIAS, called, found)
    return Done(counts=counts, copied=True)
