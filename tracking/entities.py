"""The values that come out of tracking: frozen, compared by ``==``, free of any session."""

from enum import StrEnum
from typing import Any

import msgspec


class LifecycleStage(StrEnum):
    ACTIVE = "active"
    DELETED = "deleted"


class ViewType(StrEnum):
    """Which stages a search looks at (mlflow/protos/service.proto)."""

    ACTIVE_ONLY = "ACTIVE_ONLY"
    DELETED_ONLY = "DELETED_ONLY"
    ALL = "ALL"

    @property
    def stages(self) -> tuple[LifecycleStage, ...]:
        match self:
            case ViewType.ACTIVE_ONLY:
                return (LifecycleStage.ACTIVE,)
            case ViewType.DELETED_ONLY:
                return (LifecycleStage.DELETED,)
            case ViewType.ALL:
                return (LifecycleStage.ACTIVE, LifecycleStage.DELETED)


class RunStatus(StrEnum):
    RUNNING = "RUNNING"
    SCHEDULED = "SCHEDULED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class LoggedModelStatus(StrEnum):
    PENDING = "LOGGED_MODEL_PENDING"
    READY = "LOGGED_MODEL_READY"
    UPLOAD_FAILED = "LOGGED_MODEL_UPLOAD_FAILED"


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: LifecycleStage = LifecycleStage.ACTIVE
    created_ms: int
    updated_ms: int
    tags: dict[str, str] = {}


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One point. NaN is NaN; infinities come out as the largest finite numbers, as MLflow keeps them."""

    key: str
    value: float
    timestamp_ms: int
    step: int = 0
    model_id: str | None = None
    """The logged model that the point is about, besides its run."""
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None
    """Where the point is listed apart from its run."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct, frozen=True, kw_only=True):
    dataset: Dataset
    tags: dict[str, str] = {}


class ModelOutput(msgspec.Struct, frozen=True, kw_only=True):
    model_id: str
    step: int = 0


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is, without what was logged to it."""

    run_id: str
    experiment_id: str
    name: str
    user_id: str = ""
    status: RunStatus = RunStatus.RUNNING
    start_time_ms: int
    end_time_ms: int | None = None
    artifact_uri: str
    lifecycle_stage: LifecycleStage = LifecycleStage.ACTIVE


class Run(msgspec.Struct, frozen=True, kw_only=True):
    info: RunInfo
    metrics: tuple[Metric, ...] = ()
    """The latest point of each metric."""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    dataset_inputs: tuple[DatasetInput, ...] = ()
    model_inputs: tuple[str, ...] = ()
    model_outputs: tuple[ModelOutput, ...] = ()


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    model_id: str
    experiment_id: str
    name: str
    model_type: str | None = None
    source_run_id: str | None = None
    artifact_uri: str
    status: LoggedModelStatus = LoggedModelStatus.PENDING
    status_message: str | None = None
    lifecycle_stage: LifecycleStage = LifecycleStage.ACTIVE
    created_ms: int
    updated_ms: int
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: tuple[Metric, ...] = ()


class DatasetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One use of a dataset by runs of an experiment, whichever run."""

    experiment_id: str
    name: str
    digest: str
    context: str | None = None


class EvaluationDataset(msgspec.Struct, frozen=True, kw_only=True):
    """Named records to evaluate on, in any number of experiments; the records themselves are asked for apart."""

    dataset_id: str
    name: str
    digest: str
    """Another one after every change of records."""
    schema: str | None = None
    profile: str | None = None
    created_ms: int
    updated_ms: int
    created_by: str | None = None
    updated_by: str | None = None
    tags: dict[str, str] = {}
    experiment_ids: tuple[str, ...] = ()


class RecordSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record came from, as a client says it."""

    kind: str
    """TRACE, HUMAN, DOCUMENT, CODE or UNSPECIFIED (mlflow/entities/dataset_record_source.py)."""
    data: dict[str, Any] = {}


class EvaluationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One example of an evaluation dataset. Its values are any JSON."""

    record_id: str
    dataset_id: str
    inputs: dict[str, Any]
    outputs: Any = None
    expectations: dict[str, Any] | None = None
    tags: dict[str, Any] = {}
    source: RecordSource | None = None
    created_ms: int
    updated_ms: int
    created_by: str | None = None
    updated_by: str | None = None
