"""A warm parent: a process that has one flavor's libraries imported, and forks a model host whenever it is told to.

Started with a clean environment when its flavor is first needed. Importing scikit-learn takes a second or more, torch
and transformers several; a forked host has them at once and shares their memory.
"""

import contextlib
import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import msgspec

from gateway.observability.logs import configure_logging
from gateway.pool import model_host, scheduling
from gateway.pool.messages import Ended, Fork, encode_line
from loaders import catalog
from tracking.errors import ServingError

_SPAWN_BYTES_MAX = 64 * 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Longer than workers take to finish, unless TITLEBOUT_DRAIN_TIMEOUT_S gives them much more than it does by itself.
_LEFT_ALONE_MAX_S = 60.0


def main() -> None:
    """Serve ``python -m gateway.pool.warm_parent FLAVOR LINE_FD LOG_LEVEL LOG_FORMAT``."""
    flavor, line_fd, log_level, log_format = sys.argv[1:]
    configure_logging(log_level, log_format)
    # Signals often go to the whole group (Ctrl-C, timeout(1)); the supervisor decides when hosts stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    line = socket.socket(fileno=int(line_fd))
    # A library that is missing is said by each load, in the words for people; here there is nobody to say it to.
    with scheduling.giving_way(), contextlib.suppress(ServingError):
        catalog.preload(catalog.Flavor(flavor))
    # What is in memory now is shared with every host; keep the collector from touching, and so copying, it.
    gc.freeze()
    _WarmParent(line).run()


class _WarmParent:
    """Forks hosts, and buries them: what a host started ends with it, and the supervisor hears how it ended."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        # By pid, each host's line to the supervisor, kept for the last word on it.
        self._hosts: dict[int, socket.socket] = {}
        # The kernel's word that a host has ended.
        self._woken, self._waker = os.pipe()

    def run(self) -> None:
        """Until the supervisor closes its line."""
        _adopt_orphans()
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            ready, _, _ = select.select([self._line.fileno(), self._woken], [], [])
            if self._woken in ready:
                self._bury()
            if self._line.fileno() in ready and not self._heed():
                break
        self._see_off()

    def _see_off(self) -> None:
        """Without a supervisor, hosts end when the last worker has left them; those that hang, here."""
        give_up_s = time.monotonic() + _LEFT_ALONE_MAX_S
        while self._hosts and (left_s := give_up_s - time.monotonic()) > 0:
            if select.select([self._woken], [], [], left_s)[0]:
                self._bury()
        for pid in self._hosts:
            _end_group(pid)

    def _heed(self) -> bool:
        """Fork what is asked for; False if the line is closed."""
        message, descriptors, _, _ = socket.recv_fds(self._line, _SPAWN_BYTES_MAX, 1)
        if not message:
            return False
        host_line = socket.socket(fileno=descriptors[0])
        pid = os.fork()
        if pid == 0:
            self._leave_family()
            _become_host(msgspec.json.decode(message, type=Fork), host_line)
        self._hosts[pid] = host_line
        return True

    def _leave_family(self) -> None:
        """Close, in a child, what belongs to the parent and to other hosts: a model's code must find none of it."""
        signal.set_wakeup_fd(-1)
        for line in (self._line, *self._hosts.values()):
            line.close()
        for descriptor in (self._woken, self._waker):
            os.close(descriptor)

    def _bury(self) -> None:
        """Of each host that has ended: end what it started, and say how it ended."""
        os.read(self._woken, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # For as long as somebody is left in its group, the number isn't given to anybody else.
            _end_group(pid)
            line = self._hosts.pop(pid, None)
            self._end_orphans()
            if line is not None:
                with line, contextlib.suppress(OSError):
                    line.send(encode_line(Ended(os.waitstatus_to_exitcode(status))), socket.MSG_DONTWAIT)

    def _end_orphans(self) -> None:
        """End what an ended host started in a group of its own, which is our child now, and then what that started."""
        for children in Path("/proc/self/task").glob("*/children"):
            for pid in map(int, children.read_text().split()):
                if pid not in self._hosts:
                    os.kill(pid, signal.SIGKILL)


def _adopt_orphans() -> None:
    # Elsewhere than on Linux they become somebody else's children, and outlive their host.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _become_host(fork: Fork, line: socket.socket) -> None:
    """Run a host in this fresh child and end; nothing of the parent's loop may go on in it."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A group of its own, by which all that it starts can be ended with it.
        os.setpgid(0, 0)
        _die_with_parent()
        model_host.run(fork, line)
        status = 0
    except BrokenPipeError:
        # The supervisor went while the model was loading: nobody is there to be told.
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        os._exit(status)


def _die_with_parent() -> None:
    # On Linux the kernel ends the host if the warm parent is killed; elsewhere the closed line does, a moment later.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
