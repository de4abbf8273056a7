"""MLflow's tracking API: experiments and runs. Translates, and nothing else.

Every path answers under ``/ajax-api`` too, where MLflow's pages ask.
"""

from collections.abc import Callable

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api.mlflow.numbers import int64
from gateway.api.mlflow.signed_urls import signs_urls
from gateway.api.mlflow.tracking_wire import (
    CreateExperiment,
    CreateRun,
    DeleteExperimentTag,
    DeleteTag,
    Empty,
    ExperimentAnswer,
    ExperimentId,
    ExperimentsAnswer,
    LogBatch,
    LogInputs,
    LogMetric,
    LogModel,
    LogOutputs,
    LogParam,
    OfRun,
    RunAnswer,
    RunInfoAnswer,
    RunsAnswer,
    SearchExperiments,
    SearchRuns,
    ServerInfo,
    SetExperimentTag,
    SetTag,
    UpdateExperiment,
    UpdateRun,
    as_dict,
    dataset_input_sent,
    experiment_on_wire,
    metric_sent,
    metrics_sent,
    model_output_sent,
    run_info_on_wire,
    run_on_wire,
    status_of,
    view_of,
)
from gateway.auth import needs
from gateway.settings import Settings
from tracking import experiments, run_search, runs
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.errors import InvalidParameter

Clock = Callable[[], float]

# MLflow's own bound for a batch, and more than a thousand metrics need.
_BATCH_BYTES_MAX = 1_000_000


def _paths(path: str) -> list[str]:
    return [f"/api/2.0/mlflow/{path}", f"/ajax-api/2.0/mlflow/{path}"]


def _now_ms(clock: Clock) -> int:
    return int(clock() * 1000)


def _run_id(given: OfRun) -> str:
    return _either(given.run_id, given.run_uuid)


def _either(run_id: str | None, run_uuid: str | None) -> str:
    if not run_id and not run_uuid:
        raise InvalidParameter("Missing value for required parameter 'run_id'")
    return run_id or run_uuid or ""


# --- experiments


@post(_paths("experiments/create"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def create_experiment(
    data: JSONBody[CreateExperiment],
    database: NamedDependency[Database],
    new_artifacts_root: NamedDependency[str],
    clock: NamedDependency[Clock],
) -> ExperimentId:
    with database.writing() as session:
        experiment_id = experiments.create_experiment(
            session,
            data.name,
            artifact_root=new_artifacts_root,
            artifact_location=data.artifact_location,
            tags=as_dict(data.tags),
            now_ms=_now_ms(clock),
        )
    return ExperimentId(experiment_id)


@get(_paths("experiments/get"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_experiment(experiment_id: FromQuery[str], database: NamedDependency[Database]) -> ExperimentAnswer:
    with database.reading() as session:
        experiment = experiments.get_experiment(session, experiment_id)
    return ExperimentAnswer(experiment_on_wire(experiment))


@get(_paths("experiments/get-by-name"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_experiment_by_name(experiment_name: FromQuery[str], database: NamedDependency[Database]) -> ExperimentAnswer:
    with database.reading() as session:
        experiment = experiments.get_experiment_by_name(session, experiment_name)
    return ExperimentAnswer(experiment_on_wire(experiment))


@post(_paths("experiments/search"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def search_experiments(data: JSONBody[SearchExperiments], database: NamedDependency[Database]) -> ExperimentsAnswer:
    return _search_experiments(database, data)


@get(_paths("experiments/search"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def search_experiments_by_query(
    database: NamedDependency[Database],
    max_results: FromQuery[int] = 1_000,
    page_token: FromQuery[str | None] = None,
    filter: FromQuery[str | None] = None,
    order_by: FromQuery[list[str] | None] = None,
    view_type: FromQuery[str | None] = None,
) -> ExperimentsAnswer:
    asked = SearchExperiments(
        max_results=max_results, page_token=page_token, filter=filter, order_by=order_by or [], view_type=view_type
    )
    return _search_experiments(database, asked)


def _search_experiments(database: Database, asked: SearchExperiments) -> ExperimentsAnswer:
    with database.reading() as session:
        page = experiments.search_experiments(
            session,
            view=view_of(asked.view_type),
            filter_text=asked.filter,
            order_by=asked.order_by,
            max_results=int64(asked.max_results, "max_results"),
            page_token=asked.page_token,
        )
    return ExperimentsAnswer([experiment_on_wire(one) for one in page.items], page.next_page_token)


@post(_paths("experiments/update"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def update_experiment(
    data: JSONBody[UpdateExperiment], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> Empty:
    with database.writing() as session:
        experiments.rename_experiment(session, data.experiment_id, data.new_name, now_ms=_now_ms(clock))
    return Empty()


@post(_paths("experiments/delete"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def delete_experiment(
    data: JSONBody[ExperimentId], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> Empty:
    with database.writing() as session:
        experiments.delete_experiment(session, data.experiment_id, now_ms=_now_ms(clock))
    return Empty()


@post(_paths("experiments/restore"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def restore_experiment(
    data: JSONBody[ExperimentId], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> Empty:
    with database.writing() as session:
        experiments.restore_experiment(session, data.experiment_id, now_ms=_now_ms(clock))
    return Empty()


@post(
    _paths("experiments/set-experiment-tag"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def set_experiment_tag(data: JSONBody[SetExperimentTag], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        experiments.set_experiment_tag(session, data.experiment_id, data.key, data.value)
    return Empty()


@post(
    _paths("experiments/delete-experiment-tag"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def delete_experiment_tag(data: JSONBody[DeleteExperimentTag], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        experiments.delete_experiment_tag(session, data.experiment_id, data.key)
    return Empty()


# --- runs


@post(_paths("runs/create"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def create_run(
    data: JSONBody[CreateRun], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> RunAnswer:
    start_time_ms = _now_ms(clock) if data.start_time is None else int64(data.start_time, "start_time")
    with database.writing() as session:
        run = runs.create_run(
            session,
            data.experiment_id,
            start_time_ms=start_time_ms,
            name=data.run_name,
            user_id=data.user_id,
            tags=as_dict(data.tags),
        )
    return RunAnswer(run_on_wire(run))


@get(_paths("runs/get"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_run(
    database: NamedDependency[Database], run_id: FromQuery[str | None] = None, run_uuid: FromQuery[str | None] = None
) -> RunAnswer:
    with database.reading() as session:
        run = runs.get_run(session, _either(run_id, run_uuid))
    return RunAnswer(run_on_wire(run))


@post(_paths("runs/update"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def update_run(data: JSONBody[UpdateRun], database: NamedDependency[Database]) -> RunInfoAnswer:
    with database.writing() as session:
        info = runs.update_run(
            session,
            _run_id(data),
            status=status_of(data.status),
            end_time_ms=None if data.end_time is None else int64(data.end_time, "end_time"),
            name=data.run_name,
        )
    return RunInfoAnswer(run_info_on_wire(info))


@post(_paths("runs/delete"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def delete_run(data: JSONBody[OfRun], database: NamedDependency[Database], clock: NamedDependency[Clock]) -> Empty:
    with database.writing() as session:
        runs.delete_run(session, _run_id(data), now_ms=_now_ms(clock))
    return Empty()


@post(_paths("runs/restore"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def restore_run(data: JSONBody[OfRun], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.restore_run(session, _run_id(data))
    return Empty()


@post(_paths("runs/search"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def search_runs(data: JSONBody[SearchRuns], database: NamedDependency[Database]) -> RunsAnswer:
    with database.reading() as session:
        page = run_search.search_runs(
            session,
            data.experiment_ids,
            filter_text=data.filter,
            view=view_of(data.run_view_type),
            order_by=data.order_by,
            max_results=int64(data.max_results, "max_results"),
            page_token=data.page_token,
        )
    return RunsAnswer([run_on_wire(run) for run in page.items], page.next_page_token)


@post(_paths("runs/log-metric"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def log_metric(data: JSONBody[LogMetric], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.log_metric(session, _run_id(data), metric_sent(data))
    return Empty()


@post(_paths("runs/log-parameter"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def log_parameter(data: JSONBody[LogParam], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.log_param(session, _run_id(data), data.key, data.value)
    return Empty()


@post(_paths("runs/set-tag"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def set_run_tag(data: JSONBody[SetTag], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.set_run_tag(session, _run_id(data), data.key, data.value)
    return Empty()


@post(_paths("runs/delete-tag"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def delete_run_tag(data: JSONBody[DeleteTag], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.delete_run_tag(session, _run_id(data), data.key)
    return Empty()


@post(
    _paths("runs/log-batch"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    request_max_body_size=_BATCH_BYTES_MAX,
    opt=needs(Permission.TRACKING_WRITE),
)
def log_batch(data: JSONBody[LogBatch], database: NamedDependency[Database]) -> Empty:
    # Read before the transaction begins, which on SQLite is everybody's.
    sent = metrics_sent(data.metrics)
    with database.writing() as session:
        runs.log_batch(
            session,
            _run_id(data),
            metrics=sent,
            params=[(param.key, param.value) for param in data.params],
            tags=[(tag.key, tag.value) for tag in data.tags],
        )
    return Empty()


@post(_paths("runs/log-inputs"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def log_inputs(data: JSONBody[LogInputs], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.log_inputs(
            session,
            _run_id(data),
            datasets=[dataset_input_sent(one) for one in data.datasets],
            model_ids=[model.model_id for model in data.models],
        )
    return Empty()


@post(_paths("runs/outputs"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def log_outputs(data: JSONBody[LogOutputs], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.log_outputs(session, _run_id(data), [model_output_sent(model) for model in data.models])
    return Empty()


@post(_paths("runs/log-model"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def log_model(data: JSONBody[LogModel], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        runs.record_model(session, _run_id(data), data.model_json)
    return Empty()


@get(
    ["/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"],
    sync_to_thread=False,
    opt=needs(Permission.PUBLIC),
)
def get_server_info(settings: NamedDependency[Settings], artifact_store: NamedDependency[ArtifactStore]) -> ServerInfo:
    past_the_proxy = signs_urls(settings, artifact_store)
    return ServerInfo(
        multipart_uploads_enabled=past_the_proxy,
        multipart_downloads_enabled=past_the_proxy,
        presigned_upload_run_id_supported=past_the_proxy,
        presigned_upload_model_id_supported=past_the_proxy,
    )


handlers = [
    create_experiment,
    get_experiment,
    get_experiment_by_name,
    search_experiments,
    search_experiments_by_query,
    update_experiment,
    delete_experiment,
    restore_experiment,
    set_experiment_tag,
    delete_experiment_tag,
    create_run,
    get_run,
    update_run,
    delete_run,
    restore_run,
    search_runs,
    log_metric,
    log_parameter,
    set_run_tag,
    delete_run_tag,
    log_batch,
    log_inputs,
    log_outputs,
    log_model,
    get_server_info,
]
