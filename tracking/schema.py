"""The tables of tracking and of artifacts. Rows never leave this package: `tracking.entities` come out."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine


class Base(DeclarativeBase):
    """One catalogue for all packages' tables, so that one migration history covers them."""

    # Named constraints, because a migration can only change what has a name.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


# PostgreSQL sorts and compares by a language's rules unless told otherwise; by bytes both databases agree, and an
# index serves LIKE 'prefix%' too.
def _text(length: int | None = None) -> TypeEngine[str]:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


# SQLite gives out numbers by itself only for a column of exactly this type.
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")

_RUN_ID = String(32)
_MODEL_ID = String(36)


def _head_of_value() -> Computed:
    """The first signs of a value: what an index may hold of it, since PostgreSQL takes at most 2.7 kB a row."""
    return Computed("substr(value, 1, 200)", persisted=True)


class ExperimentRow(Base):
    """A folder of runs. Its name stays taken while it is deleted."""

    __tablename__ = "experiments"

    experiment_id: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(_text(500), unique=True)
    artifact_location: Mapped[str] = mapped_column(Text)
    lifecycle_stage: Mapped[str] = mapped_column(String(20), default="active")
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)

    # A number is never given twice, or a deleted experiment's artifacts would become another one's.
    __table_args__ = ({"sqlite_autoincrement": True},)


class ExperimentTagRow(Base):
    __tablename__ = "experiment_tags"

    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.experiment_id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    value: Mapped[str] = mapped_column(_text())


class RunRow(Base):
    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(_RUN_ID, primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.experiment_id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(_text())
    user_id: Mapped[str] = mapped_column(_text())
    status: Mapped[str] = mapped_column(String(20))
    start_time_ms: Mapped[int] = mapped_column(BigInteger)
    end_time_ms: Mapped[int | None] = mapped_column(BigInteger)
    artifact_uri: Mapped[str] = mapped_column(Text)
    lifecycle_stage: Mapped[str] = mapped_column(String(20), default="active")
    deleted_ms: Mapped[int | None] = mapped_column(BigInteger)

    # The order in which runs are listed unless told otherwise: newest first, then by id.
    __table_args__ = (
        Index("ix_runs_listing", "experiment_id", "lifecycle_stage", text("start_time_ms DESC"), "run_id"),
    )


class MetricRow(Base):
    """One point of a run's history. All of it is the key, so the same point logged twice is one row."""

    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    # In the order in which a history is read, so that a page of it is one range of the index.
    timestamp_ms: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # NaN is 0 with `is_nan`: SQLite would make it NULL, and a key has no NULL.
    value: Mapped[float] = mapped_column(Float(53), primary_key=True)
    is_nan: Mapped[bool] = mapped_column(Boolean, primary_key=True, default=False)

    __table_args__ = ({"sqlite_with_rowid": False},)


class LatestMetricRow(Base):
    """For each metric of a run the point that is greatest by (step, timestamp, value): what searches look at."""

    __tablename__ = "latest_metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    # The run's, which never changes; here so that one index gives an experiment's runs in the order of a metric.
    experiment_id: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float] = mapped_column(Float(53))
    is_nan: Mapped[bool] = mapped_column(Boolean, default=False)
    timestamp_ms: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_latest_metrics_value", "experiment_id", "key", "is_nan", "value", "run_id"),
        {"sqlite_with_rowid": False},
    )


class ParamRow(Base):
    """Set once; a param's value never changes."""

    __tablename__ = "params"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    value: Mapped[str] = mapped_column(_text())
    value_head: Mapped[str] = mapped_column(_text(200), _head_of_value())

    __table_args__ = (Index("ix_params_value", "key", "value_head", "run_id"), {"sqlite_with_rowid": False})


class RunTagRow(Base):
    __tablename__ = "run_tags"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    value: Mapped[str] = mapped_column(_text())
    value_head: Mapped[str] = mapped_column(_text(200), _head_of_value())

    __table_args__ = (Index("ix_run_tags_value", "key", "value_head", "run_id"), {"sqlite_with_rowid": False})


class DatasetRow(Base):
    """A dataset that runs of one experiment used; the same name and digest are the same dataset."""

    __tablename__ = "datasets"

    dataset_id: Mapped[int] = mapped_column(_NUMBER, primary_key=True, autoincrement=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.experiment_id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(_text(500))
    digest: Mapped[str] = mapped_column(_text(36))
    source_type: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    schema: Mapped[str | None] = mapped_column(Text)
    profile: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (UniqueConstraint("experiment_id", "name", "digest"),)


class DatasetInputRow(Base):
    """A run's use of a dataset, with what the client says of it (its tag ``mlflow.data.context``: training, …)."""

    __tablename__ = "dataset_inputs"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[int] = mapped_column(
        ForeignKey("datasets.dataset_id", ondelete="CASCADE"), primary_key=True, index=True
    )
    context: Mapped[str | None] = mapped_column(_text())
    tags: Mapped[dict[str, str]] = mapped_column(JSON)


class ModelInputRow(Base):
    """A run used a logged model. No foreign key: a run may name a model of another server."""

    __tablename__ = "run_model_inputs"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(256), primary_key=True)


class ModelOutputRow(Base):
    """A run made a logged model, at a step."""

    __tablename__ = "run_model_outputs"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(256), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class LoggedModelRow(Base):
    """A model that a run logged: a folder of artifacts with params, tags and metrics of its own."""

    __tablename__ = "logged_models"

    model_id: Mapped[str] = mapped_column(_MODEL_ID, primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.experiment_id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(_text(500))
    model_type: Mapped[str | None] = mapped_column(_text())
    source_run_id: Mapped[str | None] = mapped_column(_text(), index=True)
    artifact_uri: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(40))
    status_message: Mapped[str | None] = mapped_column(Text)
    lifecycle_stage: Mapped[str] = mapped_column(String(20), default="active")
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_logged_models_listing", "experiment_id", "lifecycle_stage", text("created_ms DESC"), "model_id"),
    )


class LoggedModelParamRow(Base):
    __tablename__ = "logged_model_params"

    model_id: Mapped[str] = mapped_column(ForeignKey("logged_models.model_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    value: Mapped[str] = mapped_column(_text())


class LoggedModelTagRow(Base):
    __tablename__ = "logged_model_tags"

    model_id: Mapped[str] = mapped_column(ForeignKey("logged_models.model_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    value: Mapped[str] = mapped_column(_text())


class LoggedModelMetricRow(Base):
    """A point that a run logged about a model, on a dataset if it said which (else both its columns are empty)."""

    __tablename__ = "logged_model_metrics"

    model_id: Mapped[str] = mapped_column(ForeignKey("logged_models.model_id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    timestamp_ms: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True, index=True)
    dataset_name: Mapped[str] = mapped_column(_text(500), primary_key=True, default="")
    dataset_digest: Mapped[str] = mapped_column(_text(36), primary_key=True, default="")
    value: Mapped[float] = mapped_column(Float(53))
    is_nan: Mapped[bool] = mapped_column(Boolean, default=False)

    __table_args__ = (
        Index("ix_logged_model_metrics_value", "key", "value", "model_id"),
        {"sqlite_with_rowid": False},
    )


class ArtifactFileRow(Base):
    """What an artifact file held when it was uploaded through us.

    A file that came by other means has no row, or, where a client was shown the way past us, one whose digest is empty.
    """

    __tablename__ = "artifact_files"

    path: Mapped[str] = mapped_column(_text(1024), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    uploaded_ms: Mapped[int] = mapped_column(BigInteger)


class FrozenFolderRow(Base):
    """A folder whose files may not change any more, once for each reason to keep it so."""

    __tablename__ = "frozen_folders"

    folder: Mapped[str] = mapped_column(_text(1024), primary_key=True)
    # Why, as a caller is told: "registered as iris-classifier version 3".
    label: Mapped[str] = mapped_column(_text(400), primary_key=True)
    # `tracking.manifest.Manifest.text`; its SHA-256 is the version's digest.
    manifest: Mapped[str] = mapped_column(Text)


class EvaluationDatasetRow(Base):
    """Named records of inputs and what is expected of them. Not a `DatasetRow`, which only says what a run used."""

    __tablename__ = "evaluation_datasets"

    dataset_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(_text(500))
    # JSON texts as the client reads them; empty until there are records.
    schema: Mapped[str | None] = mapped_column(Text)
    profile: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)
    created_by: Mapped[str | None] = mapped_column(_text())
    updated_by: Mapped[str | None] = mapped_column(_text())

    __table_args__ = (Index("ix_evaluation_datasets_order", "created_ms", "dataset_id"),)


class EvaluationDatasetTagRow(Base):
    __tablename__ = "evaluation_dataset_tags"

    dataset_id: Mapped[str] = mapped_column(
        ForeignKey("evaluation_datasets.dataset_id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(_text(250), primary_key=True)
    value: Mapped[str] = mapped_column(_text())


class EvaluationDatasetExperimentRow(Base):
    """An experiment that a dataset belongs to; it may belong to several."""

    __tablename__ = "evaluation_dataset_experiments"

    dataset_id: Mapped[str] = mapped_column(
        ForeignKey("evaluation_datasets.dataset_id", ondelete="CASCADE"), primary_key=True
    )
    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.experiment_id", ondelete="CASCADE"), primary_key=True, index=True
    )


class EvaluationRecordRow(Base):
    """One example. Its inputs are its identity: the same inputs again change this row."""

    __tablename__ = "evaluation_records"

    record_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("evaluation_datasets.dataset_id", ondelete="CASCADE"))
    # SHA-256 of the inputs as JSON with sorted keys.
    input_hash: Mapped[str] = mapped_column(String(64))
    # JSON texts, not the databases' JSON: that has no NaN, and PostgreSQL's no NUL.
    inputs: Mapped[str] = mapped_column(Text)
    outputs: Mapped[str | None] = mapped_column(Text)
    expectations: Mapped[str | None] = mapped_column(Text)
    tags: Mapped[str] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)
    created_by: Mapped[str | None] = mapped_column(_text())
    updated_by: Mapped[str | None] = mapped_column(_text())

    __table_args__ = (
        UniqueConstraint("dataset_id", "input_hash"),
        Index("ix_evaluation_records_order", "dataset_id", "created_ms", "record_id"),
    )


class ImportRow(Base):
    """Something that was copied from another server, as it was there then: what needn't be copied again."""

    __tablename__ = "imports"

    # The server's URL.
    source: Mapped[str] = mapped_column(_text(500), primary_key=True)
    # `tracking.imports.Kind`, and what the server calls it.
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    id: Mapped[str] = mapped_column(_text(600), primary_key=True)
    # What it is called here.
    local_id: Mapped[str] = mapped_column(_text(600))
    # SHA-256 of how the server describes it.
    fingerprint: Mapped[str] = mapped_column(String(64))
    # What of it no description counts: points of metrics, artifacts, and their bytes.
    points: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    done_ms: Mapped[int] = mapped_column(BigInteger)
