"""Load tests: what a version did under load, kept beside it, since its own bytes are frozen.

A report is evidence that a gate may ask for. It says what somebody saw: so it is kept under the name of who brought it,
and of the files that the registry itself knows the version by. What is in it is for its readers to know; here it is
text.
"""

from typing import Any

from sqlalchemy import Row, Select, delete, func, select
from sqlalchemy.orm import Session

from registry import history, serving
from registry.entities import Action, LoadTest
from registry.errors import LoadTestNotFound, ModelVersionNotFound, OtherBytesTested
from registry.granted import ensure_may_change
from registry.rows import get_version_row
from registry.schema import LoadTestRow
from tracking.names import check_text

LOAD_TESTS_MAX = 50
"""Of one version, the newest."""
REPORT_LENGTH_MAX = 262_144


def keep(
    session: Session,
    model: str,
    version: int,
    *,
    digest: str,
    passed: bool,
    report: str,
    author: str,
    now_ms: int,
    against: int | None = None,
) -> LoadTest:
    """Keep what *author* saw of the files of *digest*, and let the oldest go beyond so many.

    Raises:
        ModelVersionNotFound: if there is no such version that the caller may see.
        NotGranted: if they may not bring load tests of this model.
        OtherBytesTested: if the version is of other files, or of files that nobody has read yet.
    """
    ensure_may_change(session, model, ModelVersionNotFound(model, version))
    check_text(report, "report", REPORT_LENGTH_MAX)
    # Locked together with its model, so that numbers are drawn one after the other.
    tested = get_version_row(session, model, version, lock=True)
    if tested.digest is None or tested.digest != digest:
        raise OtherBytesTested(model, version, tested=digest, digest=tested.digest)
    row = LoadTestRow
    of_version = (row.name == model) & (row.version == version)
    number = (session.scalar(select(func.max(row.number)).where(of_version)) or 0) + 1
    session.add(
        LoadTestRow(
            name=model,
            version=version,
            number=number,
            digest=tested.digest,
            at_ms=now_ms,
            author=author,
            passed=passed,
            against=against,
            report=report,
        )
    )
    session.flush()
    session.execute(delete(row).where(of_version, row.number <= number - LOAD_TESTS_MAX))
    serving.raise_generation(session)  # The version may be asked for by name now.
    details = {"number": number, "digest": tested.digest, "passed": passed, "against": against}
    history.record(session, Action.LOAD_TESTED, model, author=author, now_ms=now_ms, version=version, details=details)
    return get(session, model, version, number)


def list_of(session: Session, model: str, version: int) -> list[LoadTest]:
    """The load tests of a version, the newest first.

    Raises:
        ModelVersionNotFound: if there is no such version that the caller may see.
    """
    get_version_row(session, model, version)
    return [_load_test(row) for row in session.execute(_of_version(model, version))]


def latest(session: Session, model: str, version: int) -> LoadTest | None:
    """The newest load test of a version, passed or not; None if there is none."""
    row = session.execute(_of_version(model, version).limit(1)).first()
    return None if row is None else _load_test(row)


def get(session: Session, model: str, version: int, number: int) -> LoadTest:
    """One load test.

    Raises:
        ModelVersionNotFound: if there is no such version that the caller may see.
        LoadTestNotFound: if it has no such load test.
    """
    return _load_test(_found(session, model, version, number))


def get_report(session: Session, model: str, version: int, number: int) -> str:
    """Its report, as it was kept.

    Raises:
        As `get`.
    """
    _found(session, model, version, number)
    return session.get_one(LoadTestRow, (model, version, number)).report


def _found(session: Session, model: str, version: int, number: int) -> Row[Any]:
    get_version_row(session, model, version)
    # A larger number can't be one, and binding it would be an error of the driver's.
    known = 0 < number < 2**31
    row = session.execute(_of_version(model, version).where(LoadTestRow.number == number)).first() if known else None
    if row is None:
        raise LoadTestNotFound(model, version, number)
    return row


def _of_version(model: str, version: int) -> Select[Any]:
    # Without the report, which is all that is large.
    columns = (getattr(LoadTestRow, column.name) for column in LoadTestRow.__table__.columns if column.name != "report")
    of_version = (LoadTestRow.name == model) & (LoadTestRow.version == version)
    return select(*columns).where(of_version).order_by(LoadTestRow.number.desc())


def _load_test(row: Row[Any]) -> LoadTest:
    return LoadTest(
        model=row.name,
        version=row.version,
        number=row.number,
        digest=row.digest,
        at_ms=row.at_ms,
        author=row.author,
        passed=row.passed,
        against=row.against,
    )
