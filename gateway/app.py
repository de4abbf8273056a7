"""The composition root: `create_app` is the one place where the parts of an HTTP worker meet."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.types import ASGIApp

from gateway.access.gatekeeper import Gatekeeper
from gateway.api import (
    access,
    assignment,
    comparison,
    feedback,
    gates,
    health,
    history,
    kept_predictions,
    load_tests,
    metrics,
    rollouts,
    shadows,
    signatures,
    titlebout,
)
from gateway.api.browser_guard import BrowserGuard
from gateway.api.express import Express, Lanes
from gateway.api.front import Front
from gateway.api.health import Readiness
from gateway.api.json_request import JSONRequest
from gateway.api.mlflow import artifacts as mlflow_artifacts
from gateway.api.mlflow import datasets as mlflow_datasets
from gateway.api.mlflow import logged_models as mlflow_logged_models
from gateway.api.mlflow import metrics as mlflow_metrics
from gateway.api.mlflow import owned_artifacts as mlflow_owned_artifacts
from gateway.api.mlflow import registry as mlflow_registry
from gateway.api.mlflow import signed_urls as mlflow_signed_urls
from gateway.api.mlflow import tracking as mlflow_tracking
from gateway.api.mlflow import unanswered as mlflow_unanswered
from gateway.api.mlflow import webhooks as mlflow_webhooks
from gateway.api.open_inference import models as open_inference_models
from gateway.api.open_inference import repository as open_inference_repository
from gateway.api.openapi_document import DocumentPlugin
from gateway.api.scoring import databricks as databricks_scoring
from gateway.api.scoring import v1_models
from gateway.api.scoring.walk import Scoring
from gateway.artifact_access import root_of_new_artifacts
from gateway.auth import check_permission, needs, require_declared_permissions
from gateway.errors import EXCEPTION_HANDLERS
from gateway.observability.exposition import AllMetrics
from gateway.observability.feedback_metrics import FeedbackMetrics
from gateway.observability.metrics import Metrics, MetricsFolder
from gateway.routing_table import CurrentTable
from gateway.scoring.served_models import ServedModels
from gateway.settings import Settings
from gateway.transfers import Transfers
from gateway.web import account, comparison_page, endpoints_page, model_page, oidc, rollout_page, signin
from gateway.web.pages import Pages
from gateway.webhooks.requests import WebhookSender
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database

_PROTOCOLS: tuple[Any, ...] = (
    access,
    assignment,
    comparison,
    health,
    metrics,
    titlebout,
    history,
    gates,
    rollouts,
    shadows,
    signatures,
    feedback,
    kept_predictions,
    load_tests,
    databricks_scoring,
    mlflow_tracking,
    mlflow_logged_models,
    mlflow_metrics,
    mlflow_owned_artifacts,
    mlflow_registry,
    mlflow_artifacts,
    mlflow_datasets,
    mlflow_webhooks,
    mlflow_unanswered,
    mlflow_signed_urls,
    open_inference_models,
    open_inference_repository,
    v1_models,
    endpoints_page,
    comparison_page,
    rollout_page,
    model_page,
    signin,
    oidc,
    account,
)

# What training jobs, and those who resolve models for them, call many times a second.
_EXPRESS = (
    mlflow_tracking.create_run,
    mlflow_tracking.log_batch,
    mlflow_tracking.log_metric,
    mlflow_tracking.log_parameter,
    mlflow_tracking.set_run_tag,
    mlflow_registry.create_model_version,
    mlflow_registry.get_version_by_alias,
    mlflow_registry.set_alias,
)


class _Application(Litestar):
    """Litestar with msgspec alone. Nothing here is Pydantic's or attrs', which it would import where they are there."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def create_app(
    settings: Settings,
    *,
    database: Database,
    artifact_store: ArtifactStore,
    readiness: Readiness,
    clock: Callable[[], float],
    gate: Gatekeeper | None = None,
    scoring: Scoring | None = None,
    all_metrics: AllMetrics | None = None,
    served_models: ServedModels | None = None,
    feedback_metrics: FeedbackMetrics | None = None,
) -> ASGIApp:
    """Everything that one worker answers: *scoring* in front, the APIs behind it.

    Without *scoring* and *served_models* it answers the APIs, and no model; without *gate* it asks nobody who they are.

    Raises:
        RouteWithoutPermission: if a handler declares none.
    """
    gate = gate or Gatekeeper(is_open=True, clock=clock)
    pages = Pages()
    oidc_sign_in = oidc.OidcSignIn(settings, clock=clock)
    transfers = Transfers(settings.artifact_threads)
    webhook_sender = WebhookSender(allow_private=settings.webhook_allow_private, timeout_s=settings.webhook_timeout_s)
    dependencies: dict[str, Any] = {
        "settings": settings,
        "database": database,
        "artifact_store": artifact_store,
        "new_artifacts_root": root_of_new_artifacts(settings, artifact_store),
        "transfers": transfers,
        "webhook_sender": webhook_sender,
        "readiness": readiness,
        "all_metrics": all_metrics or AllMetrics(MetricsFolder(settings.data_dir / "metrics"), lambda: None),
        "pages": pages,
        "oidc_sign_in": oidc_sign_in,
        "sign_in_links": oidc_sign_in.links,
        "feedback_metrics": feedback_metrics or FeedbackMetrics(Metrics()),
        "served_models": served_models or ServedModels(CurrentTable(), None),
        "clock": clock,
        "gate": gate,
    }
    # Database work has threads of its own, as many as it has connections: more would only wait for one.
    executor = ThreadPoolExecutor(settings.database_threads, thread_name_prefix="database")
    lanes = _lanes(database, executor)

    def use_executor() -> None:
        asyncio.get_running_loop().set_default_executor(executor)

    app = _Application(
        # Under one router, and not one by one: registered alone, the second method of a path would have Litestar
        # wrap the first one's handler for a thread twice, and answer with a coroutine.
        route_handlers=[
            Router(
                "/",
                guards=[check_permission],
                route_handlers=[handler for protocol in _PROTOCOLS for handler in protocol.handlers],
            )
        ],
        dependencies={name: _provided(value) for name, value in dependencies.items()},
        exception_handlers=EXCEPTION_HANDLERS,
        # For handlers of errors, which are given nothing else.
        state=State({"pages": pages}),
        request_class=JSONRequest,
        request_max_body_size=settings.api_body_bytes_max,
        openapi_config=OpenAPIConfig(
            title="Titlebout",
            version="1",
            # The document only: the pages that Litestar knows load their scripts from elsewhere.
            # Under a path of its own: beside the others, Litestar's page for "no such document" would answer
            # every unknown path of one name.
            render_plugins=[DocumentPlugin(path=["/", "/openapi.json"])],
            openapi_router=Router("/openapi.json", route_handlers=[], opt=needs(Permission.PUBLIC)),
            operation_id_creator=_operation_id,
        ),
        on_startup=[use_executor],
        on_shutdown=[
            *map(_shutting_down, {executor, *lanes}),
            transfers.close,
            webhook_sender.close,
            oidc_sign_in.close,
        ],
        logging_config=None,
    )
    require_declared_permissions(app.routes)
    guard = BrowserGuard(settings.host, settings.allowed_hosts.split(","))
    express = Express(
        app,
        _EXPRESS,
        dependencies=dependencies,
        lanes=lanes,
        body_bytes_max=settings.api_body_bytes_max,
    )
    return Front(express, scoring=scoring, guard=guard, gate=gate)


def _shutting_down(executor: Executor) -> Callable[[], None]:
    # Without parameters, not even with given ones: Litestar would call it with itself.
    return lambda: executor.shutdown(wait=False, cancel_futures=True)


def _lanes(database: Database, executor: Executor) -> Lanes:
    """Where express calls run. SQLite takes one writer at a time, and short questions spend their time in Python.

    More threads than one of each would only fight for the interpreter's lock: eight of them took 0.8 ms of processor
    for what one does in 0.5.
    """
    if not database.is_sqlite:
        return Lanes(executor, executor)
    return Lanes(
        reading=ThreadPoolExecutor(1, thread_name_prefix="database-reader"),
        writing=ThreadPoolExecutor(1, thread_name_prefix="database-writer"),
    )


def _operation_id(_: Any, method: Any, components: list[Any]) -> str:
    # By method too: the same call of MLflow's may be a GET and a POST.
    names = [component if isinstance(component, str) else component.name for component in components]
    return "_".join([method.lower(), *names]).replace("-", "_")


def _provided(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)
