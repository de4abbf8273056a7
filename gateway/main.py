"""What runs where: one supervisor that reconciles and keeps the rest alive, W HTTP workers, one host a version.

The supervisor is the only one that sets desired state in motion. It imports no web framework.
"""

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.access.following import AccessFollower
from gateway.access.gatekeeper import read_networks
from gateway.access.oidc.configuration import ensure_oidc_usable
from gateway.access.openness import is_open
from gateway.artifact_access import open_artifact_store, root_of_new_artifacts
from gateway.comparison.judge import Judge
from gateway.feedback.signing import SigningFollower
from gateway.kept_predictions.joining import LabelJoiner
from gateway.kept_predictions.shipping import ensure_can_write, shipping
from gateway.observability.change_metrics import ChangesFollower
from gateway.observability.metrics import MetricsFolder
from gateway.observability.replica_metrics import ReplicaMetrics
from gateway.pool.confinement.restraints import restraints_of
from gateway.pool.fetching import Fetcher, FindsObjections
from gateway.pool.hosts import warm_parents
from gateway.pool.model_slots import ModelSlots
from gateway.pool.reconciler import Reconciler
from gateway.pool.verification import verify_apart
from gateway.rollouts.actor import RolloutActor
from gateway.run_folder import run_folder
from gateway.settings import Settings
from gateway.signals import Signals
from gateway.webhooks.deliverer import WebhookDeliverer
from gateway.workers import WorkerGroup
from loaders.cache import ModelCache
from loaders.code_policy import CodePolicy
from registry.uri import parse_model_uri
from tracking.access.grants import Grant
from tracking.artifacts import ArtifactStore
from tracking.database import Database, DatabaseUnavailable
from tracking.errors import InvalidParameter, ServingError
from tracking.experiments import ensure_default_experiment

_log = logging.getLogger(__name__)

_SWEEP_INTERVAL_S = 3600.0


class AddressUnusable(InvalidParameter):
    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"Can't listen on {host}:{port}: {reason}; try --port, or another --host.")


class DataFolderUnusable(InvalidParameter):
    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"The data folder {folder} can't be written: {reason}. Choose another with --data.")


class StageIsNoModel(InvalidParameter):
    def __init__(self, model: str) -> None:
        super().__init__(f"--model {model} names a stage, which routes nothing; expected models:/NAME@ALIAS.")


def check_surroundings(settings: Settings) -> None:
    """Find out before anything is started what would otherwise end each worker again and again.

    Raises:
        DataFolderUnusable: if nothing can be written there.
        UnreadableModelUri, StageIsNoModel: if the model for bare ``/invocations`` can't be one.
        OidcNotInstalled, InvalidParameter: if nobody could sign in by the issuer that is set, or an address of a proxy
            or a default grant is none.
        ArrowNotInstalled: if predictions are to be kept and nothing can write them.
    """
    ensure_oidc_usable(settings)
    ensure_can_write(settings.prediction_log_share)
    read_networks(settings.trusted_proxies)
    for grant in filter(None, map(str.strip, settings.default_grants.split(","))):
        Grant.parse(grant)
    if settings.model and parse_model_uri(settings.model).stage is not None:
        raise StageIsNoModel(settings.model)
    try:
        # Ours alone where we make it: the database and the artifacts in it are nobody else's business.
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        raise DataFolderUnusable(settings.data_dir, error.strerror or str(error)) from error


def open_stores(settings: Settings) -> tuple[ArtifactStore, Database]:
    """What everything else stands on.

    Raises:
        DatabaseNeedsMigration: see `prepare_database`.
    """
    store = open_artifact_store(settings)
    return store, prepare_database(settings, store)


def prepare_database(settings: Settings, store: ArtifactStore) -> Database:
    """The database, its tables checked: an embedded one is brought up to date, another only when told.

    A database that can't be reached is no reason not to start: what was served last is on disk.

    Raises:
        DatabaseNeedsMigration: if a PostgreSQL isn't at this program's revision and `--migrate` wasn't given.
    """
    database = Database(settings.database, pool_size=settings.database_threads)
    try:
        if database.is_sqlite or settings.migrate:
            database.upgrade()
        else:
            database.check_revision()
        with database.writing() as session:
            ensure_default_experiment(session, root_of_new_artifacts(settings, store), now_ms=int(time.time() * 1000))
    except DatabaseUnavailable as error:
        _log.warning("database_away_at_start", extra={"reason": error.reason})
    return database


def listen(host: str, port: int) -> socket.socket:
    """The one listening socket, which workers inherit.

    Raises:
        AddressUnusable: if the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, TypeError) as error:
        # TypeError is what Python says of a host that can't be written as a domain name.
        listener.close()
        raise AddressUnusable(host, port, getattr(error, "strerror", None) or str(error)) from error
    listener.setblocking(False)
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


async def serve(
    settings: Settings,
    *,
    started: Callable[[str], None] = lambda _: None,
    show_token: Callable[[str], None] = lambda _: None,
) -> None:
    """Run until a signal asks for the end.

    *started* is called with the URL once requests are answered, *show_token* with the first administrator's token if
    this start had to make one.
    """
    check_surroundings(settings)
    signals = Signals()
    async with AsyncExitStack() as life:
        listener = life.enter_context(contextlib.closing(listen(settings.host, settings.port)))
        run_dir = life.enter_context(run_folder())
        workers = WorkerGroup(
            settings, listener, environment=os.environ, metrics_dir=run_dir / "metrics", clock=time.time
        )
        signals.on_quick, signals.on_kill = workers.hurry, workers.kill
        # A worker takes a second to come up, most of it imports: the tables are looked at meanwhile.
        life.push_async_callback(workers.stop)
        workers.start()
        store, database = await asyncio.to_thread(open_stores, settings)
        life.enter_context(_disposing(database))
        parents = await life.enter_async_context(
            warm_parents(
                run_dir / "scratch",
                log_level=settings.log_level,
                log_format=settings.log_format,
                environment=os.environ,
                restraints=restraints_of(settings, run_dir, os.environ),
            )
        )
        reconciler_nudge = asyncio.Event()
        slots = ModelSlots(
            settings,
            fetcher=Fetcher(
                database,
                store,
                ModelCache(settings.cache_dir, settings.cache_bytes_max, verify=verify_apart),
                settings.data_dir / "state" / "manifests",
                signature_check=_signature_check(settings, database),
            ),
            parents=parents,
            connections=workers,
            run_dir=run_dir,
            clock=time.time,
            changed=reconciler_nudge.set,
        )
        workers.on_stuck, workers.on_broken = slots.stop_stuck, slots.stop_broken
        metrics = ReplicaMetrics(
            MetricsFolder(run_dir / "metrics"),
            statuses=slots.statuses,
            host_pids=slots.host_pids,
            table=lambda: workers.table,
            epoch=lambda: workers.epoch,
            clock=time.time,
        )
        slots.when_changed = metrics.slot_changed
        workers.when_ended = metrics.worker_ended
        replica_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        reconciler = Reconciler(
            settings,
            replica_id=replica_id,
            database=database,
            slots=slots,
            workers=workers,
            clock=time.time,
            nudged=reconciler_nudge,
        )
        # Left after the workers, which write until their end.
        await life.enter_async_context(
            shipping(settings.predictions_dir, store, kept_days=settings.prediction_log_days)
        )
        # Closed in reverse: the replica leaves, so that no flip waits for it while workers finish their requests, then
        # hosts end. Workers that were stopped here have nothing left to stop above.
        life.push_async_callback(slots.close)
        life.push_async_callback(_leave, reconciler, workers)
        if not is_open(settings):
            follower = AccessFollower(
                database,
                workers,
                settings.data_dir / "state" / "access.json",
                admin_token=settings.admin_token,
                show_token=show_token,
                clock=time.time,
            )
            await follower.begin()
            await life.enter_async_context(_running(follower.run()))
        signing = SigningFollower(database, workers, feedback_days=settings.feedback_days, clock=time.time)
        await signing.begin()
        await life.enter_async_context(_running(signing.run()))
        workers.begin()
        await life.enter_async_context(_running(reconciler.run()))
        await life.enter_async_context(_running(metrics.run()))
        judge = Judge(database, interval_s=settings.comparison_interval_s, judged=metrics.judged)
        await life.enter_async_context(_running(judge.run()))
        await life.enter_async_context(_running(ChangesFollower(database, counted=metrics.changed).run()))
        await life.enter_async_context(_running(_joiner(settings, database, store, run_dir).run()))
        rollouts = RolloutActor(
            database,
            name=replica_id,
            lead_ms=settings.switch_lead_ms,
            warm_s=settings.former_champion_warm_s,
            looked=metrics.rolling_out,
        )
        await life.enter_async_context(_running(rollouts.run()))
        await life.enter_async_context(_running(_sweep_uploads(store)))
        await life.enter_async_context(_running(WebhookDeliverer(settings, database, clock=time.time).run()))
        await life.enter_async_context(_running(_announce_start(workers, started, _url_of(listener))))
        await life.enter_async_context(_running(_replace_workers(workers, signals.replace)))
        await signals.stop.wait()
        _log.info("stopping")
        workers.give_notice()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.stop_notice_s):
                await signals.quick.wait()


def _signature_check(settings: Settings, database: Database) -> FindsObjections | None:
    if settings.code_policy is not CodePolicy.SIGNED:
        return None
    # It brings cryptography, 60 ms and some MB that nobody else here has a use for.
    from gateway.pool.signature_check import SignatureCheck  # noqa: PLC0415

    return SignatureCheck(database, settings.trusted_keys, settings.data_dir / "state" / "signatures", clock=time.time)


def _joiner(settings: Settings, database: Database, store: ArtifactStore, scratch: Path) -> LabelJoiner:
    return LabelJoiner(database, store, scratch, file_s=settings.prediction_log_file_s, clock=time.time)


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _announce_start(workers: WorkerGroup, started: Callable[[str], None], url: str) -> None:
    await workers.until_serving()
    _log.info("serving", extra={"url": url})
    started(url)


async def _replace_workers(workers: WorkerGroup, asked: asyncio.Event) -> None:
    """Whenever it is asked for. Asked for again meanwhile, it is done once more."""
    while True:
        await asked.wait()
        asked.clear()
        await workers.replace_all()


async def _leave(reconciler: Reconciler, workers: WorkerGroup) -> None:
    leaving = asyncio.create_task(reconciler.leave())
    await workers.stop()
    await leaving


async def _sweep_uploads(store: ArtifactStore) -> None:
    """Remove, now and every hour, what uploads left behind whose worker or client died."""
    while True:
        try:
            swept = await asyncio.to_thread(store.sweep, int(time.time() * 1000))
        except ServingError as error:
            _log.warning("uploads_not_swept", extra={"reason": error.reason})
        else:
            if swept:
                _log.info("uploads_swept", extra={"count": swept})
        await asyncio.sleep(_SWEEP_INTERVAL_S)


@contextlib.asynccontextmanager
async def _running(coroutine: object) -> AsyncIterator[None]:
    task = asyncio.ensure_future(coroutine)  # type: ignore[call-overload]  # any awaitable
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def _disposing(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.dispose()
