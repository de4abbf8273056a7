"""Datasets as MLflow's client sends and reads them (mlflow/protos/datasets.proto and service.proto, in JSON form).

Tags, records and what is in them are JSON inside of JSON: texts that protobuf carries without reading them.
"""

import json
from typing import Any

import msgspec

from tracking import entities
from tracking.errors import InvalidParameter


def read_object(text: str, field: str) -> dict[str, Any]:
    """The JSON object that *text* is.

    Raises:
        InvalidParameter: if it is none, naming *field*.
    """
    value = _read(text, field)
    if not isinstance(value, dict):
        raise InvalidParameter(f"Invalid value for parameter '{field}' supplied: expected a JSON object as a string.")
    return value


def read_objects(text: str, field: str) -> list[dict[str, Any]]:
    """The JSON objects that *text* lists.

    Raises:
        InvalidParameter: if it isn't such a list, naming *field*.
    """
    value = _read(text, field)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidParameter(f"Invalid value for parameter '{field}' supplied: expected a JSON list of objects.")
    return value


def read_tags(text: str | None) -> dict[str, str]:
    """Tags as they are kept: texts. A tag without a value changes nothing, as with MLflow."""
    tags = read_object(text, "tags") if text else {}
    return {key: value if isinstance(value, str) else str(value) for key, value in tags.items() if value is not None}


def _read(text: str, field: str) -> Any:
    try:
        # Not msgspec: a record may hold NaN, which Python's clients write and read.
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"Invalid value for parameter '{field}' supplied: it isn't JSON.") from error


# --- requests


class CreateDataset(msgspec.Struct):
    name: str
    experiment_ids: list[str] = []
    tags: str | None = None


class SearchEvaluationDatasets(msgspec.Struct):
    experiment_ids: list[str] = []
    filter_string: str | None = None
    max_results: int | str = 1_000
    order_by: list[str] = []
    page_token: str | None = None


class UpsertRecords(msgspec.Struct):
    records: str


class DeleteRecords(msgspec.Struct):
    dataset_record_ids: list[str] = []


class SetDatasetTags(msgspec.Struct):
    tags: str


class DatasetExperiments(msgspec.Struct):
    experiment_ids: list[str] = []


class SearchDatasets(msgspec.Struct):
    experiment_ids: list[str] = []


# --- answers


class EvaluationDataset(msgspec.Struct, kw_only=True, omit_defaults=True):
    dataset_id: str
    name: str
    tags: str
    schema: str | None = None
    profile: str | None = None
    digest: str
    created_time: int
    last_update_time: int
    created_by: str | None = None
    last_updated_by: str | None = None
    experiment_ids: list[str] = []


class DatasetAnswer(msgspec.Struct):
    dataset: EvaluationDataset


class DatasetsAnswer(msgspec.Struct, omit_defaults=True):
    datasets: list[EvaluationDataset] = []
    next_page_token: str | None = None


class RecordsWritten(msgspec.Struct):
    inserted_count: int
    updated_count: int


class RecordsDeleted(msgspec.Struct):
    deleted_count: int


class RecordsAnswer(msgspec.Struct, omit_defaults=True):
    records: str
    next_page_token: str | None = None


class ExperimentIds(msgspec.Struct):
    experiment_ids: list[str]


class DatasetSummary(msgspec.Struct, omit_defaults=True):
    experiment_id: str
    name: str
    digest: str
    context: str | None = None


class DatasetSummaries(msgspec.Struct):
    dataset_summaries: list[DatasetSummary]


def dataset_on_wire(dataset: entities.EvaluationDataset) -> EvaluationDataset:
    return EvaluationDataset(
        dataset_id=dataset.dataset_id,
        name=dataset.name,
        tags=json.dumps(dataset.tags),
        schema=dataset.schema,
        profile=dataset.profile,
        digest=dataset.digest,
        created_time=dataset.created_ms,
        last_update_time=dataset.updated_ms,
        created_by=dataset.created_by,
        last_updated_by=dataset.updated_by,
        experiment_ids=list(dataset.experiment_ids),
    )


def summary_on_wire(summary: entities.DatasetSummary) -> DatasetSummary:
    return DatasetSummary(summary.experiment_id, summary.name, summary.digest, summary.context)


def records_on_wire(records: list[entities.EvaluationRecord]) -> str:
    return json.dumps([_record_on_wire(record) for record in records])


def _record_on_wire(record: entities.EvaluationRecord) -> dict[str, Any]:
    fields = {
        "dataset_record_id": record.record_id,
        "dataset_id": record.dataset_id,
        "inputs": record.inputs,
        "outputs": record.outputs,
        "expectations": record.expectations,
        "tags": record.tags,
        "created_time": record.created_ms,
        "last_update_time": record.updated_ms,
        "created_by": record.created_by,
        "last_updated_by": record.updated_by,
        **_source_on_wire(record.source),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _source_on_wire(source: entities.RecordSource | None) -> dict[str, Any]:
    if source is None:
        return {}
    return {
        "source": {"source_type": source.kind, "source_data": source.data},
        "source_type": source.kind,
        "source_id": source.data.get("trace_id" if source.kind == "TRACE" else "source_id"),
    }
