"""Load one endpoint of a running server, print what was seen, and exit non-zero if the SLO was not kept.

`make loadtest` runs this against `TITLEBOUT_URL`. Exit codes: 0 kept, 1 breached, 2 nothing to test.
"""

import sys
import time

# First of all: importing Locust lets gevent replace the sockets that everything below uses.
import locust  # noqa: F401  (for its patching)

# isort: split
from collections.abc import Callable, Mapping
from typing import Any

import click
import httpx
from locust.contrib.fasthttp import FastResponse
from locust.env import Environment

from gateway.load_testing.figures import Observations
from gateway.load_testing.report import lines_of
from gateway.load_testing.slo import BadSlo, Slo, judge, parse_slo
from loadtests import locustfile
from loadtests.answers import ARM_HEADER, VERSION_HEADER
from loadtests.shares import Shares

_NOTHING_TO_TEST = 2
_READY_WITHIN_S = 60


class NothingToTest(click.ClickException):
    """The server or the endpoint is not there."""

    exit_code = _NOTHING_TO_TEST


@click.command(context_settings={"show_default": True})
@click.option("--url", envvar="TITLEBOUT_URL", default="http://127.0.0.1:8080", help="Server to load.")
@click.option("--users", envvar="LOADTEST_USERS", default=16, type=click.IntRange(1, 10_000), help="Users at once.")
@click.option("--duration-s", envvar="LOADTEST_DURATION_S", default=20.0, type=click.FloatRange(0.1, 3_600))
@click.option(
    "--slo", "slos", envvar="LOADTEST_SLO", multiple=True, default=("p99=500ms", "failures=0"), help="What must hold."
)
def main(*, url: str, users: int, duration_s: float, slos: tuple[str, ...]) -> None:
    """Ask iris-classifier (or LOADTEST_ENDPOINT) from USERS connections, checking every answer."""
    asked = _read(slos)
    url = url.rstrip("/")
    require_endpoint(url, locustfile.ENDPOINT)
    click.echo(f"Loading {url}/endpoints/{locustfile.ENDPOINT}: {users} users for {duration_s:g} s")
    observations, shares, measured_s = load(url, users=users, duration_s=duration_s)
    figures = observations.figures(0, seconds=measured_s)
    click.echo("\n".join([*lines_of(figures), *shares.lines()]))
    outcomes = [judge(slo, figures) for slo in asked]
    for outcome in outcomes:
        said = f"SLO {'kept' if outcome.kept else 'BREACHED'}: {outcome.said}"
        click.echo(said, err=not outcome.kept)
    if not all(outcome.kept for outcome in outcomes):
        sys.exit(1)


def _read(slos: tuple[str, ...]) -> list[Slo]:
    try:
        return [parse_slo(text) for text in slos]
    except BadSlo as error:
        raise click.UsageError(error.message) from error


def require_endpoint(url: str, endpoint: str) -> None:
    """Ask until there is an answer, so that a missing server is one sentence and not ten thousand failures.

    Raises:
        NothingToTest: if there is no server at *url*, no *endpoint* on it, or one whose models don't get ready.
    """
    deadline = time.monotonic() + _READY_WITHIN_S
    while (answer := _ask_once(url, endpoint)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        # A server that was just started is still loading its models; that isn't what is measured here.
        if time.monotonic() > deadline:
            raise NothingToTest(f"{endpoint} was not ready within {_READY_WITHIN_S} s. It says: {answer.text}")
        time.sleep(0.5)
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NothingToTest(
            f"{url} has no endpoint {endpoint}; name another with LOADTEST_ENDPOINT. It says: {answer.text}"
        )


def _ask_once(url: str, endpoint: str) -> httpx.Response:
    question = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}
    try:
        # A server that was just started listens before it answers.
        return httpx.post(f"{url}/endpoints/{endpoint}/invocations", json=question, timeout=_READY_WITHIN_S)
    except httpx.HTTPError as error:
        raise NothingToTest(
            f"There is no server at {url} ({error}). Start one with `make serve` in another terminal, "
            "or name another with TITLEBOUT_URL."
        ) from error


def load(url: str, *, users: int, duration_s: float) -> tuple[Observations, Shares, float]:
    """Run the scenario; give what was seen, and the seconds from the first user's start to the stop."""
    observations, shares = Observations(), Shares()
    environment = Environment(
        user_classes=[locustfile.PassingUser, locustfile.ReturningUser],
        host=url,
        # Users wait for the answer that they are owed: a request that hangs to the end would else be counted nowhere.
        stop_timeout=locustfile.TIMEOUT_S + 1,
    )
    environment.events.request.add_listener(_listener(observations, shares))  # type: ignore[no-untyped-call]  # Locust's own
    runner = environment.create_local_runner()
    began = time.monotonic()
    # All at once: ramping up would be counted as capacity that the server lacks.
    runner.start(users, spawn_rate=users)
    # Locust's patching has made this sleep the moment in which its users run.
    time.sleep(duration_s)
    measured_s = time.monotonic() - began
    runner.quit()
    return observations, shares, measured_s


def _listener(observations: Observations, shares: Shares) -> Callable[..., None]:
    began_s = time.monotonic()

    def on_request(
        *,
        response_time: float,
        response: FastResponse,
        exception: Exception | None,
        context: Mapping[str, bool],
        **_: object,
    ) -> None:
        observations.add(
            response_time,
            ended_s=time.monotonic() - began_s,
            failure=None if exception is None else str(exception),
        )
        if exception is None and not context.get(locustfile.STICKY):
            headers: Any = response.headers  # never None here: the answer has passed its check
            shares.add(arm=headers[ARM_HEADER], version=headers[VERSION_HEADER])

    return on_request


if __name__ == "__main__":
    main()
