"""What the supervisor makes of what a host says, and of how it ends."""

import asyncio
import contextlib
import os
import signal
import socket

import pytest

from gateway.pool.hosts import HostForged, HostProcess, HostStuck, LoadFailed
from gateway.pool.messages import Ended, Failed, Loading, ModelDescription, Ready, Warming, encode_line, open_line
from gateway.pool.version_policy import SlotState

READY = Ready(ModelDescription(flavor="sklearn", predictor="sklearn", batchable=True, mlmodel=""))


def child():
    """A process that does nothing. Never name any other to a HostProcess: it signals whom it is told."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    return pid


@contextlib.asynccontextmanager
async def host(*said, scratch=None):
    """A host that has said that it is loading, and all this, and whose line is closed."""
    # Before there is a line, whose end it would keep open.
    pid = child()
    ours, theirs = socket.socketpair()
    process = HostProcess(*await open_line(ours), scratch=scratch)
    with theirs:
        for message in (Loading(pid), *said):
            theirs.sendall(message if isinstance(message, bytes) else encode_line(message))
    try:
        yield process
    finally:
        await process.stop(1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # noqa: ASYNC222  (it was killed, and is gone at once)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param([Failed("No such feature.")], "No such feature.", id="its own reason"),
        pytest.param([Ended(3)], "ended by itself with status 3", id="it exited"),
        pytest.param([Ended(-signal.SIGSEGV)], "ended by SIGSEGV", id="it crashed"),
        pytest.param([Warming(), Ended(-signal.SIGKILL)], "memory runs out", id="it was killed"),
        pytest.param([], "ended unexpectedly", id="with its parent"),
        pytest.param([b"give me more\n"], "what none of ours says", id="it said something else"),
        pytest.param([b'{"type":"Failed","reason":"\xff"}\n'], "what none of ours says", id="it said what is no text"),
        pytest.param([b"[" * 100_000 + b"\n"], "what none of ours says", id="it said it a thousand times over"),
        pytest.param([b'{"type":"Ready"}\n'], "what none of ours says", id="it said half of it"),
    ],
)
def test_a_load_that_fails_has_a_reason(said, reason):
    async def load():
        async with host(*said) as process:
            await process.until_ready(lambda _: None)

    with pytest.raises(LoadFailed, match=reason):
        asyncio.run(load())


def test_each_state_is_told_and_the_end_of_a_host_that_served_has_its_reason():
    async def live():
        states = []
        async with host(Warming(), READY, Ended(-signal.SIGABRT)) as process:
            assert await process.until_ready(states.append) == READY.description
            return states, (await process.ended()).message

    states, why = asyncio.run(live())
    assert states == [SlotState.LOADING, SlotState.WARMING]
    assert "SIGABRT" in why


@pytest.mark.parametrize("why", [HostStuck(60), HostForged()])
def test_what_a_host_is_ended_for_is_remembered_over_how_it_ended(why):
    async def live():
        async with host(READY, Ended(-signal.SIGKILL)) as process:
            await process.until_ready(lambda _: None)
            process.kill(why)
            return await process.ended()

    assert asyncio.run(live()) is why


def test_a_host_that_goes_on_talking_once_it_is_ready_is_ended():
    async def live():
        async with host(READY, Warming(), Warming()) as process:
            await process.until_ready(lambda _: None)
            return await process.ended()

    assert isinstance(asyncio.run(live()), HostForged)


def test_a_host_that_says_it_is_another_process_is_ended_and_the_other_is_not():
    other = child()

    async def live():
        async with host(Loading(other), READY) as process:
            await process.until_ready(lambda _: None)
            return process.pid, await process.ended()

    pid, why = asyncio.run(live())
    assert pid != other
    assert isinstance(why, HostForged)
    assert os.waitpid(other, os.WNOHANG) == (0, 0)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)


def test_a_hosts_scratch_folder_goes_with_it(tmp_path):
    scratch = tmp_path / "host-1"
    scratch.mkdir()
    (scratch / "left").write_text("x")

    async def live():
        async with host(READY, scratch=scratch) as process:
            await process.until_ready(lambda _: None)

    asyncio.run(live())
    assert not scratch.exists()
