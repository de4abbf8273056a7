"""A warm parent: a process that has one flavor's libraries imported, and forks a model host whenever it is told to.

Started with a clean environment when its flavor is first needed. Importing scikit-learn takes a second or more, torch
and transformers several; a forked host has them at once and shares their memory.
"""

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import traceback

import msgspec

from gateway.observability import configure_logging
from gateway.pool import model_host
from gateway.pool.messages import Spawn
from loaders import catalog
from tracking.errors import ServingError

_SPAWN_BYTES_MAX = 64 * 1024
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve ``python -m gateway.pool.warm_parent FLAVOR LINE_FD LOG_LEVEL LOG_FORMAT``."""
    flavor, line_fd, log_level, log_format = sys.argv[1:]
    configure_logging(log_level, log_format)
    # Signals often go to the whole group (Ctrl-C, timeout(1)); the supervisor decides when hosts stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Ended hosts are nobody's news here: each has its own line to the supervisor. This keeps them from piling up.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    line = socket.socket(fileno=int(line_fd))
    # A library that is missing is said by each load, in the words for people; here there is nobody to say it to.
    with contextlib.suppress(ServingError):
        catalog.preload(catalog.Flavor(flavor))
    # What is in memory now is shared with every host; keep the collector from touching, and so copying, it.
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(line, _SPAWN_BYTES_MAX, 1)
        if not message:
            return
        host_line = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            line.close()
            _become_host(msgspec.json.decode(message, type=Spawn), host_line)
        host_line.close()


def _become_host(spawn: Spawn, line: socket.socket) -> None:
    """Run a host in this fresh child and end; nothing of the parent's loop may go on in it."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with_parent()
        model_host.run(spawn, line)
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
