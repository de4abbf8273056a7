"""The values that come out of tracking: frozen, compared by ``==``, free of any session."""

from enum import StrEnum

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
