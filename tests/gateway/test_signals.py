"""SIGTERM stops, SIGINT stops quickly, SIGHUP replaces workers, unless it was the terminal that went."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import textwrap

import pytest

from gateway.signals import Signals

# What a terminal's program does until it is asked for something.
AT_A_TERMINAL = textwrap.dedent("""
    import asyncio, fcntl, termios
    from gateway.signals import Signals

    async def main():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signals = Signals()
        print("up", flush=True)
        asked = [asyncio.ensure_future(event.wait()) for event in (signals.replace, signals.stop)]
        await asked[0]
        print("replace", flush=True)
        await asked[1]
        print("stop", flush=True)

    asyncio.run(main())
""")


@pytest.mark.parametrize(
    ("numbers", "asked"),
    [
        pytest.param([signal.SIGTERM], {"stop"}, id="SIGTERM stops"),
        pytest.param([signal.SIGINT], {"stop", "quick"}, id="SIGINT stops quickly"),
        pytest.param([signal.SIGTERM, signal.SIGINT], {"stop", "quick"}, id="and hurries a stop that has begun"),
        pytest.param([signal.SIGINT, signal.SIGINT], {"stop", "quick", "kill"}, id="a second one waits for nobody"),
        pytest.param([signal.SIGHUP], {"replace"}, id="SIGHUP replaces workers"),
    ],
)
def test_what_signals_ask_for(numbers, asked):
    async def scenario():
        signals, said = Signals(), set()
        signals.on_quick, signals.on_kill = lambda: said.add("quick"), lambda: said.add("kill")
        for number in numbers:
            os.kill(os.getpid(), number)
            # Delivered by the loop's next turns; the same signal twice at once would be one.
            await asyncio.sleep(0.05)
        said |= {name for name in ("stop", "replace") if getattr(signals, name).is_set()}
        assert signals.quick.is_set() == ("quick" in said)
        return said

    assert asyncio.run(scenario()) == asked


def test_a_terminal_that_is_closed_is_the_end_and_not_a_wish_for_new_workers():
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL], stdin=theirs, stdout=subprocess.PIPE, start_new_session=True
    )
    os.close(theirs)
    with process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == b"replace\n"
        os.close(ours)
        assert process.stdout.readline() == b"stop\n"
    assert process.returncode == 0
