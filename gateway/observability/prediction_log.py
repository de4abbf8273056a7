"""One log line for each prediction, written apart from all others because there are so many.

A line of the standard library's logging costs a prediction 20 µs or more. Here it is encoded into a buffer, which a
thread writes a few times a second. Where nobody takes them, lines are dropped and counted: neither memory nor the
answer to a caller may depend on whoever reads the log.
"""

import asyncio
import os
import select
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec import UNSET, UnsetType

from gateway.observability.metrics import Number
from gateway.routing_table import Choice

PREDICTED, REFUSED = "predicted", "prediction_refused"
_INTERVAL_S = 0.2
_BUFFER_BYTES_MAX = 4 * 1024**2
PREDICTION_LOGGER = "gateway.api.scoring.walk"
"""The logger whose level decides about these lines, and whose name they bear."""
# So much is written to a pipe in one piece, whoever else writes to it.
_PIECE_BYTES_MAX = select.PIPE_BUF


class PredictionLine(msgspec.Struct):
    """One prediction; its fields in the order in which they are written."""

    time: str
    level: str
    event: str
    logger: str
    request_id: str
    protocol: str
    status: int
    rows: int
    took_ms: float
    endpoint: str | UnsetType = UNSET
    arm: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    bucket: int | UnsetType = UNSET
    """What gave the request to its arm; unset where the caller named the arm. It names no unit."""
    fallback_from: str | UnsetType = UNSET
    """The arm whose bucket it is, where that failed and the champion answered."""


class PredictionLog:
    """Lines on their way to the file descriptor *output*. Used on one event loop."""

    def __init__(self, output: int, *, as_text: bool, dropped: Number, bytes_max: int = _BUFFER_BYTES_MAX) -> None:
        self._output = output
        self._append = self._append_text if as_text else self._append_json
        self._encoder = msgspec.json.Encoder()
        self._dropped = dropped
        self._bytes_max = bytes_max
        self._lines = bytearray()
        self._second = -1
        self._second_text = ""
        self._timer: asyncio.TimerHandle | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="prediction-log")
        self._writing: asyncio.Future[None] | None = None

    def predicted(
        self,
        choice: Choice | None,
        bucket: int | None = None,
        fallback_from: str | None = None,
        *,
        request_id: str,
        protocol: str,
        status: int,
        rows: int,
        took_s: float,
    ) -> None:
        """Note one answer; *choice* is None if the request never got as far as an endpoint."""
        if len(self._lines) >= self._bytes_max:
            self._dropped.add()
            return
        line = PredictionLine(
            self._now(),
            "INFO",
            PREDICTED if status < 400 else REFUSED,
            PREDICTION_LOGGER,
            request_id,
            protocol,
            status,
            rows,
            round(took_s * 1000, 3),
        )
        if choice is not None:
            line.endpoint, line.arm, line.model = choice.endpoint, choice.arm, choice.model
            line.version, line.epoch = choice.version, choice.epoch
        if bucket is not None:
            line.bucket = bucket
        if fallback_from is not None:
            line.fallback_from = fallback_from
        self._append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._hand_over)

    def close(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
        self._writer.shutdown()
        self._write(bytes(self._lines))
        self._lines.clear()

    def _now(self) -> str:
        now_s = time.time()
        second = int(now_s)
        if second != self._second:
            self._second, self._second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int(now_s % 1 * 1000):03d}Z"

    def _append_json(self, line: PredictionLine) -> None:
        self._encoder.encode_into(line, self._lines, -1)
        self._lines += b"\n"

    def _append_text(self, line: PredictionLine) -> None:
        fields = msgspec.structs.asdict(line)
        local = time.strftime("%H:%M:%S", time.localtime())
        said = " ".join(f"{name}={fields[name]}" for name in list(fields)[4:] if fields[name] is not UNSET)
        self._lines += f"{local} {line.level:7} {line.event} {said}\n".encode(errors="backslashreplace")

    def _hand_over(self) -> None:
        """Have the thread write what has gathered, unless it is still at what it got before."""
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._writing is None or self._writing.done():
            lines, self._lines = bytes(self._lines), bytearray()
            self._writing = loop.run_in_executor(self._writer, self._write, lines)
        else:
            self._timer = loop.call_later(_INTERVAL_S, self._hand_over)

    def _write(self, lines: bytes) -> None:
        """Write whole lines, in pieces that no other process's lines can come in between."""
        begin = 0
        while begin < len(lines):
            end = begin + _PIECE_BYTES_MAX
            if end < len(lines):
                # A line that is longer than a piece goes as it is.
                end = lines.rfind(b"\n", begin, end) + 1 or lines.find(b"\n", begin) + 1
            self._write_piece(lines[begin:end])
            begin = end

    def _write_piece(self, piece: bytes) -> None:
        while piece:
            try:
                piece = piece[os.write(self._output, piece) :]
            except BlockingIOError:
                # Somebody made the other end of our standard error unwilling to wait.
                select.select([], [self._output], [])
            except OSError:
                # Nobody is there to read it, and nobody to be told.
                return
