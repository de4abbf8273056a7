"""Load by wrk, a program of Debian's: the script that it runs, and what it found.

What it counts as an error is a status over 399, a connection that fails, and an answer that takes longer than its
time-out. Its percentiles are corrected by itself for what a slow answer kept it from asking meanwhile.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

_PREFIX = "titlebout-bench "
# Longer than any round, so that a slow answer counts as slow.
_ANSWER_TIMEOUT_S = 60
_GRACE_S = 60

# Requests are made before the clock runs. Numbers are whole, as wrk gives them.
_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
{headers}local bodies = {{
{bodies}
}}
local requests, place = {{}}, 0

function init(args)
  for number, body in ipairs(bodies) do
    requests[number] = wrk.format(nil, nil, nil, body)
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{prefix}{{"duration_us":%d,"requests":%d,"p50_us":%d,"p99_us":%d,"errors":%d}}\\n',
    summary.duration, summary.requests, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
"""


_PAUSES = """
function delay()
  return math.random(0, {longest_ms})
end
"""


class Found(msgspec.Struct, frozen=True):
    """What wrk saw in one round."""

    duration_us: int
    requests: int
    p50_us: int
    p99_us: int
    errors: int


class WrkFailed(RuntimeError):
    """wrk isn't there, or ended without a result; the message has its last words."""


def write_script(
    file: Path, bodies: Sequence[bytes], headers: Mapping[str, str] = MappingProxyType({}), *, pause_ms: int = 0
) -> None:
    """A script that POSTs *bodies*, JSON each, with *headers*, one after the other and over again.

    Each connection waits before each request, *pause_ms* on average, evenly from nothing to twice that.
    """
    more = "".join(f"wrk.headers[{name!r}] = {value!r}\n" for name, value in headers.items())
    # JSON of ours has no "]==]" in it, and so stands as it is.
    quoted = ",\n".join(f"[==[{body.decode()}]==]" for body in bodies)
    pauses = _PAUSES.format(longest_ms=2 * pause_ms) if pause_ms else ""
    file.write_text(_SCRIPT.format(bodies=quoted, headers=more, prefix=_PREFIX) + pauses)


def drive(url: str, script: Path, *, connections: int, duration_s: int) -> Found:
    """Keep *connections* busy with *script*'s requests to *url*.

    Raises:
        WrkFailed: if there is no result.
    """
    command = [
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{duration_s}s"),
        *("--timeout", f"{_ANSWER_TIMEOUT_S}s", "--script", str(script), url),
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=duration_s + _GRACE_S, check=False)
    except FileNotFoundError:
        raise WrkFailed("wrk isn't installed; Debian's package of that name has it: apt-get install wrk") from None
    if ended.returncode:
        raise WrkFailed(f"wrk ended with {ended.returncode}: {ended.stderr[-500:]}")
    return parse(ended.stdout)


def parse(output: str) -> Found:
    """The result in what wrk printed.

    Raises:
        WrkFailed: if there is none.
    """
    for line in output.splitlines():
        if line.startswith(_PREFIX):
            return msgspec.json.decode(line.removeprefix(_PREFIX), type=Found)
    raise WrkFailed(f"wrk printed no result: {output[-500:]}")
