"""Finds an engine for an estimator and proves it, in a child process with a time limit, and keeps what came of it.

A child, because converters crash, take minutes over large forests, and leave tens of MB behind. What it writes is read
by the host that started it and by later hosts of the same version on this machine; no other version's can write there.
"""

import contextlib
import hashlib
import logging
import os
import select
import signal
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from loaders.acceleration import candidates, engines
from loaders.acceleration.candidates import NotConvertible
from loaders.acceleration.engines import EngineName
from loaders.acceleration.predictor import VALUE_MAX, Proven
from loaders.acceleration.proof import Disproved, prove

_log = logging.getLogger(__name__)

_OUTCOME_FILE = "outcome.json"
_FORMAT = 1
"""Raised when what is written, or how it is proven, changes: what older programs kept is then made anew."""


class KeptModelChanged(Exception):
    """Bytes on disk that aren't those that were written."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of looking for an engine."""

    key: dict[str, str]
    """All that the outcome depends on beside the model's files."""
    engine: EngineName | None = None
    proven: Proven | None = None
    sha256: str = ""
    reason: str = ""
    """For people: why it is the estimator's own predict, or why not an engine that was tried before."""


def prepare(estimator: Any, predict_fn: str, example: np.ndarray | None, folder: Path, timeout_s: float) -> Outcome:
    """The outcome for *estimator*: the one kept in *folder*, else what a child finds within *timeout_s*."""
    key = _key(predict_fn)
    kept = _read(folder)
    if kept is not None and kept.key == key:
        return kept
    failure = _in_child(lambda: _search(estimator, predict_fn, example, folder, key), timeout_s)
    found = None if failure else _read(folder)
    return found or Outcome(key=key, reason=failure or "the process that looks for one left nothing behind")


def content(outcome: Outcome, folder: Path) -> bytes:
    """The converted model.

    Raises:
        KeptModelChanged: if it isn't the one that was proven any more.
    """
    data = (folder / str(outcome.engine)).read_bytes()
    if hashlib.sha256(data).hexdigest() != outcome.sha256:
        raise KeptModelChanged("the converted model that was kept has changed")
    return data


def forget(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / _OUTCOME_FILE).unlink()


def _key(predict_fn: str) -> dict[str, str]:
    return {
        **engines.versions(),
        "machine": os.uname().machine,
        "threads": str(engines.threads()),
        "predict_fn": predict_fn,
        "format": str(_FORMAT),
    }


def _read(folder: Path) -> Outcome | None:
    try:
        return msgspec.json.decode((folder / _OUTCOME_FILE).read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return None


def _search(estimator: Any, predict_fn: str, example: np.ndarray | None, folder: Path, key: dict[str, str]) -> None:
    reasons = []
    for name in EngineName:
        if not engines.is_installed(name):
            reasons.append(f"{name} isn't installed ({engines.INSTALL})")
            continue
        try:
            data = engines.convert(name, estimator, int(estimator.n_features_in_))
            proven = prove(estimator, predict_fn, engines.start(name, data), example)
        except (NotConvertible, Disproved) as error:
            reasons.append(f"{name}: {error}")
        except Exception as error:  # A converter or an engine that fails, in whatever way, isn't used.
            reasons.append(f"{name}: {type(error).__name__} {error}".splitlines()[0])
        else:
            _write(folder / name, data)
            digest = hashlib.sha256(data).hexdigest()
            outcome = Outcome(key=key, engine=name, proven=proven, sha256=digest, reason="; ".join(reasons))
            _write(folder / _OUTCOME_FILE, msgspec.json.encode(outcome))
            return
    _write(folder / _OUTCOME_FILE, msgspec.json.encode(Outcome(key=key, reason="; ".join(reasons))))


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def _in_child(work: Any, timeout_s: float) -> str | None:
    """Run *work* in a fork of this process; None if it went well, else what became of it."""
    reading, writing = os.pipe()
    try:
        with warnings.catch_warnings():
            # Python warns of threads that a fork leaves behind; the child uses none of them.
            warnings.simplefilter("ignore")
            pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return f"no process could be started to look for one ({error.strerror})"
    if pid == 0:
        _be_child(work, writing, timeout_s)
    os.close(writing)
    with os.fdopen(reading):
        # The child's end closes when it is gone, however that comes.
        ended, _, _ = select.select([reading], [], [], timeout_s)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if not ended:
        return f"it took more than {timeout_s:g} s to convert and prove"
    return None if status == 0 else f"converting ended its process ({_described(status)})"


def _described(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.waitstatus_to_exitcode(status)}"


def _be_child(work: Any, writing: int, timeout_s: float) -> None:
    status = 1
    try:
        # If the host dies first, nobody else would end this.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)
        # The host's sockets are not for us to keep open.
        os.closerange(3, writing)
        os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
        with warnings.catch_warnings(), threadpool_limits(1):
            # One thread: OpenMP's others don't outlive a fork, and one that waits for them would wait for ever.
            warnings.simplefilter("ignore")
            work()
        status = 0
    except BaseException:
        _log.exception("acceleration_failed")
    finally:
        os._exit(status)


def check_range(estimator: Any) -> None:
    """Return if no value within `VALUE_MAX` is scaled beyond float32, at which trees refuse a row.

    Raises:
        NotConvertible: if one is.
    """
    scalers, _ = candidates.split_pipeline(estimator)
    if scalers is None:
        return
    ends = np.full((1, int(estimator.n_features_in_)), VALUE_MAX)
    if not np.abs(scalers.transform(np.vstack([ends, -ends]))).max() < np.finfo(np.float32).max:
        raise NotConvertible("its scalers have a scale of almost nothing")
