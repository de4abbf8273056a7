"""Logs. Events have fixed names and carry their facts as fields; payloads are never logged."""

import json
import logging
import sys
import time
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import msgspec

# What a LogRecord has by itself; everything else on it came through `extra`.
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


REQUEST_ID: ContextVar[str] = ContextVar("request_id")
"""The id of the request being answered, which every line logged on its way carries."""


PROCESS_FIELDS: dict[str, Any] = {}
"""What every line of this process carries: in a host, the version that it holds."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, logger, then the fields."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = msgspec.json.Encoder(enc_hook=str)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self._time(record.created),
            "level": record.levelname,
            "event": record.getMessage(),
            "logger": record.name,
        }
        line.update(_fields(record))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return self._encoder.encode(line).decode()
        except UnicodeEncodeError:
            # Half a surrogate pair in what a model or a caller said: escaped, rather than the line lost.
            return json.dumps(line, default=str)

    @staticmethod
    def _time(created: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created)) + f".{int(created % 1 * 1000):03d}Z"


class TextFormatter(logging.Formatter):
    """For people: time, level, event, ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record))
        first, *traceback = super().format(record).split("\n")
        return "\n".join([f"{first} {fields}".rstrip(), *traceback])


def _fields(record: logging.LogRecord) -> Iterable[tuple[str, Any]]:
    request_id = REQUEST_ID.get(None)
    if request_id is not None:
        yield "request_id", request_id
    yield from PROCESS_FIELDS.items()
    yield from ((name, value) for name, value in vars(record).items() if name not in _OWN_FIELDS)


def configure_logging(level: str, log_format: str) -> None:
    """Send everything to standard error in one format; standard output belongs to the command line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if log_format == "text" else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn's own lines say nothing that ours don't; its errors still come through.
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "httpx", "botocore", "boto3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
