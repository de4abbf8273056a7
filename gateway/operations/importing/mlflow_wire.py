"""What MLflow's server answers, as far as an import reads it. Fields that aren't named here are skipped.

Older servers write 64-bit numbers as strings, and all write NaN as one.
"""

import msgspec

from gateway.api.mlflow.numbers import double
from registry.entities import ModelVersion
from tracking import entities
from tracking.entities import LifecycleStage, LoggedModelStatus, RunStatus


class KeyValue(msgspec.Struct):
    key: str
    value: str = ""


class Metric(msgspec.Struct):
    key: str
    value: float | str = 0.0
    timestamp: int = 0
    step: int = 0
    run_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def entity(self) -> entities.Metric:
        return entities.Metric(
            key=self.key,
            value=double(self.value, "value"),
            timestamp_ms=self.timestamp,
            step=self.step,
            run_id=self.run_id,
            dataset_name=self.dataset_name,
            dataset_digest=self.dataset_digest,
        )


class Experiment(msgspec.Struct):
    experiment_id: str
    name: str
    lifecycle_stage: LifecycleStage = LifecycleStage.ACTIVE
    creation_time: int = 0
    last_update_time: int = 0
    tags: list[KeyValue] = []

    def entity(self) -> entities.Experiment:
        return entities.Experiment(
            experiment_id=self.experiment_id,
            name=self.name,
            artifact_location="",
            lifecycle_stage=self.lifecycle_stage,
            created_ms=self.creation_time,
            updated_ms=self.last_update_time,
            tags=as_dict(self.tags),
        )


class RunInfo(msgspec.Struct):
    run_id: str
    experiment_id: str
    status: RunStatus = RunStatus.RUNNING
    run_name: str = ""
    user_id: str = ""
    start_time: int = 0
    end_time: int | None = None
    artifact_uri: str = ""
    lifecycle_stage: LifecycleStage = LifecycleStage.ACTIVE


class RunData(msgspec.Struct):
    metrics: list[Metric] = []
    params: list[KeyValue] = []
    tags: list[KeyValue] = []


class Dataset(msgspec.Struct):
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
    step: int = 0


class RunInputs(msgspec.Struct):
    dataset_inputs: list[DatasetInput] = []
    model_inputs: list[ModelInput] = []


class RunOutputs(msgspec.Struct):
    model_outputs: list[ModelOutput] = []


class Run(msgspec.Struct):
    info: RunInfo
    data: RunData = msgspec.field(default_factory=RunData)
    inputs: RunInputs = msgspec.field(default_factory=RunInputs)
    outputs: RunOutputs = msgspec.field(default_factory=RunOutputs)

    def entity(self, *, experiment_id: str, artifact_uri: str) -> entities.Run:
        """The run as it is here: in an experiment and at a place of ours. Its metrics come by their histories."""
        info = self.info
        return entities.Run(
            info=entities.RunInfo(
                run_id=info.run_id,
                experiment_id=experiment_id,
                name=info.run_name,
                user_id=info.user_id,
                status=info.status,
                start_time_ms=info.start_time,
                end_time_ms=info.end_time,
                artifact_uri=artifact_uri,
                lifecycle_stage=info.lifecycle_stage,
            ),
            params=as_dict(self.data.params),
            tags=as_dict(self.data.tags),
            dataset_inputs=tuple(
                entities.DatasetInput(
                    dataset=entities.Dataset(**msgspec.structs.asdict(used.dataset)), tags=as_dict(used.tags)
                )
                for used in self.inputs.dataset_inputs
            ),
            model_inputs=tuple(used.model_id for used in self.inputs.model_inputs),
            model_outputs=tuple(
                entities.ModelOutput(model_id=made.model_id, step=made.step) for made in self.outputs.model_outputs
            ),
        )


class LoggedModelInfo(msgspec.Struct):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int = 0
    last_updated_timestamp_ms: int = 0
    artifact_uri: str = ""
    status: LoggedModelStatus = LoggedModelStatus.READY
    status_message: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    tags: list[KeyValue] = []


class LoggedModelData(msgspec.Struct):
    params: list[KeyValue] = []
    metrics: list[Metric] = []


class LoggedModel(msgspec.Struct):
    info: LoggedModelInfo
    data: LoggedModelData = msgspec.field(default_factory=LoggedModelData)

    def entity(self, *, experiment_id: str, artifact_uri: str) -> entities.LoggedModel:
        """The model as it is here."""
        info = self.info
        return entities.LoggedModel(
            model_id=info.model_id,
            experiment_id=experiment_id,
            name=info.name,
            model_type=info.model_type or None,
            source_run_id=info.source_run_id or None,
            artifact_uri=artifact_uri,
            status=info.status,
            status_message=info.status_message,
            created_ms=info.creation_timestamp_ms,
            updated_ms=info.last_updated_timestamp_ms,
            params=as_dict(self.data.params),
            tags=as_dict(info.tags),
            metrics=tuple(metric.entity() for metric in self.data.metrics),
        )


class Alias(msgspec.Struct):
    alias: str
    version: str


class RegisteredModel(msgspec.Struct):
    name: str
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    description: str | None = None
    tags: list[KeyValue] = []
    aliases: list[Alias] = []


class Version(msgspec.Struct):
    name: str
    version: str
    creation_timestamp: int = 0
    last_updated_timestamp: int = 0
    user_id: str | None = None
    current_stage: str = "None"
    description: str | None = None
    source: str = ""
    run_id: str | None = None
    run_link: str | None = None
    status: str = "READY"
    status_message: str | None = None
    tags: list[KeyValue] = []

    def entity(self, *, source: str, artifact_uri: str, model_id: str | None) -> ModelVersion:
        """The version as it is here."""
        return ModelVersion(
            name=self.name,
            version=int(self.version),
            source=source,
            artifact_uri=artifact_uri,
            run_id=self.run_id or None,
            run_link=self.run_link or None,
            model_id=model_id,
            user_id=self.user_id or None,
            description=self.description,
            stage=self.current_stage,
            status=self.status,
            status_message=self.status_message,
            created_ms=self.creation_timestamp,
            updated_ms=self.last_updated_timestamp,
            tags=as_dict(self.tags),
        )


class File(msgspec.Struct):
    """An entry of a listing; its path is from the artifact root that was listed."""

    path: str
    is_dir: bool = False
    file_size: int | None = None


def as_dict(pairs: list[KeyValue]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}
