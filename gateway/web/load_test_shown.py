"""The newest load test of a version, as a model's page shows it."""

import logging

import msgspec

from gateway.api.load_tests import read_report
from gateway.load_testing.picture import draw
from gateway.load_testing.report import Report, said_of_comparison
from gateway.web.instants import minute_of
from registry import load_tests
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)


class LoadTestShown(msgspec.Struct, frozen=True):
    number: int
    passed: bool
    when: str
    author: str
    digest: str
    said: list[str]
    """What was asked and what became of it."""
    picture: str
    """SVG."""


def find_load_test(database: Database, model: str, version: int) -> LoadTestShown | None:
    """None if there is none, or the database is away: what a model is and how it is asked is shown all the same."""
    try:
        with database.reading() as session:
            found = load_tests.latest(session, model, version)
            if found is None:
                return None
            report = read_report(load_tests.get_report(session, model, version, found.number))
    except (ServingError, msgspec.MsgspecError) as error:
        _log.warning("load_test_not_shown", extra={"model": model, "version": version, "reason": str(error)})
        return None
    when = f"{minute_of(found.at_ms)} UTC"
    return LoadTestShown(found.number, found.passed, when, found.author, found.digest, _said(report), draw(report))


def _said(report: Report) -> list[str]:
    tested, asked = report.tested, report.asked
    said = [f"{asked.users} users for {asked.for_s:g} s: {tested.requests} requests, {tested.rps:.0f} a second"]
    said += [f"{outcome.slo}: {outcome.said}, {'kept' if outcome.kept else 'broken'}" for outcome in report.slos]
    if tested.processor_ms is not None:
        said.append(f"{tested.processor_ms:.3g} ms of processor time a request, in the model's process")
    if report.comparison is not None:
        said.append(said_of_comparison(report.comparison))
    return said
