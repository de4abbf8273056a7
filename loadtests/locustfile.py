"""Closed scenario for one endpoint: each user waits for its answer, checks it, and asks again at once.

Closed means that a slow server is asked less often, not that requests pile up: read the requests per second beside
the percentiles. `python -m loadtests.run` runs it without a browser and judges it; for Locust's own page use
`locust -f loadtests/locustfile.py --host http://127.0.0.1:8080`.
"""

import os
import uuid
from random import Random

from locust import FastHttpUser, task

from loadtests.answers import UNIT_HEADER, Stickiness, WrongAnswer, check_answer, draw_rows

ENDPOINT = os.environ.get("LOADTEST_ENDPOINT", "iris-classifier")
ARMS = frozenset(os.environ.get("LOADTEST_ARMS", "champion,challenger").split(","))
TIMEOUT_S = float(os.environ.get("LOADTEST_TIMEOUT_S", "10"))

STICKY = "sticky"
"""Key of a request's context, true for a request whose unit decides its arm."""

_ROWS_MAX = 8


class _IrisUser(FastHttpUser):
    abstract = True
    # A server that hangs is a failure of this request, not a pause of the test.
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S

    def on_start(self) -> None:
        self.random = Random()
        self.stickiness: Stickiness | None = None
        self.headers: dict[str, str] = {}

    @task
    def predict(self) -> None:
        rows = draw_rows(self.random, self.random.randint(1, _ROWS_MAX))
        with self.client.post(
            f"/endpoints/{ENDPOINT}/invocations", json={"inputs": rows}, headers=self.headers, catch_response=True
        ) as response:
            # Status 0 is Locust's for "no answer": what went wrong is then in the response's error.
            if response.status_code == 0:
                response.failure(f"no answer: {response.error}")
                return
            try:
                check_answer(response.status_code, response.headers, response.content or b"", rows=len(rows), arms=ARMS)
                if self.stickiness:
                    self.stickiness.check(response.headers)
            except WrongAnswer as error:
                response.failure(str(error))
            else:
                response.success()


class PassingUser(_IrisUser):
    """Names no unit: every request is assigned on its own."""

    weight = 3


class ReturningUser(_IrisUser):
    """Always the same unit, which must keep its arm."""

    weight = 1

    def on_start(self) -> None:
        super().on_start()
        self.stickiness = Stickiness()
        self.headers = {UNIT_HEADER: f"loadtest-{uuid.uuid4().hex}"}

    def context(self) -> dict[str, bool]:
        return {STICKY: True}
