"""Which arm of an endpoint shadows, how far its answers lie from those that were given, and on which inputs."""

import math
from collections.abc import Callable

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from gateway.auth import needs
from gateway.comparison.disagreement import OutputSums, PairSums, ShadowSums, latency_counts
from gateway.comparison.latency_counts import quantile_s
from gateway.comparison.sums import Answerer
from registry import endpoints, models, serving, shadows, tallies
from registry.entities import Endpoint, Shadow
from registry.shadows import KeptInput
from registry.tallies import Kind
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.database import Database

_SHADOW = "/api/1.0/titlebout/endpoints/{name:str}/shadow"

Clock = Callable[[], float]


class SetShadow(msgspec.Struct, forbid_unknown_fields=True):
    """A shadow, in the place of the one before."""

    arm: str
    share_bp: int = 10_000
    keep_inputs: int = 0
    tolerance: float = 1e-6


class Latencies(msgspec.Struct, kw_only=True):
    """Of requests that both were asked alone, from the message to the model until its answer."""

    requests: int
    given_p50_s: float | None
    given_p99_s: float | None
    shadow_p50_s: float | None
    shadow_p99_s: float | None


class Bar(msgspec.Struct, kw_only=True):
    lower: float
    upper: float
    count: int


class OutputFigures(msgspec.Struct, kw_only=True):
    """Of one output. Differences are the shadow's number less the one that was given."""

    name: str
    rows: int
    agreement: float | None
    numbers: int
    mean: float | None
    mean_absolute: float | None
    largest: float | None
    """The largest absolute one."""
    histogram: list[Bar]


class PairFigures(msgspec.Struct, kw_only=True):
    """A shadow beside one of those who answered."""

    arm: str
    version: int
    compared: int
    agreed: int
    agreement: float | None
    rows: int
    rows_agreeing: int
    failed: int
    failures: dict[str, int]
    """The shadow's, by error code."""
    dropped: int
    latency: Latencies
    outputs: list[OutputFigures]


class ShadowStatus(msgspec.Struct, kw_only=True):
    endpoint: str
    shadow: Shadow | None
    is_in_force: bool
    """Whether all live replicas ask it, or none, as is wanted; until the next epoch they don't."""
    version: int | None
    """What the shadow's alias means, whose figures these are."""
    beside: list[PairFigures]


class Inputs(msgspec.Struct, kw_only=True):
    inputs: list[KeptInput]


@get(_SHADOW, sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_shadow(name: FromPath[str], database: NamedDependency[Database]) -> ShadowStatus:
    with database.reading() as session:
        return _status(session, endpoints.get_endpoint(session, name), now_ms=database.now_ms(session))


@put(_SHADOW, sync_to_thread=True, opt=needs(Permission.SPLIT_WRITE))
def set_shadow(
    name: FromPath[str],
    data: JSONBody[SetShadow],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Shadow:
    wanted = Shadow(arm=data.arm, share_bp=data.share_bp, keep_inputs=data.keep_inputs, tolerance=data.tolerance)
    with database.writing() as session:
        shadows.set_shadow(session, name, wanted, author=caller_of(session).name, now_ms=int(clock() * 1000))
    return wanted


@delete(_SHADOW, status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.SPLIT_WRITE))
def remove_shadow(
    name: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str]:
    """Ask no copies any more, and drop the inputs that were kept. The arm stays, and so do the figures."""
    with database.writing() as session:
        shadows.remove_shadow(session, name, author=caller_of(session).name, now_ms=int(clock() * 1000))
    return {"endpoint": name}


@get(f"{_SHADOW}/inputs", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def list_inputs(name: FromPath[str], database: NamedDependency[Database]) -> Inputs:
    """The inputs on which the answers differ most; none is kept unless that was asked for."""
    with database.reading() as session:
        return Inputs(inputs=shadows.list_inputs(session, name))


@delete(f"{_SHADOW}/inputs", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.SPLIT_WRITE))
def forget_inputs(name: FromPath[str], database: NamedDependency[Database]) -> dict[str, str]:
    """Drop the inputs that were kept so far."""
    with database.writing() as session:
        shadows.forget_inputs(session, name)
    return {"endpoint": name}


def _status(session: Session, endpoint: Endpoint, *, now_ms: int) -> ShadowStatus:
    shadow = shadows.find_shadow(session, endpoint.id)
    version = None if shadow is None else models.get_model(session, endpoint.model).aliases.get(shadow.arm)
    figures = []
    if shadow is not None and version is not None:
        sums = _sums_of(session, endpoint.id, (shadow.arm, version))
        figures = [_pair(who, pair) for who, pair in sorted(sums.pairs.items())]
    table = serving.table_in_force(session, serving.list_replicas(session, now_ms=now_ms))
    asked = next((route.shadow for route in table.routes if route.id == endpoint.id), None)
    return ShadowStatus(
        endpoint=endpoint.name, shadow=shadow, is_in_force=asked == shadow, version=version, beside=figures
    )


def _sums_of(session: Session, endpoint_id: str, shadow: Answerer) -> ShadowSums:
    """Of all periods."""
    found = ShadowSums()
    for cell, content in tallies.read(session, endpoint_id).get(Kind.SHADOW, {}).items():
        if (cell.arm, cell.version) == shadow:
            found.merge(ShadowSums.from_bytes(content))
    return found


def _pair(who: Answerer, pair: PairSums) -> PairFigures:
    given, shadows_own = latency_counts(pair.given_latency), latency_counts(pair.shadow_latency)
    return PairFigures(
        arm=who[0],
        version=who[1],
        compared=pair.compared,
        agreed=pair.agreed,
        agreement=pair.agreed / pair.compared if pair.compared else None,
        rows=pair.rows,
        rows_agreeing=pair.rows_agreeing,
        failed=pair.failed,
        failures=pair.failures,
        dropped=pair.dropped,
        latency=Latencies(
            requests=int(given.sum()),
            given_p50_s=_finite(quantile_s(given, 0.5)),
            given_p99_s=_finite(quantile_s(given, 0.99)),
            shadow_p50_s=_finite(quantile_s(shadows_own, 0.5)),
            shadow_p99_s=_finite(quantile_s(shadows_own, 0.99)),
        ),
        outputs=[_output(name, output) for name, output in sorted(pair.outputs.items())],
    )


def _output(name: str, output: OutputSums) -> OutputFigures:
    differences = output.differences
    return OutputFigures(
        name=name,
        rows=output.rows,
        agreement=output.agreeing / output.rows if output.rows else None,
        numbers=differences.numbers,
        mean=_finite(differences.mean),
        mean_absolute=_finite(output.mean_absolute),
        largest=output.largest if differences.numbers else None,
        histogram=[Bar(lower=lower, upper=upper, count=count) for lower, upper, count in differences.histogram()],
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


handlers = [get_shadow, set_shadow, remove_shadow, list_inputs, forget_inputs]
