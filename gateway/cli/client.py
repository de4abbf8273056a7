"""How the verbs talk to a running Titlebout: over its HTTP API, like everybody else."""

import os
from collections.abc import Generator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from tracking.errors import ErrorCode, ServingError

_TIMEOUT_S = 30.0
_UNAVAILABLE = 503
_NAMES_SHOWN_MAX = 10
_OURS = "/api/1.0/titlebout"


class ServerUnreachable(ServingError):
    code = ErrorCode.TEMPORARILY_UNAVAILABLE

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"No Titlebout answers at {url} ({reason}). Start one with `titlebout serve`, or say --server."
        )


class Refused(ServingError):
    """What the server said, in its own words."""


class ServerUnavailable(Refused):
    """503: it says that it will answer later."""


def credentials_of(environment: Mapping[str, str]) -> httpx.Auth | None:
    """What MLflow's client would sign in with, from the same variables, so that one shell serves both."""
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    user, password = (environment.get(f"MLFLOW_TRACKING_{what}") for what in ("USERNAME", "PASSWORD"))
    if user and password:
        return httpx.BasicAuth(user, password)
    return _Bearer(token) if token else None


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class Client:
    """The calls that the command line makes."""

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        self._url = url.rstrip("/")
        self._environment = environment
        self._http = httpx.Client(base_url=self._url, timeout=_TIMEOUT_S, auth=credentials_of(environment))

    @property
    def url(self) -> str:
        return self._url

    @property
    def authorization(self) -> str | None:
        """The header by which the calls here sign in, for whoever makes calls of their own."""
        auth = credentials_of(self._environment)
        if auth is None:
            return None
        signed: httpx.Request = next(auth.sync_auth_flow(httpx.Request("GET", self._url)))
        return signed.headers["Authorization"]

    def status(self) -> dict[str, Any]:
        return self._call("GET", "/api/1.0/titlebout/status")

    def endpoint(self, name: str) -> dict[str, Any]:
        return self._call("GET", f"/api/1.0/titlebout/endpoints/{quote(name, safe='')}")

    def find_endpoint_of(self, model: str) -> dict[str, Any] | None:
        """The endpoint that answers for *model*, whatever its own name is."""
        return next((endpoint for endpoint in self.status()["endpoints"] if endpoint["model"] == model), None)

    def progress(self, name: str) -> dict[str, Any]:
        return self._call("GET", f"/api/1.0/titlebout/endpoints/{quote(name, safe='')}/progress")

    def find_model(self, name: str) -> dict[str, Any] | None:
        """The model's aliases and its newest version."""
        try:
            said = self._call("GET", "/api/2.0/mlflow/registered-models/get", params={"name": name})
        except Refused:
            return None
        model = said["registered_model"]
        newest = max((int(version["version"]) for version in model.get("latest_versions", [])), default=None)
        return {"aliases": [entry["alias"] for entry in model.get("aliases", [])], "newest_version": newest}

    def model_names(self, count_max: int) -> list[str]:
        said = self._call("GET", "/api/2.0/mlflow/registered-models/search", params={"max_results": count_max})
        return [model["name"] for model in said.get("registered_models", [])]

    def resolve(self, uri: str, *, at_ms: int | None = None) -> dict[str, Any]:
        params: dict[str, str | int] = {"uri": uri} if at_ms is None else {"uri": uri, "at_ms": at_ms}
        return self._call("GET", "/api/1.0/titlebout/resolve", params=params)

    def history(self, model: str, **options: Any) -> dict[str, Any]:
        """A page of what was done to *model*; *options* are those of the route."""
        params = {name: value for name, value in options.items() if value is not None}
        return self._call("GET", f"{_model_path(model)}/history", params=params)

    def check_history(self, after_seq: int, after_hash: str) -> dict[str, Any]:
        params: dict[str, str | int] = {"after_seq": after_seq, "after_hash": after_hash}
        return self._call("GET", f"{_OURS}/history/check", params=params)

    def set_alias(
        self, model: str, alias: str, version: int, *, reason: str | None = None, override: str | None = None
    ) -> None:
        body = {"name": model, "alias": alias, "version": str(version), "reason": reason, "override": override}
        self._call("POST", "/api/2.0/mlflow/registered-models/alias", json=body)

    def delete_alias(self, model: str, alias: str) -> None:
        self._call("DELETE", "/api/2.0/mlflow/registered-models/alias", json={"name": model, "alias": alias})

    def change_split(
        self,
        name: str,
        shares_bp: dict[str, int],
        *,
        reshuffle: bool = False,
        reason: str | None = None,
        override: str | None = None,
    ) -> dict[str, Any]:
        path = f"/api/1.0/titlebout/endpoints/{quote(name, safe='')}/split"
        body = {"shares_bp": shares_bp, "reshuffle": reshuffle, "override": override}
        return self._call("PUT", path, json=body if reason is None else body | {"reason": reason})

    def set_fallback(self, name: str, *, on: bool) -> None:
        self._call("PUT", f"{_endpoint_path(name)}/fallback", json={"on": on})

    def shadow(self, name: str) -> dict[str, Any]:
        return self._call("GET", f"{_endpoint_path(name)}/shadow")

    def set_shadow(self, name: str, shadow: dict[str, Any]) -> dict[str, Any]:
        return self._call("PUT", f"{_endpoint_path(name)}/shadow", json=shadow)

    def remove_shadow(self, name: str) -> None:
        self._call("DELETE", f"{_endpoint_path(name)}/shadow")

    def shadow_inputs(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_endpoint_path(name)}/shadow/inputs")["inputs"]
        return found

    def forget_shadow_inputs(self, name: str) -> None:
        self._call("DELETE", f"{_endpoint_path(name)}/shadow/inputs")

    def rollout(self, endpoint: str) -> dict[str, Any]:
        return self._call("GET", f"{_OURS}/rollouts/{quote(endpoint, safe='')}")

    def start_rollout(self, asked: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", f"{_OURS}/rollouts", json=asked)

    def try_rollout(self, endpoint: str, asked: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", f"{_OURS}/rollouts/{quote(endpoint, safe='')}/dry-run", json=asked)

    def tell_rollout(self, endpoint: str, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
        """*verb* is pause, resume, abort or promote."""
        return self._call("POST", f"{_OURS}/rollouts/{quote(endpoint, safe='')}/{verb}", json=asked)

    def gates(self, model: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_model_path(model)}/gates")["gates"]
        return found

    def set_gate(self, model: str, name: str, gate: dict[str, Any]) -> dict[str, Any]:
        return self._call("PUT", f"{_model_path(model)}/gates/{quote(name, safe='')}", json=gate)

    def remove_gate(self, model: str, name: str) -> None:
        self._call("DELETE", f"{_model_path(model)}/gates/{quote(name, safe='')}")

    def approve(self, model: str, version: int, reason: str | None) -> dict[str, Any]:
        return self._call("PUT", f"{_version_path(model, version)}/approvals", json={"reason": reason})

    def approvals(self, model: str, version: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_version_path(model, version)}/approvals")["approvals"]
        return found

    def withdraw_approval(self, model: str, version: int) -> None:
        self._call("DELETE", f"{_version_path(model, version)}/approvals")

    def pin(self, model: str, version: int) -> None:
        self._call("PUT", f"{_OURS}/pins/{quote(model, safe='')}/{version}")

    def unpin(self, model: str, version: int) -> None:
        self._call("DELETE", f"{_OURS}/pins/{quote(model, safe='')}/{version}")

    def example(self, endpoint: str, version: int) -> dict[str, Any]:
        return self._call("GET", f"{_OURS}/endpoints/{quote(endpoint, safe='')}/versions/{version}/example")

    def ask_version(self, endpoint: str, version: int, body: str, headers: Mapping[str, str]) -> dict[str, Any]:
        path = f"/endpoints/{quote(endpoint, safe='')}/versions/{version}/invocations"
        return self._call("POST", path, content=body, headers={"Content-Type": "application/json", **headers})

    def load_tests(self, model: str, version: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_version_path(model, version)}/load-tests")["load_tests"]
        return found

    def keep_load_test(self, model: str, version: int, digest: str, report: dict[str, Any]) -> dict[str, Any]:
        said = {"digest": digest, "report": report}
        return self._call("POST", f"{_version_path(model, version)}/load-tests", json=said)

    def assignment(self, name: str, epoch: int | None = None) -> dict[str, Any]:
        params = {} if epoch is None else {"epoch": epoch}
        return self._call("GET", f"{_OURS}/endpoints/{quote(name, safe='')}/assignment", params=params)

    def comparison(self, name: str, **options: Any) -> dict[str, Any]:
        """Champion against challenger; *options* are those of the route."""
        params = {option: value for option, value in options.items() if value is not None}
        return self._call("GET", f"{_endpoint_path(name)}/comparison", params=params)

    def plan(self, **options: float | None) -> dict[str, Any]:
        params = {option: value for option, value in options.items() if value is not None}
        return self._call("GET", f"{_OURS}/plan", params=params)

    def roll_back(self, name: str, *, expected_version: int | None = None) -> dict[str, Any]:
        params = {} if expected_version is None else {"expected_version": expected_version}
        return self._call("POST", f"/api/1.0/titlebout/endpoints/{quote(name, safe='')}/rollback", params=params)

    def version_files(self, model: str, version: int) -> dict[str, Any]:
        return self._call("GET", f"{_version_path(model, version)}/files")

    def signatures(self, model: str, version: int) -> list[dict[str, Any]]:
        said = self._call("GET", f"{_version_path(model, version)}/signatures")
        found: list[dict[str, Any]] = said["signatures"]
        return found

    def put_signature(self, model: str, version: int, bundle: str) -> None:
        self._call("PUT", f"{_version_path(model, version)}/signatures", json={"bundle": bundle})

    def give_feedback(self, item: dict[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/feedback", json=item)

    def give_feedback_lines(self, lines: str) -> dict[str, Any]:
        """Many items, a JSON object on each line."""
        return self._call("POST", "/feedback", content=lines.encode(), headers={"Content-Type": "application/x-ndjson"})

    def prediction_keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_OURS}/prediction-keys")["keys"]
        return found

    def rotate_prediction_keys(self, *, forget_old: bool) -> dict[str, Any]:
        return self._call("POST", f"{_OURS}/prediction-keys/rotate", json={"forget_old": forget_old})

    def predictions(self, endpoint: str, *, since_ms: int | None) -> dict[str, Any]:
        """Which files the prediction log of *endpoint* has."""
        params = {} if since_ms is None else {"since_ms": since_ms}
        return self._call("GET", f"{_endpoint_path(endpoint)}/predictions", params=params)

    def prediction_file(self, endpoint: str, day: str, name: str) -> bytes:
        """One of them."""
        return self._ask("GET", f"{_endpoint_path(endpoint)}/predictions/{day}/{quote(name, safe='')}").content

    # --- access

    def me(self) -> dict[str, Any]:
        return self._call("GET", f"{_OURS}/me")

    def users(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_OURS}/users")["users"]
        return found

    def add_user(self, name: str, grants: Sequence[str], password: str | None, *, oidc: bool) -> dict[str, Any]:
        said = {"name": name, "grants": grants, "password": password, "oidc": oidc}
        return self._call("POST", f"{_OURS}/users", json=said)

    def change_user(self, name: str, **changes: Any) -> dict[str, Any]:
        return self._call("PATCH", f"{_OURS}/users/{quote(name, safe='')}", json=changes)

    def remove_user(self, name: str) -> None:
        self._call("DELETE", f"{_OURS}/users/{quote(name, safe='')}")

    def tokens(self, user: str | None) -> list[dict[str, Any]]:
        params = {"user": user} if user else {}
        found: list[dict[str, Any]] = self._call("GET", f"{_OURS}/tokens", params=params)["tokens"]
        return found

    def add_token(self, **token: Any) -> dict[str, Any]:
        return self._call("POST", f"{_OURS}/tokens", json=token)

    def revoke_token(self, token_id: str) -> None:
        self._call("DELETE", f"{_OURS}/tokens/{quote(token_id, safe='')}")

    def scoring_keys(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"{_OURS}/scoring-keys")["keys"]
        return found

    def add_key(self, **key: Any) -> dict[str, Any]:
        return self._call("POST", f"{_OURS}/scoring-keys", json=key)

    def revoke_key(self, name: str) -> None:
        self._call("DELETE", f"{_OURS}/scoring-keys/{quote(name, safe='')}")

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        content: dict[str, Any] = self._ask(method, path, **options).json()
        return content

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServerUnreachable(self._url, str(error) or type(error).__name__) from error
        if answer.is_success:
            return answer
        try:
            said = answer.json()["message"]
        except (ValueError, KeyError, TypeError):
            raise Refused(f"{method} {path} answered {answer.status_code}; is this a Titlebout?") from None
        raise (ServerUnavailable if answer.status_code == _UNAVAILABLE else Refused)(f"{said}{self._others(said)}")

    def _others(self, said: str) -> str:
        """For whoever mistyped an endpoint's name: those that there are."""
        if not said.startswith("There is no endpoint "):
            return ""
        names = [endpoint["name"] for endpoint in self.status()["endpoints"]][:_NAMES_SHOWN_MAX]
        return f" There are: {', '.join(names)}." if names else ""


def _endpoint_path(name: str) -> str:
    return f"{_OURS}/endpoints/{quote(name, safe='')}"


def _model_path(model: str) -> str:
    return f"{_OURS}/models/{quote(model, safe='')}"


def _version_path(model: str, version: int) -> str:
    return f"{_model_path(model)}/versions/{version}"
