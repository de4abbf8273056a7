"""The records of evaluation datasets. A record goes by its inputs: the same inputs sent again change it."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, Table, delete, func, insert, select, update
from sqlalchemy.orm import Session

from tracking.entities import EvaluationRecord, RecordSource
from tracking.errors import InvalidParameter
from tracking.evaluation_datasets import (
    LISTED_MAX,
    USER_TAG,
    change_dataset,
    digest_of,
    get_dataset,
    lock_dataset,
)
from tracking.names import check_text
from tracking.paging import Page, Term, Turn, check_page_size, read_page
from tracking.schema import EvaluationRecordRow
from tracking.search import ValueType

_RECORDS = cast(Table, EvaluationRecordRow.__table__)
_COLUMNS = _RECORDS.c
_SOURCE_KINDS = ("UNSPECIFIED", "TRACE", "HUMAN", "DOCUMENT", "CODE")
_KEYS_PER_STATEMENT = 1_000

Sent = Mapping[str, Any]
"""One record as clients send it: ``inputs``, and perhaps ``outputs``, ``expectations``, ``tags`` and ``source``."""


class Written(NamedTuple):
    """What became of the records that were sent."""

    inserted: int
    updated: int


def write_records(session: Session, dataset_id: str, records: Sequence[Sent], *, now_ms: int) -> Written:
    """Add records, and change those whose inputs are there: outputs are replaced, expectations and tags added to.

    Raises:
        EvaluationDatasetNotFound: if there is no such dataset.
        InvalidParameter: naming the record that can't be read.
    """
    if len(records) > LISTED_MAX:
        raise InvalidParameter(f"A request can name at most {LISTED_MAX} records; got {len(records)}.")
    for number, record in enumerate(records):
        _check(record, f"records[{number}]")
    # The lock orders writers, so that no two of them add a record for the same inputs.
    dataset = lock_dataset(session, dataset_id)
    hashes = [_hash(record["inputs"]) for record in records]
    rows = _rows_by_hash(session, dataset_id, hashes)
    inserted = [digest for digest in dict.fromkeys(hashes) if digest not in rows]
    for place, (digest, record) in enumerate(zip(hashes, records, strict=True)):
        if digest in rows:
            rows[digest] |= _merged(rows[digest], record, now_ms)
        else:
            rows[digest] = _new_row(dataset_id, digest, record, place, now_ms)
    _write(session, [rows[digest] for digest in inserted], [row for key, row in rows.items() if key not in inserted])
    change_dataset(
        session,
        dataset_id,
        schema=_grown_schema(dataset.schema, records),
        profile=_profile(session, dataset_id),
        digest=digest_of(dataset.name, now_ms),
        updated_ms=now_ms,
        updated_by=next((user for record in reversed(records) if (user := _user_of(record))), dataset.updated_by),
    )
    return Written(inserted=len(inserted), updated=len(records) - len(inserted))


def list_records(
    session: Session, dataset_id: str, *, max_results: int = 1_000, page_token: str | None = None
) -> Page[EvaluationRecord]:
    """A page of the dataset's records, in the order in which they came.

    Raises:
        EvaluationDatasetNotFound: if there is no such dataset.
    """
    check_page_size(max_results)
    get_dataset(session, dataset_id)
    in_order = [Term(_COLUMNS.created_ms, ValueType.NUMBER), Term(_COLUMNS.record_id, ValueType.TEXT)]
    page = read_page(
        session,
        list(_COLUMNS),
        [Turn(_RECORDS, [_COLUMNS.dataset_id == dataset_id], in_order)],
        search_key=dataset_id,
        max_results=max_results,
        token=page_token,
    )
    return Page([_to_record(row) for row in page.items], page.next_page_token)


def delete_records(session: Session, dataset_id: str, record_ids: Sequence[str], *, now_ms: int) -> int:
    """Delete records, and say how many there were; those that aren't there are no error, as with MLflow.

    Raises:
        EvaluationDatasetNotFound: if there is no such dataset.
    """
    if len(record_ids) > LISTED_MAX:
        raise InvalidParameter(f"A request can name at most {LISTED_MAX} records; got {len(record_ids)}.")
    for record_id in record_ids:
        check_text(record_id, "dataset_record_ids")
    dataset = lock_dataset(session, dataset_id)
    deleted = 0
    for some in _slices(record_ids):
        statement = delete(EvaluationRecordRow).where(
            EvaluationRecordRow.dataset_id == dataset_id, EvaluationRecordRow.record_id.in_(some)
        )
        result: CursorResult[Any] = session.connection().execute(statement)
        deleted += result.rowcount
    if deleted:
        change_dataset(
            session,
            dataset_id,
            profile=_profile(session, dataset_id),
            digest=digest_of(dataset.name, now_ms),
            updated_ms=now_ms,
        )
    return deleted


def _check(record: Sent, where: str) -> None:
    if not isinstance(record.get("inputs"), dict):
        raise InvalidParameter(f"{where}.inputs must be an object.")
    for field in ("expectations", "tags", "source"):
        if not isinstance(record.get(field), dict | None):
            raise InvalidParameter(f"{where}.{field} must be an object.")
    source = record.get("source")
    if source and str(source.get("source_type")).upper() not in _SOURCE_KINDS:
        raise InvalidParameter(f"{where}.source.source_type must be one of {', '.join(_SOURCE_KINDS)}.")
    if source and not isinstance(source.get("source_data"), dict | None):
        raise InvalidParameter(f"{where}.source.source_data must be an object.")
    check_text(_user_of(record) or "", f"{where}.tags.{USER_TAG}", 500)


def _user_of(record: Sent) -> str | None:
    user = (record.get("tags") or {}).get(USER_TAG)
    return user if isinstance(user, str) else None


def _hash(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _rows_by_hash(session: Session, dataset_id: str, hashes: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for some in _slices(sorted(set(hashes))):
        of_some = select(_RECORDS).where(_COLUMNS.dataset_id == dataset_id, _COLUMNS.input_hash.in_(some))
        found |= {row.input_hash: dict(row._mapping) for row in session.execute(of_some)}  # noqa: SLF001  (public, for all its name)
    return found


def _new_row(dataset_id: str, digest: str, record: Sent, place: int, now_ms: int) -> dict[str, Any]:
    user = _user_of(record)
    return {
        # As long as any other id, and in the order of time and of the request: pages go by it.
        "record_id": f"dr-{now_ms:012x}{place:04x}{uuid.uuid4().hex[:16]}",
        "dataset_id": dataset_id,
        "input_hash": digest,
        "inputs": json.dumps(record["inputs"]),
        "outputs": _text(record.get("outputs", {})),
        "expectations": _text(record.get("expectations")),
        "tags": json.dumps(record.get("tags") or {}),
        "source": _source_text(record.get("source")),
        "created_ms": now_ms,
        "updated_ms": now_ms,
        "created_by": user,
        "updated_by": user,
    }


def _merged(row: Mapping[str, Any], record: Sent, now_ms: int) -> dict[str, Any]:
    """The columns of *row* that *record* changes."""
    changes: dict[str, Any] = {"updated_ms": now_ms}
    if "outputs" in record:
        changes["outputs"] = _text(record["outputs"])
    if record.get("expectations"):
        changes["expectations"] = json.dumps(json.loads(row["expectations"] or "{}") | record["expectations"])
    if record.get("tags"):
        changes["tags"] = json.dumps(json.loads(row["tags"]) | record["tags"])
    if user := _user_of(record):
        changes["updated_by"] = user
    return changes


def _write(session: Session, new: Sequence[Mapping[str, Any]], changed: Sequence[Mapping[str, Any]]) -> None:
    connection = session.connection()
    if new:
        connection.execute(insert(_RECORDS), list(new))
    for row in changed:
        connection.execute(update(_RECORDS).where(_COLUMNS.record_id == row["record_id"]).values(row))


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _source_text(source: Mapping[str, Any] | None) -> str | None:
    if not source:
        return None
    return json.dumps({"kind": str(source["source_type"]).upper(), "data": source.get("source_data") or {}})


def _profile(session: Session, dataset_id: str) -> str | None:
    count = session.scalar(select(func.count()).select_from(_RECORDS).where(_COLUMNS.dataset_id == dataset_id))
    return json.dumps({"num_records": count}) if count else None


def _grown_schema(known: str | None, records: Iterable[Sent]) -> str:
    """The names and types of all fields seen so far; a field keeps the type that it had first."""
    schema: dict[str, Any] = (
        json.loads(known) if known else {"inputs": {}, "outputs": {}, "expectations": {}, "version": "1.0"}
    )
    for record in records:
        for part in ("inputs", "outputs", "expectations"):
            value = record.get(part)
            if isinstance(value, dict) and isinstance(schema[part], dict):
                schema[part] = {key: _type_name(one) for key, one in value.items()} | schema[part]
            elif value is not None and not schema[part]:
                schema[part] = _type_name(value)
    return json.dumps(schema)


def _type_name(value: Any) -> str:
    # A bool is an int, too, so it comes first.
    names = ((bool, "boolean"), (int, "integer"), (float, "float"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _to_record(row: Any) -> EvaluationRecord:
    return EvaluationRecord(
        record_id=row.record_id,
        dataset_id=row.dataset_id,
        inputs=json.loads(row.inputs),
        outputs=None if row.outputs is None else json.loads(row.outputs),
        expectations=None if row.expectations is None else json.loads(row.expectations),
        tags=json.loads(row.tags),
        source=None if row.source is None else RecordSource(**json.loads(row.source)),
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        created_by=row.created_by,
        updated_by=row.updated_by,
    )


def _slices(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[start : start + _KEYS_PER_STATEMENT] for start in range(0, len(keys), _KEYS_PER_STATEMENT))
