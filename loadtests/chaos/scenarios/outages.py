"""A database and an artifact store that go away, one by one and both, and come back."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import msgspec

from loadtests.chaos.findings import Finding, found
from loadtests.chaos.open_loop import OpenLoop, kinds
from loadtests.chaos.restarts import until
from loadtests.chaos.stage import IRIS_BODY, Stage, client, http, invocations, register, serve, serving, while_loaded
from tests.servers import Server, postgres, s3

BACK_WITHIN_S = 5.0

_JSON = {"Content-Type": "application/json"}


class _Refusal(msgspec.Struct, frozen=True):
    """How a write was answered whose place is away."""

    status: int
    retry_after: str | None

    @classmethod
    def of(cls, answer: httpx.Response) -> "_Refusal":
        return cls(answer.status_code, answer.headers.get("Retry-After"))

    @property
    def is_right(self) -> bool:
        return self.status == httpx.codes.SERVICE_UNAVAILABLE and self.retry_after is not None


def outages(stage: Stage) -> Iterator[Finding]:
    """Predictions go on, writes are told to come again, and soon after the return all is as if nothing had been."""
    away_s = stage.choose(thorough=60, quick=4)
    with ExitStack() as life:
        database, database_url = life.enter_context(postgres())
        store, environment = life.enter_context(s3())
        options = ("--database-url", database_url, "--artifact-root", "s3://titlebout-test/chaos", "--migrate")
        with stage.server(*options, environment=environment) as server:
            register(server.url, "iris=trained:2", "iris=trained:500", "iris=trained:100")
            serve(server.url, "iris", champion=1, challenger=2)
            load = stage.load(invocations(server.url, "iris"))
            yield _database_goes(load, server.url, database, away_s)
            load = stage.load(invocations(server.url, "iris"))
            yield _store_goes(load, server.url, store, away_s)
        database.stop()
        store.stop()
        with stage.server(*options, environment=environment) as server:
            load = stage.load(invocations(server.url, "iris"))
            yield _both_return(load, server.url, [store, database])


def _database_goes(load: OpenLoop, url: str, database: Server, away_s: float) -> Finding:
    def play() -> tuple[_Refusal, float]:
        database.stop()
        began_s = time.monotonic()
        until(lambda: _is_stale(url), "the word that the table is stale")
        refusal = _Refusal.of(_move_alias(url, 2))
        time.sleep(max(0.0, away_s - (time.monotonic() - began_s)))
        database.start()
        return refusal, _back_after_s(url, 2)

    refusal, back_s = while_loaded([load], play)
    return _judge(f"PostgreSQL away for {away_s:.0f} s", load, refusal, back_s)


def _store_goes(load: OpenLoop, url: str, store: Server, away_s: float) -> Finding:
    def play() -> tuple[_Refusal, float]:
        store.stop()
        # The third version was never in memory, and its files are where nobody gets at them.
        assert _move_alias(url, 3).is_success
        until(lambda: bool(client(url).endpoint("iris")["problems"]), "the word that version 3 can't be fetched")
        upload = f"{url}/api/2.0/mlflow-artifacts/artifacts/0/new.bin"
        refusal = _Refusal.of(http().put(upload, content=b"x"))
        time.sleep(away_s)
        store.start()
        return refusal, _back_after_s(url, 3)

    refusal, back_s = while_loaded([load], play)
    return _judge(f"S3 away for {away_s:.0f} s and more, an alias moved meanwhile", load, refusal, back_s)


def _both_return(load: OpenLoop, url: str, both: list[Server]) -> Finding:
    def play() -> tuple[_Refusal, float]:
        refusal = _Refusal.of(_move_alias(url, 1))
        for server in both:
            server.start()
        return refusal, _back_after_s(url, 1)

    refusal, back_s = while_loaded([load], play)
    return _judge("both away at a start, and back", load, refusal, back_s)


def _judge(what: str, load: OpenLoop, refusal: _Refusal, back_s: float) -> Finding:
    return found(
        what,
        load.outcomes,
        [
            (not load.failures, f"predictions failed: {kinds(load.failures)}"),
            (refusal.is_right, f"a write was answered {refusal.status}, Retry-After {refusal.retry_after}"),
            (back_s <= BACK_WITHIN_S, f"it took over {BACK_WITHIN_S:g} s after the return"),
        ],
        recovery_s=back_s,
        figures=f"{load.rate_per_s:.0f} requests/s; a write meanwhile: {refusal.status}",
    )


def _back_after_s(url: str, version: int) -> float:
    """Until an alias moves, what it names is served, and nothing is said to be stale."""
    began_s = time.monotonic()
    holds: list[Callable[[], bool]] = [
        lambda: _move_alias(url, version).is_success,
        lambda: serving(url, "iris").get("champion") == version,
        lambda: not _is_stale(url),
    ]
    for each in holds:
        until(each, "the end of the outage")
    return time.monotonic() - began_s


def _move_alias(url: str, version: int) -> httpx.Response:
    body = {"name": "iris", "alias": "champion", "version": str(version)}
    return http().post(f"{url}/api/2.0/mlflow/registered-models/alias", json=body)


def _is_stale(url: str) -> bool:
    answer = http().post(invocations(url, "iris"), content=IRIS_BODY, headers=_JSON)
    return "X-Titlebout-Stale-S" in answer.headers
