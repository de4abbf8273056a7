"""What runs used and made: datasets and logged models, linked to the run."""

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from tracking.access.narrowing import in_sight, no_hidden_model
from tracking.among import among
from tracking.entities import Dataset, DatasetInput, DatasetSummary, ModelOutput
from tracking.errors import InvalidParameter
from tracking.experiments import parse_experiment_id
from tracking.logged_models import ensure_linkable
from tracking.names import check_text
from tracking.schema import DatasetInputRow, DatasetRow, ModelInputRow, ModelOutputRow
from tracking.upserts import insert_new

DATASETS_PER_REQUEST_MAX = 1_000
_CONTEXT_TAG = "mlflow.data.context"


def write_dataset_inputs(session: Session, run_id: str, experiment_id: int, inputs: Sequence[DatasetInput]) -> None:
    """Link the run to datasets. One that it is linked to already stays as it was."""
    if len(inputs) > DATASETS_PER_REQUEST_MAX:
        raise InvalidParameter(f"A request can name at most {DATASETS_PER_REQUEST_MAX} datasets; got {len(inputs)}.")
    for number, one in enumerate(inputs):
        _check_input(one, f"datasets[{number}].")
    insert_new(session, DatasetRow, [_dataset_row(experiment_id, one.dataset) for one in inputs])
    ids = _dataset_ids(session, experiment_id, [one.dataset for one in inputs])
    rows = [
        {
            "run_id": run_id,
            "dataset_id": ids[one.dataset.name, one.dataset.digest],
            "context": one.tags.get(_CONTEXT_TAG),
            "tags": one.tags,
        }
        for one in inputs
    ]
    insert_new(session, DatasetInputRow, rows)


def search_datasets(session: Session, experiment_ids: Sequence[str]) -> list[DatasetSummary]:
    """What runs of these experiments used, each dataset once for each context; at most a thousand."""
    link, row = DatasetInputRow, DatasetRow
    summary = (row.experiment_id, row.name, row.digest, link.context)
    used = select(*summary).join(link, link.dataset_id == row.dataset_id).distinct()
    wanted = row.experiment_id.in_([parse_experiment_id(one) for one in experiment_ids])
    in_experiments = used.where(wanted, *in_sight(session, row.experiment_id))
    found = session.execute(in_experiments.order_by(*summary).limit(DATASETS_PER_REQUEST_MAX))
    return [
        DatasetSummary(experiment_id=str(number), name=name, digest=digest, context=context)
        for number, name, digest, context in found
    ]


def write_model_inputs(session: Session, run_id: str, model_ids: Iterable[str]) -> None:
    """Link the run to logged models that it used.

    Raises:
        LoggedModelNotFound: if the caller doesn't see one; who sees everything may name those of another server.
    """
    rows = [{"run_id": run_id, "model_id": check_text(model_id, "model_id", 256)} for model_id in model_ids]
    ensure_linkable(session, [row["model_id"] for row in rows])
    insert_new(session, ModelInputRow, rows)


def write_model_outputs(session: Session, run_id: str, outputs: Iterable[ModelOutput]) -> None:
    """Link the run to logged models that it made, as `write_model_inputs` does."""
    made = list(outputs)
    ensure_linkable(session, [check_text(output.model_id, "model_id", 256) for output in made])
    rows = [{"run_id": run_id, "model_id": output.model_id, "step": output.step} for output in made]
    insert_new(session, ModelOutputRow, rows)


# Built once, as every page of runs asks.
_DATASETS_OF = (
    select(
        *(DatasetInputRow.run_id, DatasetInputRow.tags),
        *(DatasetRow.name, DatasetRow.digest),
        *(DatasetRow.source_type, DatasetRow.source, DatasetRow.schema, DatasetRow.profile),
    )
    .join(DatasetRow, DatasetRow.dataset_id == DatasetInputRow.dataset_id)
    .where(among(DatasetInputRow.run_id, "ids"))
    .order_by(DatasetInputRow.run_id, DatasetInputRow.dataset_id)
)
_MODELS_USED_BY = (
    select(ModelInputRow.run_id, ModelInputRow.model_id)
    .where(among(ModelInputRow.run_id, "ids"))
    .order_by(ModelInputRow.run_id, ModelInputRow.model_id)
)
_MODELS_MADE_BY = (
    select(ModelOutputRow.run_id, ModelOutputRow.model_id, ModelOutputRow.step)
    .where(among(ModelOutputRow.run_id, "ids"))
    .order_by(ModelOutputRow.run_id, ModelOutputRow.step, ModelOutputRow.model_id)
)


def dataset_inputs(session: Session, run_ids: Sequence[str]) -> dict[str, list[DatasetInput]]:
    found: dict[str, list[DatasetInput]] = {run_id: [] for run_id in run_ids}
    for one in session.connection().execute(_DATASETS_OF, {"ids": run_ids}):
        dataset = Dataset(
            name=one.name,
            digest=one.digest,
            source_type=one.source_type,
            source=one.source,
            schema=one.schema,
            profile=one.profile,
        )
        found[one.run_id].append(DatasetInput(dataset=dataset, tags=one.tags))
    return found


def model_inputs(session: Session, run_ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {run_id: [] for run_id in run_ids}
    seen = no_hidden_model(session, ModelInputRow.model_id)
    statement = _MODELS_USED_BY.where(*seen) if seen else _MODELS_USED_BY
    for run_id, model_id in session.connection().execute(statement, {"ids": run_ids}):
        found[run_id].append(model_id)
    return found


def model_outputs(session: Session, run_ids: Sequence[str]) -> dict[str, list[ModelOutput]]:
    found: dict[str, list[ModelOutput]] = {run_id: [] for run_id in run_ids}
    seen = no_hidden_model(session, ModelOutputRow.model_id)
    statement = _MODELS_MADE_BY.where(*seen) if seen else _MODELS_MADE_BY
    for run_id, model_id, step in session.connection().execute(statement, {"ids": run_ids}):
        found[run_id].append(ModelOutput(model_id=model_id, step=step))
    return found


def _check_input(given: DatasetInput, path: str) -> None:
    dataset = given.dataset
    for field, value, length_max in (
        ("name", dataset.name, 500),
        ("digest", dataset.digest, 36),
        ("source_type", dataset.source_type, 65_535),
        ("source", dataset.source, 65_535),
        ("schema", dataset.schema or "", 1_048_575),
        ("profile", dataset.profile or "", 16_777_215),
    ):
        check_text(value, f"{path}{field}", length_max)
    if not dataset.name or not dataset.digest:
        raise InvalidParameter(f"Missing value for required parameter '{path}name' or '{path}digest'")
    for key, value in given.tags.items():
        check_text(key, f"{path}tags.key", 255)
        check_text(value, f"{path}tags.value", 500)


def _dataset_row(experiment_id: int, dataset: Dataset) -> dict[str, object]:
    return {
        "experiment_id": experiment_id,
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
        "schema": dataset.schema,
        "profile": dataset.profile,
    }


def _dataset_ids(session: Session, experiment_id: int, datasets: Iterable[Dataset]) -> dict[tuple[str, str], int]:
    row, wanted = DatasetRow, list(datasets)
    statement = select(row.name, row.digest, row.dataset_id).where(
        and_(
            row.experiment_id == experiment_id,
            row.name.in_({dataset.name for dataset in wanted}),
            row.digest.in_({dataset.digest for dataset in wanted}),
        )
    )
    return {(name, digest): dataset_id for name, digest, dataset_id in session.execute(statement)}
