"""The process that makes the load, from outside: started, followed, ended."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from gateway.load_testing.plan import FromLoad, Impossible, Moment, Plan, Seen
from tracking.errors import ErrorCode, ServingError

_END_TIMEOUT_S = 10.0
_LAST_WORDS = 2_000


class CannotRun(ServingError):
    """A load test that came to nothing, with the reason."""

    code = ErrorCode.INVALID_STATE


def run(plan: Plan) -> Iterator[Moment | Seen]:
    """Put *plan* to work: how it goes, a few times a second, and what was seen at the end.

    Raises:
        CannotRun: if Locust isn't installed, or the process ends without having seen anything.
    """
    if importlib.util.find_spec("locust") is None:
        raise CannotRun("Locust, which makes the load, isn't installed: pip install 'titlebout[loadtest]'.")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.load_testing.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield from _follow(process, plan)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _follow(process: subprocess.Popen[bytes], plan: Plan) -> Iterator[Moment | Seen]:
    assert process.stdin is not None  # noqa: S101  (all three are pipes; for the type checker)
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    decoder = msgspec.json.Decoder(FromLoad)
    # The token in it is for nobody else to see, so it goes this way and not as an argument.
    process.stdin.write(msgspec.json.encode(plan))
    process.stdin.close()
    process.stdin = None
    for line in process.stdout:
        said = decoder.decode(line)
        if isinstance(said, Impossible):
            raise CannotRun(f"The load test could not run: {said.reason}")
        yield said
        if isinstance(said, Seen):
            return
    last_words = process.stderr.read().decode(errors="replace")[-_LAST_WORDS:]
    raise CannotRun(f"The process that makes the load ended. The end of what it said:\n{last_words}")
