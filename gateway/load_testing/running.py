"""The process that makes the load, from outside: started, followed, ended."""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator

import msgspec

from gateway.load_testing.plan import FromLoad, Impossible, Moment, Plan, Seen
from tracking.errors import ErrorCode, ServingError

_END_TIMEOUT_S = 10.0
_LAST_WORDS = 2_000


class CannotRun(ServingError):
    """A load test that came to nothing, with the reason."""

    code = ErrorCode.INVALID_STATE


def run(plan: Plan) -> Generator[Moment | Seen]:
    """Put *plan* to work: how it goes, a few times a second, and what was seen at the end.

    Raises:
        CannotRun: if Locust isn't installed, or the process ends without having seen anything.
    """
    if importlib.util.find_spec("locust") is None:
        raise CannotRun("Locust, which makes the load, isn't installed: pip install 'titlebout[loadtest]'.")
    # Its errors go to a file, since nobody reads them before the end, and a pipe that is full would hold it up.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.load_testing.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            for said in _follow(process, plan):
                yield said
                if isinstance(said, Seen):
                    return
            errors.seek(0)
            last_words = errors.read().decode(errors="replace")[-_LAST_WORDS:]
            raise CannotRun(f"The process that makes the load ended. The end of what it said:\n{last_words}")
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _follow(process: subprocess.Popen[bytes], plan: Plan) -> Iterator[Moment | Seen]:
    assert process.stdin is not None  # noqa: S101  (both are pipes; for the type checker)
    assert process.stdout is not None  # noqa: S101
    decoder = msgspec.json.Decoder(FromLoad)
    # The token in it is for nobody else to see, so it goes this way and not as an argument; and nowhere, where the
    # process has ended already.
    with contextlib.suppress(BrokenPipeError), process.stdin as told:
        told.write(msgspec.json.encode(plan))
    process.stdin = None
    for line in process.stdout:
        said = decoder.decode(line)
        if isinstance(said, Impossible):
            raise CannotRun(f"The load test could not run: {said.reason}")
        yield said
