"""What a process spends is seen from outside, with what it started, and to far less than a hundredth of a second."""

import os
import socket
import subprocess
import sys
import time

import pytest

from gateway.pool.processor_time import peer_pid, processor_s
from tests.gateway.pool.children import in_child

SPIN = """
import sys, time, os
children = [os.fork()] if {forks} else []
if children and children[0] == 0:
    children = None
ends = time.process_time() + 0.1
while time.process_time() < ends:
    pass
if children is None:
    time.sleep(60)
print("spent", flush=True)
sys.stdin.read()
for child in children:
    os.kill(child, 9)
"""


@pytest.mark.parametrize("forks", [False, True], ids=["by itself", "with a child"])
def test_what_a_process_and_its_children_spent_is_counted(forks):
    process = subprocess.Popen(
        [sys.executable, "-SE", "-c", SPIN.format(forks=forks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"spent\n"
    deadline = time.monotonic() + 60
    while processor_s(process.pid) < (0.2 if forks else 0.1):
        assert time.monotonic() < deadline, "the child's part is never counted"
    process.communicate()
    assert processor_s(process.pid) == 0.0


def test_it_is_as_fine_as_the_processs_own_clock():
    def look_twice():
        before_s = time.process_time()
        seen_s = processor_s(os.getpid())
        return before_s <= seen_s <= time.process_time()

    # In a process that has started no others: a test before this one may have left a database here.
    assert in_child(look_twice) is True


def test_who_listens_at_a_socket_is_known_by_the_kernels_word(tmp_path):
    def listen_and_look():
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            caller.connect(str(tmp_path / "s"))
            return peer_pid(caller) == os.getpid()

    assert in_child(listen_and_look) is True
