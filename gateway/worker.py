"""An HTTP worker: one process that answers requests, told by the supervisor what to serve.

It never unpickles anything and never imports scikit-learn or torch: models live in hosts.
"""

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from gateway.access.gatekeeper import Gatekeeper
from gateway.access.identity import Identity
from gateway.access.openness import is_open
from gateway.api.open_inference.scoring import OpenInference
from gateway.api.scoring.bodies import Bodies
from gateway.api.scoring.databricks import DatabricksScoring
from gateway.api.scoring.json_answers import row_of
from gateway.api.scoring.mlflow import MlflowScoring
from gateway.api.scoring.sagemaker import SageMakerScoring
from gateway.api.scoring.unserved import explain_unserved
from gateway.api.scoring.v1 import V1Scoring
from gateway.api.scoring.walk import Scoring
from gateway.app import create_app
from gateway.artifact_access import open_artifact_store
from gateway.columnar.codec import TableCodec
from gateway.comparison.counting import Counting
from gateway.comparison.flushing import Flusher
from gateway.draining import DrainingServer
from gateway.http_protocol import StayingProtocol
from gateway.kept_predictions.keeping import PredictionKeeper
from gateway.kept_predictions.spool import SpoolWriter
from gateway.observability.exposition import AllMetrics
from gateway.observability.feedback_metrics import FeedbackMetrics
from gateway.observability.logs import configure_logging
from gateway.observability.metrics import Key, Metrics, MetricsFolder, keep_written, worker_name
from gateway.observability.prediction_log import PREDICTION_LOGGER, PredictionLog
from gateway.observability.prediction_metrics import DROPPED_LINES, UNCOUNTED_REQUESTS
from gateway.observability.tracing import PredictionTracer, open_tracer
from gateway.pool.absences import Absences
from gateway.pool.messages import (
    Admission,
    Begin,
    Broken,
    Connected,
    Drain,
    Freshness,
    Hosts,
    Leaving,
    Notice,
    Serving,
    Signing,
    Stuck,
    Switch,
    Switched,
    ToSupervisor,
    ToWorker,
    Used,
    encode_line,
    open_line,
    receive,
)
from gateway.pool.model_pool import ModelPool
from gateway.routing_table import CurrentTable, LiveTable
from gateway.scoring.answer_ids import AnswerIds
from gateway.scoring.batching import Limits
from gateway.scoring.inference import Inference
from gateway.scoring.served_models import ServedModels
from gateway.scoring.shadow import Shadows
from gateway.scoring.shadow_counts import ShadowCounts, keep_telling, tell
from gateway.settings import LogFormat, Settings
from registry.entities import PredictionKey
from tracking.access import tokens
from tracking.access.book import Book
from tracking.access.caller import CALLER, PROGRAM
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_SETTINGS = msgspec.json.Decoder(Settings)
_MESSAGES = msgspec.json.Decoder(ToWorker)
# Connections that wait to be accepted, all workers together, and those that one worker holds open.
_BACKLOG = 2048
_RECONNECT_PAUSE_S = 0.05
_USED_INTERVAL_S = 2.0
_NOTED_INTERVAL_S = 20.0


class Follower:
    """Does what the supervisor says: connect to these hosts, answer from this table from then on."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        current: CurrentTable,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._current = current
        self._hosts = Hosts([])
        self._hosts_changed = asyncio.Event()
        self._reconnecting: asyncio.TimerHandle | None = None
        self._begun = asyncio.Event()
        self.on_notice: Callable[[], None] = lambda: None
        """Called when the replica is about to stop."""
        self.on_admission: Callable[[Book], None] = lambda _: None
        """Called with everybody who may come in."""
        self.on_signing: Callable[[PredictionKey | None], None] = lambda _: None
        """Called with the key that signs ids from now on."""
        self.on_drain: Callable[[float], None] = lambda _: None
        """Called when this worker is to finish and end, with how long idle connections may stay."""

    def tell(self, message: ToSupervisor) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_line(message))

    def tell_connected(self, sockets: list[str]) -> None:
        self.tell(Connected(sockets))
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            self._reconnecting = None
        if any(host.socket not in sockets for host in self._hosts.hosts):
            # Either the host ended, and the next list won't hold it, or it broke off this connection and lives on:
            # then nobody but us knows.
            loop = asyncio.get_running_loop()
            self._reconnecting = loop.call_later(_RECONNECT_PAUSE_S, self._hosts_changed.set)

    async def follow(self) -> None:
        """Until the supervisor hangs up, which is how it ends, too."""
        while (message := await receive(self._reader, _MESSAGES)) is not None:
            self._heed(message)
        # Whoever waits for the beginning needn't any more.
        self._begun.set()

    def _heed(self, message: ToWorker) -> None:
        match message:
            case Hosts():
                self._hosts = message
                self._hosts_changed.set()
            case Switch():
                # Expanded now, so that the instant itself is one assignment.
                table = LiveTable(message.table)
                wait_s = message.at_s - time.time()
                if wait_s > 0:
                    asyncio.get_running_loop().call_later(wait_s, self._switch, table)
                else:
                    # At once: a worker that takes another's place hears of the table in force and of its beginning in
                    # one breath.
                    self._switch(table)
            case Freshness():
                self._current.stale_since_s = message.stale_since_s
            case Admission():
                self.on_admission(message.book)
            case Signing():
                self.on_signing(message.key)
            case Begin():
                self._begun.set()
            case Notice():
                self._current.stopping = True
                self.on_notice()
            case Drain():
                self._begun.set()
                self.on_drain(message.idle_grace_s)

    def tell_stuck(self, socket: str) -> None:
        self.tell(Stuck(socket))

    def tell_broken(self, socket: str) -> None:
        self.tell(Broken(socket))

    async def keep_telling_used(self, pool: ModelPool) -> None:
        """Say now and then which hosts were asked, by which those leave first that nobody needs."""
        while True:
            await asyncio.sleep(_USED_INTERVAL_S)
            if used := pool.used():
                self.tell(Used(used))

    async def until_begun(self, pool: ModelPool) -> None:
        """Wait until all that the supervisor knows has been said, and connect to the hosts there are.

        A worker that takes a dead one's place must not take requests before it can answer them.
        """
        await self._begun.wait()
        self._hosts_changed.clear()
        await pool.set_hosts(self._hosts.hosts)

    async def keep_connected(self, pool: ModelPool) -> None:
        """Follow the newest list of hosts; lists that came while one was being worked through are skipped."""
        while True:
            await self._hosts_changed.wait()
            self._hosts_changed.clear()
            await pool.set_hosts(self._hosts.hosts)

    def _switch(self, table: LiveTable) -> None:
        self._current.switch(table)
        self.tell(Switched(self._current.live.epoch))


async def _run(line_fd: int, listener_fd: int, metrics_dir: Path) -> None:
    reader, writer = await open_line(socket.socket(fileno=line_fd))
    settings = await receive(reader, _SETTINGS)
    if settings is None:
        return
    configure_logging(settings.log_level, settings.log_format)
    current, metrics, folder, name = CurrentTable(), Metrics(), MetricsFolder(metrics_dir), worker_name(os.getpid())
    follower = Follower(reader, writer, current=current)
    pool = ModelPool(
        frame_bytes_max=settings.frame_bytes_max,
        drain_timeout_s=settings.drain_timeout_s,
        absences=Absences(wait_s=settings.host_wait_s, waiting_max=settings.requests_waiting_max),
        changed=follower.tell_connected,
        stuck=follower.tell_stuck,
        broken=follower.tell_broken,
    )
    database = Database(settings.database, pool_size=settings.database_threads, asks_who=True)
    gate = Gatekeeper(
        is_open=is_open(settings),
        clock=time.time,
        trusted_proxies=settings.trusted_proxies,
        user_header=settings.user_header,
        workers=settings.workers,
        default_grants=filter(None, map(str.strip, settings.default_grants.split(","))),
    )
    follower.on_admission = gate.take
    predictions, tracer = _prediction_log(settings, metrics), open_tracer(os.environ)
    answer_ids = AnswerIds(time.time_ns)
    follower.on_signing = answer_ids.use
    shadow_counts = ShadowCounts(metrics, row_of)
    compared = Counting(slow_s=settings.slow_s)
    keeper = _prediction_keeper(settings, metrics)
    flusher = Flusher(compared, database, lost=metrics.number(UNCOUNTED_REQUESTS).add)
    app = create_app(
        settings,
        database=database,
        artifact_store=open_artifact_store(settings),
        readiness=current,
        clock=time.time,
        gate=gate,
        scoring=_scoring(
            settings, database, current, pool, metrics, predictions, tracer, shadow_counts, compared, answer_ids, keeper
        ),
        all_metrics=AllMetrics(folder, lambda: folder.write(name, metrics.snapshot())),
        served_models=ServedModels(current, pool),
        feedback_metrics=FeedbackMetrics(metrics),
    )
    # What is there now stays. Looked through again with every page of runs, it took 40 of such a page's 90 ms.
    gc.collect()
    gc.freeze()
    server = DrainingServer(
        _uvicorn_config(app, settings),
        drain_timeout_s=settings.drain_timeout_s,
        started=lambda: follower.tell(Serving()),
    )
    follower.on_notice, follower.on_drain = server.close_after_answers, server.drain
    following = asyncio.create_task(follower.follow())
    # Without a supervisor nobody would replace hosts or move the table: finish what is in flight and end.
    following.add_done_callback(lambda _: server.drain(settings.idle_grace_s))
    _heed_signals(follower, settings)
    await follower.until_begun(pool)
    connecting = asyncio.create_task(follower.keep_connected(pool))
    connecting.add_done_callback(_end_if_failed)
    keeping = [
        asyncio.create_task(each)
        for each in (
            keep_written(metrics, folder, name, held=lambda: _held_by(pool), clock=time.monotonic),
            follower.keep_telling_used(pool),
            _keep_noting_used(gate, database),
            keep_telling(shadow_counts, database),
            flusher.keep_flushing(),
            *([] if keeper is None else [keeper.keep_writing()]),
        )
    ]
    try:
        await server.serve(sockets=[socket.socket(fileno=listener_fd)])
    finally:
        for task in (following, connecting, *keeping):
            task.cancel()
        await pool.close()
        gate.close()
        folder.write(name, metrics.snapshot())
        if predictions is not None:
            predictions.close()
        if tracer is not None:
            # Not in a thread: those of the loop have ended with the application, and nothing else goes on any more.
            tracer.close()
        flusher.close()
        if keeper is not None:
            keeper.close()
        with contextlib.suppress(ServingError):
            tell(database, shadow_counts.take())
        database.dispose()


def _explain(database: Database, name: str, identity: Identity) -> ServingError:
    # In a context of its own, for a caller that may ask for this name: that was looked at before.
    CALLER.set(PROGRAM)
    return explain_unserved(database, name, identity.may_ask)


async def _keep_noting_used(gate: Gatekeeper, database: Database) -> None:
    """Keep in the database, now and then, when tokens and keys were used; a time lost is no loss."""
    while True:
        await asyncio.sleep(_NOTED_INTERVAL_S)
        if used := gate.used():
            with contextlib.suppress(ServingError):
                await asyncio.to_thread(_note_used, database, used)


def _note_used(database: Database, used: Mapping[str, int]) -> None:
    CALLER.set(PROGRAM)
    with database.writing() as session:
        tokens.note_used(session, used)


def _end_if_failed(connecting: asyncio.Task[None]) -> None:
    """Have a worker that can't follow its hosts any more replaced: by itself it would answer, and never flip again."""
    if not connecting.cancelled() and (error := connecting.exception()) is not None:
        _log.error("worker_lost_its_way", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def _heed_signals(follower: Follower, settings: Settings) -> None:
    """SIGTERM asks the supervisor for a successor; a second one waits for none."""
    loop = asyncio.get_running_loop()
    asked = False

    def leave() -> None:
        nonlocal asked
        if asked:
            follower.on_drain(settings.idle_grace_s)
        asked = True
        follower.tell(Leaving())

    loop.add_signal_handler(signal.SIGTERM, leave)
    # These often go to the whole group (Ctrl-C, a terminal that closes); when workers end is the supervisor's to say.
    for number in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: None)


def _prediction_log(settings: Settings, metrics: Metrics) -> PredictionLog | None:
    if not logging.getLogger(PREDICTION_LOGGER).isEnabledFor(logging.INFO):
        return None
    return PredictionLog(
        sys.stderr.fileno(),
        as_text=settings.log_format is LogFormat.TEXT,
        dropped=metrics.number(DROPPED_LINES),
    )


def _prediction_keeper(settings: Settings, metrics: Metrics) -> PredictionKeeper | None:
    if not settings.prediction_log_share:
        return None
    spool = SpoolWriter(
        settings.predictions_dir,
        file_bytes_max=settings.prediction_log_file_bytes_max,
        file_s=settings.prediction_log_file_s,
        folder_bytes_max=settings.prediction_log_disk_bytes_max,
        clock=time.monotonic,
    )
    return PredictionKeeper(
        spool,
        share=settings.prediction_log_share,
        with_inputs=settings.prediction_log_inputs,
        bytes_max=settings.prediction_log_memory_bytes_max,
        metrics=metrics,
        clock=time.time,
    )


def _held_by(pool: ModelPool) -> list[Key]:
    return [(connection.key[0], str(connection.key[1])) for connection in pool.connections()]


def _scoring(
    settings: Settings,
    database: Database,
    current: CurrentTable,
    pool: ModelPool,
    metrics: Metrics,
    predictions: PredictionLog | None,
    tracer: PredictionTracer | None,
    shadow_counts: ShadowCounts,
    compared: Counting,
    answer_ids: AnswerIds,
    keeper: PredictionKeeper | None,
) -> Scoring:
    limits = Limits(
        rows_max=settings.batch_rows_max,
        bytes_max=settings.batch_bytes_max,
        waiting_max=settings.requests_waiting_max,
        waiting_s_max=settings.queue_wait_s,
    )
    # Decoded, an input may be as large as the message that carries it to its model.
    codec = TableCodec(
        decoded_bytes_max=settings.frame_bytes_max,
        timeout_s=settings.predict_timeout_s,
        confinement=settings.host_confinement,
        hidden=[settings.data_dir],
    )
    bodies = Bodies(codec, settings.frame_bytes_max)
    inference = Inference(current, pool, limits=limits, patience_s=settings.predict_timeout_s, metrics=metrics)
    return Scoring(
        inference,
        current,
        # SageMaker's before MLflow's, whose path it shares.
        [
            SageMakerScoring(bodies),
            MlflowScoring(settings.model, bodies),
            OpenInference(settings.body_bytes_max),
            V1Scoring(),
            DatabricksScoring(bodies),
        ],
        body_bytes_max=settings.body_bytes_max,
        predict_timeout_s=settings.predict_timeout_s,
        explain_missing=lambda name, identity: asyncio.to_thread(_explain, database, name, identity),
        metrics=metrics,
        log=predictions,
        tracer=tracer,
        # What is kept is found by its id.
        answer_ids=answer_ids if settings.comparison or keeper is not None else None,
        keeper=keeper,
        counting=compared if settings.comparison else None,
        shadows=Shadows(
            inference,
            shadow_counts,
            waiting_max=settings.shadow_waiting_max,
            bytes_max=settings.shadow_bytes_max,
            timeout_s=settings.predict_timeout_s,
        ),
    )


def _uvicorn_config(app: object, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # Litestar's ASGI types and uvicorn's say the same in other words
        http=StayingProtocol,
        loop="none",
        ws="none",
        log_config=None,
        access_log=False,
        # Whose word counts is the gatekeeper's to say; uvicorn would take anybody's on this machine.
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=math.ceil(settings.keep_alive_s),
    )


def main() -> None:
    """Serve ``python -m gateway.worker LINE_FD LISTENER_FD METRICS_DIR``."""
    line_fd, listener_fd, metrics_dir = sys.argv[1:]
    uvloop.run(_run(int(line_fd), int(listener_fd), Path(metrics_dir)))


if __name__ == "__main__":
    main()
