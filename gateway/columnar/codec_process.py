"""The codec: reads and writes tables for one worker, one after the other, until the worker's line closes."""

import ctypes
import resource
import signal
import socket
import sys

from gateway.columnar.messages import HEAD, Outcome, Task
from gateway.pool import frames
from gateway.pool.confinement.confine import confine
from gateway.pool.host_limits import spare_others
from gateway.settings import Confinement
from loaders.arrow.parquet import read_parquet
from loaders.arrow.streams import read_stream, write_stream
from loaders.base import Batch
from loaders.errors import BadInput, DecodedTooLarge
from loaders.payload import Arrays
from tracking.errors import ServingError

_PR_SET_PDEATHSIG = 1
# The body, what its pages or buffers are decompressed to, the arrays, and the frame they are sent in.
_COPIES = 4

Content = list[bytes | memoryview]


def serve(line: socket.socket, decoded_bytes_max: int) -> None:
    """Do what comes on *line*, until it closes."""
    while (asked := _receive(line)) is not None:
        outcome, content = _outcome_of(*asked, decoded_bytes_max)
        line.sendall(HEAD.pack(outcome.value, sum(len(part) for part in content)))
        for part in content:
            line.sendall(part)


def _outcome_of(task: Task, content: bytes, decoded_bytes_max: int) -> tuple[Outcome, Content]:
    try:
        match task:
            case Task.READ_STREAM:
                return Outcome.DONE, _framed(read_stream(content, decoded_bytes_max), decoded_bytes_max)
            case Task.READ_PARQUET:
                return Outcome.DONE, _framed(read_parquet(content, decoded_bytes_max), decoded_bytes_max)
            case Task.WRITE_STREAM:
                return Outcome.DONE, [write_stream(_unframed(content).columns)]
    except DecodedTooLarge as error:
        return Outcome.TOO_LARGE, [error.message.encode()]
    except frames.FrameTooLarge as error:
        return Outcome.TOO_LARGE, [f"The table is too large: {error}. Send fewer rows at a time.".encode()]
    except BadInput as error:
        return Outcome.BAD_INPUT, [error.message.encode()]
    except MemoryError:
        return Outcome.TOO_LARGE, [_too_much(decoded_bytes_max).message.encode()]


def _framed(arrays: Arrays, bytes_max: int) -> Content:
    frame = frames.encode_answer(0, Batch(arrays.form, dict(arrays.by_name)))
    frames.check_bounds(frame, bytes_max)
    return frame


def _unframed(content: bytes) -> Batch:
    header, body = frames.read_frame(content)
    if not isinstance(header, frames.AnswerHeader):
        raise frames.BrokenFrame("a codec is only sent columns")
    return frames.decode_batch(header, body)


def _too_much(decoded_bytes_max: int) -> ServingError:
    return DecodedTooLarge(_COPIES * decoded_bytes_max, decoded_bytes_max)


def _receive(line: socket.socket) -> tuple[Task, bytes] | None:
    head = _read_exactly(line, HEAD.size)
    if head is None:
        return None
    letter, length = HEAD.unpack(head)
    content = _read_exactly(line, length)
    return None if content is None else (Task(letter), bytes(content))


def _read_exactly(line: socket.socket, length: int) -> bytearray | None:
    """None if the line closes before that."""
    data = bytearray(length)
    read = 0
    while read < length:
        count = line.recv_into(memoryview(data)[read:])
        if not count:
            return None
        read += count
    return data


def _limit_memory(bytes_max: int) -> None:
    """Let the process take *bytes_max* more than it has now; over it, what asks for memory gets a MemoryError."""
    with open("/proc/self/status") as status:  # noqa: PTH123  (a pseudo-file, not a path of ours)
        held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + bytes_max, held + bytes_max))


def main() -> None:
    """Serve ``python -m gateway.columnar.codec_process LINE_FD DECODED_BYTES_MAX CONFINEMENT HIDDEN_PATH…``."""
    line_fd, decoded_bytes_max = (int(argument) for argument in sys.argv[1:3])
    # Ctrl-C goes to all processes of a terminal; this one ends with its worker, whatever it is at, and not before.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _limit_memory(_COPIES * decoded_bytes_max)
    spare_others()
    # What it reads comes from anybody, and is read by a library in C++: it may do no more than that.
    confine(Confinement(sys.argv[3]), own=[], readable=[], hidden=sys.argv[4:])
    with socket.socket(fileno=line_fd) as line:
        serve(line, decoded_bytes_max)


if __name__ == "__main__":
    main()
