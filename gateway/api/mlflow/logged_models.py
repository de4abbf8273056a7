"""MLflow's API of logged models. Translates, and nothing else."""

from collections.abc import Callable

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api.mlflow.logged_models_wire import (
    CreateLoggedModel,
    FinalizeLoggedModel,
    LoggedModelAnswer,
    LoggedModelsAnswer,
    LogLoggedModelParams,
    SearchLoggedModels,
    SetLoggedModelTags,
    dataset_sent,
    logged_model_on_wire,
    ordering_sent,
    status_sent,
)
from gateway.api.mlflow.numbers import int64
from gateway.api.mlflow.tracking_wire import Empty, as_dict
from gateway.auth import needs
from tracking import logged_models
from tracking.access.permissions import Permission
from tracking.database import Database

Clock = Callable[[], float]


def _paths(path: str = "") -> list[str]:
    return [f"/api/2.0/mlflow/logged-models{path}", f"/ajax-api/2.0/mlflow/logged-models{path}"]


def _now_ms(clock: Clock) -> int:
    return int(clock() * 1000)


@post(_paths(), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def create_logged_model(
    data: JSONBody[CreateLoggedModel], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> LoggedModelAnswer:
    with database.writing() as session:
        model = logged_models.create_logged_model(
            session,
            data.experiment_id,
            name=data.name or None,
            model_type=data.model_type,
            source_run_id=data.source_run_id,
            params=as_dict(data.params),
            tags=as_dict(data.tags),
            now_ms=_now_ms(clock),
        )
    return LoggedModelAnswer(logged_model_on_wire(model))


@post(_paths("/search"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def search_logged_models(data: JSONBody[SearchLoggedModels], database: NamedDependency[Database]) -> LoggedModelsAnswer:
    with database.reading() as session:
        page = logged_models.search_logged_models(
            session,
            data.experiment_ids,
            filter_text=data.filter,
            datasets=[dataset_sent(one) for one in data.datasets],
            order_by=[ordering_sent(one) for one in data.order_by],
            max_results=int64(data.max_results, "max_results"),
            page_token=data.page_token,
        )
    return LoggedModelsAnswer([logged_model_on_wire(model) for model in page.items], page.next_page_token)


@get(_paths("/{model_id:str}"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_logged_model(
    model_id: FromPath[str], database: NamedDependency[Database], allow_deleted: FromQuery[bool] = False
) -> LoggedModelAnswer:
    with database.reading() as session:
        model = logged_models.get_logged_model(session, model_id, allow_deleted=allow_deleted)
    return LoggedModelAnswer(logged_model_on_wire(model))


@patch(_paths("/{model_id:str}"), sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def finalize_logged_model(
    model_id: FromPath[str],
    data: JSONBody[FinalizeLoggedModel],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> LoggedModelAnswer:
    with database.writing() as session:
        model = logged_models.finalize_logged_model(session, model_id, status_sent(data.status), now_ms=_now_ms(clock))
    return LoggedModelAnswer(logged_model_on_wire(model))


@delete(_paths("/{model_id:str}"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def delete_logged_model(
    model_id: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> Empty:
    with database.writing() as session:
        logged_models.delete_logged_model(session, model_id, now_ms=_now_ms(clock))
    return Empty()


@post(
    _paths("/{model_id:str}/params"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def log_model_params(
    model_id: FromPath[str], data: JSONBody[LogLoggedModelParams], database: NamedDependency[Database]
) -> Empty:
    with database.writing() as session:
        logged_models.log_model_params(session, model_id, as_dict(data.params))
    return Empty()


@patch(_paths("/{model_id:str}/tags"), sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def set_model_tags(
    model_id: FromPath[str],
    data: JSONBody[SetLoggedModelTags],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> LoggedModelAnswer:
    with database.writing() as session:
        model = logged_models.set_model_tags(session, model_id, as_dict(data.tags), now_ms=_now_ms(clock))
    return LoggedModelAnswer(logged_model_on_wire(model))


@delete(
    _paths("/{model_id:str}/tags/{key:str}"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def delete_model_tag(
    model_id: FromPath[str], key: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> Empty:
    with database.writing() as session:
        logged_models.delete_model_tag(session, model_id, key, now_ms=_now_ms(clock))
    return Empty()


handlers = [
    create_logged_model,
    search_logged_models,
    get_logged_model,
    finalize_logged_model,
    delete_logged_model,
    log_model_params,
    set_model_tags,
    delete_model_tag,
]
