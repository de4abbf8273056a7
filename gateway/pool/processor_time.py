"""What a model's host has spent of the processors, to the nanosecond, at the instant of asking.

From the clock that the kernel keeps for each process: /proc counts in hundredths of a second, which is too coarse for
what a few hundred predictions take.
"""

import contextlib
import socket
import struct
import time

from gateway.pool.host_limits import family

_CREDENTIALS = struct.Struct("3i")
# clock_getcpuclockid(3): the number of a process's clock is made of its id, and says that the scheduler keeps it.
_BITS_OF_KIND, _KEPT_BY_SCHEDULER = 3, 2


def processor_s(pid: int) -> float:
    """Processor seconds of *pid*, all its threads, and the processes below it; of those that are gone nothing."""
    spent = 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):
            spent += time.clock_gettime(~member << _BITS_OF_KIND | _KEPT_BY_SCHEDULER)
    return spent


def peer_pid(connected: socket.socket) -> int:
    """Who listens at the other end of a Unix socket, by the kernel's word."""
    pid: int = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return pid
