"""A model host: the process that holds one version, and does nothing but load it, warm it up and answer.

It is forked from a warm parent that has the flavor's libraries imported. It knows a folder, a socket to listen on and a
line to the supervisor: no database, no store, no secret. When that line closes, it ends.
"""

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.pool import frames
from gateway.pool.messages import Failed, FromHost, Loading, ModelDescription, Ready, Spawn, Warming, encode_line
from loaders import catalog, warmup
from loaders.acceleration.wish import AccelerationWish
from loaders.base import LoadedModel
from loaders.code_policy import CodePolicy
from loaders.errors import BadInput
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


def run(spawn: Spawn, supervisor: socket.socket) -> None:
    """Load, warm up, listen, answer, until the supervisor's line closes."""

    def tell(message: FromHost) -> None:
        supervisor.sendall(encode_line(message))

    tell(Loading(os.getpid()))
    try:
        model, description = _load(spawn, tell)
    except ServingError as error:
        tell(Failed(error.message))
        return
    except Exception as error:  # The model's own code ran: anything may have come of it.
        _log.exception("model_load_failed")
        tell(Failed(_described(error)))
        return
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(spawn.socket)
    listener.listen(_BACKLOG)
    tell(Ready(description))
    _Answering(model, listener, supervisor, spawn.frame_bytes_max).run()


def _load(spawn: Spawn, tell: Callable[[FromHost], None]) -> tuple[LoadedModel, ModelDescription]:
    folder = Path(spawn.model_dir)
    model = catalog.load(
        folder, CodePolicy(spawn.code_policy), verified=spawn.verified, acceleration=_acceleration(spawn)
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
        warnings=list(getattr(model, "warnings", [])),
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
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._supervisor, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._supervisor:
                    # The supervisor never writes on this line. Readable means closed: stop, or it is gone.
                    return
                if key.fileobj is self._listener:
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


def _described(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # The model's own exception, whose text is code of the model's too.
        return type(error).__name__


def _send(connection: socket.socket, frame: list[bytes | memoryview]) -> None:
    if sum(map(len, frame)) <= _JOINED_BYTES_MAX:
        connection.sendall(b"".join(frame))
        return
    for buffer in frame:
        connection.sendall(buffer)
