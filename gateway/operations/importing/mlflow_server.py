"""Reads a running MLflow server through its REST API: everything it has, in pages, and its artifacts in streams.

Artifacts come through the server's own endpoints for its pages, which answer whether it keeps them itself or only
names a bucket.
"""

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from gateway.operations.importing.mlflow_wire import (
    Experiment,
    File,
    LoggedModel,
    Metric,
    RegisteredModel,
    Run,
    Version,
)
from tracking.artifacts import CHUNK_BYTES
from tracking.errors import BadRequest, NotFound, TemporarilyUnavailable

_API = "/api/2.0/mlflow"
_TIMEOUT_S = 120.0
_CONNECTIONS_MAX = 16
_RETRIES = 3

# What the server gives at most in one page.
_EXPERIMENTS_PER_PAGE = 1_000
_RUNS_PER_PAGE = 200
_POINTS_PER_PAGE = 25_000
_LOGGED_MODELS_PER_PAGE = 50
_MODELS_PER_PAGE = 100
_VERSIONS_PER_PAGE = 1_000

# Prompts are registered models that a search shows only when it is asked for them.
_PROMPTS = "tags.`mlflow.prompt.is_prompt` = 'true'"

_Item = TypeVar("_Item")


class ServerUnreachable(TemporarilyUnavailable):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"No MLflow server answers at {url} ({reason}).")


class ServerRefused(BadRequest):
    def __init__(self, method: str, path: str, status: int, said: str) -> None:
        super().__init__(f"The MLflow server answered {method} {path} with {status}: {said[:300]}")
        self.status = status


class NotThere(NotFound):
    """Something that the server doesn't have, or a call that it is too old for."""


class MlflowServer:
    """One server. Safe to use from several threads."""

    def __init__(self, url: str, environment: Mapping[str, str] = os.environ) -> None:
        try:
            given = httpx.URL(url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise ServerUnreachable(url, str(error)) from error
        # Never with the password: it is what imports are remembered by.
        self.url = str(given.copy_with(username=None, password=None))
        self._http = httpx.Client(
            base_url=self.url,
            auth=_credentials(given, environment),
            headers=_token(environment),
            timeout=_TIMEOUT_S,
            limits=httpx.Limits(max_connections=_CONNECTIONS_MAX),
            transport=httpx.HTTPTransport(retries=_RETRIES),
            follow_redirects=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def version(self) -> str:
        """The server's release."""
        try:
            return self._get("/version").text.strip()
        except NotThere as error:
            raise ServerUnreachable(self.url, "something else does, which has no /version") from error

    def experiments(self) -> Iterator[Experiment]:
        """All of them, deleted ones too."""
        body = {"max_results": _EXPERIMENTS_PER_PAGE, "view_type": "ALL"}
        yield from self._posted("/experiments/search", body, "experiments", Experiment)

    def runs(self, experiment_id: str) -> Iterator[list[Run]]:
        """A page of runs at a time, deleted ones too, the oldest first."""
        body = {
            "experiment_ids": [experiment_id],
            "run_view_type": "ALL",
            "max_results": _RUNS_PER_PAGE,
            "order_by": ["attributes.start_time ASC"],
        }
        yield from self._pages(lambda token: self._post("/runs/search", {**body, **token}), "runs", Run)

    def points(self, run_id: str, key: str) -> Iterator[list[Metric]]:
        """A metric's whole history, a page at a time."""
        query = {"run_id": run_id, "metric_key": key, "max_results": str(_POINTS_PER_PAGE)}
        yield from self._pages(
            lambda token: self._get_json("/metrics/get-history", {**query, **token}), "metrics", Metric
        )

    def logged_models(self, experiment_id: str) -> Iterator[LoggedModel]:
        """All that aren't deleted; none from a server that knows none."""
        body = {"experiment_ids": [experiment_id], "max_results": _LOGGED_MODELS_PER_PAGE}
        try:
            yield from self._posted("/logged-models/search", body, "models", LoggedModel)
        except NotThere:
            return

    def registered_models(self) -> Iterator[RegisteredModel]:
        """Models, then prompts."""
        for extra in ({}, {"filter": _PROMPTS}):
            query = {"max_results": str(_MODELS_PER_PAGE), **extra}
            yield from self._got("/registered-models/search", query, "registered_models", RegisteredModel)

    def versions(self, model: RegisteredModel) -> list[Version]:
        """The versions of a model or a prompt, by number."""
        quoted = "'" + model.name.replace("'", "\\'") + "'"
        found: dict[str, Version] = {}
        for extra in ("", f" AND {_PROMPTS}"):
            query = {"max_results": str(_VERSIONS_PER_PAGE), "filter": f"name={quoted}{extra}"}
            for version in self._got("/model-versions/search", query, "model_versions", Version):
                found[version.version] = version
        return sorted(found.values(), key=lambda version: int(version.version))

    def artifact_uri(self, version: Version) -> str:
        """The folder that a version's source comes to."""
        query = {"name": version.name, "version": version.version}
        answer = self._get_json("/model-versions/get-download-uri", query)
        return str(answer.get("artifact_uri") or version.source)

    def run(self, run_id: str) -> Run:
        """One run.

        Raises:
            NotThere: if the server has none of this id.
        """
        return msgspec.convert(self._get_json("/runs/get", {"run_id": run_id})["run"], Run, strict=False)

    def logged_model(self, model_id: str) -> LoggedModel:
        """One logged model.

        Raises:
            NotThere: if the server has none of this id.
        """
        answer = self._get_json(f"/logged-models/{quote(model_id, safe='')}", {})
        return msgspec.convert(answer["model"], LoggedModel, strict=False)

    def run_files(self, run_id: str) -> Iterator[File]:
        """Every artifact of a run, at any depth."""
        yield from self._tree(lambda path: ("/artifacts/list", {"run_id": run_id, **path}), "path")

    def model_files(self, model_id: str) -> Iterator[File]:
        """Every artifact of a logged model."""
        place = f"/logged-models/{quote(model_id, safe='')}/artifacts/directories"
        yield from self._tree(lambda path: (place, path), "artifact_directory_path")

    def read_run_file(self, run_id: str, path: str) -> Generator[bytes]:
        """One artifact, a chunk at a time."""
        yield from self._stream("/get-artifact", {"run_id": run_id, "path": path})

    def read_model_file(self, model_id: str, path: str) -> Generator[bytes]:
        place = f"/ajax-api/2.0/mlflow/logged-models/{quote(model_id, safe='')}/artifacts/files"
        yield from self._stream(place, {"artifact_file_path": path})

    # --- pages

    def _posted(self, path: str, body: dict[str, Any], field: str, type_: type[_Item]) -> Iterator[_Item]:
        for page in self._pages(lambda token: self._post(path, {**body, **token}), field, type_):
            yield from page

    def _got(self, path: str, query: dict[str, str], field: str, type_: type[_Item]) -> Iterator[_Item]:
        for page in self._pages(lambda token: self._get_json(path, {**query, **token}), field, type_):
            yield from page

    def _pages(
        self, fetch: Callable[[dict[str, str]], dict[str, Any]], field: str, type_: type[_Item]
    ) -> Iterator[list[_Item]]:
        token: dict[str, str] = {}
        while True:
            answer = fetch(token)
            yield msgspec.convert(answer.get(field, []), list[type_], strict=False)  # type: ignore[valid-type]  # a type at run time
            if not answer.get("next_page_token"):
                return
            token = {"page_token": answer["next_page_token"]}

    def _tree(self, ask: Callable[[dict[str, str]], tuple[str, dict[str, str]]], parameter: str) -> Iterator[File]:
        folders: list[str | None] = [None]
        while folders:
            folder = folders.pop()
            path, query = ask({} if folder is None else {parameter: folder})
            for file in self._got(path, query, "files", File):
                if file.is_dir:
                    folders.append(file.path)
                else:
                    yield file

    # --- requests

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._request("POST", _API + path, json=body).json()
        return answer

    def _get_json(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        answer: dict[str, Any] = self._get(_API + path, query).json()
        return answer

    def _get(self, path: str, query: dict[str, str] | None = None) -> httpx.Response:
        return self._request("GET", path, params=query)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._reached():
            answer = self._http.request(method, path, **options)
        _ensure_answered(answer, method, path)
        return answer

    def _stream(self, path: str, query: dict[str, str]) -> Generator[bytes]:
        with self._reached(), self._http.stream("GET", path, params=query) as answer:
            if not answer.is_success:
                answer.read()
                _ensure_answered(answer, "GET", path)
            yield from answer.iter_bytes(CHUNK_BYTES)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise ServerUnreachable(self.url, str(error) or type(error).__name__) from error


def _credentials(url: httpx.URL, environment: Mapping[str, str]) -> tuple[str, str] | None:
    # As MLflow's client takes them, or in the URL.
    if url.username:
        return url.username, url.password
    if environment.get("MLFLOW_TRACKING_USERNAME"):
        return environment["MLFLOW_TRACKING_USERNAME"], environment.get("MLFLOW_TRACKING_PASSWORD", "")
    return None


def _token(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _ensure_answered(answer: httpx.Response, method: str, path: str) -> None:
    if answer.is_success:
        return
    try:
        said = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.text
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotThere(f"The MLflow server has nothing at {method} {path}: {said[:300]}")
    raise ServerRefused(method, path, answer.status_code, said)
