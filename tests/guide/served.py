"""Asking a running Titlebout for predictions, once it serves what a test has put there."""

import time

import httpx

CURL_BODY = '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'
"""The body of the guide's curl line."""


def wait_until_served(url, name, **arms):
    """Until each of *arms* (alias=version) answers, and no other."""
    _wait_for_status(url, name, lambda status: status["serving"] == arms)


def wait_until_problem(url, name, words):
    """Until the endpoint says *words* of a version that it can't load."""
    _wait_for_status(url, name, lambda status: words in " ".join(status["problems"]))


def _wait_for_status(url, name, holds):
    deadline = time.monotonic() + 120
    while True:
        answer = httpx.get(f"{url}/api/1.0/titlebout/endpoints/{name}", timeout=30)
        if answer.is_success and holds(answer.json()):
            return
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def post(url, path="/invocations", *, body=None, **content):
    """One prediction request; *body* is sent as it is, keywords as the JSON object that they make."""
    given = {"content": body, "headers": {"Content-Type": "application/json"}} if body else {"json": content}
    return httpx.post(f"{url}{path}", timeout=60, **given)


def predictions(url, path="/invocations", **content):
    answer = post(url, path, **content)
    assert answer.is_success, answer.text
    return answer.json()["predictions"]
