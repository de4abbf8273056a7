"""MLflow's registry API: registered models, their versions and aliases. Translates, and nothing else.

Every path answers under ``/ajax-api`` too, where MLflow's pages ask.
"""

from collections.abc import Callable

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api.gates import override_of
from gateway.api.mlflow.registry_wire import (
    CreateModelVersion,
    CreateRegisteredModel,
    DeleteAlias,
    DeleteModelVersion,
    DeleteModelVersionTag,
    DeleteRegisteredModel,
    DeleteRegisteredModelTag,
    DownloadUriAnswer,
    Empty,
    GetLatestVersions,
    ModelVersionAnswer,
    ModelVersionsAnswer,
    RegisteredModelAnswer,
    RegisteredModelsAnswer,
    RenameRegisteredModel,
    SetAlias,
    SetModelVersionTag,
    SetRegisteredModelTag,
    TransitionModelVersionStage,
    UpdateModelVersion,
    UpdateRegisteredModel,
    model_on_wire,
    tags_of,
    version_on_wire,
)
from gateway.auth import needs
from gateway.settings import Settings
from gateway.version_interfaces import learn_interfaces
from registry import aliases, announcements, models, search, versions
from registry.entities import Meaning
from registry.names import read_version
from registry.search import Query
from registry.sources import Claim, SourcePolicy
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database

Clock = Callable[[], float]


def _paths(path: str) -> list[str]:
    return [f"/api/2.0/mlflow/{path}", f"/ajax-api/2.0/mlflow/{path}"]


def _now_ms(clock: Clock) -> int:
    return int(clock() * 1000)


# --- registered models


@post(
    _paths("registered-models/create"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def create_registered_model(
    data: JSONBody[CreateRegisteredModel], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> RegisteredModelAnswer:
    with database.writing() as session:
        model = models.create_model(
            session, data.name, description=data.description, tags=tags_of(data.tags), now_ms=_now_ms(clock)
        )
        announcements.model_was_created(session, model)
    return RegisteredModelAnswer(model_on_wire(model))


@get(_paths("registered-models/get"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_registered_model(name: FromQuery[str], database: NamedDependency[Database]) -> RegisteredModelAnswer:
    with database.reading() as session:
        model = models.get_model(session, name)
    return RegisteredModelAnswer(model_on_wire(model))


@get(_paths("registered-models/search"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def search_registered_models(
    database: NamedDependency[Database],
    filter: FromQuery[str | None] = None,
    max_results: FromQuery[int] = 100,
    order_by: FromQuery[list[str] | None] = None,
    page_token: FromQuery[str | None] = None,
) -> RegisteredModelsAnswer:
    query = Query(filter=filter, max_results=max_results, order_by=order_by or (), page_token=page_token)
    with database.reading() as session:
        page = search.search_models(session, query)
    return RegisteredModelsAnswer([model_on_wire(model) for model in page.items], page.next_page_token)


@patch(_paths("registered-models/update"), sync_to_thread=True, opt=needs(Permission.REGISTRY_WRITE))
def update_registered_model(
    data: JSONBody[UpdateRegisteredModel], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> RegisteredModelAnswer:
    with database.writing() as session:
        model = models.describe_model(session, data.name, data.description, now_ms=_now_ms(clock))
    return RegisteredModelAnswer(model_on_wire(model))


@post(
    _paths("registered-models/rename"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def rename_registered_model(
    data: JSONBody[RenameRegisteredModel], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> RegisteredModelAnswer:
    with database.writing() as session:
        author = caller_of(session).name
        model = models.rename_model(session, data.name, data.new_name, author=author, now_ms=_now_ms(clock))
    return RegisteredModelAnswer(model_on_wire(model))


@delete(
    _paths("registered-models/delete"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def delete_registered_model(
    data: JSONBody[DeleteRegisteredModel], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> Empty:
    with database.writing() as session:
        models.delete_model(session, data.name, author=caller_of(session).name, now_ms=_now_ms(clock))
    return Empty()


@post(
    _paths("registered-models/set-tag"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def set_registered_model_tag(data: JSONBody[SetRegisteredModelTag], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        models.set_tag(session, data.name, data.key, data.value)
        announcements.model_tag_was_set(session, data.name, data.key, data.value)
    return Empty()


@delete(
    _paths("registered-models/delete-tag"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def delete_registered_model_tag(data: JSONBody[DeleteRegisteredModelTag], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        models.delete_tag(session, data.name, data.key)
        announcements.model_tag_was_deleted(session, data.name, data.key)
    return Empty()


@post(
    _paths("registered-models/get-latest-versions"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_READ),
)
def get_latest_versions(data: JSONBody[GetLatestVersions], database: NamedDependency[Database]) -> ModelVersionsAnswer:
    with database.reading() as session:
        found = models.get_latest_versions(session, data.name, data.stages)
    return ModelVersionsAnswer([version_on_wire(version) for version in found])


@get(_paths("registered-models/get-latest-versions"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_latest_versions_by_query(
    name: FromQuery[str], database: NamedDependency[Database], stages: FromQuery[list[str] | None] = None
) -> ModelVersionsAnswer:
    with database.reading() as session:
        found = models.get_latest_versions(session, name, stages or ())
    return ModelVersionsAnswer([version_on_wire(version) for version in found])


# --- aliases


@post(
    _paths("registered-models/alias"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.ALIAS_WRITE),
)
def set_alias(
    data: JSONBody[SetAlias],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
    artifact_store: NamedDependency[ArtifactStore],
) -> Empty:
    version = read_version(data.version)
    now_ms = _now_ms(clock)
    override = override_of(data.name, data.override, now_ms)
    learn_interfaces(database, artifact_store, data.name, version)
    with database.writing() as session:
        aliases.set_alias(
            session,
            data.name,
            data.alias,
            version,
            author=caller_of(session).name,
            now_ms=now_ms,
            reason=data.reason,
            expected=_expected(data.expected_version),
            override=override,
        )
        announcements.alias_was_set(session, data.name, data.alias, version)
    return Empty()


@get(_paths("registered-models/alias"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_version_by_alias(
    name: FromQuery[str], alias: FromQuery[str], database: NamedDependency[Database]
) -> ModelVersionAnswer:
    with database.reading() as session:
        version = aliases.get_version_by_alias(session, name, alias)
    return ModelVersionAnswer(version_on_wire(version))


@delete(
    _paths("registered-models/alias"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.ALIAS_WRITE),
)
def delete_alias(
    data: JSONBody[DeleteAlias],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Empty:
    expected = _expected(data.expected_version)
    with database.writing() as session:
        author = caller_of(session).name
        aliases.delete_alias(session, data.name, data.alias, author=author, now_ms=_now_ms(clock), expected=expected)
        announcements.alias_was_deleted(session, data.name, data.alias)
    return Empty()


def _expected(version: str | None) -> Meaning | None:
    if version is None:
        return None
    return Meaning(read_version(version) if version else None)


# --- model versions


@post(
    _paths("model-versions/create"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def create_model_version(
    data: JSONBody[CreateModelVersion],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
    settings: NamedDependency[Settings],
    artifact_store: NamedDependency[ArtifactStore],
) -> ModelVersionAnswer:
    with database.writing() as session:
        version = versions.create_version(
            session,
            data.name,
            Claim(source=data.source, run_id=data.run_id, model_id=data.model_id),
            policy=_source_policy(settings, artifact_store),
            run_link=data.run_link,
            description=data.description,
            tags=tags_of(data.tags),
            now_ms=_now_ms(clock),
        )
        announcements.version_was_created(session, version)
    return ModelVersionAnswer(version_on_wire(version))


def _source_policy(settings: Settings, artifact_store: ArtifactStore) -> SourcePolicy:
    prefixes = [prefix.strip() for prefix in settings.source_prefixes.split(",")]
    return SourcePolicy(locate=artifact_store.locate, prefixes=tuple(prefix for prefix in prefixes if prefix))


@get(_paths("model-versions/get"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_model_version(
    name: FromQuery[str], version: FromQuery[str], database: NamedDependency[Database]
) -> ModelVersionAnswer:
    number = read_version(version)
    with database.reading() as session:
        found = versions.get_version(session, name, number)
    return ModelVersionAnswer(version_on_wire(found))


@get(_paths("model-versions/get-download-uri"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_download_uri(
    name: FromQuery[str], version: FromQuery[str], database: NamedDependency[Database]
) -> DownloadUriAnswer:
    number = read_version(version)
    with database.reading() as session:
        found = versions.get_version(session, name, number)
    return DownloadUriAnswer(found.artifact_uri)


@get(_paths("model-versions/search"), sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def search_model_versions(
    database: NamedDependency[Database],
    filter: FromQuery[str | None] = None,
    max_results: FromQuery[int] = 10_000,
    order_by: FromQuery[list[str] | None] = None,
    page_token: FromQuery[str | None] = None,
) -> ModelVersionsAnswer:
    query = Query(filter=filter, max_results=max_results, order_by=order_by or (), page_token=page_token)
    with database.reading() as session:
        page = search.search_versions(session, query)
    return ModelVersionsAnswer([version_on_wire(version) for version in page.items], page.next_page_token)


@patch(_paths("model-versions/update"), sync_to_thread=True, opt=needs(Permission.REGISTRY_WRITE))
def update_model_version(
    data: JSONBody[UpdateModelVersion], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> ModelVersionAnswer:
    number = read_version(data.version)
    with database.writing() as session:
        version = versions.describe_version(session, data.name, number, data.description, now_ms=_now_ms(clock))
    return ModelVersionAnswer(version_on_wire(version))


@post(
    _paths("model-versions/transition-stage"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def transition_model_version_stage(
    data: JSONBody[TransitionModelVersionStage], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> ModelVersionAnswer:
    number = read_version(data.version)
    with database.writing() as session:
        version = versions.transition_stage(
            session,
            data.name,
            number,
            data.stage,
            archive_existing=data.archive_existing_versions,
            now_ms=_now_ms(clock),
        )
    return ModelVersionAnswer(version_on_wire(version))


@delete(
    _paths("model-versions/delete"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def delete_model_version(
    data: JSONBody[DeleteModelVersion],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Empty:
    number = read_version(data.version)
    with database.writing() as session:
        versions.delete_version(session, data.name, number, author=caller_of(session).name, now_ms=_now_ms(clock))
    return Empty()


@post(
    _paths("model-versions/set-tag"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def set_model_version_tag(data: JSONBody[SetModelVersionTag], database: NamedDependency[Database]) -> Empty:
    number = read_version(data.version)
    with database.writing() as session:
        versions.set_tag(session, data.name, number, data.key, data.value)
        announcements.version_tag_was_set(session, data.name, number, data.key, data.value)
    return Empty()


@delete(
    _paths("model-versions/delete-tag"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_WRITE),
)
def delete_model_version_tag(data: JSONBody[DeleteModelVersionTag], database: NamedDependency[Database]) -> Empty:
    number = read_version(data.version)
    with database.writing() as session:
        versions.delete_tag(session, data.name, number, data.key)
        announcements.version_tag_was_deleted(session, data.name, number, data.key)
    return Empty()


handlers = [
    create_registered_model,
    get_registered_model,
    search_registered_models,
    update_registered_model,
    rename_registered_model,
    delete_registered_model,
    set_registered_model_tag,
    delete_registered_model_tag,
    get_latest_versions,
    get_latest_versions_by_query,
    set_alias,
    get_version_by_alias,
    delete_alias,
    create_model_version,
    get_model_version,
    get_download_uri,
    search_model_versions,
    update_model_version,
    transition_model_version_stage,
    delete_model_version,
    set_model_version_tag,
    delete_model_version_tag,
]
