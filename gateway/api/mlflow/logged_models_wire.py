"""Logged models as MLflow's client sends and reads them (mlflow/protos/service.proto, by its JSON form)."""

import msgspec

from gateway.api.mlflow.numbers import choice
from gateway.api.mlflow.tracking_wire import KeyValue, Metric, as_pairs, metric_on_wire
from tracking import entities
from tracking.entities import LoggedModelStatus
from tracking.logged_models import PAGE_SIZE_DEFAULT, DatasetFilter, ModelOrdering

_STATUSES = dict(enumerate(LoggedModelStatus, 1))


class CreateLoggedModel(msgspec.Struct):
    experiment_id: str
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class FinalizeLoggedModel(msgspec.Struct):
    status: str | int


class SetLoggedModelTags(msgspec.Struct):
    tags: list[KeyValue] = []


class LogLoggedModelParams(msgspec.Struct):
    params: list[KeyValue] = []


class OfDataset(msgspec.Struct):
    dataset_name: str
    dataset_digest: str | None = None


class OrderBy(msgspec.Struct):
    field_name: str
    ascending: bool = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


class SearchLoggedModels(msgspec.Struct):
    experiment_ids: list[str]
    filter: str | None = None
    datasets: list[OfDataset] = []
    max_results: int | str = PAGE_SIZE_DEFAULT
    order_by: list[OrderBy] = []
    page_token: str | None = None


class LoggedModelInfo(msgspec.Struct, omit_defaults=True):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str | None = None
    source_run_id: str | None = None
    status_message: str | None = None
    tags: list[KeyValue] = []


class LoggedModelData(msgspec.Struct):
    params: list[KeyValue]
    metrics: list[Metric]


class LoggedModel(msgspec.Struct):
    info: LoggedModelInfo
    data: LoggedModelData


class LoggedModelAnswer(msgspec.Struct):
    model: LoggedModel


class LoggedModelsAnswer(msgspec.Struct, omit_defaults=True):
    models: list[LoggedModel]
    next_page_token: str | None = None


def status_sent(value: str | int) -> LoggedModelStatus:
    return choice(value, "status", _STATUSES)


def dataset_sent(sent: OfDataset) -> DatasetFilter:
    return DatasetFilter(name=sent.dataset_name, digest=sent.dataset_digest or None)


def ordering_sent(sent: OrderBy) -> ModelOrdering:
    return ModelOrdering(
        field=sent.field_name,
        ascending=sent.ascending,
        dataset_name=sent.dataset_name or None,
        dataset_digest=sent.dataset_digest or None,
    )


def logged_model_on_wire(model: entities.LoggedModel) -> LoggedModel:
    info = LoggedModelInfo(
        model_id=model.model_id,
        experiment_id=model.experiment_id,
        name=model.name,
        creation_timestamp_ms=model.created_ms,
        last_updated_timestamp_ms=model.updated_ms,
        artifact_uri=model.artifact_uri,
        status=model.status,
        model_type=model.model_type,
        source_run_id=model.source_run_id,
        status_message=model.status_message,
        tags=as_pairs(model.tags),
    )
    return LoggedModel(info, LoggedModelData(as_pairs(model.params), [metric_on_wire(one) for one in model.metrics]))
