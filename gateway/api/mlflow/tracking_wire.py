"""Experiments and runs as MLflow's client sends and reads them (mlflow/protos/service.proto, by its JSON form).

Fields that we don't know are ignored, because clients grow. An answer leaves out what isn't set.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.api.mlflow.numbers import choice, double, double_on_wire, int64
from tracking import entities
from tracking.entities import RunStatus, ViewType
from tracking.errors import InvalidParameter

_VIEWS = dict(enumerate(ViewType, 1))
_STATUSES = dict(enumerate(RunStatus, 1))


class Empty(msgspec.Struct):
    """What MLflow answers where there is nothing to say: ``{}``."""


class KeyValue(msgspec.Struct):
    """A tag or a param."""

    key: str
    value: str = ""


def as_dict(pairs: Iterable[KeyValue]) -> dict[str, str]:
    """By key; of two with the same key the last counts, as with MLflow."""
    return {pair.key: pair.value for pair in pairs}


def as_pairs(values: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key, value) for key, value in values.items()]


def view_of(value: str | int | None) -> ViewType:
    return ViewType.ACTIVE_ONLY if value is None else choice(value, "view_type", _VIEWS)


def status_of(value: str | int | None) -> RunStatus | None:
    return None if value is None else choice(value, "status", _STATUSES)


# --- experiments


class CreateExperiment(msgspec.Struct):
    name: str
    artifact_location: str | None = None
    tags: list[KeyValue] = []


class ExperimentId(msgspec.Struct):
    experiment_id: str


class UpdateExperiment(msgspec.Struct):
    experiment_id: str
    new_name: str


class SetExperimentTag(msgspec.Struct):
    experiment_id: str
    key: str
    value: str = ""


class DeleteExperimentTag(msgspec.Struct):
    experiment_id: str
    key: str


class SearchExperiments(msgspec.Struct):
    max_results: int | str = 1_000
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] = []
    view_type: str | int | None = None


class Experiment(msgspec.Struct):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: list[KeyValue]


class ExperimentAnswer(msgspec.Struct):
    experiment: Experiment


class ExperimentsAnswer(msgspec.Struct, omit_defaults=True):
    experiments: list[Experiment]
    next_page_token: str | None = None


def experiment_on_wire(experiment: entities.Experiment) -> Experiment:
    return Experiment(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        artifact_location=experiment.artifact_location,
        lifecycle_stage=experiment.lifecycle_stage,
        last_update_time=experiment.updated_ms,
        creation_time=experiment.created_ms,
        tags=as_pairs(experiment.tags),
    )


# --- runs


class CreateRun(msgspec.Struct):
    experiment_id: str = "0"
    user_id: str = ""
    run_name: str = ""
    start_time: int | str | None = None
    tags: list[KeyValue] = []


class OfRun(msgspec.Struct):
    """A request about one run, which older clients name ``run_uuid``."""

    run_id: str = ""
    run_uuid: str = ""


class UpdateRun(OfRun):
    status: str | int | None = None
    end_time: int | str | None = None
    run_name: str | None = None


class SearchRuns(msgspec.Struct):
    experiment_ids: list[str] = []
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: int | str = 1_000
    order_by: list[str] = []
    page_token: str | None = None


class LogMetric(OfRun, kw_only=True):
    key: str
    value: float | str
    timestamp: int | str
    step: int | str = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogParam(OfRun, kw_only=True):
    key: str
    value: str = ""


class SetTag(OfRun, kw_only=True):
    key: str
    value: str = ""


class DeleteTag(OfRun, kw_only=True):
    key: str


class MetricSent(msgspec.Struct):
    key: str
    value: float | str
    timestamp: int | str
    step: int | str = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogBatch(OfRun):
    metrics: list[MetricSent] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class Dataset(msgspec.Struct, omit_defaults=True):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct):
    dataset: Dataset
    tags: list[KeyValue] = []


class ModelInput(msgspec.Struct):
    model_id: str


class ModelOutput(msgspec.Struct):
    model_id: str
    step: int | str = 0


class LogInputs(OfRun):
    datasets: list[DatasetInput] = []
    models: list[ModelInput] = []


class LogOutputs(OfRun, kw_only=True):
    models: list[ModelOutput]


class LogModel(OfRun, kw_only=True):
    model_json: str


class Metric(msgspec.Struct, omit_defaults=True):
    key: str
    value: float | str
    timestamp: int
    step: int
    dataset_name: str | None = None
    dataset_digest: str | None = None
    model_id: str | None = None
    run_id: str | None = None


class RunInfo(msgspec.Struct, omit_defaults=True):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    end_time: int | None = None


class RunData(msgspec.Struct):
    metrics: list[Metric]
    params: list[KeyValue]
    tags: list[KeyValue]


class RunInputs(msgspec.Struct):
    dataset_inputs: list[DatasetInput]
    model_inputs: list[ModelInput]


class RunOutputs(msgspec.Struct):
    model_outputs: list[ModelOutput]


class Run(msgspec.Struct):
    info: RunInfo
    data: RunData
    inputs: RunInputs
    outputs: RunOutputs


class RunAnswer(msgspec.Struct):
    run: Run


class RunInfoAnswer(msgspec.Struct):
    run_info: RunInfo


class RunsAnswer(msgspec.Struct, omit_defaults=True):
    runs: list[Run]
    next_page_token: str | None = None


class MetricsAnswer(msgspec.Struct, omit_defaults=True):
    metrics: list[Metric]
    next_page_token: str | None = None


class ServerInfo(msgspec.Struct):
    """What this server can do beyond the plain calls (mlflow/utils/server_info.py)."""

    store_type: str = "SqlStore"
    workspaces_enabled: bool = False
    trace_archival_enabled: bool = False
    multipart_uploads_enabled: bool = False
    multipart_downloads_enabled: bool = False
    presigned_upload_run_id_supported: bool = False
    presigned_upload_model_id_supported: bool = False


def metrics_sent(sent: Sequence[MetricSent]) -> list[entities.Metric]:
    try:
        return [metric_sent(metric) for metric in sent]
    except InvalidParameter:
        # Once more, saying where it stands: written out for each of a thousand that are right, that takes longer than
        # all else here.
        return [metric_sent(metric, f"metrics[{number}].") for number, metric in enumerate(sent)]


def metric_sent(sent: MetricSent | LogMetric, path: str = "") -> entities.Metric:
    return entities.Metric(
        key=sent.key,
        value=double(sent.value, f"{path}value"),
        timestamp_ms=int64(sent.timestamp, f"{path}timestamp"),
        step=int64(sent.step, f"{path}step"),
        model_id=sent.model_id or None,
        dataset_name=sent.dataset_name or None,
        dataset_digest=sent.dataset_digest or None,
    )


def dataset_input_sent(sent: DatasetInput) -> entities.DatasetInput:
    dataset = entities.Dataset(**msgspec.structs.asdict(sent.dataset))
    return entities.DatasetInput(dataset=dataset, tags=as_dict(sent.tags))


def model_output_sent(sent: ModelOutput) -> entities.ModelOutput:
    return entities.ModelOutput(model_id=sent.model_id, step=int64(sent.step, "models.step"))


def metric_on_wire(metric: entities.Metric) -> Metric:
    return Metric(
        key=metric.key,
        value=double_on_wire(metric.value),
        timestamp=metric.timestamp_ms,
        step=metric.step,
        dataset_name=metric.dataset_name,
        dataset_digest=metric.dataset_digest,
        model_id=metric.model_id,
        run_id=metric.run_id,
    )


def run_info_on_wire(info: entities.RunInfo) -> RunInfo:
    return RunInfo(
        run_id=info.run_id,
        run_uuid=info.run_id,
        run_name=info.name,
        experiment_id=info.experiment_id,
        user_id=info.user_id,
        status=info.status,
        start_time=info.start_time_ms,
        artifact_uri=info.artifact_uri,
        lifecycle_stage=info.lifecycle_stage,
        end_time=info.end_time_ms,
    )


def run_on_wire(run: entities.Run) -> Run:
    return Run(
        info=run_info_on_wire(run.info),
        data=RunData(
            metrics=[metric_on_wire(metric) for metric in run.metrics],
            params=as_pairs(run.params),
            tags=as_pairs(run.tags),
        ),
        inputs=RunInputs(
            dataset_inputs=[_dataset_input_on_wire(one) for one in run.dataset_inputs],
            model_inputs=[ModelInput(model_id) for model_id in run.model_inputs],
        ),
        outputs=RunOutputs([ModelOutput(one.model_id, one.step) for one in run.model_outputs]),
    )


def _dataset_input_on_wire(given: entities.DatasetInput) -> DatasetInput:
    return DatasetInput(Dataset(**msgspec.structs.asdict(given.dataset)), as_pairs(given.tags))
