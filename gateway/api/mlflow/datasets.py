"""MLflow's API of datasets: those that runs used, and those that hold records to evaluate on. Translates only."""

from collections.abc import Callable

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api.mlflow.datasets_wire import (
    CreateDataset,
    DatasetAnswer,
    DatasetExperiments,
    DatasetsAnswer,
    DatasetSummaries,
    DeleteRecords,
    ExperimentIds,
    RecordsAnswer,
    RecordsDeleted,
    RecordsWritten,
    SearchDatasets,
    SearchEvaluationDatasets,
    SetDatasetTags,
    UpsertRecords,
    dataset_on_wire,
    read_objects,
    read_tags,
    records_on_wire,
    summary_on_wire,
)
from gateway.api.mlflow.numbers import int64
from gateway.api.mlflow.tracking_wire import Empty
from gateway.auth import needs
from tracking import evaluation_datasets, evaluation_records, run_inputs
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import InvalidParameter

Clock = Callable[[], float]

# mlflow/server/handlers.py
_EXPERIMENTS_MAX = 20


def _paths(path: str) -> list[str]:
    return [f"/api/3.0/mlflow/datasets{path}", f"/ajax-api/3.0/mlflow/datasets{path}"]


def _now_ms(clock: Clock) -> int:
    return int(clock() * 1000)


# --- what runs used


@post(
    ["/api/2.0/mlflow/experiments/search-datasets", "/ajax-api/2.0/mlflow/experiments/search-datasets"],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_READ),
)
def search_used_datasets(data: JSONBody[SearchDatasets], database: NamedDependency[Database]) -> DatasetSummaries:
    return _search_used(database, data)


@post(
    # The slash is missing in mlflow/protos/service.proto, and so in what its clients send.
    ["/api/2.0mlflow/experiments/search-datasets", "/ajax-api/2.0mlflow/experiments/search-datasets"],
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_READ),
)
def search_used_datasets_as_misspelt(
    data: JSONBody[SearchDatasets], database: NamedDependency[Database]
) -> DatasetSummaries:
    return _search_used(database, data)


def _search_used(database: Database, asked: SearchDatasets) -> DatasetSummaries:
    if not 1 <= len(asked.experiment_ids) <= _EXPERIMENTS_MAX:
        raise InvalidParameter(f"Name 1 to {_EXPERIMENTS_MAX} experiment_ids; got {len(asked.experiment_ids)}.")
    with database.reading() as session:
        found = run_inputs.search_datasets(session, asked.experiment_ids)
    return DatasetSummaries([summary_on_wire(one) for one in found])


# --- evaluation datasets


@post(_paths("/create"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def create_dataset(
    data: JSONBody[CreateDataset], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> DatasetAnswer:
    tags = read_tags(data.tags)
    with database.writing() as session:
        dataset = evaluation_datasets.create_dataset(
            session, data.name, tags=tags, experiment_ids=data.experiment_ids, now_ms=_now_ms(clock)
        )
    return DatasetAnswer(dataset_on_wire(dataset))


@post(_paths("/search"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def search_datasets(data: JSONBody[SearchEvaluationDatasets], database: NamedDependency[Database]) -> DatasetsAnswer:
    return _search(database, data)


@get(_paths("/search"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def search_datasets_by_query(
    database: NamedDependency[Database],
    experiment_ids: FromQuery[list[str] | None] = None,
    filter_string: FromQuery[str | None] = None,
    max_results: FromQuery[int] = 1_000,
    order_by: FromQuery[list[str] | None] = None,
    page_token: FromQuery[str | None] = None,
) -> DatasetsAnswer:
    asked = SearchEvaluationDatasets(
        experiment_ids=experiment_ids or [],
        filter_string=filter_string,
        max_results=max_results,
        order_by=order_by or [],
        page_token=page_token,
    )
    return _search(database, asked)


def _search(database: Database, asked: SearchEvaluationDatasets) -> DatasetsAnswer:
    with database.reading() as session:
        page = evaluation_datasets.search_datasets(
            session,
            experiment_ids=asked.experiment_ids,
            filter_text=asked.filter_string,
            order_by=asked.order_by,
            max_results=int64(asked.max_results, "max_results"),
            page_token=asked.page_token,
        )
    return DatasetsAnswer([dataset_on_wire(one) for one in page.items], page.next_page_token)


@get(_paths("/{dataset_id:str}"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_dataset(dataset_id: FromPath[str], database: NamedDependency[Database]) -> DatasetAnswer:
    with database.reading() as session:
        dataset = evaluation_datasets.get_dataset(session, dataset_id)
    return DatasetAnswer(dataset_on_wire(dataset))


@delete(_paths("/{dataset_id:str}"), status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def delete_dataset(dataset_id: FromPath[str], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        evaluation_datasets.delete_dataset(session, dataset_id)
    return Empty()


@patch(_paths("/{dataset_id:str}/tags"), sync_to_thread=True, opt=needs(Permission.TRACKING_WRITE))
def set_dataset_tags(
    dataset_id: FromPath[str], data: JSONBody[SetDatasetTags], database: NamedDependency[Database]
) -> DatasetAnswer:
    tags = read_tags(data.tags)
    with database.writing() as session:
        dataset = evaluation_datasets.set_tags(session, dataset_id, tags)
    return DatasetAnswer(dataset_on_wire(dataset))


@delete(
    _paths("/{dataset_id:str}/tags/{key:str}"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def delete_dataset_tag(dataset_id: FromPath[str], key: FromPath[str], database: NamedDependency[Database]) -> Empty:
    with database.writing() as session:
        evaluation_datasets.delete_tag(session, dataset_id, key)
    return Empty()


@get(_paths("/{dataset_id:str}/experiment-ids"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def get_dataset_experiments(dataset_id: FromPath[str], database: NamedDependency[Database]) -> ExperimentIds:
    with database.reading() as session:
        dataset = evaluation_datasets.get_dataset(session, dataset_id)
    return ExperimentIds(list(dataset.experiment_ids))


@post(
    _paths("/{dataset_id:str}/add-experiments"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def add_dataset_to_experiments(
    dataset_id: FromPath[str],
    data: JSONBody[DatasetExperiments],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> DatasetAnswer:
    with database.writing() as session:
        dataset = evaluation_datasets.add_to_experiments(
            session, dataset_id, data.experiment_ids, now_ms=_now_ms(clock)
        )
    return DatasetAnswer(dataset_on_wire(dataset))


@post(
    _paths("/{dataset_id:str}/remove-experiments"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def remove_dataset_from_experiments(
    dataset_id: FromPath[str],
    data: JSONBody[DatasetExperiments],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> DatasetAnswer:
    with database.writing() as session:
        dataset = evaluation_datasets.remove_from_experiments(
            session, dataset_id, data.experiment_ids, now_ms=_now_ms(clock)
        )
    return DatasetAnswer(dataset_on_wire(dataset))


# --- their records


@get(_paths("/{dataset_id:str}/records"), sync_to_thread=True, opt=needs(Permission.TRACKING_READ))
def list_records(
    dataset_id: FromPath[str],
    database: NamedDependency[Database],
    max_results: FromQuery[int] = 1_000,
    page_token: FromQuery[str | None] = None,
) -> RecordsAnswer:
    with database.reading() as session:
        page = evaluation_records.list_records(
            session, dataset_id, max_results=max_results, page_token=page_token or None
        )
    return RecordsAnswer(records_on_wire(page.items), page.next_page_token)


@post(
    _paths("/{dataset_id:str}/records"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def write_records(
    dataset_id: FromPath[str],
    data: JSONBody[UpsertRecords],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> RecordsWritten:
    # Read before the transaction begins, which on SQLite is everybody's.
    records = read_objects(data.records, "records")
    with database.writing() as session:
        written = evaluation_records.write_records(session, dataset_id, records, now_ms=_now_ms(clock))
    return RecordsWritten(written.inserted, written.updated)


@delete(
    _paths("/{dataset_id:str}/records"),
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.TRACKING_WRITE),
)
def delete_records(
    dataset_id: FromPath[str],
    data: JSONBody[DeleteRecords],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> RecordsDeleted:
    with database.writing() as session:
        deleted = evaluation_records.delete_records(session, dataset_id, data.dataset_record_ids, now_ms=_now_ms(clock))
    return RecordsDeleted(deleted)


handlers = [
    search_used_datasets,
    search_used_datasets_as_misspelt,
    create_dataset,
    search_datasets,
    search_datasets_by_query,
    get_dataset,
    delete_dataset,
    set_dataset_tags,
    delete_dataset_tag,
    get_dataset_experiments,
    add_dataset_to_experiments,
    remove_dataset_from_experiments,
    list_records,
    write_records,
    delete_records,
]
