"""A model host: the process that holds one version, and does nothing but load it, warm it up and answer.

It is forked from a warm parent that has the flavor's libraries imported. It knows a folder, a socket to listen on and a
line to the supervisor: no database, no store, no secret. When that line closes and workers have left, it ends.
"""

import logging
import os
import selectors
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.observability.logs import PROCESS_FIELDS
from gateway.pool import frames, host_limits, scheduling
from gateway.pool.confinement.confine import confine
from gateway.pool.messages import (
    Failed,
    Fork,
    FromHost,
    Loading,
    ModelDescription,
    Ready,
    Restraints,
    Spawn,
    Warming,
    encode_line,
)
from loaders import catalog, warmup
from loaders.acceleration.wish import AccelerationWish
from loaders.base import LoadedModel
from loaders.code_policy import CodePolicy
from loaders.errors import BadInput, CodeNotSigned
from loaders.mlmodel import read_mlmodel
from loaders.signature import Signature
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_BACKLOG = 64
# A worker reads its answers at once. One that doesn't for this long is gone or stuck, and must not hold up the others.
_SEND_TIMEOUT_S = 30.0
_READ_BYTES = 64 * 1024
# Copying so little costs less than another call of the system.
_JOINED_BYTES_MAX = 64 * 1024


def run(fork: Fork, supervisor: socket.socket) -> None:
    """Load, warm up, listen, answer, until the supervisor's line closes."""

    def tell(message: FromHost) -> None:
        supervisor.sendall(encode_line(message))

    PROCESS_FIELDS.update(model=fork.spawn.model, version=fork.spawn.version)
    if fork.gives_way:
        scheduling.give_way()
    tell(Loading(os.getpid()))
    # Before the host is confined, which leaves it no way to another socket. Nobody is let in before it listens.
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(fork.spawn.socket)
    try:
        confinement = _restrain(fork)
        model, description = _load(fork.spawn, confinement, tell)
    except ServingError as error:
        tell(Failed(error.message, lacks_signature=isinstance(error, CodeNotSigned)))
        return
    except Exception as error:  # The model's own code ran: anything may have come of it.
        _log.exception("model_load_failed")
        tell(Failed(_described(error, fork.restraints)))
        return
    listener.listen(_BACKLOG)
    tell(Ready(description))
    _Answering(model, listener, supervisor, fork.spawn.frame_bytes_max).run()


def _restrain(fork: Fork) -> dict[str, str]:
    """Hold this process to its bounds before anything of a model's is read; what is in force, for people."""
    scratch, restraints = Path(fork.scratch), fork.restraints
    host_limits.spare_others()
    if restraints.memory_bytes_max:
        host_limits.guard_memory(restraints.memory_bytes_max)
    home_of_parent = Path(os.environ["HOME"])
    _settle_in(scratch)
    converted = [] if fork.spawn.converted_dir is None else [Path(fork.spawn.converted_dir)]
    confined = confine(
        restraints.confinement,
        own=[scratch, *converted],
        readable=[Path(fork.spawn.model_dir), home_of_parent],
        hidden=restraints.hidden,
    )
    return {
        "files": confined.files,
        "network": confined.network,
        "memory": host_limits.human(restraints.memory_bytes_max) if restraints.memory_bytes_max else "unbounded",
        "threads": os.environ.get("OMP_NUM_THREADS", "unbounded"),
    }


def _settle_in(scratch: Path) -> None:
    """Make *scratch* this process's place for whatever programs like to leave behind."""
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), str(scratch)))
    # It remembers where the warm parent kept such things.
    tempfile.tempdir = None
    os.chdir(scratch)


def _load(
    spawn: Spawn, confinement: dict[str, str], tell: Callable[[FromHost], None]
) -> tuple[LoadedModel, ModelDescription]:
    folder = Path(spawn.model_dir)
    model = catalog.load(
        folder,
        CodePolicy(spawn.code_policy),
        verified=spawn.verified,
        unsigned=spawn.unsigned,
        acceleration=_acceleration(spawn),
    )
    tell(Warming())
    mlmodel = read_mlmodel(folder)
    example = warmup.warm_up_batch(folder, mlmodel, Signature.from_mlmodel(mlmodel))
    if example is not None:
        model.predict(example, {})
    description = ModelDescription(
        flavor=model.flavor,
        predictor=model.predictor,
        predictor_reason=getattr(model, "predictor_reason", ""),
        batchable=model.batchable,
        mlmodel=(folder / "MLmodel").read_text(),
        example=warmup.find_saved_body(folder, mlmodel),
        warnings=list(getattr(model, "warnings", [])),
        confinement=confinement,
    )
    return model, description


def _acceleration(spawn: Spawn) -> AccelerationWish | None:
    if not spawn.acceleration:
        return None
    converted = None if spawn.converted_dir is None else Path(spawn.converted_dir)
    return AccelerationWish(folder=converted, timeout_s=spawn.acceleration_timeout_s)


class _Answering:
    """One thread that reads a frame, predicts, answers. What arrives meanwhile waits in the sockets' buffers."""

    def __init__(
        self, model: LoadedModel, listener: socket.socket, supervisor: socket.socket, frame_bytes_max: int
    ) -> None:
        self._model = model
        self._listener = listener
        self._supervisor = supervisor
        self._frame_bytes_max = frame_bytes_max
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Until the supervisor's line is closed and the last worker has left."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._supervisor, selectors.EVENT_READ)
        # The listener is never taken off.
        while len(self._selector.get_map()) > 1:
            for key, _ in self._selector.select():
                if key.fileobj is self._supervisor:
                    # It never writes on this line. Readable means closed: this is the end, and workers leave before it
                    # says so; or it was killed, and workers finish what they have.
                    self._selector.unregister(self._supervisor)
                elif key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    connection.settimeout(_SEND_TIMEOUT_S)
                    reader = frames.FrameReader(self._frame_bytes_max)
                    self._selector.register(connection, selectors.EVENT_READ, reader)
                else:
                    self._serve(key.fileobj, key.data)

    def _serve(self, connection: Any, reader: frames.FrameReader) -> None:
        """Answer what has come of *connection*; the end of a message may come with a later call."""
        try:
            data = connection.recv(_READ_BYTES)
            for header, body in reader.feed(data):
                _send(connection, self._answer(header, body))
            if data:
                return
        except frames.BrokenFrame:
            _log.exception("broken_frame")
        except OSError:
            _log.info("worker_gone")
        self._selector.unregister(connection)
        connection.close()

    def _answer(self, header: frames.Header, body: memoryview) -> list[bytes | memoryview]:
        if not isinstance(header, frames.PredictHeader):
            raise frames.BrokenFrame("a host is only asked to predict")
        if header.deadline_s is not None and time.monotonic() >= header.deadline_s:
            return frames.encode_expired(header.id)
        # Some estimators want arrays that could be written to.
        batch = frames.decode_batch(header, bytearray(body) if body.readonly else body)
        try:
            answer = frames.encode_answer(header.id, self._model.predict(batch, header.params))
            frames.check_bounds(answer, self._frame_bytes_max)
        except BadInput as error:
            return frames.encode_failure(header.id, error.message, callers_fault=True)
        except frames.FrameTooLarge as error:
            return frames.encode_failure(header.id, f"The model's answer is too large: {error}.", callers_fault=False)
        except Exception as error:  # The model's own code ran: anything may have come of it.
            _log.exception("predict_failed")
            return frames.encode_failure(header.id, _described(error), callers_fault=False)
        return answer


def _described(error: Exception, restraints: Restraints | None = None) -> str:
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # The model's own exception, whose text is code of the model's too.
        text = type(error).__name__
    if isinstance(error, MemoryError) and restraints is not None and restraints.memory_bytes_max:
        most = host_limits.human(restraints.memory_bytes_max)
        return f"{text} (a model's process may hold {most}, TITLEBOUT_HOST_MEMORY_BYTES_MAX)"
    return text


def _send(connection: socket.socket, frame: list[bytes | memoryview]) -> None:
    if sum(map(len, frame)) <= _JOINED_BYTES_MAX:
        connection.sendall(b"".join(frame))
        return
    for buffer in frame:
        connection.sendall(buffer)
