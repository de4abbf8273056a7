"""Load tests of versions: what one needs to be run, its report kept beside the version, and shown.

Whoever sends a report could have made it up, so that takes a permission of its own, and the report is kept in their
name. Which files were tested is the registry's to say: a report on others is refused.
"""

import asyncio
import platform
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.api.example_requests import example_body
from gateway.api.scoring.unserved import explain_unserved
from gateway.auth import needs
from gateway.load_testing.picture import draw
from gateway.load_testing.report import Input, Machine, Report
from gateway.pool.machine import usable_processors
from gateway.scoring.inference import EndpointNotServed, Target
from gateway.scoring.served_models import ServedModels
from registry import load_tests
from registry.entities import LoadTest
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import InvalidParameter

_ROOT = "/api/1.0/titlebout"
_LOAD_TESTS = f"{_ROOT}/models/{{name:str}}/versions/{{version:int}}/load-tests"
_SERVED = f"{_ROOT}/endpoints/{{name:str}}/versions/{{version:int}}"
_NOT_YET = {503: ResponseSpec(None, description="The version is being brought into memory.")}

Clock = Callable[[], float]


class KeepLoadTest(msgspec.Struct, forbid_unknown_fields=True):
    digest: str
    """Of the files that were in memory while it ran."""
    report: Report


class LoadTests(msgspec.Struct, kw_only=True):
    load_tests: list[LoadTest]


class LoadTestReport(msgspec.Struct, kw_only=True):
    load_test: LoadTest
    report: Report


class Example(msgspec.Struct, kw_only=True):
    """How to ask a version."""

    endpoint: str
    body: dict[str, Any] | None
    """In MLflow's protocol; None where nothing says what the version takes."""
    origin: Input | None


class HostTime(msgspec.Struct, kw_only=True):
    """What a version's process has spent of the processors until now."""

    process: str
    """Which process, and where: another replica has another, and so has this one once it was replaced."""
    processor_s: float
    machine: Machine


@post(_LOAD_TESTS, status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.LOAD_TEST_WRITE))
def keep_load_test(
    name: FromPath[str],
    version: FromPath[int],
    data: JSONBody[KeepLoadTest],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> LoadTest:
    """Keep a report beside the version that it is of; passed is what its own outcomes come to."""
    if data.report.version != version:
        raise InvalidParameter(f"The report is of version {data.report.version}, and not of {version}.")
    with database.writing() as session:
        return load_tests.keep(
            session,
            name,
            version,
            digest=data.digest,
            passed=data.report.passed,
            report=msgspec.json.encode(data.report).decode(),
            author=caller_of(session).name,
            now_ms=int(clock() * 1000),
            against=data.report.against,
        )


@get(_LOAD_TESTS, sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def list_load_tests(name: FromPath[str], version: FromPath[int], database: NamedDependency[Database]) -> LoadTests:
    """The load tests of a version, the newest first."""
    with database.reading() as session:
        return LoadTests(load_tests=load_tests.list_of(session, name, version))


@get(f"{_LOAD_TESTS}/{{number:int}}", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_load_test(
    name: FromPath[str], version: FromPath[int], number: FromPath[int], database: NamedDependency[Database]
) -> LoadTestReport:
    with database.reading() as session:
        found = load_tests.get(session, name, version, number)
        report = load_tests.get_report(session, name, version, number)
    return LoadTestReport(load_test=found, report=read_report(report))


@get(
    f"{_LOAD_TESTS}/{{number:int}}/picture.svg",
    media_type="image/svg+xml",
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_READ),
)
def get_load_test_picture(
    name: FromPath[str], version: FromPath[int], number: FromPath[int], database: NamedDependency[Database]
) -> Response[str]:
    """Latency over time."""
    with database.reading() as session:
        report = load_tests.get_report(session, name, version, number)
    return Response(draw(read_report(report)), media_type="image/svg+xml")


@get(f"{_SERVED}/example", opt=needs(Permission.OBSERVE), responses=_NOT_YET)
async def get_example(
    name: FromPath[str],
    version: FromPath[int],
    served_models: NamedDependency[ServedModels],
    database: NamedDependency[Database],
) -> Example:
    """A request that a version in memory answers: of the example saved with it, else of its signature."""
    try:
        served = served_models.describe(Target(name, version=version))
    except EndpointNotServed as error:
        raise await asyncio.to_thread(explain_unserved, database, error.name) from error
    body = example_body(served)
    origin = None if body is None else Input.EXAMPLE if served.example else Input.SIGNATURE
    return Example(endpoint=served.endpoint, body=body, origin=origin)


@get(f"{_SERVED}/processor-time", opt=needs(Permission.OBSERVE), responses=_NOT_YET)
async def get_processor_time(
    name: FromPath[str],
    version: FromPath[int],
    served_models: NamedDependency[ServedModels],
    database: NamedDependency[Database],
) -> HostTime:
    """Read at this instant, and not, as `/metrics`, up to a second ago."""
    try:
        pid, spent_s = served_models.processor_time(Target(name, version=version))
    except EndpointNotServed as error:
        raise await asyncio.to_thread(explain_unserved, database, error.name) from error
    machine = Machine(name=platform.node(), processors=usable_processors())
    return HostTime(process=f"{machine.name}:{pid}", processor_s=spent_s, machine=machine)


def read_report(report: str) -> Report:
    return msgspec.json.decode(report, type=Report)


handlers = [
    keep_load_test,
    list_load_tests,
    get_load_test,
    get_load_test_picture,
    get_example,
    get_processor_time,
]
