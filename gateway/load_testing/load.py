"""The load itself: Locust's users, who all ask one version, and then the other, by turns.

In a process of its own, ``python -m gateway.load_testing.load``: gevent, on which Locust runs, replaces sockets and
locks of the whole process. It reads a `Plan` from its standard input and writes lines to its standard output.
"""

import sys
import time

# First of all: importing Locust lets gevent replace the sockets that everything below uses.
from locust import FastHttpUser, task
from locust.env import Environment

# isort: split
from collections import deque
from itertools import cycle
from typing import Any
from urllib.parse import quote

import gevent
import httpx
import msgspec
from gevent.event import Event

from gateway.load_testing.figures import Observations, percentile
from gateway.load_testing.pairing import latency_pairs, processor_pairs, turns_of_pair
from gateway.load_testing.plan import LOAD_TEST, PAIRS_PLANNED, FromLoad, Impossible, Moment, Plan, Seen, Turn
from gateway.load_testing.report import Machine
from gateway.load_testing.slowdown import Slower, by_latency, by_processor, conclude

_TOLD_EVERY_S = 0.25
_WARM_UP_S = 0.5
_PAUSE_S = 0.1
_LATEST = 2_000
_VERSION_HEADER = "X-Titlebout-Version"
_FAILURE_LENGTH_MAX = 200


class HostTime(msgspec.Struct, frozen=True):
    """As `gateway.api.load_tests` answers it."""

    process: str
    processor_s: float
    machine: Machine


class Unreadable(Exception):
    """The server doesn't say what is asked of it."""


class Server:
    """What is asked beside the load."""

    def __init__(self, plan: Plan) -> None:
        headers = {} if plan.authorization is None else {"Authorization": plan.authorization}
        self._http = httpx.Client(base_url=plan.url, headers=headers, timeout=plan.timeout_s)
        self._endpoint = quote(plan.endpoint, safe="")

    def host_time(self, version: int) -> HostTime:
        """What the process of *version* has spent until now.

        Raises:
            Unreadable: if there is no answer, with what is said instead.
        """
        path = f"/api/1.0/titlebout/endpoints/{self._endpoint}/versions/{version}/processor-time"
        try:
            answer = self._http.get(path)
        except httpx.HTTPError as error:
            raise Unreadable(str(error) or type(error).__name__) from error
        if not answer.is_success:
            raise Unreadable(answer.text[:_FAILURE_LENGTH_MAX])
        return msgspec.json.decode(answer.content, type=HostTime)


class Turnstile:
    """Lets users ask the version whose turn it is, and nobody while none has it.

    Greenlets give way only where they wait, so nothing here needs a lock.
    """

    def __init__(self) -> None:
        self.version = 0
        self._asking = 0
        self._is_open, self._is_idle = Event(), Event()
        self._is_idle.set()

    def enter(self) -> int:
        self._is_open.wait()
        self._asking += 1
        self._is_idle.clear()
        return self.version

    def leave(self) -> None:
        self._asking -= 1
        if not self._asking:
            self._is_idle.set()

    def open_for(self, version: int, seconds: float) -> float:
        """Let users ask *version* for so long, and wait for their answers; how long it was in all."""
        self.version = version
        began_s = time.perf_counter()
        self._is_open.set()
        gevent.sleep(seconds)
        self._is_open.clear()
        self._is_idle.wait()
        return time.perf_counter() - began_s


class Load:
    """One load test, from the first user to the figures."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._server = Server(plan)
        self._turnstile = Turnstile()
        self._bodies = cycle([body.encode() for body in plan.bodies])
        self._began_s = time.perf_counter()
        self._turns: list[Turn] = []
        self._observed = {version: Observations() for version in self._versions}
        self._is_counting = False
        self._turn_began_s = self._began_s
        self._latest_ms: deque[float] = deque(maxlen=_LATEST)
        self._left_s = plan.for_s
        self._doing = "warming up"

    @property
    def _versions(self) -> list[int]:
        return [self._plan.version] if self._plan.against is None else [self._plan.version, self._plan.against]

    def run(self) -> Seen:
        """Put the plan's versions under load.

        Raises:
            Unreadable: if the server doesn't say what its processes spend.
        """
        # Both, before anything is loaded that might not be there.
        machines = [self._server.host_time(version).machine for version in self._versions]
        environment = Environment(user_classes=[_user_class(self, self._plan)], host=self._plan.url)
        runner = environment.create_local_runner()
        # All at once: ramping up would be counted as capacity that the server lacks.
        runner.start(self._plan.users, spawn_rate=self._plan.users)
        telling = gevent.spawn(self._tell)
        spent_s, began_s = time.process_time(), time.perf_counter()
        try:
            self._take_turns()
            share = (time.process_time() - spent_s) / (time.perf_counter() - began_s)
        finally:
            telling.kill()
            runner.quit()
        return self._seen(machines[0], share)

    def _take_turns(self) -> None:
        for version in self._versions:
            # Connections are made, and caches filled, before anything is counted.
            self._turnstile.open_for(version, min(_WARM_UP_S, self._plan.window_s))
        self._began_s = time.perf_counter()
        if self._plan.against is None:
            self._take_turn(self._plan.version)
            return
        for number in range(2 * PAIRS_PLANNED):
            if number >= PAIRS_PLANNED and self._judged() is not Slower.UNSURE:
                return
            if number == PAIRS_PLANNED:
                self._left_s = self._plan.for_s  # At most: it is unsure, and goes on.
            for version in turns_of_pair(number, self._plan.version, self._plan.against):
                self._take_turn(version)

    def _take_turn(self, version: int) -> None:
        observed, self._doing = self._observed[version], f"version {version}"
        already, before = observed.requests, self._find_host_time(version)
        self._is_counting, self._turn_began_s = True, time.perf_counter()
        seconds = self._turnstile.open_for(version, self._plan.window_s)
        self._is_counting = False
        self._left_s -= self._plan.window_s
        after = self._find_host_time(version)
        is_one = before is not None and after is not None and before.process == after.process
        latencies_ms = sorted(observed.latencies_ms[already:])
        self._turns.append(
            Turn(
                version=version,
                seconds=seconds,
                requests=len(latencies_ms),
                p50_ms=percentile(latencies_ms, 50) if latencies_ms else None,
                process=before.process if before is not None and is_one else None,
                processor_s=after.processor_s - before.processor_s if before and after and is_one else None,
            )
        )

    def _find_host_time(self, version: int) -> HostTime | None:
        try:
            return self._server.host_time(version)
        except Unreadable:
            # The process may just be replaced; the requests that fail for it are counted.
            return None

    def _judged(self) -> Slower:
        version = self._plan.version
        return conclude(
            by_processor(processor_pairs(self._turns, version)), by_latency(latency_pairs(self._turns, version))
        )

    def ask(self, client: Any, paths: dict[int, str], headers: dict[str, str]) -> None:
        """One request of one user."""
        version = self._turnstile.enter()
        try:
            began_s = time.perf_counter()
            response = client.post(paths[version], data=next(self._bodies), headers=headers, name=str(version))
            ended_s = time.perf_counter()
            if self._is_counting:
                latency_ms, failure = 1000 * (ended_s - began_s), _failure(response, version)
                self._observed[version].add(latency_ms, ended_s=ended_s - self._began_s, failure=failure)
                self._latest_ms.append(latency_ms)
            if response.status_code == 0:
                # Refused at once, by a server that is gone: trying as fast as one can would show nothing more.
                gevent.sleep(_PAUSE_S)
        finally:
            self._turnstile.leave()

    def _tell(self) -> None:
        while True:
            gevent.sleep(_TOLD_EVERY_S)
            latest = sorted(self._latest_ms)
            in_turn_s = time.perf_counter() - self._turn_began_s if self._is_counting else 0.0
            moment = Moment(
                doing=self._doing,
                requests=sum(observations.requests for observations in self._observed.values()),
                failed=sum(observations.failed for observations in self._observed.values()),
                p50_ms=percentile(latest, 50) if latest else None,
                p99_ms=percentile(latest, 99) if latest else None,
                left_s=max(0.0, self._left_s - in_turn_s),
            )
            try:
                say(moment)
            except BrokenPipeError:
                # Whoever ordered the load is gone, perhaps by a kill -9: it ends with them.
                sys.exit("Nobody follows the load any more.")

    def _seen(self, server: Machine, client_processor_share: float) -> Seen:
        plan = self._plan
        tested = self._observed[plan.version]
        seen = Seen(
            tested=self._figures(plan.version),
            series=tested.series(sum(turn.seconds for turn in self._turns)),
            server=server,
            client_processor_share=client_processor_share,
        )
        if plan.against is None:
            return seen
        return msgspec.structs.replace(
            seen,
            baseline=self._figures(plan.against),
            slower=self._judged(),
            processor=by_processor(processor_pairs(self._turns, plan.version)),
            latency=by_latency(latency_pairs(self._turns, plan.version)),
        )

    def _figures(self, version: int) -> Any:
        turns = [turn for turn in self._turns if turn.version == version]
        spent = [turn.processor_s for turn in turns]
        known = [spent_s for spent_s in spent if spent_s is not None]
        return self._observed[version].figures(
            version,
            seconds=sum(turn.seconds for turn in turns),
            processor_s=sum(known) if len(known) == len(spent) else None,
        )


def _user_class(load: Load, plan: Plan) -> type[FastHttpUser]:
    name = quote(plan.endpoint, safe="")
    versions = [plan.version] if plan.against is None else [plan.version, plan.against]
    paths = {version: f"/endpoints/{name}/versions/{version}/invocations" for version in versions}
    headers = {"Content-Type": "application/json", **LOAD_TEST}
    if plan.authorization is not None:
        headers["Authorization"] = plan.authorization

    class User(FastHttpUser):
        # A server that hangs is a failure of this request, not a pause of the test.
        network_timeout = plan.timeout_s
        connection_timeout = plan.timeout_s
        # Locust believes any certificate unless told not to, and a token goes with each request.
        insecure = False

        @task
        def ask(self) -> None:
            load.ask(self.client, paths, headers)

    return User


def _failure(response: Any, version: int) -> str | None:
    """What is wrong with an answer."""
    if response.status_code == 0:
        return f"no answer: {response.error}"
    if response.status_code != httpx.codes.OK:
        return f"{response.status_code}: {(response.text or '')[:_FAILURE_LENGTH_MAX]}"
    answered_by = response.headers.get(_VERSION_HEADER)
    return None if answered_by == str(version) else f"version {answered_by} answered"


def say(line: FromLoad) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    try:
        say(Load(plan).run())
    except Unreadable as error:
        say(Impossible(str(error)))


if __name__ == "__main__":
    main()
